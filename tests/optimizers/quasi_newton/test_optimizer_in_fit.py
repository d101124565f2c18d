"""LBFGS in `model.compile` and `fit`: every trainer takes the method's own path."""

import copy
import json
import pickle
import shutil

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6.backends.portable.arrays import NumpyArrays
from keras_addons_l6.optimizers import LBFGS
from keras_addons_l6.optimizers.quasi_newton import iteration
from tests.optimizers.quasi_newton.models import (
    QUICK,
    Exact,
    Recorder,
    Squares,
    curve,
    digits,
    fit,
    initial_weights,
    model_of_logarithms,
    network,
    network_objective,
    softmax_regression,
)

EPOCHS = 25  # enough for rejected trials and for pairs that leave the ring
TIGHT = {"gradient_tolerance": 0.0, "change_tolerance": 0.0}

# Keras's variables on NumPy 2; `pytest.warns` emits it again without the module that it came from.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def reference_losses(epochs, **settings):
    """Losses at the trial points of the method itself, driven in NumPy with a hand-written gradient."""
    arrays = NumpyArrays("float64")
    settings = iteration.Settings(**{**TIGHT, **settings})
    x, y = curve()
    trial = initial_weights()
    state = iteration.init(arrays, settings, trial)
    losses = []
    for _ in range(epochs):
        value, gradient = network_objective(trial, x, y)
        losses.append(value)
        with arrays.scope():
            state, trial = iteration.step(arrays, settings, state, trial, gradient, value)
    return losses, state


def tolerance(losses):
    # Rounding (1e-16) grows along a path on a curved loss, here by about a decimal in four steps.
    return {"rtol": 1e-5, "atol": 1e-8 * losses[0]}


@pytest.mark.usefixtures("float64")
class TestPath:
    def test_fit_evaluates_the_points_that_the_method_asks_for(self):
        x, y = curve()
        recorder = Recorder()
        model = network(LBFGS(**TIGHT))
        fit(model, x, y, EPOCHS, [recorder])
        expected, state = reference_losses(EPOCHS)
        np.testing.assert_allclose(recorder.losses, expected, **tolerance(expected))
        assert model.optimizer.evaluations == EPOCHS
        assert model.optimizer.iterations_accepted == int(iteration.read(state, "iterations")) < EPOCHS

    def test_the_first_step_of_a_search_is_the_learning_rate(self):
        x, y = curve()
        recorder = Recorder()
        fit(network(LBFGS(learning_rate=0.25, **TIGHT)), x, y, 20, [recorder])
        expected, _ = reference_losses(20, learning_rate=0.25)
        np.testing.assert_allclose(recorder.losses, expected, **tolerance(expected))

    @pytest.mark.parametrize(
        "mode",
        [
            {"run_eagerly": True},
            {"run_eagerly": False, "jit_compile": True},
            {"run_eagerly": False, "jit_compile": False},
        ],
    )
    def test_every_mode_of_the_trainer_takes_the_same_path(self, mode, backend):
        if backend == "torch" and mode.get("jit_compile"):
            return  # the next test, which takes longer
        x, y = curve()
        recorder = Recorder()
        fit(network(LBFGS(**TIGHT), **mode), x, y, 15, [recorder])
        expected, _ = reference_losses(15)
        np.testing.assert_allclose(recorder.losses, expected, **tolerance(expected))

    @pytest.mark.full
    # Keras caches functions.
    @pytest.mark.filterwarnings("ignore:Dynamo detected a call to:UserWarning")
    def test_torch_compile_takes_the_same_path(self, backend):
        if backend != "torch" or not any(map(shutil.which, ("c++", "g++", "clang++"))):
            return  # it writes C++
        x, y = curve()
        recorder = Recorder()
        fit(network(LBFGS(**TIGHT), jit_compile=True), x, y, 15, [recorder])
        expected, _ = reference_losses(15)
        np.testing.assert_allclose(recorder.losses, expected, **tolerance(expected))

    def test_steps_per_execution(self, backend):
        x, y = curve()
        if backend == "torch":  # Keras has none there
            return
        model = network(LBFGS(**TIGHT), steps_per_execution=4, run_eagerly=False)
        repeated = [np.concatenate([a] * 12) for a in (x, y)]
        model.fit(*repeated, batch_size=len(x), shuffle=False, epochs=1, verbose=0)
        assert model.optimizer.evaluations == 12
        _, state = reference_losses(12)
        np.testing.assert_allclose(model.evaluate(x, y, verbose=0), iteration.read(state, "value"), rtol=1e-6)

    def test_accumulated_batches_are_one_full_batch(self):
        x, y = curve()
        batches = 4
        model = network(LBFGS(gradient_accumulation_steps=batches, **TIGHT))
        fit(model, x, y, 15, batch_size=len(x) // batches)
        expected, state = reference_losses(15)
        assert model.optimizer.evaluations == 15
        value = iteration.read(state, "value")
        np.testing.assert_allclose(model.evaluate(x, y, verbose=0), value, **tolerance(expected))

    def test_digits_in_at_most_265_steps(self):
        """From two of three starts at least: another rounding, of a start or of a processor, moves the count by 7."""
        x, y = digits()
        steps = []
        for offset in (0.0, 1e-8, -1e-8):
            model = softmax_regression(gradient_tolerance=1e-6, change_tolerance=0.0)
            model.set_weights([weights + offset * (1 + np.arange(10)) for weights in model.get_weights()])
            fit(model, x, y, 300)
            assert model.optimizer.converged
            assert model.optimizer.gradient_norm <= 1e-6
            steps.append(model.optimizer.evaluations)
        assert sorted(steps)[1] <= 265


def test_float32_reaches_the_minimum_of_a_least_squares_problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 5)).astype("float32")
    y = (x @ np.arange(1.0, 6.0) + 2).astype("float32")
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
    fit(model, x, y[:, None], 40)
    kernel, bias = model.get_weights()
    # The gradient bound of 1e-5 over the smallest curvature of this problem, about 1.
    np.testing.assert_allclose(kernel[:, 0], np.arange(1.0, 6.0), atol=1e-4)
    np.testing.assert_allclose(bias, [2.0], atol=1e-4)
    assert model.optimizer.converged


