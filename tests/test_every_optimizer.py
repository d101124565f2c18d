"""Every first-order optimizer times every promise that Keras's optimizers make."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6.optimizers import AdaGrad, Adam, AdamW, Nesterov, RMSProp

BACKEND = keras.config.backend()
VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])

CASES = {
    "nesterov": (Nesterov, {"learning_rate": 0.05, "momentum": 0.8}),
    "adagrad": (AdaGrad, {"learning_rate": 0.3, "initial_accumulator_value": 0.1}),
    "rmsprop": (RMSProp, {"learning_rate": 0.02}),
    "rmsprop_centered": (RMSProp, {"learning_rate": 0.02, "momentum": 0.5, "centered": True}),
    "adam": (Adam, {"learning_rate": 0.05}),
    "adam_amsgrad": (Adam, {"learning_rate": 0.05, "amsgrad": True}),
    "adamw": (AdamW, {"learning_rate": 0.05, "weight_decay": 0.01}),
    "adamw_decoupled": (AdamW, {"learning_rate": 0.05, "weight_decay": 0.002, "decouple_lr": True}),
}
SHAPES = [(4, 3), (3,), ()]
# The steps that compile in seconds are compiled by XLA; TensorFlow's plain graphs run in TestState, torch's
# compiled step in optimizers/test_torch.py.
XLA = BACKEND != "torch"


@pytest.fixture(params=CASES)
def create(request):
    """A function that makes the optimizer, with further arguments."""
    optimizer_class, arguments = CASES[request.param]
    return lambda **more: optimizer_class(**{**arguments, **more})


def variables(dtype=None, seed=3):
    rng = np.random.default_rng(seed)
    dtype = dtype or keras.config.floatx()
    return [keras.Variable(rng.normal(size=s), dtype=dtype, name=f"v{i}") for i, s in enumerate(SHAPES)]


def gradients(step, dtype="float32"):
    rng = np.random.default_rng(100 + step)
    return [ops.convert_to_tensor(rng.normal(0.3, 1.0, s), dtype=dtype) for s in SHAPES]


def values(some):
    return [np.array(ops.convert_to_numpy(v)).astype("float64") for v in some]


def train(optimizer, xs, steps, transform=lambda gs: gs):
    for step in steps:
        optimizer.apply(transform(gradients(step, xs[0].dtype)), xs)
    return values(xs)


def apply(optimizer, gs, xs):
    """Apply the gradients the way this backend's trainer does."""
    if BACKEND != "jax":
        optimizer.apply(gs, xs)
        return
    state = [v.value for v in optimizer.variables]
    new_xs, new_state = optimizer.stateless_apply(state, gs, [x.value for x in xs])
    for v, value in zip([*xs, *optimizer.variables], [*new_xs, *new_state], strict=True):
        v.assign(value)


