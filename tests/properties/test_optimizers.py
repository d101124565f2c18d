"""What holds for every optimizer at every setting, however variables are split and ordered."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_addons_l6.optimizers import LBFGS, AdaGrad, Adam, AdamW, Nesterov, RMSProp

SIZE, STEPS = 12, 6

rates = st.sampled_from([1e-3, 0.01, 0.1])
fractions = st.sampled_from([0.0, 0.5, 0.9, 0.99])
epsilons = st.sampled_from([1e-8, 1e-5, 1e-2])
SETTINGS = {
    "Nesterov": st.fixed_dictionaries({"learning_rate": rates, "momentum": fractions}),
    "AdaGrad": st.fixed_dictionaries(
        {
            "learning_rate": rates,
            "epsilon": epsilons,
            "initial_accumulator_value": st.sampled_from([0.0, 0.1]),
        }
    ),
    "RMSProp": st.fixed_dictionaries(
        {
            "learning_rate": rates,
            "rho": fractions,
            "momentum": fractions,
            "epsilon": epsilons,
            "centered": st.booleans(),
        }
    ),
    "Adam": st.fixed_dictionaries(
        {
            "learning_rate": rates,
            "beta_1": fractions,
            "beta_2": fractions,
            "epsilon": epsilons,
            "amsgrad": st.booleans(),
        }
    ),
    "AdamW": st.fixed_dictionaries(
        {
            "learning_rate": rates,
            "weight_decay": st.sampled_from([0.0, 0.004, 0.1]),
            "beta_2": fractions,
            "amsgrad": st.booleans(),
            "decouple_lr": st.sampled_from([False, True, 0.5]),
        }
    ),
}
CLASSES = {c.__name__: c for c in (Nesterov, AdaGrad, RMSProp, Adam, AdamW)}


def path(optimizer, start, gradients, order):
    """The points an optimizer visits from `start`, whose components are split into variables as `order` says."""
    variables = [keras.Variable(start[part]) for part in order]
    optimizer.build(variables)
    points = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient[part]) for part in order], variables)
        point = np.empty_like(start)
        for part, variable in zip(order, variables, strict=True):
            point[part] = keras.ops.convert_to_numpy(variable)
        points.append(point)
    return np.array(points)


def start_and_gradients(seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=(STEPS + 1, SIZE)).astype("float32")
    return values[0], values[1:]


@pytest.mark.parametrize("name", CLASSES)
@given(data=st.data(), seed=st.integers(0, 999))
def test_path_does_not_depend_on_how_parameters_are_split_or_ordered(name, data, seed):
    """Each rule works component by component: only a fused multiplication may round differently."""
    settings = data.draw(SETTINGS[name])
    start, gradients = start_and_gradients(seed)
    whole = path(CLASSES[name](**settings), start, gradients, [np.arange(SIZE)])
    shuffled = np.random.default_rng(seed).permutation(SIZE)
    split = path(CLASSES[name](**settings), start, gradients, [shuffled[:7], shuffled[7:11], shuffled[11:]])
    largest = np.abs(whole).max()
    np.testing.assert_allclose(split, whole, rtol=1e-6, atol=1e-6 * largest)


@pytest.mark.parametrize("name", ["AdaGrad", "RMSProp", "Adam"])
@given(data=st.data(), seed=st.integers(0, 999), power=st.integers(-6, 6))
def test_adaptive_rules_ignore_the_gradients_unit(name, data, seed, power):
    """With epsilon in the gradient's unit, a power of two changes no digit of the path."""
    settings = data.draw(SETTINGS[name]) | {"initial_accumulator_value": 0.0}
    if name != "AdaGrad":
        del settings["initial_accumulator_value"]
    start, gradients = start_and_gradients(seed)
    unit = 2.0**power
    plain = path(CLASSES[name](**settings), start, gradients, [np.arange(SIZE)])
    settings["epsilon"] *= unit
    scaled = path(CLASSES[name](**settings), start, gradients * np.float32(unit), [np.arange(SIZE)])
    np.testing.assert_allclose(scaled, plain, rtol=1e-6, atol=1e-6 * np.abs(plain).max())


