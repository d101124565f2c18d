"""`fit_full_batch`: the compiled loss in every form that Keras has, in pieces or at once."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6 import LBFGS, StopWhenConverged, fit_full_batch
from keras_addons_l6.optimizers.quasi_newton import full_batch
from tests.optimizers.quasi_newton.models import (
    QUICK,
    Exact,
    Squares,
    curve,
    fit,
    initial_weights,
    network,
    network_objective,
)

# Keras's variables on NumPy 2; `pytest.warns` emits it again without the module that it came from.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def train(model, x, y, **arguments):
    return fit_full_batch(model, x, y, **{"verbose": 0, "max_iterations": 8} | arguments)


def loss_of(model, x, y):
    weights = [w.astype("float64") for w in model.get_weights()]
    return network_objective(weights, x, y)


@pytest.mark.usefixtures("float64")
class TestTraining:
    def test_it_ends_where_the_gradient_vanishes_and_says_so(self):
        x, y = curve()
        model = network(LBFGS(gradient_tolerance=1e-3))
        history = train(model, x, y, max_iterations=500)
        value, gradient = loss_of(model, x, y)
        norm = max(np.abs(g).max() for g in gradient)
        assert norm <= 1e-3 * (1 + 1e-6)
        assert history.status.startswith("converged")
        assert model.optimizer.converged
        assert history.history["loss"][-1] == pytest.approx(value, rel=1e-10)
        assert history.history["gradient_norm"][-1] == pytest.approx(norm, rel=1e-6)
        assert history.history["evaluations"][-1] == model.optimizer.evaluations
        assert history.history["iterations_accepted"][-1] == model.optimizer.iterations_accepted

    def test_it_is_the_path_of_fit(self):
        x, y = curve()
        compiled, stepped = network(LBFGS()), network(LBFGS())
        train(compiled, x, y)
        fit(stepped, x, y, compiled.optimizer.evaluations)
        assert stepped.optimizer.iterations_accepted == 8
        for a, b in zip(compiled.get_weights(), stepped.get_weights(), strict=True):
            np.testing.assert_allclose(
                a, b, rtol=1e-7, atol=1e-9
            )  # rounding (1e-16) over eight steps on a curved loss

    def test_batches_do_not_change_the_path(self):
        """40 samples at once, and in pieces of 1, of 15 (the last of 10), and of more than there are."""
        x, y = curve()
        whole = network(LBFGS())
        train(whole, x, y, max_iterations=4)
        for batch_size in (1, 15, 64):
            pieces = network(LBFGS())
            train(pieces, x, y, max_iterations=4, batch_size=batch_size)
            assert whole.optimizer.evaluations == pieces.optimizer.evaluations
            for a, b in zip(whole.get_weights(), pieces.get_weights(), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)

    def test_sample_weights_weigh(self):
        x, y = curve()
        weights = np.r_[np.ones(20), np.zeros(20)]
        for batch_size in (None, 15):
            model = network(LBFGS())
            history = train(model, x, y, sample_weight=weights, batch_size=batch_size)
            value, _ = loss_of(model, x[:20], y[:20])
            assert history.history["loss"][-1] == pytest.approx(
                value / 2, rel=1e-10
            )  # Keras divides by all 40

    def test_penalties_and_layer_losses_count_once(self):
        x, y = curve()

        class Penalty(keras.layers.Layer):
            def call(self, inputs):
                self.add_loss(0.01 * ops.mean(inputs**2))
                return inputs

        model = keras.Sequential([keras.Input((1,)), Exact(8, curved=True, penalty=0.1), Penalty(), Exact(1)])
        model.set_weights(initial_weights())
        model.compile(optimizer=LBFGS(), loss=Squares())
        history = train(model, x, y, batch_size=15)
        w1, b1, *_ = (w.astype("float64") for w in model.get_weights())
        value, _ = loss_of(model, x, y)
        expected = value + 0.1 * np.sum(w1**2) + 0.01 * np.mean(np.tanh(x @ w1 + b1) ** 2)
        assert history.history["loss"][-1] == pytest.approx(
            expected, rel=1e-6
        )  # Keras rounds means to float32

    def test_masks_count(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(12, 5, 2))
        x[:, 3:] = 0.0  # masked
        y = rng.normal(size=(12, 5, 1))
        model = keras.Sequential([keras.Input((5, 2)), keras.layers.Masking(), keras.layers.Dense(1)])
        model.compile(optimizer=LBFGS(gradient_tolerance=1e-6), loss="mse")
        train(model, x, y, max_iterations=50, batch_size=4)
        known, targets = x[:, :3].reshape(-1, 2), y[:, :3].reshape(-1, 1)
        solution = np.linalg.lstsq(np.c_[known, np.ones(len(known))], targets, rcond=None)[0]
        kernel, bias = model.get_weights()
        # |g| <= 1e-6 over the smallest curvature, about 1, and Keras's rounding of `mse` to float32
        np.testing.assert_allclose(np.r_[kernel, bias[None]], solution, atol=1e-5)

    def test_dicts_in_and_out_with_metrics(self):
        x, y = curve()
        a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
        both = keras.layers.Concatenate()([a, b])
        outputs = {
            "sum": keras.layers.Dense(1, name="sum")(both),
            "kind": keras.layers.Dense(1, name="kind")(both),
        }
        model = keras.Model({"a": a, "b": b}, outputs)
        model.compile(
            optimizer=LBFGS(gradient_tolerance=1e-5),
            loss={"sum": "mse", "kind": "mae"},
            loss_weights={"sum": 1.0, "kind": 0.0},
            metrics={"sum": ["mae"]},
        )
        inputs, targets = {"a": x, "b": y}, {"sum": x + 2 * y, "kind": x}
        history = train(model, inputs, targets, max_iterations=60, batch_size=15)
        assert model.optimizer.converged
        np.testing.assert_allclose(model.get_layer("sum").get_weights()[0][:, 0], [1.0, 2.0], atol=1e-3)
        (name,) = [key for key in history.history if key.endswith("mae")]
        assert history.history[name][-1] == pytest.approx(0.0, abs=1e-3)

    def test_metrics_are_those_of_the_accepted_point(self):
        x, y = curve()
        model = network(LBFGS(), metrics=["mae"])
        history = train(model, x, y, batch_size=15)
        w1, b1, w2, b2 = model.get_weights()
        expected = np.mean(np.abs(np.tanh(x @ w1 + b1) @ w2 + b2 - y))
        assert history.history["mae"][-1] == pytest.approx(expected, rel=1e-6)  # Keras rounds it to float32


def test_float32_data_in_float64_arrays_and_whole_numbers():
    """As `fit` takes them: real numbers in `floatx`."""
    x, y = curve()
    model = network(LBFGS())
    before = model.evaluate(x, y, verbose=0)
    train(model, x, y)
    assert model.evaluate(x, y, verbose=0) < before
    labels = (y[:, 0] > 0).astype("int64")
    classifier = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    classifier.compile(
        optimizer=LBFGS(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = train(classifier, x, labels)
    assert history.history["accuracy"][-1] >= 0.5


class TestGoingOn:
    def test_a_second_call_goes_on_with_the_history(self):
        x, y = curve()
        model = network(LBFGS())
        first = train(model, x, y)
        assert first.status == "stopped at max_iterations"
        pairs = int(model.optimizer._slots.number("pairs"))
        second = train(model, x, y)
        assert second.history["loss"][0] == pytest.approx(first.history["loss"][-1], rel=1e-5)
        assert int(model.optimizer._slots.number("pairs")) >= pairs > 3
        assert model.optimizer.iterations_accepted == 16

    def test_fit_evaluate_and_fit_full_batch_in_turns(self):
        x, y = curve()
        model = network(LBFGS())
        losses = []
        for _ in range(2):
            fit(model, x, y, 5)
            losses.append(model.evaluate(x, y, verbose=0))
            train(model, x, y, max_iterations=4)
            losses.append(model.evaluate(x, y, verbose=0))
        assert losses == sorted(losses, reverse=True)

    def test_a_saved_model_goes_on(self, tmp_path):
        x, y = curve()
        model = network(LBFGS())
        train(model, x, y)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        histories = [train(m, x, y, max_iterations=3).history["loss"][-1] for m in (model, loaded)]
        assert histories[0] == histories[1]


class Stop(keras.callbacks.Callback):
    def __init__(self, chunk, error=None):
        super().__init__()
        self.chunk, self.error, self.losses = chunk, error, []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])
        if epoch == self.chunk:
            self.model.stop_training = True
            if self.error:
                raise self.error


class TestCallbacks:
    @pytest.fixture(autouse=True)
    def one_evaluation_a_chunk(self, monkeypatch):
        monkeypatch.setattr(full_batch.programs, "CHUNK_SECONDS", 0.0)

    def test_a_callback_stops_it(self):
        x, y = curve()
        model = network(LBFGS())
        history = train(model, x, y, callbacks=[Stop(6)])
        assert len(history.epoch) == 7
        losses = np.array(history.history["loss"])
        # An accepted value may exceed the one before by rounding: a millionth of it (Hager & Zhang's epsilon_k).
        assert np.all(np.diff(losses) <= 1e-6 * losses[:-1])
        assert history.status == "stopped by a callback"

    def test_an_exception_leaves_the_best_accepted_weights(self):
        x, y = curve()
        model = network(LBFGS())
        stop = Stop(5, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train(model, x, y, callbacks=[stop])
        value, _ = loss_of(model, x, y)
        assert value == pytest.approx(min(stop.losses), rel=1e-5)

    def test_an_exception_of_the_model_leaves_the_last_chunk(self, backend):
        """Only torch calls the model at each evaluation."""
        if backend != "torch":
            return
        x, y = curve()
        calls = []

        class Breaks(keras.layers.Layer):
            def call(self, inputs):
                calls.append(1)
                if len(calls) == 10:
                    raise RuntimeError("broken")
                return inputs

        model = keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(8, activation="tanh"), Breaks(), keras.layers.Dense(1)]
        )
        model.set_weights(initial_weights())
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        stop = Stop(100)
        with pytest.raises(RuntimeError, match="broken"):
            train(model, x, y, callbacks=[stop])
        value, _ = loss_of(model, x, y)
        assert value == pytest.approx(stop.losses[-1], rel=1e-5)

    def test_stop_when_converged_and_early_stopping_work_here_too(self):
        x, y = curve()
        stop = StopWhenConverged(verbose=0)
        early = keras.callbacks.EarlyStopping("loss", patience=3, min_delta=10.0)
        history = train(network(LBFGS()), x, y, callbacks=[stop, early])
        assert len(history.epoch) == 4
        assert history.status == "stopped by a callback"


class TestUnusualModels:
    def test_batch_norm_trains_and_moves_its_averages(self):
        x, y = curve()
        model = keras.Sequential(
            [
                keras.Input((1,)),
                keras.layers.Dense(4),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(1),
            ]
        )
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        history = train(model, x, y, max_iterations=15)
        assert history.history["loss"][-1] < history.history["loss"][0]
        moving = model.layers[1].moving_variance
        assert not np.allclose(ops.convert_to_numpy(ops.convert_to_tensor(moving)), 1.0)

    def test_dropout_is_warned_about(self):
        x, y = curve()
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        with pytest.warns(UserWarning, match=r"random numbers in training \(.*seed_generator"):
            train(model, x, y)

    def test_an_unbuilt_subclass_without_a_training_argument(self):
        class Line(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(1)

            def call(self, inputs):
                return self.dense(inputs)

            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
                del x, sample_weight
                return ops.mean((y - y_pred) ** 2)

        x, _ = curve()
        model = Line()
        model.compile(optimizer=LBFGS())
        history = train(model, x.astype("float32"), (3 * x + 1).astype("float32"))
        assert history.status.startswith("converged")

    def test_weights_without_gradient_stay(self):
        inputs = keras.Input((1,))
        outputs = [keras.layers.Dense(1, name="used")(inputs), keras.layers.Dense(1, name="unused")(inputs)]
        model = keras.Model(inputs, outputs)
        model.compile(optimizer=LBFGS(), loss=["mse", None])
        before = model.get_layer("unused").get_weights()
        x, y = curve()
        train(model, x, y)
        np.testing.assert_array_equal(before[0], model.get_layer("unused").get_weights()[0])


class TestRefused:
    def test_another_optimizer(self):
        x, y = curve()
        with pytest.raises(ValueError, match="compiled with `optimizer=LBFGS"):
            train(network("adam"), x, y)

    def test_a_start_without_a_loss_changes_nothing(self):
        x, y = curve()
        model = network(LBFGS())
        with pytest.raises(ValueError, match=r"infinite or NaN .*loss: nan"):
            train(model, x, np.full_like(y, np.nan))
        for a, b in zip(model.get_weights(), initial_weights(), strict=True):
            np.testing.assert_array_equal(a, b.astype("float32"))

    def test_lengths_that_differ(self):
        x, y = curve()
        with pytest.raises(ValueError, match=r"same number of samples.*\[39, 40\]"):
            train(network(LBFGS()), x, y[1:])

    @pytest.mark.parametrize(
        "data", [iter([1, 2]), "text", np.array(["a"]), np.float32(1.0), np.zeros((0, 1))]
    )
    def test_what_is_no_array_of_samples(self, data):
        with pytest.raises(ValueError, match="arrays"):
            train(network(LBFGS()), data, None)

    @pytest.mark.parametrize("argument", ["batch_size", "max_iterations"])
    def test_out_of_range(self, argument):
        x, y = curve()
        with pytest.raises(ValueError, match=f"{argument}.*0"):
            train(network(LBFGS()), x, y, **{argument: 0})

    def test_other_trainable_variables(self):
        x, y = curve()
        model = network(LBFGS())
        model.optimizer.build(model.trainable_variables)
        model.layers[0].trainable = False
        with pytest.raises(ValueError, match="new LBFGS"):
            train(model, x, y)


@pytest.mark.parametrize(("verbose", "shown"), [("auto", "iteration"), (2, "gradient_norm: ")])
def test_progress_is_shown(capsys, verbose, shown):
    x, y = curve()
    fit_full_batch(network(LBFGS()), x, y, max_iterations=3, verbose=verbose)
    printed = capsys.readouterr().out
    assert shown in printed
    assert printed.rstrip().endswith("stopped at max_iterations")
