"""A compiled step does what an eager one does, and hides no bad gradient either."""

import numpy as np
import pytest

from keras_addons_l6.optimizers import AdaGrad, Adam, AdamW, Nesterov, RMSProp
from tests.optimizers.driving import COMPILED, EAGER, FASTEST, follow

CASES = {
    "nesterov": lambda: Nesterov(0.1),
    "adagrad": lambda: AdaGrad(0.1),
    "rmsprop": lambda: RMSProp(0.1),
    "rmsprop_centered": lambda: RMSProp(0.1, momentum=0.5, centered=True),
    "adam": lambda: Adam(0.1),
    "adam_amsgrad": lambda: Adam(0.1, amsgrad=True),
    "adamw_clipped": lambda: AdamW(0.1, weight_decay=0.1, clipnorm=1.0),
}
START = np.linspace(-1.0, 1.0, 6).reshape(2, 3)


@pytest.mark.parametrize("mode", COMPILED)
@pytest.mark.parametrize("name", CASES)
def test_is_the_eager_step(name, mode):
    gradients = np.random.default_rng(0).normal(0.3, 1.0, (4, 2, 3))
    eager = follow(CASES[name](), START, gradients, EAGER)
    # A compiler may fuse a product and a sum: a float32 rounding or two for each of the 4 steps.
    np.testing.assert_allclose(follow(CASES[name](), START, gradients, mode), eager, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_keeps_what_is_not_finite(name):
    gradients = np.ones((3, 2, 3))
    gradients[1, 0, 1] = np.nan
    gradients[1, 1, 2] = np.inf
    # Clipping scales the whole gradient, and with a NaN in it all of it.
    bad = np.full((2, 3), name == "adamw_clipped") | ~np.isfinite(gradients[1])
    path = follow(CASES[name](), START, gradients, FASTEST)
    np.testing.assert_array_equal(~np.isfinite(path), [np.zeros((2, 3), bool), bad, bad])