class CustomStep(keras.Sequential):
    """A model with a train step of its own, as users write it for each backend."""

    def train_step(self, *arguments):
        return getattr(self, f"train_step_{keras.backend.backend()}")(*arguments)

    def train_step_tensorflow(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = self.optimizer.scale_loss(self.compute_loss(y=y, y_pred=self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}

    def train_step_torch(self, data):
        x, y = data
        self.zero_grad()
        loss = self.optimizer.scale_loss(self.compute_loss(y=y, y_pred=self(x, training=True)))
        loss.backward()
        self.optimizer.apply([v.value.grad for v in self.trainable_weights], self.trainable_weights)
        return {"loss": loss.detach()}

    def train_step_jax(self, state, data):
        import jax

        trainable, others, optimizer_variables, metrics = state
        x, y = data

        def objective(trainable):
            y_pred, new_others = self.stateless_call(trainable, others, x, training=True)
            return self.optimizer.scale_loss(self.compute_loss(y=y, y_pred=y_pred)), new_others

        (loss, others), gradients = jax.value_and_grad(objective, has_aux=True)(trainable)
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, gradients, trainable
        )
        return {"loss": loss}, (trainable, others, optimizer_variables, metrics)


@pytest.mark.usefixtures("float64")
def test_a_custom_train_step_takes_the_same_path():
    x, y = curve()
    model = CustomStep([keras.Input((1,)), Exact(8, curved=True), Exact(1)])
    model.set_weights(initial_weights())
    model.compile(optimizer=LBFGS(**TIGHT), loss=Squares(), **QUICK)
    fit(model, x, y, 20)
    _, state = reference_losses(20)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), iteration.read(state, "value"), rtol=1e-6)


def variables_of(model):
    return [
        ops.convert_to_numpy(ops.convert_to_tensor(v)) for v in (*model.weights, *model.optimizer.variables)
    ]


