"""Every optimizer step through the backend's own kernels against the portable one."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6 import optimizers
from keras_addons_l6.backends import rules
from keras_addons_l6.backends.portable import rules as portable

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