def assert_equal(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(ours, expected, rtol=2e-6):
    """Equal but for the rounding of a few float32 operations, 6e-8 each."""
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def small_model():
    keras.utils.set_random_seed(5)
    layers = [keras.layers.Input((3,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)]
    return keras.Sequential(layers)


def line():
    x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
    return x, (x @ [[1.0], [-2.0], [0.5]] + 0.3).astype("float32")


# A minimum, and the gradient of a function that has it: a bowl, an ellipse with condition 25, and one that is flat far out.
TARGETS = {
    "bowl": ([1.0, -1.0], lambda d: d),
    "ellipse": ([0.5, -1.0], lambda d: d * ops.cast([1.0, 25.0], d.dtype)),
    "log_cosh": ([-1.0, 0.5], lambda d: 1 - 2 / (ops.exp(2 * d) + 1)),
}


class TestLearning:
    def test_fits_a_line(self, create):
        model = small_model()
        model.compile(create(), "mse", jit_compile=XLA)
        history = model.fit(*line(), batch_size=16, epochs=40, verbose=0).history["loss"]
        assert history[-1] < 0.1 * history[0]

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_it_reaches_known_minima(self, create, dtype, request):
        """Three targets at once, a variable each, with a rate that falls to 0; an optimizer sees no more than gradients.

        The bound is a hundredth of the way: the last steps of a rate of 0.3 over 300 steps are a thousandth long.
        """
        if dtype == "float64":
            request.getfixturevalue("float64")
        first = float(ops.convert_to_numpy(create().learning_rate))
        # Nesterov's steps are as long as the gradient: four times its rate diverges on the ellipse.
        start = first if isinstance(create(), Nesterov) else 4 * first
        rate = keras.optimizers.schedules.PolynomialDecay(start, 300)
        undecayed = (
            {"weight_decay": 0.0} if isinstance(create(), AdamW) else {}
        )  # decay has minima of its own
        optimizer = create(learning_rate=rate, **undecayed)
        minima = {name: np.array(minimum) for name, (minimum, _) in TARGETS.items()}
        xs = [keras.Variable(np.zeros(2), dtype=dtype, name=name) for name in TARGETS]
        optimizer.build(xs)
        for _ in range(300):
            apart = [
                ops.stop_gradient(ops.convert_to_tensor(x)) - ops.cast(minima[x.name], dtype) for x in xs
            ]
            apply(optimizer, [TARGETS[x.name][1](d) for x, d in zip(xs, apart, strict=True)], xs)
        for x in xs:
            way = np.abs(minima[x.name]).max()
            np.testing.assert_allclose(ops.convert_to_numpy(x.value), minima[x.name], atol=0.01 * way, rtol=0)
            assert keras.backend.standardize_dtype(x.dtype) == dtype

    def test_one_by_one_is_all_at_once(self, create):
        together, apart = variables(), variables()
        optimizer, other = create(), create()
        other.build(apart)
        for step in range(3):
            optimizer.apply(gradients(step), together)
            for g, x in zip(gradients(step), apart, strict=True):
                other.update_step(g, x, other.learning_rate)
            other.iterations.assign_add(1)
        assert_close(values(together), values(apart))

    def test_stateless_is_stateful(self, create):
        xs = variables()
        optimizer = create()
        optimizer.build(xs)
        if BACKEND == "tensorflow":
            with pytest.raises(ValueError, match="stateless_apply is not supported"):
                optimizer.stateless_apply(optimizer.variables, gradients(0), xs)
            return
        before = values([*xs, *optimizer.variables])
        state, slots = [x.value for x in xs], [v.value for v in optimizer.variables]
        for step in range(3):
            state, slots = optimizer.stateless_apply(slots, gradients(step), state)
        assert_equal(values([*xs, *optimizer.variables]), before)
        expected = train(optimizer, xs, range(3))
        assert_close(values(state), expected)
        assert_close(values(slots), values(optimizer.variables))

    def test_compiles_once(self, create):
        count = 0

        class Counting(keras.optimizers.schedules.LearningRateSchedule):
            def __call__(self, step):
                nonlocal count
                count += 1
                return 0.1

            def get_config(self):
                return {}

        model = small_model()
        model.compile(create(learning_rate=Counting()), "mse", jit_compile=BACKEND == "jax")
        x, y = line()
        model.train_on_batch(x, y)
        traced = count
        for _ in range(3):
            model.train_on_batch(x, y)
        eager_calls = 3 if BACKEND == "torch" else 0
        assert count <= traced + eager_calls


class TestPrecision:
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    def test_keeps_dtype_and_shape(self, create, dtype, request):
        if dtype == "float64":
            request.getfixturevalue("float64")
        xs = variables(dtype)
        optimizer = create()
        train(optimizer, xs, range(2))
        assert [(x.dtype, tuple(x.shape)) for x in xs] == [(dtype, s) for s in SHAPES]
        assert {(v.dtype, tuple(v.shape)) for v in optimizer.variables[2:]} == {(dtype, s) for s in SHAPES}

    def test_precisions_mix(self, create, float64):
        dtypes = ["float32", "float64", "bfloat16"]
        mixed = [keras.Variable(np.ones((2, 2)), dtype=d) for d in dtypes]
        optimizer = create()
        optimizer.apply([ops.ones((2, 2), dtype=d) for d in dtypes], mixed)
        alone = keras.Variable(np.ones((2, 2)), dtype="float64")
        create().apply([ops.ones((2, 2), dtype="float64")], [alone])
        assert [v.dtype for v in mixed] == dtypes
        assert_equal(values(mixed[1:2]), values([alone]))
        assert_close(values(mixed[:1]), values([alone]))

    def test_large_variables_are_cut_without_a_seam(self, create):
        # Larger than a multi-tensor piece, and not a multiple of it: every element takes the same step.
        x = keras.Variable(np.ones((700, 1001)), dtype="float32")
        optimizer = create()
        for _ in range(2):
            optimizer.apply([ops.ones((700, 1001)) * 0.5], [x])
        result = ops.convert_to_numpy(x)
        assert np.ptp(result) == 0
        assert result[0, 0] != 1

    def test_gradients_of_any_layout(self, create):
        g = np.random.default_rng(1).normal(size=(5, 7)).astype("float32")
        plain, turned = (keras.Variable(np.ones((5, 7), "float32")) for _ in range(2))
        create().apply([ops.convert_to_tensor(g)], [plain])
        create().apply([ops.transpose(ops.convert_to_tensor(np.ascontiguousarray(g.T)))], [turned])
        assert_close(values([plain]), values([turned]))


class TestRates:
    def test_schedule_callable_and_number_agree(self, create):
        constant = keras.optimizers.schedules.PiecewiseConstantDecay([100], [0.1, 0.2])
        results = [
            train(create(learning_rate=r), variables(), range(3)) for r in (0.1, constant, lambda: 0.1)
        ]
        assert_close(results[1], results[0])
        assert_close(results[2], results[0])

    def test_schedule_counts_steps_from_zero(self, create):
        falling = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.1, 0.0])
        xs = variables()
        optimizer = create(learning_rate=falling, weight_decay=0.0)
        after_one = train(optimizer, xs, range(1))
        if not isinstance(optimizer, Nesterov):  # whose velocity goes on without a rate
            assert_equal(train(optimizer, xs, range(1, 3)), after_one)

    def test_setting_the_rate(self, create):
        xs, ys = variables(), variables()
        set_later, set_first = create(learning_rate=0.7), create(learning_rate=0.1)
        if set_later.get_config().get("decouple_lr"):
            set_later, set_first = (create(learning_rate=r, decouple_lr=0.1) for r in (0.7, 0.1))
        set_later.learning_rate = 0.1
        assert_close(train(set_later, xs, range(3)), train(set_first, ys, range(3)))