def assert_same_bits(one, other):
    for a, b in zip(variables_of(one), variables_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


class Interruption(Exception):
    pass


class InterruptAt(keras.callbacks.Callback):
    def __init__(self, epoch, error=Interruption):
        super().__init__()
        self.epoch, self.error = epoch, error

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise self.error


class TestResuming:
    @pytest.mark.parametrize("epoch", [5, 12])
    def test_backup_and_restore_goes_on_bit_for_bit(self, tmp_path, epoch):
        x, y = (a.astype("float32") for a in curve())
        whole = network(LBFGS(**TIGHT))
        fit(whole, x, y, 18)
        backup = [keras.callbacks.BackupAndRestore(tmp_path / "backup")]
        with pytest.raises(Interruption):
            fit(network(LBFGS(**TIGHT)), x, y, 18, [*backup, InterruptAt(epoch)])
        resumed = network(LBFGS(**TIGHT))
        fit(resumed, x, y, 18, backup)
        assert_same_bits(whole, resumed)

    def test_a_saved_model_goes_on_from_within_a_search(self, tmp_path):
        """Saved after every epoch, so in the middle of searches too: each file leads to the same end."""
        x, y = (a.astype("float32") for a in curve())
        rejected = []

        class Save(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.save(tmp_path / f"{epoch}.keras")
                rejected.append(int(self.model.optimizer._slots.number("trials")))

        whole = network(LBFGS(**TIGHT))
        fit(whole, x, y, 12, [Save()])
        assert max(rejected) > 0, "no file was saved between two trials of a search"
        for epoch in (2, int(np.argmax(rejected))):
            resumed = keras.models.load_model(tmp_path / f"{epoch}.keras")
            fit(resumed, x, y, 12, initial_epoch=epoch + 1)
            assert_same_bits(whole, resumed)

    def test_the_next_fit_pays_one_repeated_evaluation_and_keeps_the_history(self):
        x, y = curve()
        model = network(LBFGS())
        first = Recorder()
        fit(model, x, y, 15, [first])
        accepted = float(model.optimizer._slots.number("value"))
        pairs = int(model.optimizer._slots.number("pairs"))
        assert pairs > 3
        second = Recorder()
        fit(model, x, y, 1, [second])
        assert second.losses == [pytest.approx(accepted, rel=1e-6)]
        assert int(model.optimizer._slots.number("pairs")) == pairs
        assert model.optimizer.evaluations == 16

    def test_fit_leaves_the_accepted_point_and_no_trial(self):
        x, y = curve()
        for epochs in (3, 4, 6, 9):  # some of them end within a search
            model = network(LBFGS())
            fit(model, x, y, epochs)
            accepted = float(model.optimizer._slots.number("value"))
            # evaluate and the train step sum in different orders
            assert model.evaluate(x, y, verbose=0) == pytest.approx(accepted, rel=1e-5)

    def test_weights_set_between_two_fits_are_where_the_second_starts(self):
        x, y = curve()
        model = network(LBFGS())
        fit(model, x, y, 10)
        model.set_weights(initial_weights())
        expected = model.evaluate(x, y, verbose=0)
        assert fit(model, x, y, 1).history["loss"] == [pytest.approx(expected, rel=1e-5)]

    def test_accepted_values_within_fit(self, tmp_path):
        x, y = curve()
        seen = []

        class Look(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                optimizer = self.model.optimizer
                trial = self.model.get_weights()
                with optimizer.accepted_values():
                    seen.append(
                        (self.model.evaluate(x, y, verbose=0), float(optimizer._slots.number("value")))
                    )
                    self.model.save(tmp_path / "accepted.keras")
                for a, b in zip(trial, self.model.get_weights(), strict=True):
                    np.testing.assert_array_equal(a, b)

        looked, alone = network(LBFGS()), network(LBFGS())
        fit(looked, x, y, 12, [Look()])
        fit(alone, x, y, 12)
        assert_same_bits(looked, alone)
        for loss, accepted in seen:
            assert loss == pytest.approx(accepted, rel=1e-5)
        loaded = keras.models.load_model(tmp_path / "accepted.keras")
        assert fit(loaded, x, y, 1).history["loss"] == [pytest.approx(seen[-1][1], rel=1e-5)]

    def test_after_adam(self):
        x, y = curve()
        model = network(keras.optimizers.Adam(0.01))
        fit(model, x, y, 50)
        before = model.evaluate(x, y, verbose=0)
        model.compile(optimizer=LBFGS(), loss=Squares(), **QUICK)
        losses = fit(model, x, y, 30).history["loss"]
        assert losses[0] == pytest.approx(before, rel=1e-5)
        assert model.evaluate(x, y, verbose=0) < 0.5 * before
        assert model.optimizer.iterations_accepted >= 15


def softplus_free_loss(y_true, y_pred):
    """(w - 2)^2 where w < 1.9, infinite beyond: the quasi-Newton step to 2 is a trial without a value."""
    del y_true
    return ops.where(y_pred < 1.9, (y_pred - 2.0) ** 2, float("inf"))


def one_weight(loss, start, **arguments):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[start]])])
    model.compile(optimizer=LBFGS(**arguments), loss=loss)
    return model


