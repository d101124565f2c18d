"""`fit_full_batch`: the compiled loss in every form that Keras has, in pieces or at once."""

import inspect
import re

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
    model_of_logarithms,
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
        """40 samples at once, in pieces of 15 (the last of 10), and of more than there are."""
        x, y = curve()
        whole = network(LBFGS())
        train(whole, x, y, max_iterations=4)
        for batch_size in (15, 64):
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
        assert second.history["loss"][0] < first.history["loss"][-1]
        assert second.history["iterations_accepted"] == list(range(9, 17))
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
        history = train(model, x, y, callbacks=[Stop(6)], callback_every=1)
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
            train(model, x, y, callbacks=[stop], callback_every=1)
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
            train(model, x, y, callbacks=[stop], callback_every=1)
        value, _ = loss_of(model, x, y)
        assert value == pytest.approx(stop.losses[-1], rel=1e-5)

    def test_stop_when_converged_and_early_stopping_work_here_too(self):
        x, y = curve()
        stop = StopWhenConverged(verbose=0)
        early = keras.callbacks.EarlyStopping("loss", patience=3, min_delta=10.0)
        history = train(network(LBFGS()), x, y, callbacks=[stop, early], callback_every=1)
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

    def test_torch_s_own_modules_train(self, backend):
        if backend != "torch":
            return
        seen = []

        class Looks(keras.layers.Layer):
            def call(self, inputs, training=False):
                seen.append((bool(training), self.training))
                return inputs

        x, y = curve()
        model = keras.Sequential([keras.Input((1,)), Looks(), keras.layers.Dense(1)])
        model.compile(optimizer=LBFGS(), loss="mse")
        model.eval()
        model(x[:1])
        seen.clear()
        train(model, x, y, validation_data=(x, y), callback_every=2)
        trained = [module for asked, module in seen if asked]
        assert all(trained[1:])  # the first call looks for random numbers
        assert not model.training

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


class Counter(keras.layers.Layer):
    """Counts its calls in training, in a variable that is not trained, and in Python."""

    def build(self, input_shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")
        self.calls = 0

    def call(self, inputs, training=False):
        self.calls += 1
        if training:
            self.count.assign(self.count + 1.0)
        return inputs


def counting_network():
    """The network of the other tests, with a counter in it."""
    model = keras.Sequential([keras.Input((1,)), Exact(8, curved=True), Counter(), Exact(1)])
    model.layers[0].set_weights(initial_weights()[:2])
    model.layers[2].set_weights(initial_weights()[2:])
    model.compile(optimizer=LBFGS(), loss=Squares(), **QUICK)
    return model, model.layers[1]


class TestUntrainedState:
    def test_only_accepted_evaluations_count(self):
        x, y = curve()
        model, counter = counting_network()
        train(model, x, y)
        optimizer = model.optimizer
        assert optimizer.evaluations > optimizer.iterations_accepted + 1, "no trial was rejected"
        assert counter.get_weights() == [optimizer.iterations_accepted + 1]

    def test_infinite_trials_leave_nothing_behind(self):
        model, x, y = model_of_logarithms(LBFGS())
        history = train(model, x, y, max_iterations=60)
        taken = np.diff([0, *history.history["evaluations"]])
        assert max(taken[1:]) > 1, "no trial was rejected"
        assert np.isfinite(model.predict(x, verbose=0)).all()

    def test_stateful_layers_begin_each_evaluation_alike(self):
        """As if they were not stateful: the state that they begin in is zero, and stays."""
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(6, 4, 2)), rng.normal(size=(6, 1))
        losses = []
        for stateful in (False, True):
            model = keras.Sequential(
                [
                    keras.Input(batch_shape=(6, 4, 2)),
                    keras.layers.SimpleRNN(3, stateful=stateful),
                    keras.layers.Dense(1),
                ]
            )
            rng = np.random.default_rng(1)
            for w in model.trainable_variables:
                w.assign(0.5 * rng.normal(size=tuple(w.shape)))
            model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
            losses.append(train(model, x, y).history["loss"])
        np.testing.assert_allclose(*losses, rtol=1e-4)
        (state,) = model.layers[0].states
        assert not np.any(ops.convert_to_numpy(ops.convert_to_tensor(state)))
        # a kept program begins in the states of the call
        state.assign(np.ones((6, 3)))
        expected = np.mean((ops.convert_to_numpy(model(x)) - y) ** 2)
        state.assign(np.ones((6, 3)))
        weights = model.get_weights()
        found = train(model, x, y, max_evaluations=1)
        assert found.history["loss"] == [pytest.approx(expected, rel=1e-4)]
        np.testing.assert_array_equal(model.get_weights()[0], weights[0])


