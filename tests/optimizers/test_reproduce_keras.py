"""The docstrings' rows "to reproduce Keras pass ...": each proved, or the difference they state measured."""

import keras
import numpy as np
import pytest

from keras_addons_l6.optimizers import AdaGrad, Adam, AdamW, Nesterov, RMSProp
from tests.optimizers.driving import FASTEST, follow

STEPS = 1000
# 1,000 float32 additions into x round it by 6e-8 of itself each, in either direction: 2e-6, doubled for two.
ROUNDING = 4e-6


def gradients(size):
    return np.random.default_rng(0).normal(0.3, 1.0, (STEPS, 6)) * size


def compare(ours, keras_own, size):
    """Largest difference over our longest path, and the length of Keras's path over ours."""
    a, b = (follow(o, np.zeros(6), gradients(size), FASTEST) for o in (ours, keras_own))
    return np.max(np.abs(a - b)) / np.max(np.abs(a)), np.max(np.abs(b)) / np.max(np.abs(a))


@pytest.mark.parametrize("size", [1.0, 1e-6])
@pytest.mark.parametrize("changing", [False, True])
def test_nesterov(size, changing):
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([500], [0.01, 0.001]) if changing else 0.01
    theirs = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    assert compare(Nesterov(rate, momentum=0.9), theirs, size)[0] < ROUNDING


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6])
def test_adagrad(size):
    ours = AdaGrad(0.001, initial_accumulator_value=0.1 + 1e-7, epsilon=1e-30)
    assert compare(ours, keras.optimizers.Adagrad(), size)[0] < ROUNDING


@pytest.mark.parametrize("arguments", [{}, {"momentum": 0.9}, {"centered": True}])
def test_rmsprop_differs_by_the_place_of_epsilon(arguments):
    def both():
        return RMSProp(**arguments), keras.optimizers.RMSprop(**arguments)

    assert compare(*both(), size=1.0)[0] < 2e-7 + ROUNDING
    assert 0.003 < compare(*both(), size=1e-6)[1] < 0.004


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Adam, keras.optimizers.Adam),
        (lambda: Adam(amsgrad=True), lambda: keras.optimizers.Adam(amsgrad=True)),
        (lambda: AdamW(epsilon=1e-7), keras.optimizers.AdamW),
    ],
)
def test_adam_differs_by_the_place_of_epsilon(ours, theirs):
    # Keras's 1 - b^t in float32 is 1.3e-5 off at first, which adds at most 2e-6 to the path.
    assert compare(ours(), theirs(), size=1.0)[0] < 6e-6 + ROUNDING
    assert 0.09 < compare(ours(), theirs(), size=1e-6)[0] < 0.1


def test_the_first_step_of_adam():
    # g = eps: Algorithm 1 steps by a/2; epsilon hat acts as 31.6 times as much and steps by a/32.6.
    first = [follow(o, np.zeros(1), np.full((1, 1), 1e-7))[0, 0] for o in (Adam(), keras.optimizers.Adam())]
    np.testing.assert_allclose(first, [-0.001 / 2, -0.001 / (1 + 1000**0.5)], rtol=1e-4)


def test_nesterov_when_the_rate_changes():
    # The numbers in Nesterov's docstring, PyTorch's by its formula: b = m b + g, x -= a (g + m b).
    class Cut(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return keras.ops.where(step < 2, 0.1, 0.01)

        def get_config(self):
            return {}

    ours = follow(Nesterov(Cut()), np.zeros(1), np.ones((5, 1)))[-1, 0]
    buffer = theirs = 0.0
    for rate in [0.1, 0.1, 0.01, 0.01, 0.01]:
        buffer = 0.9 * buffer + 1.0
        theirs -= rate * (1.0 + 0.9 * buffer)
    np.testing.assert_allclose([ours, theirs], [-0.959, -0.583], atol=5e-4)


def test_tensorflow_addons_weight_decay():
    # `decouple_lr=True` at a constant rate takes wd x off, whatever the rate.
    ours = follow(AdamW(0.01, weight_decay=0.1, decouple_lr=True), np.ones(1), np.zeros((3, 1)))
    np.testing.assert_allclose(ours[:, 0], [0.9, 0.81, 0.729], rtol=1e-6)