class TestNonFinite:
    def test_an_infinite_trial_contracts_and_nothing_is_lost(self):
        x = np.ones((4, 1), "float32")
        model = one_weight(softplus_free_loss, 0.0)
        losses = fit(model, x, x, 30).history["loss"]
        assert not np.all(np.isfinite(losses))
        (weight,) = model.get_weights()
        assert 1.0 < weight[0, 0] < 1.9

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_a_start_without_a_value_raises_and_leaves_the_weights(self, bad):
        x = np.ones((4, 1), "float32")
        model = one_weight("mse", 0.5)
        with pytest.raises(ValueError, match=rf"infinite or NaN .* \(loss: ({bad}|inf|nan)\)"):
            fit(model, x, np.full_like(x, bad), 3)
        np.testing.assert_array_equal(model.get_weights()[0], [[0.5]])


class TestWithoutTheLoss:
    def gradients(self, model, x, y):
        value, gradient = network_objective([w.astype("float64") for w in model.get_weights()], x, y)
        return value, [ops.convert_to_tensor(g, "float32") for g in gradient]

    def test_slopes_alone_converge_and_say_so_once(self):
        x, y = curve()
        model = network(LBFGS(gradient_tolerance=1e-3))
        start, gradients = self.gradients(model, x, y)
        with pytest.warns(UserWarning, match="slopes alone") as caught:
            for _ in range(25):
                model.optimizer.apply(gradients, model.trainable_variables)
                value, gradients = self.gradients(model, x, y)
        assert len([w for w in caught if "slopes alone" in str(w.message)]) == 1
        assert model.optimizer.iterations_accepted >= 8
        assert value < 0.7 * start

    def test_scale_loss_gives_a_custom_loop_its_values(self):
        x, y = curve()
        model = network(LBFGS())
        model.optimizer.build(model.trainable_variables)
        for _ in range(20):
            value, gradients = self.gradients(model, x, y)
            model.optimizer.scale_loss(ops.convert_to_tensor(value, "float32"))
            model.optimizer.apply(gradients)
        assert model.optimizer.iterations_accepted > 10

    def test_loss_scale_optimizer(self):
        x, y = curve()
        model = network(keras.optimizers.LossScaleOptimizer(LBFGS(), initial_scale=8.0))
        before = model.evaluate(x, y, verbose=0)
        with pytest.warns(UserWarning, match="slopes alone"):
            fit(model, x, y, 20)
        assert model.evaluate(x, y, verbose=0) < before

    def test_a_loss_after_none_starts_the_search_afresh(self):
        x, y = curve()
        model = network(LBFGS())
        value, gradients = self.gradients(model, x, y)
        with pytest.warns(UserWarning, match="slopes alone"):
            for _ in range(6):
                model.optimizer.apply(gradients, model.trainable_variables)
                value, gradients = self.gradients(model, x, y)
        losses = fit(model, x, y, 20).history["loss"]
        assert losses[0] == pytest.approx(value, rel=1e-5)
        assert model.evaluate(x, y, verbose=0) < losses[0]

    def test_loss_scale_factor_changes_nothing(self):
        x, y = curve()
        plain, scaled = Recorder(), Recorder()
        fit(network(LBFGS()), x, y, 10, [plain])
        fit(network(LBFGS(loss_scale_factor=2.0**10)), x, y, 10, [scaled])
        np.testing.assert_allclose(scaled.losses, plain.losses, rtol=1e-4)