class TestGradients:
    @pytest.mark.parametrize("argument", ["clipnorm", "global_clipnorm", "clipvalue"])
    def test_clipping(self, create, argument):
        bound = 0.4

        def clip(gs):
            gs = values(gs)
            if argument == "clipvalue":
                gs = [np.clip(g, -bound, bound) for g in gs]
            elif argument == "clipnorm":
                gs = [g * min(1, bound / np.linalg.norm(g)) for g in gs]
            else:
                norm = np.sqrt(sum(np.sum(g**2) for g in gs))
                gs = [g * min(1, bound / norm) for g in gs]
            return [ops.convert_to_tensor(g, dtype="float32") for g in gs]

        clipped = train(create(**{argument: bound}), variables(), range(3))
        assert_close(clipped, train(create(), variables(), range(3), clip), rtol=1e-5)

    def test_loss_scale_factor(self, create):
        optimizer = create(loss_scale_factor=256.0)
        assert optimizer.scale_loss(2.0) == 512.0
        scaled = train(optimizer, variables(), range(3), lambda gs: [g * 256 for g in gs])
        assert_close(scaled, train(create(), variables(), range(3)))

    def test_accumulation_takes_a_step_of_the_mean(self, create):
        xs, expected = variables(), variables()
        optimizer, plain = create(gradient_accumulation_steps=2), create()
        train(optimizer, xs, [0])
        assert_equal(values(xs), values(variables()))
        train(optimizer, xs, [1, 2, 3])
        for first in (0, 2):
            pairs = zip(gradients(first), gradients(first + 1), strict=True)
            plain.apply([(a + b) / 2 for a, b in pairs], expected)
        assert_close(values(xs), values(expected))
        assert int(ops.convert_to_numpy(optimizer.iterations)) == 2

    def test_accumulation_asks_a_schedule_for_the_step(self, create):
        # One meaning of t: the rate of the second step is that of step 1, whatever batches make it up.
        rates = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.1, 0.02])
        xs, ys = variables(), variables()
        optimizer, plain = (
            create(learning_rate=rates, gradient_accumulation_steps=3),
            create(learning_rate=rates),
        )
        for step in range(2):
            train(optimizer, xs, [step] * 3)
            train(plain, ys, [step])
            assert_close(values(xs), values(ys), rtol=1e-5)

    def test_none_leaves_variable_and_slots_alone(self, create):
        xs = variables()
        optimizer = create()
        optimizer.build(xs)
        slots = [v for v in optimizer.variables if "v1" in v.path]
        before = values([xs[1], *slots])
        g = gradients(0)
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            optimizer.apply([g[0], None, g[2]], xs)
        assert slots
        assert_equal(values([xs[1], *slots]), before)
        others = variables()
        create().apply([g[0], g[2]], [others[0], others[2]])
        assert_close(values([xs[0], xs[2]]), values([others[0], others[2]]))

    def test_no_gradient_at_all(self, create):
        with pytest.raises(ValueError, match="No gradients provided"):
            create().apply([None, None, None], variables())

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_not_finite_stays_seen(self, create, bad):
        x = keras.Variable(np.ones(3, "float32"))
        optimizer = create()
        g = np.ones(3, "float32")
        optimizer.apply([ops.convert_to_tensor(g)], [x])
        g[1] = bad
        optimizer.apply([ops.convert_to_tensor(g)], [x])
        optimizer.apply([ops.ones(3)], [x])
        finite = np.isfinite(ops.convert_to_numpy(x))
        np.testing.assert_array_equal(finite, [True, False, True])

    @pytest.mark.parametrize("argument", ["clipnorm", "global_clipnorm", "clipvalue"])
    def test_clipping_keeps_a_nan(self, create, argument):
        x = keras.Variable(np.ones(3, "float32"))
        create(**{argument: 1.0}).apply([ops.convert_to_tensor(np.float32([1, np.nan, 1]))], [x])
        assert np.isnan(ops.convert_to_numpy(x)[1])

    def test_overwrite_with_gradient(self, create):
        xs = variables()
        xs[1].overwrite_with_gradient = True
        optimizer = create()
        train(optimizer, xs, range(2))
        assert_close(values(xs[1:2]), values(gradients(1)[1:2]))
        assert not [v for v in optimizer.variables if "v1" in v.path]

    def test_constraints_hold_after_the_step(self, create):
        x = keras.Variable(np.full(3, 0.01, "float32"))
        x.constraint = keras.constraints.NonNeg()
        create(learning_rate=1.0).apply([ops.ones(3)], [x])
        assert np.min(ops.convert_to_numpy(x)) == 0