@pytest.mark.parametrize("name", CLASSES)
@given(data=st.data())
def test_config_survives(name, data):
    optimizer = CLASSES[name](**data.draw(SETTINGS[name]))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()


@functools.cache
def compiled_on_jax(sizes):
    """An L-BFGS step over variables of these sizes as one compiled function, and the state it starts from."""
    import jax

    optimizer = LBFGS(gradient_tolerance=1e-12)
    optimizer.build([keras.Variable(np.zeros(size), dtype="float64") for size in sizes])
    # What updates return is new arrays: the start can be used again.
    start = [variable.value for variable in optimizer.variables]

    @jax.jit
    def step(state, loss, gradients, values):
        optimizer.scale_loss(loss)
        return optimizer.stateless_apply(state, gradients, values)

    return step, start


class StepwiseLBFGS:
    """L-BFGS over variables of given sizes: takes loss, gradients and values, returns the next trial's values."""

    def __init__(self, sizes):
        if keras.config.backend() == "jax":
            self.step, self.state = compiled_on_jax(tuple(sizes))
        else:
            self.optimizer = LBFGS(gradient_tolerance=1e-12)
            self.variables = [keras.Variable(np.zeros(size), dtype="float64") for size in sizes]
            self.optimizer.build(self.variables)

    def __call__(self, loss, gradients, values):
        if keras.config.backend() == "jax":
            values, self.state = self.step(self.state, loss, gradients, values)
            return values
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)
        self.optimizer.scale_loss(keras.ops.convert_to_tensor(loss, dtype="float64"))
        self.optimizer.apply(
            [keras.ops.convert_to_tensor(g, dtype="float64") for g in gradients], self.variables
        )
        return [keras.ops.convert_to_numpy(variable) for variable in self.variables]


def lbfgs_path(order, scale, seed, steps=15):
    """The trial points of L-BFGS on a quadratic of condition 100, its loss multiplied by `scale`."""
    random = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(random.normal(size=(SIZE, SIZE)))
    hessian = rotation @ np.diag(np.geomspace(0.1, 10, SIZE)) @ rotation.T
    x = random.normal(size=SIZE)
    method = StepwiseLBFGS([len(part) for part in order])
    points = [x]
    for _ in range(steps):
        gradient = scale * hessian @ x
        values = method(0.5 * x @ gradient, [gradient[part] for part in order], [x[part] for part in order])
        x = np.empty(SIZE)
        for part, value in zip(order, values, strict=True):
            x[part] = value
        points.append(x)
    return np.array(points)


@given(seed=st.integers(0, 999))
def test_lbfgs_does_not_depend_on_how_parameters_are_split_or_ordered(float64, seed):
    """Sums in another order: 1e-16, grown by 15 steps of a method that divides by small curvatures."""
    shuffled = np.random.default_rng(seed).permutation(SIZE)
    whole = lbfgs_path([np.arange(SIZE)], 1.0, seed)
    split = lbfgs_path([shuffled[:7], shuffled[7:11], shuffled[11:]], 1.0, seed)
    np.testing.assert_allclose(split, whole, atol=1e-6 * np.abs(whole).max())
    assert np.linalg.norm(whole[-1]) < 0.5 * np.linalg.norm(whole[0]), "the path leads nowhere"


@given(seed=st.integers(0, 999), power=st.integers(-30, 30))
def test_lbfgs_ignores_the_losss_unit(float64, seed, power):
    """A power of two changes no digit of the path: every test inside is relative."""
    plain, scaled = (lbfgs_path([np.arange(SIZE)], 2.0**k, seed) for k in (0, power))
    np.testing.assert_allclose(scaled, plain, rtol=1e-9, atol=1e-9 * np.abs(plain).max())
