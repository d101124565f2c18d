"""Checks of layer arguments: each says what came, what was expected and the mend."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Initializer = str | dict[str, Any] | Callable[..., Any]
Regularizer = str | dict[str, Any] | Callable[..., Any] | None
Constraint = str | dict[str, Any] | Callable[..., Any] | None
Shape = Sequence[int | None]


def integer(layer: str, name: str, value: Any, expected: str) -> int:
    """`value` as an int; booleans, floats, strings and lists are not integers."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{layer}: `{name}` must be {expected}. Received: {name}={value!r}") from None


def flag(layer: str, name: str, value: Any) -> bool:
    """`value` where it is True or False, NumPy's included, or 1 or 0 of a whole number."""
    if isinstance(value, bool | int | np.bool_ | np.integer) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{layer}: `{name}` must be True or False. Received: {name}={value!r}")


def positive(layer: str, name: str, value: Any) -> float:
    """`value` as a finite float above 0."""
    number = _number(value)
    if number is None or not 0.0 < number < math.inf:
        raise ValueError(
            f"{layer}: `{name}` must be a positive number, such as 1e-5. Received: {name}={value!r}"
        )
    return number


def fraction(layer: str, name: str, value: Any) -> float:
    """`value` as a float from 0 to 1."""
    number = _number(value)
    if number is None or not 0.0 <= number <= 1.0:
        raise ValueError(
            f"{layer}: `{name}` must be a number from 0 to 1, such as 0.9. Received: {name}={value!r}"
        )
    return number


def channel_axis(layer: str, axis: Any) -> int:
    """`axis` as an int that is not the batch axis."""
    axis = integer(layer, "axis", axis, "one integer, the channel axis, such as -1 or 1")
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


def is_number(value: Any) -> bool:
    """Whether `value` is a number, an infinite one included."""
    number = _number(value)
    return number is not None and not math.isnan(number)


def _number(value: Any) -> float | None:
    if isinstance(value, bool | str | bytes):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