class TestDecay:
    def test_takes_a_wd_x_off(self, create):
        xs, ys = variables(), variables()
        plain, decayed = create(weight_decay=0.0), create(weight_decay=0.1)
        rate = float(ops.convert_to_numpy(plain.learning_rate))
        fraction = 0.1 if decayed.get_config().get("decouple_lr") else 0.1 * rate
        train(decayed, xs, range(1))
        train(plain, ys, range(1))
        expected = [y - fraction * x0 for y, x0 in zip(values(ys), values(variables()), strict=True)]
        assert_close(values(xs), expected)

    def test_exclusion_by_name_and_by_variable(self, create):
        xs, ys = variables(), variables()
        decayed, plain = create(weight_decay=0.5), create(weight_decay=0.0)
        decayed.exclude_from_weight_decay(var_list=[xs[0]], var_names=["v2"])
        train(decayed, xs, range(2))
        train(plain, ys, range(2))
        assert_close(values([xs[0], xs[2]]), values([ys[0], ys[2]]))
        assert np.max(np.abs(values(xs)[1] - values(ys)[1])) > 1e-3

    def test_all_may_be_excluded(self, create):
        decayed = create(weight_decay=0.5)
        decayed.exclude_from_weight_decay(var_names=["v"])
        assert_close(
            train(decayed, variables(), range(2)), train(create(weight_decay=0.0), variables(), range(2))
        )

    def test_exclusion_after_build_raises(self, create):
        xs = variables()
        optimizer = create(weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["v1"])
        optimizer.build(xs)
        optimizer.exclude_from_weight_decay(var_names=["v1"])  # changes nothing
        with pytest.raises(ValueError, match=r"before the optimizer is built.*v2"):
            optimizer.exclude_from_weight_decay(var_names=["v2"])

    def test_exclusion_is_saved(self, create):
        xs = variables()
        optimizer = create(weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_list=[xs[0]], var_names=["v2"])
        config = json.loads(json.dumps(optimizer.get_config()))
        again = type(optimizer).from_config(config)
        assert again.get_config() == optimizer.get_config()
        ys = variables()
        assert_equal(train(optimizer, xs, range(2)), train(again, ys, range(2)))


