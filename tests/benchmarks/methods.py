"""The optimizers and layers that are measured, ours and Keras's, with the same arguments."""

from collections.abc import Callable
from typing import Any

import keras

import keras_addons_l6.layers as our_layers
import keras_addons_l6.optimizers as our_optimizers

GROUPS = 8

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Nesterov": {"learning_rate": 0.01, "momentum": 0.9},
    "AdaGrad": {"learning_rate": 0.01, "initial_accumulator_value": 0.1, "epsilon": 1e-7},
    "RMSProp": {"learning_rate": 0.001, "rho": 0.9, "epsilon": 1e-7},
    "Adam": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
    "AdamW": {"learning_rate": 0.001, "weight_decay": 0.004, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
}
SLOTS = {"Nesterov": 1, "AdaGrad": 1, "RMSProp": 1, "Adam": 2, "AdamW": 2}
_KERAS_OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "Nesterov": lambda **arguments: keras.optimizers.SGD(nesterov=True, **arguments),
    "AdaGrad": keras.optimizers.Adagrad,
    "RMSProp": keras.optimizers.RMSprop,
    "Adam": keras.optimizers.Adam,
    "AdamW": keras.optimizers.AdamW,
}


def our_optimizer(name: str) -> Any:
    """Our optimizer of that name."""
    return getattr(our_optimizers, name)(**OPTIMIZERS[name])


def keras_optimizer(name: str) -> Any:
    """Keras's optimizer of the same method."""
    return _KERAS_OPTIMIZERS[name](**OPTIMIZERS[name])


def floor_bytes(name: str, parameters: int) -> int:
    """Bytes a step must move in float32: gradient, parameter and slots read, parameter and slots written."""
    return 4 * parameters * (1 + 2 * (1 + SLOTS[name]))


def spatial_axes(rank: int) -> list[int]:
    """All axes but the samples' and the channels'."""
    return list(range(1, rank - 1))


OUR_LAYERS: dict[str, Callable[[int], Any]] = {
    "PReLU": lambda rank: our_layers.PReLU(),
    "SELU": lambda rank: our_layers.SELU(),
    "Swish": lambda rank: our_layers.Swish(trainable_beta=False),
    "Swish, beta trained": lambda rank: our_layers.Swish(),
    "BatchNorm": lambda rank: our_layers.BatchNorm(),
    "BatchNorm, inference": lambda rank: our_layers.BatchNorm(),
    "GroupNorm": lambda rank: our_layers.GroupNorm(GROUPS),
    "InstanceNorm": lambda rank: our_layers.InstanceNorm(),
    "LayerNorm": lambda rank: our_layers.LayerNorm(),
}
KERAS_LAYERS: dict[str, Callable[[int], Any]] = {
    "PReLU": lambda rank: keras.layers.PReLU("zeros", shared_axes=spatial_axes(rank)),
    "SELU": lambda rank: keras.layers.Activation("selu"),
    "Swish": lambda rank: keras.layers.Activation("silu"),
    "BatchNorm": lambda rank: keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
    "BatchNorm, inference": lambda rank: keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
    "GroupNorm": lambda rank: keras.layers.GroupNormalization(GROUPS, epsilon=1e-5),
    "InstanceNorm": lambda rank: keras.layers.GroupNormalization(-1, epsilon=1e-5),
    "LayerNorm": lambda rank: keras.layers.LayerNormalization(epsilon=1e-5),
}
NORMS = ("BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm")


def is_training(name: str) -> bool:
    """Whether the layer of that row is called as in training."""
    return "inference" not in name
