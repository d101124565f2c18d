"""Every optimizer step through the backend's own kernels against the portable one."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6 import optimizers
from keras_addons_l6.backends import rules
from keras_addons_l6.backends.portable import rules as portable
from tests.reference import optimizers as reference

CONFIGURATIONS = [
    (optimizers.Nesterov, {}),
    (optimizers.Nesterov, {"momentum": 0.0}),
    (optimizers.AdaGrad, {"initial_accumulator_value": 0.1}),
    (optimizers.RMSProp, {}),
    (optimizers.RMSProp, {"momentum": 0.5}),
    (optimizers.RMSProp, {"centered": True}),
    (optimizers.Adam, {}),
    (optimizers.Adam, {"beta_1": 0.0}),
    (optimizers.Adam, {"amsgrad": True}),
    (optimizers.Adam, {"epsilon": 0.1}),
    (optimizers.AdamW, {"weight_decay": 0.1}),
]
WIDE = ("float32", "float64")
LARGE = (3, 2**17)  # more than a backend may work on at once
SHAPES = [(5, 4), (), (3,), LARGE, (0, 2)]


def describe(configuration):
    return f"{configuration[0].__name__}-{configuration[1]}"


def steps(make, dtype, gradients):
    """Values of variables and slots after one step a row of `gradients`."""
    variables = [keras.Variable(np.ones(g.shape), dtype=dtype) for g in gradients[0]]
    optimizer = make()
    optimizer.build(variables)
    for row in gradients:
        optimizer.apply([ops.convert_to_tensor(g, dtype) for g in row], variables)
    state = [v for v in optimizer.variables if v.path.rpartition("/")[2] != "iteration"]
    return [ops.convert_to_numpy(v.value).astype("float64") for v in [*variables, *state]]


def both_ways(monkeypatch, make, dtype, gradients):
    # torch's own, where its fused kernels go by pieces: the large variable in two of them, so that the test is quick.
    monkeypatch.setattr(rules, "FUSED_PIECE", 1 << 18, raising=False)
    native = steps(make, dtype, gradients)
    monkeypatch.setattr(rules, "step", portable.step)
    return native, steps(make, dtype, gradients)


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=describe)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_native_step_equals_the_portable_one(float64, monkeypatch, configuration, dtype):
    cls, arguments = configuration
    rng = np.random.default_rng(3)
    scales = [1.0, 1e-6, 1.0]  # the second step's gradients are of epsilon's size
    gradients = [[scale * rng.normal(size=shape) for shape in SHAPES] for scale in scales]
    native, portable = both_ways(monkeypatch, lambda: cls(0.01, **arguments), dtype, gradients)
    # About ten roundings a step, three steps; in half precision one a step, which may fall either way.
    rounding = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}[dtype]
    for i, (found, expected) in enumerate(zip(native, portable, strict=True)):
        # A kernel may take 1 - b2 from a rounded b2, 0.999: half an ulp of 1 is 3e-5 of it in float32.
        steps_alike = 32 * rounding if i < len(SHAPES) or dtype not in WIDE else rounding / 2 / 0.001
        scale = max(1e-30, np.abs(expected).max(initial=0.0))
        np.testing.assert_allclose(found, expected, rtol=steps_alike, atol=32 * rounding * scale)


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=describe)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_native_step_hides_no_bad_gradient(monkeypatch, configuration, bad):
    cls, arguments = configuration
    gradients = [[np.ones(37), np.ones(3)] for _ in range(2)]
    gradients[0][0][[0, 20, 36]] = bad  # in vector lanes and in the remainder
    native, portable = both_ways(monkeypatch, lambda: cls(0.01, **arguments), "float32", gradients)
    for found, expected in zip(native, portable, strict=True):
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))


def test_gradients_are_left_as_they_are():
    gradient = ops.convert_to_tensor(np.full((6,), 0.5, "float32"))
    for cls, arguments in CONFIGURATIONS:
        variable = keras.Variable(np.ones(6), dtype="float32")
        optimizer = cls(0.01, **arguments)
        optimizer.apply([gradient], [variable])
        np.testing.assert_array_equal(ops.convert_to_numpy(gradient), 0.5)


def test_a_transposed_gradient_steps_like_its_copy():
    values = np.arange(12, dtype="float32").reshape(3, 4)
    results = []
    for gradient in (ops.transpose(ops.convert_to_tensor(values.T)), ops.convert_to_tensor(values)):
        variable = keras.Variable(np.ones((3, 4)), dtype="float32")
        optimizers.Adam(0.1).apply([gradient], [variable])
        results.append(ops.convert_to_numpy(variable.value))
    np.testing.assert_array_equal(*results)


def test_a_rule_of_ones_own_is_run_as_it_is():
    """A subclass with another formula must not get the kernel of the class it comes from."""

    class PlainDescent(optimizers.Adam):
        @staticmethod
        def rule(g, x, m, v, v_max, **coefficients):
            return x - g, m, v, v_max

    variable = keras.Variable(np.zeros(2), dtype="float32")
    PlainDescent().apply([ops.convert_to_tensor(np.array([1.0, 1.0], "float32"))], [variable])
    np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), [-1.0, -1.0])


def test_a_formula_without_a_kernel_is_run_as_it_is():
    class Plain(optimizers.Adam):
        rule = portable.Rule(lambda g, x, m, v, v_max, **coefficients: (x - g, m, v, v_max))

    variable = keras.Variable(np.zeros(2), dtype="float32")
    Plain().apply([ops.convert_to_tensor(np.array([1.0, 1.0], "float32"))], [variable])
    np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), [-1.0, -1.0])
    np.testing.assert_array_equal(Plain.rule(1.0, 3.0, None, None, None)[0], 2.0)


@pytest.mark.parametrize(
    "configuration", [CONFIGURATIONS[0], CONFIGURATIONS[4], CONFIGURATIONS[6]], ids=describe
)
@pytest.mark.parametrize("step", [rules.step, portable.step], ids=["native", "portable"])
def test_decay_is_taken_off_those_that_are_decayed_alone(monkeypatch, configuration, step):
    """The decay is the step's, and which variables lose it is each one's: the first no more than the rest."""
    cls, arguments = configuration
    monkeypatch.setattr(rules, "step", step)
    for excluded in ([0], [1], [0, 2], [], [0, 1, 2]):
        results = []
        for decay in (0.5, None):
            variables = [keras.Variable(np.full(3, 2.0), dtype="float32") for _ in range(3)]
            optimizer = cls(0.1, weight_decay=0.5 if decay else 0.0, **arguments)
            optimizer.exclude_from_weight_decay([variables[i] for i in excluded])
            optimizer.apply([ops.ones(3)] * 3, variables)
            results.append([ops.convert_to_numpy(v.value) for v in variables])
        for i, (decayed, plain) in enumerate(zip(*results, strict=True)):
            expected = plain - (0.0 if i in excluded else 0.1 * 0.5 * 2.0)
            np.testing.assert_allclose(decayed, expected, rtol=1e-6, err_msg=f"{i} of excluded {excluded}")


EXTREMES = [0.0, 1e-300, 1e-50, 1e-10, 0.5, 0.9999, 1 - 1e-8, 1 - 2.0**-53]


@pytest.mark.parametrize("beta_1", EXTREMES)
@pytest.mark.parametrize("dtype", WIDE)
def test_every_allowed_beta_is_served(float64, beta_1, dtype):
    """A kernel that rounds a beta to 1, or takes its logarithm at 0, gives way to the formula."""
    # Of like sizes: a kernel's v + (g^2 - v)(1 - b2) is rounded relative to the v before.
    rng = np.random.default_rng(5)
    gradients = rng.uniform(0.5, 1.5, (7, 6)) * rng.choice([-1.0, 1.0], (7, 6))
    for beta_2 in EXTREMES:
        (found, *_) = steps(lambda b=beta_2: optimizers.Adam(0.01, beta_1, b), dtype, gradients[:, None])
        expected = reference.adam(np.ones(6), gradients, np.full(7, 0.01), beta_1, beta_2, 1e-7)[-1]
        # Seven steps of at most 0.01 / sqrt(1 - b2), a dozen roundings each.
        rounding = 7 * 12 * (2.0**-23 if dtype == "float32" else 2.0**-52)
        np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding, err_msg=f"beta_2={beta_2}")


@pytest.mark.parametrize("share", EXTREMES)
@pytest.mark.parametrize("dtype", WIDE)
def test_every_allowed_share_is_served(float64, share, dtype):
    """The same for RMSProp's rho and momentum, and Nesterov's momentum."""
    gradients = np.random.default_rng(6).normal(0.5, 1.0, (7, 6))
    rates = np.full(7, 0.01)
    cases = {
        "rho": (
            optimizers.RMSProp(0.01, rho=share),
            reference.rmsprop(np.ones(6), gradients, rates, share, 0.0, 1e-7),
        ),
        "u": (
            optimizers.RMSProp(0.01, rho=0.9, momentum=share),
            reference.rmsprop(np.ones(6), gradients, rates, 0.9, share, 1e-7),
        ),
        "centered": (
            optimizers.RMSProp(0.01, rho=share, epsilon=1.0, centered=True),
            reference.rmsprop(np.ones(6), gradients, rates, share, 0.0, 1.0, centered=True),
        ),
        "v": (
            optimizers.Nesterov(0.01, share),
            reference.nesterov_look_ahead(np.ones(6), gradients, rates, share),
        ),
    }
    for name, (optimizer, expected) in cases.items():
        found = steps(lambda o=optimizer: o, dtype, gradients[:, None])[0]
        unit = 2.0**-23 if dtype == "float32" else 2.0**-52
        # Centered, the root of a difference that may be all rounding.
        rounding = 7 * 0.01 * 3 * unit**0.5 if name == "centered" else 7 * 12 * unit
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected[-1], rtol=rounding, atol=rounding * scale, err_msg=name)
