"""Our optimizers against torch.optim's, by the paths that make_torch_goldens.py wrote."""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_addons_l6.optimizers import AdaGrad, Adam, AdamW, Nesterov, RMSProp
from tests.optimizers.driving import FASTEST, MODES, follow
from tests.parity.gradients import DROP, SNAPSHOTS, gradients, start

with np.load(Path(__file__).with_name("torch_optim.npz")) as file:
    GOLDENS = dict(file)


class Drop(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that falls to a tenth, in floatx; Keras's PiecewiseConstantDecay is float32 on TensorFlow."""

    def __init__(self, first):
        self.first = first

    def __call__(self, step):
        return keras.ops.cast(keras.ops.where(step < DROP, 1.0, 0.1), keras.config.floatx()) * self.first

    def get_config(self):
        return {"first": self.first}


# name of the golden: what the docstrings' row "to reproduce PyTorch pass ..." says to pass
OURS = {
    "nesterov": lambda: Nesterov(0.01),
    "sgd": lambda: Nesterov(0.01, momentum=0.0),
    "adagrad": lambda: AdaGrad(epsilon=1e-10),
    "adagrad_initial": lambda: AdaGrad(Drop(0.01), initial_accumulator_value=0.5, epsilon=1e-3),
    "rmsprop": lambda: RMSProp(0.01, rho=0.99, epsilon=1e-8),
    "rmsprop_momentum": lambda: RMSProp(Drop(0.01), rho=0.99, epsilon=1e-8, momentum=0.9),
    "rmsprop_centered": lambda: RMSProp(0.01, rho=0.99, epsilon=1e-8, centered=True),
    "rmsprop_centered_momentum": lambda: RMSProp(
        Drop(0.01), rho=0.99, epsilon=1e-8, centered=True, momentum=0.5
    ),
    "adam": lambda: Adam(epsilon=1e-8),
    "adam_changing_rate": lambda: Adam(Drop(0.001), beta_1=0.5, beta_2=0.9, epsilon=1e-4),
    "adam_amsgrad": lambda: Adam(epsilon=1e-8, amsgrad=True),
    "adamw": lambda: AdamW(weight_decay=0.01),
    "adamw_amsgrad": lambda: AdamW(Drop(0.001), weight_decay=0.1, amsgrad=True),
}


def worst(name, mode, steps=None):
    """Largest difference to the golden, relative to the largest |x| on the way."""
    path = follow(OURS[name](), start(), gradients()[:steps], mode)
    snapshots = [i for i, step in enumerate(SNAPSHOTS) if step <= len(path)]
    ours = path[[SNAPSHOTS[i] - 1 for i in snapshots]]
    return np.max(np.abs(ours - GOLDENS[name][snapshots])) / np.max(np.abs(path))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OURS)
def test_float64(name, mode, float64):
    # Where there is a compiled mode it takes the 1,000 steps; the slower eager one shows it does the same.
    assert worst(name, mode, steps=None if mode == FASTEST else 100) < 1e-12


@pytest.mark.parametrize("name", OURS)
def test_float32(name):
    assert worst(name, FASTEST) < 1e-5


def test_nesterov_with_a_changing_rate_is_not_torch():
    # PyTorch scales the whole velocity by the new rate at once, the lecture's formula only what is added.
    path = follow(Nesterov(Drop(0.01)), start(), gradients(), FASTEST)
    ours, theirs = path[[s - 1 for s in SNAPSHOTS]], GOLDENS["nesterov_changing_rate"]
    before, after = SNAPSHOTS.index(DROP), SNAPSHOTS.index(DROP + 1)
    scale = np.max(np.abs(path))
    assert np.max(np.abs(ours - theirs)[: before + 1]) < 1e-5 * scale
    assert np.max(np.abs(ours - theirs)[after]) > 1e-3 * scale  # one step of 1,000