class TestVariables:
    def test_a_variable_without_gradient_is_left_alone(self):
        x, y = curve()
        inputs = keras.Input((1,))
        hidden = keras.layers.Dense(8, activation="tanh", name="hidden")(inputs)
        unused = keras.layers.Dense(3, name="unused")(inputs)
        model = keras.Model(inputs, [keras.layers.Dense(1, name="used")(hidden), unused])
        model.compile(optimizer=LBFGS(), loss=["mse", None])
        before = model.get_layer("unused").get_weights()
        if keras.backend.backend() == "jax":  # there the gradient is zero, not None
            fit(model, x, y, 10)
        else:
            with pytest.warns(UserWarning, match="no gradient.*unused"):
                fit(model, x, y, 10)
        for a, b in zip(before, model.get_layer("unused").get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert model.optimizer.iterations_accepted >= 3

    def test_no_gradient_at_all_raises(self):
        model = network(LBFGS())
        with pytest.raises(ValueError, match="No gradients"):
            model.optimizer.apply([None] * 4, model.trainable_variables)

    def test_an_unknown_variable_raises(self):
        model, other = network(LBFGS()), network(LBFGS())
        model.optimizer.build(model.trainable_variables)
        zeros = [ops.zeros(tuple(v.shape)) for v in other.trainable_variables]
        with pytest.raises(ValueError, match="not built for these variables"):
            model.optimizer.apply(zeros, other.trainable_variables)

    def test_layers_frozen_after_training(self, backend):
        x, y = curve()
        model = network(LBFGS())
        fit(model, x, y, 10)
        model.layers[0].trainable = False
        frozen = model.layers[0].get_weights()
        model.compile(optimizer=model.optimizer, loss=Squares(), **QUICK)
        if backend == "jax":
            with pytest.raises(ValueError, match="compile the model again with a new LBFGS"):
                fit(model, x, y, 1)
            return  # JAX's trainer has emptied the model's variables by then
        before = model.evaluate(x, y, verbose=0)
        fit(model, x, y, 10)
        assert model.evaluate(x, y, verbose=0) < before
        for a, b in zip(frozen, model.layers[0].get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_sparse_gradients_count_like_dense_ones(self):
        rng = np.random.default_rng(0)
        words, y = rng.integers(0, 6, size=(30, 1)), rng.normal(size=(30, 1)).astype("float32")
        table = rng.normal(size=(6, 3)).astype("float32")
        head = rng.normal(size=(3, 1)).astype("float32")
        sparse = keras.Sequential(
            [
                keras.Input((1,)),
                keras.layers.Embedding(6, 3),
                keras.layers.Flatten(),
                keras.layers.Dense(1, use_bias=False),
            ]
        )
        dense = keras.Sequential(
            [keras.Input((6,)), keras.layers.Dense(3, use_bias=False), keras.layers.Dense(1, use_bias=False)]
        )
        losses = []
        for model, x in ((sparse, words), (dense, np.eye(6, dtype="float32")[words[:, 0]])):
            model.set_weights([table, head])
            model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
            losses.append(fit(model, x, y, 12).history["loss"])
        np.testing.assert_allclose(*losses, rtol=1e-4)

    def test_constraints_are_refused(self):
        x, y = curve()
        model = keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(1, kernel_constraint="non_neg", name="clipped")]
        )
        model.compile(optimizer=LBFGS(), loss="mse", **QUICK)
        with pytest.raises(ValueError, match="constraint.*clipped/kernel"):
            fit(model, x, y, 1)

    def test_bfloat16_weights(self):
        x, y = curve()
        keras.config.set_dtype_policy("bfloat16")
        model = network(LBFGS())
        before = float(model.evaluate(x, y, verbose=0))
        fit(model, x, y, 15)
        assert float(model.evaluate(x, y, verbose=0)) < before
        ring = next(v for v in model.optimizer.variables if v.name.endswith("_rings"))
        assert keras.backend.standardize_dtype(ring.dtype) == "float32"

    def test_names_and_order_are_what_saved_states_rely_on(self):
        model = network(LBFGS(history_size=3, gradient_accumulation_steps=2))
        model.optimizer.build(model.trainable_variables)
        names = [v.name for v in model.optimizer.variables]
        kernel = model.trainable_variables[0].path.replace("/", "_")
        assert names[:2] == ["iteration", "learning_rate"]
        assert names[6:10] == [f"{kernel}_{slot}" for slot in ("point", "gradient", "direction", "rings")]
        assert names[-6:] == ["products", "reals", "counts", "marks", "trained", "value_accumulator"]
        assert len(names) == 2 + 4 + 4 * 4 + 6
        assert tuple(model.optimizer.variables[9].shape) == (6, 1, 8)


