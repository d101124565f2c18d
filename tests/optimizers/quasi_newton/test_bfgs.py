"""BFGS by its three entrances: one path, kept and resumed curvature, and what it refuses."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_addons_l6 as l6
from keras_addons_l6.backends.portable.arrays import NumpyArrays
from keras_addons_l6.optimizers import BFGS, LBFGS, fit_full_batch, minimize
from keras_addons_l6.optimizers.quasi_newton import iteration
from keras_addons_l6.optimizers.quasi_newton.inverse_hessian import InverseHessian
from tests.optimizers.quasi_newton.models import (
    QUICK,
    CrossEntropy,
    Exact,
    Recorder,
    curve,
    digits,
    fit,
    initial_weights,
    network,
    network_objective,
)

TIGHT = {"gradient_tolerance": 0.0, "change_tolerance": 0.0}
UPDATES = ("bfgs", "self_scaled_bfgs", "self_scaled_broyden")
STEPS = 30

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def reference_losses(update, steps):
    """Losses at the trial points, driven in NumPy with a hand-written gradient, and that of the accepted one."""
    arrays = NumpyArrays("float64")
    settings = iteration.Settings(curvature=InverseHessian(update, "float64"), **TIGHT)
    x, y = curve()
    trial = initial_weights()
    state = iteration.init(arrays, settings, trial)
    losses = []
    for _ in range(steps):
        value, gradient = network_objective(trial, x, y)
        losses.append(value)
        with arrays.scope():
            state, trial = iteration.step(arrays, settings, state, trial, gradient, value)
    return losses, float(iteration.read(state, "value"))


def tolerance(losses):
    # Rounding (1e-16) grows along a path on a curved loss, here by about a decimal in three steps.
    return {"rtol": 1e-5, "atol": 1e-8 * losses[0]}


class AcceptedValues(keras.callbacks.Callback):
    """Keeps the value of each accepted point by the number of its iteration."""

    def __init__(self):
        super().__init__()
        self.values = {}

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        self.values.setdefault(optimizer.iterations_accepted, float(optimizer._slots.number("value")))


def classifier_weights():
    """Of a 64-32-10 network, the same on every backend."""
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=(64, 32)) / 8,
        np.zeros(32),
        rng.normal(size=(32, 10)) / 32**0.5,
        np.zeros(10),
    ]


def classifier(optimizer):
    """That network for digits."""
    model = keras.Sequential([keras.Input((64,)), Exact(32, curved=True), Exact(10)])
    model.set_weights(classifier_weights())
    model.compile(optimizer=optimizer, loss=CrossEntropy(), **QUICK)
    return model


def logits(x, w):
    """What it computes."""
    hidden = 1 - 2 / (ops.exp(2 * (x @ w[0] + w[1])) + 1)
    return hidden @ w[2] + w[3]


@pytest.mark.usefixtures("float64")
class TestPath:
    @pytest.mark.parametrize("update", UPDATES)
    def test_fit_evaluates_the_points_that_the_method_asks_for(self, update):
        recorder = Recorder()
        fit(network(BFGS(update, **TIGHT)), *curve(), STEPS, [recorder])
        expected, _ = reference_losses(update, STEPS)
        np.testing.assert_allclose(recorder.losses, expected, **tolerance(expected))

    @pytest.mark.parametrize("update", UPDATES)
    def test_full_batch_and_minimize_end_where_fit_does(self, update):
        x, y = curve()
        _, expected = reference_losses(update, STEPS)
        model = network(BFGS(update, **TIGHT))
        fit_full_batch(model, x, y, max_evaluations=STEPS, verbose=0)
        np.testing.assert_allclose(model.evaluate(x, y, verbose=0), expected, rtol=1e-5)

        def loss(w):
            hidden = 1 - 2 / (ops.exp(2 * (constant(x) @ w[0] + w[1])) + 1)
            return ops.sum((hidden @ w[2] + w[3] - constant(y)) ** 2) / len(x)

        def constant(a):
            return ops.convert_to_tensor(a, "float64")

        start = [constant(w) for w in initial_weights()]
        result = minimize(loss, start, method=update, max_evaluations=STEPS, **TIGHT)
        np.testing.assert_allclose(result.fun, expected, rtol=1e-5)

    def test_the_first_50_iterates_on_digits_by_all_three_entrances(self):
        x, y = digits()
        by_full_batch = classifier(BFGS("self_scaled_bfgs", **TIGHT))
        history = fit_full_batch(by_full_batch, x, y, max_iterations=50, verbose=0).history
        assert history["iterations_accepted"] == list(range(1, 51))

        accepted = AcceptedValues()
        fit(classifier(BFGS("self_scaled_bfgs", **TIGHT)), x, y, history["evaluations"][-1], [accepted])
        values = [accepted.values[i] for i in range(1, 51)]

        def loss(w):
            return CrossEntropy()(constant_y, logits(constant_x, w))

        constant_x, constant_y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
        start = [ops.convert_to_tensor(w) for w in classifier_weights()]
        result = minimize(loss, start, method="self_scaled_bfgs", max_iterations=50, **TIGHT)
        assert (result.iterations, result.evaluations) == (50, history["evaluations"][-1])
        # The loss falls from 2 to 1e-9, as a difference of numbers up to the weights, 17, each rounded by 1e-16. By then
        # rounding has grown along the path: 4e-10 of the weights were seen.
        exact = {"rtol": 1e-9, "atol": 1e-13}
        np.testing.assert_allclose(values, history["loss"], **exact)
        np.testing.assert_allclose(result.fun, history["loss"][-1], **exact)
        for found, expected in zip(result.x, by_full_batch.get_weights(), strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=0, atol=1e-6)

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
            return  # torch.compile writes C++, minutes of it; LBFGS's long test has it
        recorder = Recorder()
        fit(network(BFGS("self_scaled_broyden", **TIGHT), **mode), *curve(), 15, [recorder])
        expected, _ = reference_losses("self_scaled_broyden", 15)
        np.testing.assert_allclose(recorder.losses, expected, **tolerance(expected))

    def test_accumulated_batches_are_one_full_batch(self):
        x, y = curve()
        model = network(BFGS(gradient_accumulation_steps=4, **TIGHT))
        fit(model, x, y, 15, batch_size=len(x) // 4)
        assert model.optimizer.evaluations == 15
        _, expected = reference_losses("bfgs", 15)
        np.testing.assert_allclose(model.evaluate(x, y, verbose=0), expected, rtol=1e-5)


@pytest.mark.usefixtures("float64")
class TestCurvature:
    def test_it_is_kept_for_new_data(self):
        """Points drawn anew: the next run begins with the H that the last one left, bit for bit."""
        x, y = curve()
        model = network(BFGS("self_scaled_broyden", **TIGHT))
        fit_full_batch(model, x, y, max_evaluations=30, verbose=0)
        slots = model.optimizer._slots
        pairs, before = int(slots.number("pairs")), slots.number("inverse_hessian").copy()
        x, y = curve(40)
        fit_full_batch(model, x + 0.01, y, max_evaluations=1, verbose=0)
        after, waiting = slots.number("inverse_hessian"), slots.number("pending_weights")
        assert int(slots.number("pairs")) == pairs > 5
        assert np.abs(after - before).max() > 0  # the pair that waited is in it now
        np.testing.assert_array_equal(waiting, [1, 0, 0, 0, 0])

    @pytest.mark.parametrize("create", [BFGS, LBFGS])
    def test_reset_curvature_starts_afresh(self, create):
        """After a reset the first step is along the negative gradient, of length one."""
        x, y = curve()
        model = network(create(**TIGHT))
        fit_full_batch(model, x, y, max_evaluations=30, verbose=0)
        assert int(model.optimizer._slots.number("pairs")) > 0
        model.optimizer.reset_curvature()
        assert int(model.optimizer._slots.number("pairs")) == 0
        fit(model, x, y, 1)
        direction = np.concatenate(
            [ops.convert_to_numpy(v.value).ravel() for v in model.optimizer._slots._tensors["direction"]]
        )
        np.testing.assert_allclose(np.linalg.norm(direction), 1.0, rtol=1e-12)

    def test_reset_before_anything_was_trained(self):
        BFGS().reset_curvature()

    def test_a_search_is_resumed_in_its_middle(self, tmp_path):
        x, y = curve()
        straight, model = Recorder(), network(BFGS("self_scaled_broyden", **TIGHT))
        fit(model, x, y, 20, [straight])
        model = network(BFGS("self_scaled_broyden", **TIGHT))

        class Stop(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                if epoch == 12:
                    self.model.save(tmp_path / "middle.keras")

        fit(model, x, y, 13, [Stop()])
        resumed = Recorder()
        fit(keras.models.load_model(tmp_path / "middle.keras"), x, y, 7, [resumed])
        np.testing.assert_array_equal(resumed.losses, straight.losses[13:])

    def test_without_its_curvature_a_state_is_small_and_says_so(self, tmp_path):
        x, y = curve()
        model = network(BFGS(save_curvature=False, **TIGHT))
        fit(model, x, y, 15)
        model.save(tmp_path / "small.keras")
        whole = network(BFGS(**TIGHT))
        fit(whole, x, y, 15)
        whole.save(tmp_path / "whole.keras")
        n = sum(w.size for w in initial_weights())
        saved = (tmp_path / "whole.keras").stat().st_size - (tmp_path / "small.keras").stat().st_size
        assert saved > 8 * n * n
        with pytest.warns(UserWarning, match="saved without its inverse Hessian"):
            loaded = keras.models.load_model(tmp_path / "small.keras")
        assert loaded.optimizer.evaluations == 15
        assert int(loaded.optimizer._slots.number("pairs")) == 0
        before = loaded.evaluate(x, y, verbose=0)
        fit(loaded, x, y, 15)
        assert loaded.evaluate(x, y, verbose=0) < before

    def test_what_is_not_taken_resets_nothing(self, tmp_path):
        """A small state of a model that trained less than this one: the curvature here stays as it is."""
        x, y = curve()
        saved = network(BFGS(save_curvature=False, **TIGHT))
        saved.layers[0].trainable = False
        saved.compile(optimizer=saved.optimizer, loss=saved.loss)
        fit(saved, x, y, 5)
        saved.save_weights(tmp_path / "part.weights.h5")
        model = network(BFGS(**TIGHT))
        fit(model, x, y, 15)
        pairs = int(model.optimizer._slots.number("pairs"))
        with pytest.warns(UserWarning, match="all of them stay as they are"):
            model.load_weights(tmp_path / "part.weights.h5")
        assert int(model.optimizer._slots.number("pairs")) == pairs > 0

    def test_whole_states_say_nothing(self, tmp_path):
        x, y = curve()
        model = network(BFGS(**TIGHT))
        fit(model, x, y, 5)
        model.save(tmp_path / "whole.keras")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            keras.models.load_model(tmp_path / "whole.keras")

    def test_another_method_is_refused_its_state(self, tmp_path):
        x, y = curve()
        model = network(BFGS(**TIGHT))
        fit(model, x, y, 5)
        model.save_weights(tmp_path / "bfgs.weights.h5")
        other = network(LBFGS(**TIGHT))
        fit(other, x, y, 1)
        with pytest.raises(ValueError, match="keras_addons_l6>BFGS"):
            other.load_weights(tmp_path / "bfgs.weights.h5")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_the_dtype_of_h(self, dtype):
        x, y = curve()
        model = network(BFGS(curvature_dtype=dtype, **TIGHT))
        fit(model, x, y, 5)
        assert str(model.optimizer._slots.number("inverse_hessian").dtype) == dtype


class TestWidest:
    def test_float32_parameters_have_h_in_the_widest_dtype(self, backend):
        """float64 on TensorFlow and torch; on JAX where it is switched on, which it is not here."""
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(optimizer=BFGS(), loss="mse")
        x = np.random.default_rng(0).normal(size=(16, 2)).astype("float32")
        model.fit(x, x[:, :1], batch_size=16, shuffle=False, epochs=2, verbose=0)
        expected = "float32" if backend == "jax" else "float64"
        assert str(model.optimizer._slots.number("inverse_hessian").dtype) == expected


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"update": "dfp"}, "one of 'bfgs', 'self_scaled_bfgs', 'self_scaled_broyden'"),
            ({"update": 1}, "one of 'bfgs'"),
            ({"max_memory": 0}, "`max_memory`"),
            ({"curvature_dtype": "bfloat16"}, "'float32', 'float64' or None"),
            ({"save_curvature": 1}, "`save_curvature`"),
            ({"clipnorm": 1.0}, "BFGS takes no `clipnorm`"),
            ({"weight_decay": 0.1}, "BFGS takes no `weight_decay`"),
            ({"use_ema": True}, "BFGS takes no `use_ema`"),
            ({"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 10)}, "a schedule has no meaning"),
            ({"history_size": 10}, "history_size"),
        ],
    )
    def test_arguments(self, arguments, words):
        with pytest.raises((ValueError, TypeError), match=words):
            BFGS(**arguments)

    def test_too_many_parameters_before_anything_is_allocated(self):
        """n, the bytes, and what to use instead; 2.3 million parameters would take 42 TB."""
        model = keras.Sequential([keras.Input((1500,)), keras.layers.Dense(1500), keras.layers.Dense(1)])
        model.compile(optimizer=BFGS(curvature_dtype="float64"), loss="mse")
        with pytest.raises(
            ValueError, match=r"n = 2,253,001 parameters takes 40,608,108,048,008 bytes.*`LBFGS`"
        ):
            model.optimizer.build(model.trainable_variables)
        assert not model.optimizer.built
        assert len(model.optimizer.variables) == 2  # the counter and the rate

    def test_max_memory_is_the_bound(self):
        x0 = np.zeros(10, "float32")
        itemsize = 4 if keras.config.backend() == "jax" else 8
        square = lambda x: ops.sum((x - 1.0) ** 2)  # noqa: E731
        assert minimize(square, x0, method="bfgs", max_memory=100 * itemsize).converged
        with pytest.raises(
            ValueError, match="n = 10 parameters .* use method='lbfgs'|n = 10 parameters.*method='lbfgs'"
        ):
            minimize(square, x0, method="bfgs", max_memory=100 * itemsize - 1)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"method": "newton"}, "one of 'lbfgs', 'bfgs', 'self_scaled_bfgs', 'self_scaled_broyden'"),
            ({"method": "bfgs", "history_size": 10}, "`history_size` belongs to method='lbfgs'"),
            ({"method": "lbfgs", "history_size": 0}, "`history_size`"),
            ({"max_memory": -1}, "`max_memory`"),
        ],
    )
    def test_of_minimize(self, arguments, words):
        with pytest.raises(ValueError, match=words):
            minimize(lambda x: ops.sum(x**2), np.ones(3, "float32"), **arguments)

    def test_complex_and_whole_numbers(self):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        variable = keras.Variable(np.ones(2, "int32"), name="steps", trainable=False, dtype="int32")
        with pytest.raises(ValueError, match="real floating-point variables only"):
            BFGS().build([*model.trainable_variables, variable])

    def test_a_loss_without_a_gradient(self):
        with pytest.raises(ValueError, match="does not depend on"):
            minimize(lambda x: ops.sum(ops.stop_gradient(x) ** 2), np.ones(3, "float32"), method="bfgs")

    def test_a_layout_that_divides_variables(self, backend):
        if backend != "jax":
            return  # Keras has layouts on JAX alone
        from keras import distribution

        mesh = distribution.DeviceMesh((1, 1), ("batch", "model"), distribution.list_devices()[:1])
        layouts = distribution.LayoutMap(mesh)
        layouts[".*kernel"] = (None, "model")
        before = distribution.distribution()
        distribution.set_distribution(distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch"))
        try:
            model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, name="wide")])
            with pytest.raises(ValueError, match=r"wide/kernel.*Use `LBFGS`"):
                BFGS().build(model.trainable_variables)
        finally:
            distribution.set_distribution(before)


def test_it_is_at_the_top():
    assert l6.BFGS is BFGS