class TestAveraging:
    def test_follows_its_formula(self, create):
        xs = variables()
        optimizer = create(use_ema=True, ema_momentum=0.7)
        average = None
        for step in range(4):
            now = train(optimizer, xs, [step])
            average = (
                now if average is None else [0.7 * a + 0.3 * n for a, n in zip(average, now, strict=True)]
            )
        optimizer.finalize_variable_values(xs)
        assert_close(values(xs), average)

    def test_fit_again_and_again(self, create):
        x, y = line()
        model = small_model()
        model.compile(create(use_ema=True, ema_momentum=0.7), "mse", jit_compile=BACKEND == "jax")
        for _ in range(2):
            model.fit(x, y, batch_size=16, verbose=0)
        averages = [v for v in model.optimizer.variables if v.path.endswith("average")]
        assert len(averages) == 4
        assert_equal(values(model.trainable_weights), values(averages))

    def test_frozen_in_part_and_compiled_again(self, create):
        x, y = line()
        model = small_model()
        optimizer = create(use_ema=True, ema_momentum=0.7)
        model.compile(optimizer, "mse", jit_compile=BACKEND == "jax")
        model.fit(x, y, batch_size=16, verbose=0)
        frozen, trained = values(model.layers[0].weights), values(model.layers[1].weights)
        model.layers[0].trainable = False
        model.compile(optimizer, "mse", jit_compile=BACKEND == "jax")
        if BACKEND == "jax":
            with pytest.raises(
                ValueError, match="built with 4 trained variables, and is given 2.*a new optimizer"
            ):
                model.fit(x, y, batch_size=16, verbose=0)
            return
        model.fit(x, y, batch_size=16, verbose=0)
        assert_equal(values(model.layers[0].weights), frozen)
        assert np.abs(values(model.layers[1].weights)[0] - trained[0]).max() > 1e-4
        averages = [v for v in optimizer.variables if v.path.endswith("average")]
        assert_equal(values(model.layers[1].weights), values(averages[2:]))

    def test_overwrites_every_so_often(self, create):
        xs, ys = variables(), variables()
        overwritten = create(use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=3)
        kept = create(use_ema=True, ema_momentum=0.7)
        assert_close(train(overwritten, xs, range(2)), train(kept, ys, range(2)))
        train(overwritten, xs, [2])
        train(kept, ys, [2])
        kept.finalize_variable_values(ys)
        assert_close(values(xs), values(ys))