class TestArguments:
    @pytest.mark.parametrize(
        ("argument", "value", "advice"),
        [
            ("clipnorm", 1.0, "line search"),
            ("clipvalue", 1.0, "line search"),
            ("global_clipnorm", 1.0, "line search"),
            ("weight_decay", 1e-3, "regularizers.L2"),
            ("use_ema", True, "leave it out"),
            ("ema_overwrite_frequency", 5, "leave it out"),
        ],
    )
    def test_refused_with_what_to_do_instead(self, argument, value, advice):
        with pytest.raises(ValueError, match=f"`{argument}`.*{value}.*{advice}"):
            LBFGS(**{argument: value})

    @pytest.mark.parametrize(
        "rate",
        [
            keras.optimizers.schedules.ExponentialDecay(1.0, 10, 0.9),
            lambda: 0.1,
            0.0,
            -1.0,
            float("nan"),
            "1",
        ],
    )
    def test_the_rate_is_a_positive_number(self, rate):
        with pytest.raises(ValueError, match="learning_rate"):
            LBFGS(learning_rate=rate)

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("history_size", 0),
            ("history_size", 2.5),
            ("max_line_search_steps", 0),
            ("gradient_tolerance", -1e-5),
            ("change_tolerance", float("nan")),
            ("loss_scale_factor", 0.0),
            ("gradient_accumulation_steps", 1),
        ],
    )
    def test_out_of_range(self, argument, value):
        with pytest.raises(ValueError, match=f"{argument}.*{value}"):
            LBFGS(**{argument: value})

    def test_unknown(self):
        with pytest.raises(TypeError, match="momentum"):
            LBFGS(momentum=0.9)

    def test_the_rate_is_fixed(self):
        optimizer = LBFGS()
        with pytest.raises(ValueError, match="fixed"):
            optimizer.learning_rate = 0.1
        assert float(ops.convert_to_numpy(ops.convert_to_tensor(optimizer.learning_rate))) == 1.0


