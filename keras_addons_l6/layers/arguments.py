"""Checks that only layers need, of axes, channels and names: each says what came, what was expected and the mend."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from keras_addons_l6 import argument_checks
from keras_addons_l6.argument_checks import names_of

__all__ = [
    "Constraint",
    "Initializer",
    "Regularizer",
    "Shape",
    "channel_axis",
    "channels",
    "check_names",
    "resolved_axis",
]

Initializer = str | dict[str, Any] | Callable[..., Any]
Regularizer = str | dict[str, Any] | Callable[..., Any] | None
Constraint = str | dict[str, Any] | Callable[..., Any] | None
Shape = Sequence[int | None]


def check_names(layer: str, cls: type, given: Iterable[str]) -> None:
    """Raise for a name that is another one here, such as PyTorch's `eps`; what Keras's base class takes is left to it."""
    known = (*names_of(cls), *names_of(keras.layers.Layer))
    argument_checks.check_names(layer, given, known, all_known=False)


def channel_axis(layer: str, axis: Any) -> int:
    """`axis` as an int that is not the batch axis."""
    axis = argument_checks.integer(layer, "axis", axis, "one integer, the channel axis, such as -1 or 1")
    if axis == 0:
        raise ValueError(
            f"{layer}: axis=0 is the batch axis, which holds no channels. "
            "Pass the channel axis: -1 for channels last, 1 for channels first."
        )
    return axis


def resolved_axis(layer: str, axis: int, input_shape: Shape) -> int:
    """`axis` counted from 0, where an input of this shape has it and it is not the batch axis."""
    rank = len(input_shape)
    if rank < 2 or not -rank < axis < rank:
        raise ValueError(
            f"{layer}: axis={axis} does not name a channel axis of an input of shape {tuple(input_shape)}. "
            f"Expected an input of rank 2 or more and an axis from 1 to {rank - 1} or from {1 - rank} "
            "to -1; axis 0 is the batch."
        )
    return axis % rank


def channels(layer: str, axis: int, input_shape: Shape) -> int:
    """Length of the channel axis, which has to be known for the weights to be made."""
    size = input_shape[resolved_axis(layer, axis, input_shape)]
    if size is None:
        raise ValueError(
            f"{layer}: the number of channels, axis {axis} of the input, must be known to create the "
            f"weights. Received an input of shape {tuple(input_shape)}. Give keras.Input that size, or pass "
            "another `axis`."
        )
    return size