def linear(loss, **arguments):
    """A small regression with every kind of penalty, and data for it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2)) + 2
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5), activity_regularizer="l1"),
        ]
    )
    model.set_weights([0.3 * rng.normal(size=(3, 2)), np.ones(2)])
    model.compile(optimizer=LBFGS(), loss=loss, **QUICK, **arguments)
    return model, x, y


def test_float32_at_its_end_goes_on_or_ends():
    # Where gradients are rounding, trials lie at the edge of what is accepted. Judged in two ways by one compiled
    # program, a trial made a pair but did not end its search, and the searches went on for ever.
    keras.utils.set_random_seed(0)
    x = np.linspace(-1, 1, 20)[:, None]
    decay = keras.regularizers.L2(1e-3)
    layers = [keras.layers.Dense(n, a, kernel_regularizer=decay) for n, a in ((6, "tanh"), (1, None))]
    model = keras.Sequential([keras.Input((1,)), *layers])
    optimizer = LBFGS(gradient_tolerance=1e-11, change_tolerance=0.0, history_size=50)
    model.compile(optimizer=optimizer, loss="mse")
    history = train(model, x, np.sin(3 * x), max_iterations=500, max_evaluations=100_000)
    assert history.status != "stopped at max_evaluations"
    searches = 3  # on values, on slopes, along the negative gradient
    most = searches * optimizer.max_line_search_steps
    assert np.diff([0, *history.history["evaluations"]]).max() <= most + 1


class TestPieces:
    @pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
    def test_every_reduction_has_the_minimum_of_one_piece(self, reduction):
        results = []
        for batch_size in (None, 8):
            model, x, y = linear(keras.losses.MeanSquaredError(reduction=reduction))
            weights = np.linspace(0.1, 3.0, 20)
            train(model, x, y, sample_weight=weights, batch_size=batch_size, max_iterations=5)
            results.append(np.concatenate([w.ravel() for w in model.get_weights()]))
        # float32 sums in another order, over five steps
        np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)

    def test_masks_that_leave_pieces_different_numbers_of_steps(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(12, 5, 2)), rng.normal(size=(12, 5, 1))
        x[:4, 1:], x[4:, 4:] = 0.0, 0.0
        losses = []
        for batch_size in (None, 4):
            model = keras.Sequential([keras.Input((5, 2)), keras.layers.Masking(), keras.layers.Dense(1)])
            model.set_weights([np.ones((2, 1)), np.zeros(1)])
            model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
            losses.append(train(model, x, y, batch_size=batch_size, max_iterations=3).history["loss"])
        np.testing.assert_allclose(*losses, rtol=1e-5)

    @pytest.mark.parametrize("reduce", [ops.mean, ops.sum])
    def test_a_compute_loss_of_the_model_s_own(self, reduce):
        class Own(keras.Sequential):
            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                return reduce((self(x) - y) ** 2)

        x, y = (a.astype("float32") for a in curve())
        losses = []
        for batch_size in (None, 15):
            model = Own([keras.Input((1,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)])
            model.set_weights(initial_weights())
            model.compile(optimizer=LBFGS(), **QUICK)
            losses.append(train(model, x, y, batch_size=batch_size, max_iterations=3).history["loss"])
        np.testing.assert_allclose(*losses, rtol=1e-4)

    def refused(self, model, match, **arguments):
        x, y = curve()
        before = model.get_weights()
        with pytest.raises(ValueError, match=f"another function.*{match}.*Leave `batch_size` out"):
            train(model, x, y, batch_size=15, **arguments)
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_outputs_that_depend_on_other_samples_are_refused(self):
        layers = [keras.Input((1,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        self.refused(model, "depend on the others")

    def test_recurrent_states_are_refused(self):
        layers = [
            keras.Input(batch_shape=(15, 1)),
            keras.layers.Reshape((1, 1)),
            keras.layers.LSTM(1, stateful=True),
        ]
        model = keras.Sequential(layers)
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        self.refused(model, "states")

    @pytest.mark.parametrize(
        ("added", "match"),
        [
            (lambda x: ops.max(ops.abs(x)), "neither a mean nor a sum"),
            (lambda x: ops.sum(0 * x), "zero on the first"),
        ],
    )
    def test_losses_whose_rule_is_not_known_are_refused(self, added, match):
        class Adds(keras.layers.Layer):
            def call(self, inputs):
                self.add_loss(added(inputs))
                return inputs

        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4), Adds(), keras.layers.Dense(1)])
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        self.refused(model, match)


class TestGradient:
    class Ends(keras.layers.Layer):
        """A layer through which no gradient comes."""

        def call(self, inputs):
            return ops.stop_gradient(inputs)

    class Pays(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(ops.mean((inputs - 1.0) ** 2))
            return inputs

    @pytest.mark.parametrize("batch_size", [None, 5])
    def test_a_loss_without_one_is_an_error(self, batch_size):
        x, y = curve()
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), self.Ends()])
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        before = model.get_weights()
        with pytest.raises(ValueError, match="does not depend"):
            train(model, x, y, batch_size=batch_size)
        for now, was in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, was)

    @pytest.mark.parametrize("batch_size", [None, 5])
    def test_losses_of_layers_alone_have_one(self, batch_size):
        x, y = curve()
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), self.Pays()])
        model.compile(optimizer=LBFGS(), loss=lambda y, y_pred: 0.0 * y[:, 0], **QUICK)
        status = train(model, x, y, batch_size=batch_size, max_iterations=50).status
        assert status.startswith("converged")
        np.testing.assert_allclose(model.get_weights()[1], [1.0], atol=1e-3)


class TestSameProgram:
    def test_new_data_of_the_same_shape_compile_nothing(self, backend):
        x, y = curve()
        model, counter = counting_network()
        train(model, x, y, max_iterations=2)
        calls = counter.calls
        history = train(model, x, y + 1, max_iterations=2)
        if backend != "torch":  # which calls the model at each evaluation
            assert counter.calls == calls
        assert history.history["loss"][-1] == pytest.approx(model.evaluate(x, y + 1, verbose=0), rel=1e-4)

    def test_compile_renews_it(self):
        class Scaled(keras.layers.Layer):
            factor = 1.0

            def call(self, inputs):
                return self.factor * inputs

        x = np.linspace(-1, 1, 16)[:, None]
        layer = Scaled()
        model = keras.Sequential([keras.Input((1,)), layer, keras.layers.Dense(1)])
        optimizer = LBFGS(gradient_tolerance=1e-4)  # the same, since another has another program anyway
        for factor in (1.0, 2.0):
            layer.factor = factor
            model.compile(optimizer=optimizer, loss="mse", **QUICK)
            train(model, x, 6 * x, max_iterations=30)
            assert model.get_weights()[0][0, 0] == pytest.approx(6 / factor, rel=1e-3)


class TestData:
    def test_class_weights_are_sample_weights(self):
        x, _ = curve()
        labels = (x > 0).astype("int64")
        losses = []
        for arguments in (
            {"class_weight": {0: 1.0, 1: 3.0}},
            {"sample_weight": np.where(labels[:, 0] == 1, 3.0, 1.0)},
        ):
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
            model.set_weights([np.ones((1, 1)), np.ones(1)])
            model.compile(optimizer=LBFGS(), loss="binary_crossentropy", **QUICK)
            losses.append(train(model, x, labels, max_iterations=2, **arguments).history["loss"])
        np.testing.assert_array_equal(*losses)

    @pytest.mark.parametrize(
        ("y", "weights", "match"),
        [
            (np.zeros((4, 1)), np.ones(4), "cannot both be given"),
            (None, None, "one array of labels"),
            (np.zeros((4, 5, 6)), None, "one label a sample"),
        ],
    )
    def test_class_weights_that_fit_refuses(self, y, weights, match):
        with pytest.raises(ValueError, match=match):
            train(network(LBFGS()), np.zeros((4, 1)), y, sample_weight=weights, class_weight={0: 1.0})

    def test_columns_are_classes_too(self):
        data = full_batch.prepared(np.zeros((3, 1)), np.eye(3), None, {0: 5.0, 2: 7.0})
        np.testing.assert_array_equal(ops.convert_to_numpy(data.sample_weight), [5.0, 1.0, 7.0])

    def test_sets_of_points_of_different_lengths(self):
        class Sets(keras.Model):
            def __init__(self):
                super().__init__()
                self.line = keras.layers.Dense(1)

            def call(self, inputs):
                return {name: self.line(points) for name, points in inputs.items()}

            def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
                inside = ops.mean((y_pred["inside"] - 3 * x["inside"] - 1) ** 2)
                return inside + ops.mean((y_pred["boundary"] - 3 * x["boundary"] - 1) ** 2)

        sets = {"inside": np.linspace(-1, 1, 30)[:, None], "boundary": np.array([[-1.0], [1.0]])}
        model = Sets()
        model.compile(optimizer=LBFGS(), **QUICK)
        assert train(model, sets, None, max_iterations=30).status.startswith("converged")
        np.testing.assert_allclose(model.line.get_weights()[0], [[3.0]], rtol=1e-3)
        with pytest.raises(ValueError, match=r"different lengths.*\[2, 30\].*batch_size=8"):
            train(model, sets, None, batch_size=8)


class Note(keras.callbacks.Callback):
    """Keeps what it is told, and the loss of the weights when it is told to begin and to end."""

    def __init__(self, x, y):
        super().__init__()
        self.data, self.begun, self.ended, self.logs = (x, y), [], [], []

    def loss(self):
        return self.model.evaluate(*self.data, verbose=0, return_dict=True)["loss"]

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(self.loss())

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(self.loss())
        self.logs.append(dict(logs))


class TestHistory:
    def test_one_entry_an_iteration(self):
        x, y = curve()
        model = network(LBFGS(), metrics=["mae"])
        note = Note(x, y)
        train(model, x, y, max_iterations=1)
        first = model.optimizer.evaluations
        history = train(
            model, x, y, max_iterations=7, callback_every=3, callbacks=[note], validation_data=(x, y)
        )
        found = history.history
        assert history.epoch == list(range(7))
        assert {len(found[n]) for n in ("loss", "gradient_norm", "step", "evaluations")} == {7}
        assert found["iterations_accepted"] == list(range(2, 9))
        assert all(type(n) is int for n in found["evaluations"])
        assert first < found["evaluations"][0] <= found["evaluations"][-1] == model.optimizer.evaluations
        assert np.all(np.diff(found["evaluations"]) >= 1)
        assert np.all(np.array(found["step"]) > 0)
        assert found["gradient_norm"][-1] == pytest.approx(model.optimizer.gradient_norm)
        # callbacks ran after iterations 3, 6 and 7, and saw the weights of these
        assert [logs["iterations_accepted"] for logs in note.logs] == [4, 7, 8]
        np.testing.assert_allclose(note.ended, [found["loss"][i] for i in (2, 5, 6)], rtol=1e-4)
        np.testing.assert_allclose(note.begun[1:], note.ended[:-1], rtol=1e-6)
        np.testing.assert_allclose(found["val_loss"], note.ended, rtol=1e-6)
        assert len(found["mae"]) == len(found["val_mae"]) == 3

    @pytest.mark.parametrize("seconds", [0.0, 1e-3, 10.0])
    def test_it_does_not_depend_on_the_machine(self, monkeypatch, seconds):
        monkeypatch.setattr(full_batch.programs, "CHUNK_SECONDS", seconds)
        monkeypatch.setattr(full_batch.iteration_history, "ROWS", 3)
        x, y = curve()
        model = network(LBFGS())
        stop = keras.callbacks.EarlyStopping("loss", patience=2, min_delta=10.0)
        history = train(model, x, y, max_iterations=50, callback_every=5, callbacks=[stop])
        assert len(history.epoch) == 15  # one call that is the best, two of patience
        assert np.all(np.diff(history.history["loss"]) < 0)

    def test_a_run_that_has_ended_has_an_entry_for_its_start(self):
        x = np.linspace(-1, 1, 8)[:, None]
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        model.set_weights([np.array([[3.0]]), np.array([1.0])])
        history = train(model, x, 3 * x + 1)
        assert history.status.startswith("converged")
        assert history.history["loss"] == [pytest.approx(0.0, abs=1e-10)]
        assert history.history["step"] == [0.0]

    def test_max_evaluations_are_those_of_this_call(self):
        x, y = curve()
        model = network(LBFGS())
        for total in (4, 8):
            history = train(model, x, y, max_evaluations=4, max_iterations=50)
            assert history.status == "stopped at max_evaluations"
            assert model.optimizer.evaluations == total

    def test_csv_logger(self, tmp_path):
        x, y = curve()
        log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
        found = train(network(LBFGS()), x, y, callback_every=4, callbacks=[log]).history
        table = np.genfromtxt(tmp_path / "log.csv", delimiter=",", names=True)
        np.testing.assert_array_equal(table["epoch"], [0, 1])
        for name in ("loss", "gradient_norm", "step", "evaluations"):
            np.testing.assert_allclose(table[name], [found[name][i] for i in (3, 7)])

    def test_what_callbacks_are_told_are_plain_numbers(self):
        """As `keras.callbacks.TensorBoard` writes them, too."""
        x, y = curve()
        note = Note(x, y)
        train(
            network(LBFGS(), metrics=["mae"]),
            x,
            y,
            callback_every=4,
            callbacks=[note],
            validation_data=(x, y),
        )
        names = {
            "loss",
            "gradient_norm",
            "step",
            "evaluations",
            "iterations_accepted",
            "mae",
            "val_loss",
            "val_mae",
        }
        assert [set(logs) for logs in note.logs] == [names] * 2
        assert {type(value) for logs in note.logs for value in logs.values()} == {
            float
        }  # Keras makes all of them so


class TestWarnings:
    def test_layers_with_a_seed_that_draw_nothing(self):
        """Warnings are errors here."""
        x = np.random.default_rng(0).normal(size=(5, 3, 2))
        layers = [keras.layers.GRU(2), keras.layers.Dropout(0.0)]
        model = keras.Sequential([keras.Input((3, 2)), *layers])
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        train(model, x, np.zeros((5, 2)), max_iterations=2)

    def test_a_train_step_of_the_model_s_own(self):
        class Own(keras.Sequential):
            def train_step(self, *arguments):
                raise AssertionError

        x, y = curve()
        model = Own([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        with pytest.warns(
            UserWarning, match="Own has its own `train_step`, which `fit_full_batch` does not call"
        ):
            train(model, x, y, max_iterations=2)


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


def test_more_than_the_data_by_position():
    x, y = curve()
    with pytest.raises(TypeError, match=r"everything after `y` by keyword.*4 positional"):
        fit_full_batch(network(LBFGS()), x, y, np.ones(40))
    kinds = {p.name: p.kind for p in inspect.signature(fit_full_batch).parameters.values()}
    assert [name for name, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY] == [
        "model",
        "x",
        "y",
    ]


@pytest.mark.parametrize("verbose", [3, "yes", None])
def test_verbose_is_what_fit_takes(verbose):
    x, y = curve()
    with pytest.raises(ValueError, match="verbose"):
        fit_full_batch(network(LBFGS()), x, y, verbose=verbose)


@pytest.mark.parametrize(("verbose", "shown"), [("auto", "iteration 3/3 [===="), (2, "gradient_norm: ")])
def test_progress_is_shown(capsys, verbose, shown):
    x, y = curve()
    fit_full_batch(network(LBFGS()), x, y, max_iterations=3, verbose=verbose)
    printed = capsys.readouterr().out
    assert shown in printed
    assert re.search(r"evaluations: \d+ ", printed)
    assert ("compiling" in printed) == (verbose == "auto" and keras.backend.backend() != "torch")
    assert printed.rstrip().endswith("stopped at max_iterations")