class TestConfig:
    optimizer = {
        "learning_rate": 0.1,
        "history_size": 7,
        "gradient_tolerance": 1e-7,
        "change_tolerance": 0.0,
        "max_line_search_steps": 9,
        "gradient_accumulation_steps": 3,
        "verbose": 1,
        "name": "mine",
    }

    def test_round_trip_before_and_after_build(self):
        optimizer = LBFGS(**self.optimizer)
        config = optimizer.get_config()
        assert json.loads(json.dumps(config)) == config == LBFGS.from_config(config).get_config()
        assert config["learning_rate"] == 0.1
        optimizer.build(network("sgd").trainable_variables)
        assert optimizer.get_config() == config

    def test_keras_finds_it(self):
        found = keras.optimizers.get({"class_name": "keras_addons_l6>LBFGS", "config": {}})
        assert type(found) is LBFGS
        again = keras.optimizers.deserialize(keras.optimizers.serialize(LBFGS(**self.optimizer)))
        assert again.get_config() == LBFGS(**self.optimizer).get_config()

    def test_repr(self):
        assert "history_size=7" in repr(LBFGS(**self.optimizer))
        assert repr(LBFGS()).startswith("LBFGS(name=")

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
    def test_copies_and_pickles(self, duplicate):
        optimizer = LBFGS(**self.optimizer)
        assert duplicate(optimizer).get_config() == optimizer.get_config()

    @pytest.mark.parametrize(("epochs", "why"), [(2, "running"), (40, "converged")])
    def test_it_says_why_it_ended_where_it_shall(self, capsys, epochs, why):
        x = np.ones((4, 1), "float32")
        for verbose in (0, 1):
            model = one_weight(
                "mse", 0.5, verbose=verbose, gradient_tolerance=0.0 if why == "running" else 1e-5
            )
            fit(model, x, 3 * x, epochs)
            assert (f"LBFGS: {why}" in capsys.readouterr().out) == (verbose == 1)
        with pytest.raises(ValueError, match="verbose.*2"):
            LBFGS(verbose=2)

    def test_status_before_anything(self):
        optimizer = LBFGS()
        assert optimizer.status == "not evaluated yet"
        assert not optimizer.converged
        assert optimizer.running
        assert (optimizer.iterations_accepted, optimizer.evaluations) == (0, 0)
        assert np.isnan(optimizer.gradient_norm)


class TestWarnings:
    def test_batches_that_differ_are_noticed(self):
        x, y = digits()
        model = softmax_regression()
        with pytest.warns(UserWarning, match="same full batch"):
            model.fit(x, y, batch_size=256, epochs=8, verbose=0)

    @pytest.mark.parametrize("kind", ["logarithms", "exponentials"])
    def test_a_full_batch_that_is_merely_not_convex_is_not_blamed(self, kind):
        """Warnings are errors here. The logarithms' search meets infinite values and steep ends again and again."""
        if kind == "logarithms":
            model, x, y = model_of_logarithms(LBFGS(**TIGHT))
        else:
            keras.utils.set_random_seed(0)
            x = np.linspace(0, 2, 64, dtype="float32")[:, None]
            y = np.sin(4 * x)
            layers = [keras.layers.Dense(8, activation="exponential") for _ in range(2)]
            model = keras.Sequential([keras.Input((1,)), *layers, keras.layers.Dense(1)])
            model.compile(optimizer=LBFGS(**TIGHT), loss="mse")
        fit(model, x, y, 120)
        assert not model.optimizer._slots.number("differs")

    def test_float64_that_is_float32_in_truth(self, backend):
        """Only JAX without x64 gives less than what was asked for."""
        if backend != "jax":
            return
        keras.config.set_floatx("float64")
        with pytest.warns(UserWarning, match="jax_enable_x64"):
            LBFGS().build([keras.Variable(np.zeros(3))])

    def test_no_tracer_is_left_behind(self, backend):
        """JAX's own leak checker, over the loss that is carried from `scale_loss` to `apply`."""
        if backend != "jax":
            return
        import jax

        x, y = curve()
        with jax.checking_leaks():
            fit(network(LBFGS()), x, y, 4)

    def test_a_loss_from_another_trace_is_not_used(self, backend):
        """A `jax.jit` inside the differentiated function hides the loss from `apply`."""
        if backend != "jax":
            return
        import jax

        model = network(LBFGS())
        optimizer = model.optimizer
        optimizer.build(model.trainable_variables)

        @jax.jit
        def step(trainable, state):
            @jax.jit
            def loss(trainable):
                return optimizer.scale_loss(sum(ops.sum(w**2) for w in trainable))

            return optimizer.stateless_apply(state, jax.grad(loss)(trainable), trainable)

        values = [v.value for v in model.trainable_variables], [v.value for v in optimizer.variables]
        with pytest.warns(UserWarning, match="slopes alone"):
            step(*values)
