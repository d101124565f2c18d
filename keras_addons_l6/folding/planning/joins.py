"""Calls that join several tensors: weighted sums of them, and concatenations."""

from __future__ import annotations

import keras
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.planning.affine import Affine, Placed
from keras_addons_l6.folding.planning.constants import arithmetic_of
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.tape import Call

__all__ = ["concatenation_axis", "is_plain_sum", "parts_of", "share_of", "spans", "weights_of"]


def weights_of(call: Call) -> list[float] | None:
    """The weights w of a call that computes the sum of w x over its tensors; None for another call."""
    kind, count = type(call.operation), len(call.inputs)
    if count != len(keras.tree.flatten(call.args)) + len(call.kwargs) or count < 2:
        return None
    if is_plain_sum(call):
        return [1.0] * count
    if kind is keras.layers.Average:
        return [1.0 / count] * count
    subtracts = kind is keras.layers.Subtract or arithmetic_of(call.operation) == "subtract"
    return [1.0, -1.0] if subtracts and count == 2 else None


def is_plain_sum(call: Call) -> bool:
    """Whether a call adds tensors element by element: `Add`, `+` or `ops.add`."""
    kind = type(call.operation)
    return kind is keras.layers.Add or arithmetic_of(call.operation) == "add"


def share_of(placed: Placed, weight: float, shifted: bool) -> Placed:
    """The map of a sum as the map of one of its terms: each is scaled, and one is shifted for all of them."""
    if not shifted:
        return Placed(placed.affine.without_shift(), placed.axis)
    return Placed(Affine(placed.affine.scale, placed.affine.shift / weight), placed.axis)


def concatenation_axis(call: Call) -> int | None:
    """The axis, counted from the front, that a call joins tensors along; None for another call."""
    if type(call.operation) not in (keras.layers.Concatenate, keras_private.operation_class("concatenate")):
        return None
    return call.operation.axis % len(call.outputs[0].shape)


def parts_of(call: Call, placed: Placed) -> list[Placed] | Reason:
    """The map of a concatenation's output as one map for each of its inputs."""
    axis = concatenation_axis(call)
    if placed.axis != axis:
        return [placed] * len(call.inputs)
    sizes = [tensor.shape[axis] for tensor in call.inputs]
    if None in sizes:
        return Reason("layer", f"'{call.operation.name}' joins tensors of unknown size")
    ends = np.cumsum(sizes)
    return [
        Placed(placed.affine.part(end - size, end), axis)
        for size, end in zip(sizes, ends.tolist(), strict=True)
    ]


def spans(tensor: keras.KerasTensor, placed: Placed, rank: int) -> bool:
    """Whether a summand has the map's channels in full, so that scaling it scales its share of the sum."""
    return len(tensor.shape) == rank and tensor.shape[placed.axis] == len(placed.affine.scale)
