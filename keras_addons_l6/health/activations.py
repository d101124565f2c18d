"""Which activation a layer ends in, and where the values of each activation say that its slope is gone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras

from keras_addons_l6 import layers
from keras_addons_l6.keras_private import is_activation

__all__ = ["Limits", "activation_of", "limits_of"]

SELU_FLOOR = -1.0507009873554805 * 1.6732632423543772
"""What SELU tends to at -infinity (Klambauer et al. 2017)."""

SILENT = 1e-3
"""Swish, GELU and Mish stay this close below 0 far to the left (Swish from -9.1 on, GELU from -3.5 on)."""


class Limits(NamedTuple):
    """Where an activation's slope is gone, read off its values.

    A unit all of whose values lie in [silent_from, silent_to] is not active; a value at or below `low`, or at or above
    `high`, is saturated.
    """

    silent_from: float = math.inf
    silent_to: float = -math.inf
    low: float = -math.inf
    high: float = math.inf
    over_classes: bool = False
    """Whether it is the largest value along the last axis that saturates: softmax's others are small by nature."""

    @property
    def can_die(self) -> bool:
        """Whether the activation has a region without slope in which a unit can stay."""
        return self.silent_from <= self.silent_to

    @property
    def can_saturate(self) -> bool:
        """Whether the activation has a bound that its values approach."""
        return math.isfinite(self.low) or math.isfinite(self.high)


def limits_of(activation: str, slope: float) -> Limits:
    """The limits of an activation; none for one that is not known, or that keeps a slope everywhere.

    Args:
        activation: Its name in Keras.
        slope: A value counts as saturated where the activation's slope is at most this share of its largest slope.
    """
    # s' = s (1 - s) <= slope / 4, and t' = 1 - t^2 <= slope, solved for the values
    sigmoid, tanh = (1 - math.sqrt(1 - slope)) / 2, math.sqrt(1 - slope)
    rectified = Limits(silent_from=-math.inf, silent_to=0.0)
    swish = Limits(silent_from=-SILENT, silent_to=0.0)
    known = {
        "relu": rectified,
        "relu6": rectified._replace(high=6.0),
        "relu_squared": rectified,
        "sigmoid": Limits(low=sigmoid, high=1 - sigmoid),
        "tanh": Limits(low=-tanh, high=tanh),
        "softmax": Limits(high=1 - sigmoid, over_classes=True),
        "hard_sigmoid": Limits(low=0.0, high=1.0),
        "hard_tanh": Limits(low=-1.0, high=1.0),
        "soft_sign": Limits(low=math.sqrt(slope) - 1, high=1 - math.sqrt(slope)),  # (1 - |y|)^2
        "elu": Limits(low=slope - 1),  # y + 1
        "selu": Limits(low=SELU_FLOOR * (1 - slope)),
        "silu": swish,
        "gelu": swish,
        "mish": swish,
        "hard_silu": swish,
    }
    return known.get(activation, Limits())


def activation_of(operation: Any) -> str | None:
    """The name of the activation that an operation ends in; None for one that ends in none, or in the linear one."""
    if isinstance(operation, keras.layers.TimeDistributed):
        return activation_of(operation.layer)
    if isinstance(operation, keras.layers.ReLU):
        return _of_relu(operation)
    for kind, name in _OF_LAYERS:
        if isinstance(operation, kind):
            return name
    if isinstance(operation, keras.layers.RNN):  # its cells' activations are not what it gives
        return None
    fused = getattr(operation, "activation", None)
    if fused is not None:
        return _of_function(fused)
    if is_activation(operation):
        return _ALIASES.get(operation.__class__.__name__.lower(), operation.__class__.__name__.lower())
    return None


def _of_relu(layer: keras.layers.ReLU) -> str:
    if layer.negative_slope:
        return "leaky_relu"
    return "relu6" if layer.max_value == 6.0 else "relu"


_OF_LAYERS: tuple[tuple[type, str], ...] = (
    (layers.SELU, "selu"),
    (layers.Swish, "silu"),
    (keras.layers.PReLU, "prelu"),
    (keras.layers.LeakyReLU, "leaky_relu"),
    (keras.layers.ELU, "elu"),
    (keras.layers.Softmax, "softmax"),
)

_ALIASES = {
    "softsign": "soft_sign",
    "hardsigmoid": "hard_sigmoid",
    "swish": "silu",
    "leakyrelu": "leaky_relu",
}


def _of_function(function: Any) -> str | None:
    """The name of an activation given as `activation=`: Keras's function, an activation layer, or the caller's own."""
    if isinstance(function, keras.Operation):
        return activation_of(function)
    if function is keras.activations.linear:
        return None
    name = getattr(function, "__name__", function.__class__.__name__)
    return _ALIASES.get(name, name)
