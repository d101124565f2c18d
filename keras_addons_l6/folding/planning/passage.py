"""The layers that let a scale and shift through, and where the map is found on their other side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.planning.absorb import channel_axis
from keras_addons_l6.folding.planning.affine import Affine, Placed
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.tape import Call

Passage = Placed | Reason


def through(call: Call, placed: Placed, forward: bool) -> Passage:
    """Where a map on one side of a call is found on the other side.

    Args:
        call: A call with one tensor in and one out.
        placed: The map: of the output, or of the input when going forward.
        forward: The direction.

    Returns:
        The same map on the other side, or the reason why there is none.
    """
    layer = call.operation
    if keras_private.is_activation(layer):
        return Reason("activation", f"the activation '{layer.name}' stands between")
    passage = _PASSAGES.get(type(layer))
    if passage is None or len(call.inputs) != 1 or len(call.outputs) != 1:
        return Reason("layer", f"'{layer.name}' ({type(layer).__name__}) lets no scale and shift through")
    if call.kwargs.get("training"):
        return Reason("training", f"'{layer.name}' is called with `training=True`")
    return passage(call, placed, forward)


def _same(call: Call, placed: Placed, forward: bool) -> Passage:
    """At test time the output is the input."""
    return placed


def _window(call: Call, placed: Placed, forward: bool) -> Passage:
    """Each channel apart: a mean, a choice or an interpolation of places, whose weights sum to one."""
    if placed.axis != channel_axis(call.operation, len(call.inputs[0].shape)):
        return Reason("axis", f"axis {placed.axis} is not the channel axis of '{call.operation.name}'")
    return placed


def _maximum(call: Call, placed: Placed, forward: bool) -> Passage:
    """max(s x + t) = s max(x) + t for s >= 0."""
    if (placed.affine.scale < 0).any():
        return Reason("sign", f"the maximum in '{call.operation.name}' cannot be scaled by a negative number")
    return _window(call, placed, forward)


def _zeros(call: Call, placed: Placed, forward: bool) -> Passage:
    """Padded zeros are zeros on both sides, so only a map that leaves zero where it is passes."""
    if placed.affine.shift.any():
        return Reason("padding", f"'{call.operation.name}' pads zeros, and the shift is not zero")
    return _window(call, placed, forward)


def _over_space(call: Call, placed: Placed, forward: bool) -> Passage:
    """All places at once: (batch, channels) out, or the same axes with `keepdims`."""
    channels = channel_axis(call.operation, len(call.inputs[0].shape))
    inside, outside = channels, channels if call.operation.keepdims else 1
    if placed.axis != (inside if forward else outside):
        return Reason("axis", f"axis {placed.axis} is not the channel axis of '{call.operation.name}'")
    return Placed(placed.affine, outside if forward else inside)


def _maximum_over_space(call: Call, placed: Placed, forward: bool) -> Passage:
    if (placed.affine.scale < 0).any():
        return Reason("sign", f"the maximum in '{call.operation.name}' cannot be scaled by a negative number")
    return _over_space(call, placed, forward)


def _permute(call: Call, placed: Placed, forward: bool) -> Passage:
    """Output axis i is input axis dims[i - 1]; the batch stays."""
    order = (0, *call.operation.dims)
    return Placed(placed.affine, order.index(placed.axis) if forward else order[placed.axis])


def _reshape(call: Call, placed: Placed, forward: bool) -> Passage:
    """The map written out for every element, laid in the other shape, and read along one axis there."""
    inside, outside = call.inputs[0].shape[1:], call.outputs[0].shape[1:]
    if None in inside or None in outside or placed.axis == 0:
        return Reason("layer", f"'{call.operation.name}' reshapes axes of unknown size")
    order = _flatten_order(call.operation, len(inside))
    here, there = (inside, outside) if forward else (outside, inside)

    def relay(values: np.ndarray) -> np.ndarray:
        full = np.broadcast_to(_on_axis(values, placed.axis - 1, len(here)), here)
        if forward:
            return full.transpose(order).reshape(there)
        mixed = full.reshape([inside[axis] for axis in order])
        return mixed.transpose(np.argsort(order))

    return _read_along_one_axis(call, relay(placed.affine.scale), relay(placed.affine.shift))


def _flatten_order(layer: Any, rank: int) -> tuple[int, ...]:
    """Flatten puts the channels last before it flattens, if it was told that they come first."""
    moves = isinstance(layer, keras.layers.Flatten) and layer.data_format == "channels_first" and rank > 0
    return (*range(1, rank), 0) if moves else tuple(range(rank))


def _on_axis(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return values.reshape([-1 if place == axis else 1 for place in range(rank)])


def _read_along_one_axis(call: Call, scale: np.ndarray, shift: np.ndarray) -> Passage:
    for axis in reversed(range(scale.ndim)):
        line = tuple(slice(None) if place == axis else 0 for place in range(scale.ndim))
        on_axis = (_on_axis(values[line], axis, values.ndim) for values in (scale, shift))
        if all((values == line).all() for values, line in zip((scale, shift), on_axis, strict=True)):
            return Placed(Affine(scale[line], shift[line]), axis + 1)
    return Reason("axis", f"across '{call.operation.name}' the scale and shift run along several axes")


_Rule = Callable[[Call, Placed, bool], Passage]


def _layers(rule: _Rule, *names: str) -> dict[type, _Rule]:
    return {getattr(keras.layers, name): rule for name in names}


_PASSAGES: dict[type, _Rule] = {
    **_layers(
        _same, "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout"
    ),
    **_layers(_same, "AlphaDropout", "GaussianNoise", "Identity", "Activation"),
    **_layers(_window, "AveragePooling1D", "AveragePooling2D", "AveragePooling3D"),
    **_layers(_window, "Cropping1D", "Cropping2D", "Cropping3D"),
    **_layers(_window, "UpSampling1D", "UpSampling2D", "UpSampling3D"),
    **_layers(_maximum, "MaxPooling1D", "MaxPooling2D", "MaxPooling3D"),
    **_layers(_zeros, "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
    **_layers(_over_space, "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D"),
    **_layers(_maximum_over_space, "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D"),
    **_layers(_permute, "Permute"),
    **_layers(_reshape, "Reshape", "Flatten"),
}


def is_sum(call: Call) -> bool:
    """Whether a call adds tensors element by element: `Add`, `+` or `ops.add`."""
    return type(call.operation) in (keras.layers.Add, keras_private.operation_class("add")) and len(
        call.inputs
    ) == (len(keras.tree.flatten(call.args)) + len(call.kwargs))


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