class TestWrappers:
    def test_loss_scale_optimizer(self, create):
        optimizer = keras.optimizers.LossScaleOptimizer(create(), initial_scale=8.0)
        xs = variables()
        optimizer.build(xs)
        apply(optimizer, [g * 8 for g in gradients(0)], xs)
        after_one = values(xs)
        assert_close(after_one, train(create(), variables(), range(1)))
        apply(optimizer, [g * np.nan for g in gradients(1)], xs)  # skipped, and the scale halved
        assert_equal(values(xs), after_one)
        apply(optimizer, [g * 4 for g in gradients(2)], xs)
        assert_close(values(xs), train(create(), variables(), [0, 2]))

    def test_multi_optimizer(self, create):
        if not hasattr(keras.optimizers, "MultiOptimizer"):
            assert tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15)
            return
        xs = variables()
        assignment = keras.optimizers.OptimizerMap(create(), {xs[1].path: keras.optimizers.SGD(0.1)})
        optimizer = keras.optimizers.MultiOptimizer(assignment)
        optimizer.build(xs)
        for step in range(2):
            optimizer.apply(gradients(step), xs)
        alone = train(create(), variables(), range(2))
        assert_close(values([xs[0], xs[2]]), [alone[0], alone[2]])


class TestConfiguration:
    def test_round_trip(self, create):
        optimizer = create(clipnorm=2.0, weight_decay=0.1, name="mine", use_ema=True)
        before = optimizer.get_config()
        train(optimizer, variables(), range(1))
        assert optimizer.get_config() == before
        again = type(optimizer).from_config(json.loads(json.dumps(before)))
        assert again.get_config() == before
        rebuilt = keras.optimizers.deserialize(json.loads(json.dumps(keras.optimizers.serialize(optimizer))))
        assert type(rebuilt) is type(optimizer)
        assert rebuilt.get_config() == before

    def test_from_config_leaves_the_config_alone(self, create):
        schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
        config = create(learning_rate=schedule).get_config()
        kept = copy.deepcopy(config)
        again = type(create()).from_config(config)
        assert config == kept
        assert again.get_config() == kept

    def test_get_by_name(self, create):
        optimizer_class = type(create())
        name = f"keras_addons_l6>{optimizer_class.__name__}"
        assert type(keras.optimizers.get({"class_name": name, "config": {}})) is optimizer_class
        if VERSION < (3, 16):  # later ones look up their own names only
            assert type(keras.optimizers.get(name)) is optimizer_class

    def test_repr_shows_what_was_given(self, create):
        optimizer = create(clipnorm=0.5, name="mine")
        shown = repr(optimizer)
        assert shown.startswith(f"{type(optimizer).__name__}(name='mine', learning_rate=")
        assert "clipnorm=0.5" in shown
        assert "use_ema" not in shown
        assert all(f"{key}=" in shown for key in optimizer.get_config().keys() - create().get_config().keys())

    def test_slots_are_named_for_good(self, create):
        expected = {
            Nesterov: ["momentum"],
            AdaGrad: ["accumulator"],
            RMSProp: ["velocity", "momentum", "average_gradient"],
            Adam: ["momentum", "velocity", "velocity_hat"],
            AdamW: ["momentum", "velocity", "velocity_hat"],
        }
        optimizer = create(name="o")
        optimizer.build(variables())
        kept = [n for n in expected[type(optimizer)] if _keeps(optimizer, n)]
        paths = ["o/iteration", "o/learning_rate", *(f"o/v{i}_{n}" for i in range(3) for n in kept)]
        assert [v.path for v in optimizer.variables] == paths


