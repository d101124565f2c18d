"""Calls that multiply by constants and add constants: y = a x + b."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.planning.affine import Affine, Placed, float64_array
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.tape import Call

__all__ = ["arithmetic_of", "carried_across", "line_of"]

_ARITHMETIC = ("add", "subtract", "multiply", "divide", "true_divide", "negative")


def arithmetic_of(operation: keras.Operation) -> str | None:
    """Which arithmetic of `keras.ops` an operation is, "add" and the like; None for another operation."""
    return next(
        (kind for kind in _ARITHMETIC if type(operation) is keras_private.operation_class(kind)), None
    )


@dataclasses.dataclass(frozen=True)
class Line:
    """y = factor x + offset, both float64 arrays that broadcast to the tensor's shape."""

    factor: np.ndarray
    offset: np.ndarray


def line_of(call: Call) -> Line | None:
    """The line that a call computes of its one tensor; None for another call."""
    kind = arithmetic_of(call.operation)
    if len(call.inputs) != 1 or (kind is None and type(call.operation) is not keras.layers.Rescaling):
        return None
    if kind is None:
        return Line(*(float64_array(v) for v in (call.operation.scale, call.operation.offset)))
    operands = [*call.args, *call.kwargs.values()]
    if kind == "negative":
        return _line(-1.0, 0.0)
    if len(operands) != 2:
        return None
    first = isinstance(operands[0], keras.KerasTensor)
    return _of_two(kind, float64_array(operands[1 if first else 0]), first)


def _of_two(kind: str, c: np.ndarray, tensor_first: bool) -> Line | None:
    """The line of an operation on a tensor and the constant c."""
    if kind == "add":
        return _line(1.0, c)
    if kind == "subtract":
        return _line(1.0, -c) if tensor_first else _line(-1.0, c)
    if kind == "multiply":
        return _line(c, 0.0)
    with np.errstate(divide="ignore"):
        return _line(1 / c, 0.0) if tensor_first else None  # c / x is no line


def _line(factor: Any, offset: Any) -> Line:
    return Line(np.asarray(factor, "float64"), np.asarray(offset, "float64"))


def carried_across(call: Call, line: Line, placed: Placed, forward: bool) -> Placed | Reason:
    """A map on one side of y = a x + b as the map with the same effect on its other side.

    With s and t the map of the output, a x' + b = s (a x + b) + t gives x' = s x + (s b + t - b) / a. With s and t the map
    of the input, a (s x + t) + b = s (a x + b) + (a t + b - s b).
    """
    name, rank = call.operation.name, len(call.outputs[0].shape)
    if max(line.factor.ndim, line.offset.ndim) > rank or len(call.inputs[0].shape) != rank:
        return Reason("axis", f"'{name}' stretches the tensor to the shape of a constant (broadcast)")
    if not (np.isfinite(line.factor).all() and np.isfinite(line.offset).all() and (line.factor != 0).all()):
        return Reason("layer", f"'{name}' multiplies by zero, or by what is no number")
    a, b, s, t = (_laid(values, rank) for values in (line.factor, line.offset, *_on_axis(placed, rank)))
    shift = a * t + b - s * b if forward else (s * b + t - b) / a
    shift = np.moveaxis(np.broadcast_to(shift, np.broadcast_shapes(shift.shape, s.shape)), placed.axis, 0)
    lines = shift.reshape(len(shift), -1)
    if len(lines) != len(placed.affine.scale) or (lines != lines[:, :1]).any():
        return Reason("axis", f"the constant of '{name}' varies along other axes than the channels'")
    return Placed(Affine(placed.affine.scale, lines[:, 0].copy()), placed.axis)


def _on_axis(placed: Placed, rank: int) -> list[np.ndarray]:
    shape = [-1 if place == placed.axis else 1 for place in range(rank)]
    return [placed.affine.scale.reshape(shape), placed.affine.shift.reshape(shape)]


def _laid(values: np.ndarray, rank: int) -> np.ndarray:
    """The values with as many axes as the tensor has."""
    return values.reshape((1,) * (rank - values.ndim) + values.shape)