def _keeps(optimizer, slot):
    switch = {"velocity_hat": "amsgrad", "average_gradient": "centered"}
    if isinstance(optimizer, RMSProp) and slot == "momentum":
        return optimizer.momentum > 0
    return getattr(optimizer, switch[slot]) if slot in switch else True


class TestState:
    def test_pickle_and_deepcopy_go_on_where_it_was(self, create):
        xs = variables()
        optimizer = create()
        train(optimizer, xs, range(2))
        copies = [pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)]
        here = values(xs)
        expected = train(optimizer, xs, range(2, 4))
        for other in copies:
            ys = variables()
            for y, value in zip(ys, here, strict=True):
                y.assign(value)
            assert int(ops.convert_to_numpy(other.iterations)) == 2
            assert_equal(train(other, ys, range(2, 4)), expected)

    def test_saved_and_resumed_is_uninterrupted(self, create, tmp_path):
        x, y = line()
        model = small_model()
        model.compile(create(), "mse", jit_compile=BACKEND == "jax")
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        model.save(tmp_path / "model.keras")
        model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        resumed = keras.saving.load_model(tmp_path / "model.keras")
        resumed.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        assert_equal(values(resumed.weights), values(model.weights))
        assert_equal(values(resumed.optimizer.variables), values(model.optimizer.variables))

    def test_weights_file_into_a_compiled_model(self, create, tmp_path):
        # The optimizer there has no slots yet; Keras warns and forgets the state.
        x, y = line()
        model = small_model()
        model.compile(create(), "mse", jit_compile=BACKEND == "jax")
        model.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
        model.save_weights(tmp_path / "model.weights.h5")
        model.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
        resumed = small_model()
        resumed.compile(create(), "mse", jit_compile=BACKEND == "jax")
        resumed.load_weights(tmp_path / "model.weights.h5")
        resumed.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
        assert_equal(values(resumed.weights), values(model.weights))

    def test_state_of_other_variables_is_refused(self, create):
        optimizer = create()
        optimizer.build(variables())
        store = {}
        optimizer.save_own_variables(store)
        other = create(name="other")
        other.build([keras.Variable(np.ones((4, 2)), name="v0"), *variables()[1:]])
        before = values(other.variables)
        with pytest.raises(ValueError, match=r"'other/v0_\w+' has shape \(4, 2\).*\(4, 3\)"):
            other.load_own_variables(store)
        assert_equal(values(other.variables), before)

    # Keras turns tensors into arrays in a way that NumPy 2 deprecates, and `pytest.warns` tells it again.
    @pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
    def test_state_of_fewer_or_more_variables_is_taken_in_part(self, create):
        optimizer, fewer = create(), create(name="fewer")
        optimizer.build(variables())
        fewer.build(variables()[:2])
        large, small = {}, {}
        optimizer.save_own_variables(large)
        fewer.save_own_variables(small)
        with pytest.warns(UserWarning, match="Nothing was saved for 'v2', whose slots stay"):
            optimizer.load_own_variables(small)
        with pytest.warns(UserWarning, match="What was saved for 'v2' belongs to no variable"):
            fewer.load_own_variables(large)

    def test_tf_checkpoint(self, create, tmp_path):
        if BACKEND != "tensorflow":
            assert not hasattr(create(), "_trackable_children")
            return
        import tensorflow as tf

        xs = variables()
        optimizer = create()
        train(optimizer, xs, range(2))
        saved = tf.train.Checkpoint(optimizer=optimizer, xs=[x.value for x in xs]).save(tmp_path / "c")
        expected = train(optimizer, xs, range(2, 4))
        ys, other = variables(), create()
        other.build(ys)
        restored = tf.train.Checkpoint(optimizer=other, xs=[y.value for y in ys]).restore(saved)
        restored.assert_existing_objects_matched()
        assert_equal(train(other, ys, range(2, 4)), expected)
