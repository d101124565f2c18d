"""The argument `shared_axes` of activations with a trained parameter, and the shape it gives that."""

from collections.abc import Sequence
from typing import Any, Literal

import keras

from keras_addons_l6 import argument_checks
from keras_addons_l6.layers.arguments import Shape

__all__ = ["SharedAxes", "checked", "input_spec", "parameter_shape"]

SharedAxes = Literal["spatial", "all"] | Sequence[int] | int | None
_EXPECTED = (
    '"spatial" (one value per channel, the last axis), "all" (one value), None (one value per element) '
    "or a list of axes such as [1, 2]"
)


def checked(layer: str, shared_axes: Any) -> str | list[int] | None:
    """`shared_axes` as the config holds it: a name, a list of integers or `None`."""
    if shared_axes is None or (isinstance(shared_axes, str) and shared_axes in ("spatial", "all")):
        return shared_axes
    if isinstance(shared_axes, str | bytes | dict):
        raise ValueError(f"{layer}: `shared_axes` must be {_EXPECTED}. Received: shared_axes={shared_axes!r}")
    try:
        given = list(shared_axes)
    except TypeError:
        given = [shared_axes]
    axes = [argument_checks.integer(layer, "shared_axes", a, _EXPECTED) for a in given]
    if 0 in axes:
        raise ValueError(
            f"{layer}: shared_axes={shared_axes!r} names the batch axis, 0, over which the "
            "parameter is always shared. Leave it out."
        )
    return axes


def parameter_shape(layer: str, shared_axes: str | list[int] | None, input_shape: Shape) -> tuple[int, ...]:
    """Shape of the parameter: that of one sample, with 1 along shared axes; `()` where all are shared."""
    if shared_axes == "all":
        return ()
    shared = _resolved(layer, shared_axes, len(input_shape))
    shape = []
    for axis, size in list(enumerate(input_shape))[1:]:
        size = 1 if axis in shared else size
        if size is None:
            raise ValueError(
                f"{layer}: axis {axis} of the input, of shape {tuple(input_shape)}, has no fixed size, and "
                f"shared_axes={shared_axes!r} asks for one parameter per element along it. Add {axis} to "
                '`shared_axes`, pass shared_axes="all", or give keras.Input that size.'
            )
        shape.append(size)
    return tuple(shape)


def input_spec(
    layer: str, shared_axes: str | list[int] | None, input_shape: Shape
) -> keras.layers.InputSpec | None:
    """What later inputs must agree with: the sizes along which the parameter varies, lengths of 1 included."""
    if shared_axes == "all":
        return None
    shared = _resolved(layer, shared_axes, len(input_shape))
    axes = {axis: size for axis, size in list(enumerate(input_shape))[1:] if axis not in shared}
    return keras.layers.InputSpec(ndim=len(input_shape), axes=axes)


def _resolved(layer: str, shared_axes: str | list[int] | None, rank: int) -> set[int]:
    if shared_axes is None:
        return set()
    if isinstance(shared_axes, str):
        return set(range(1, rank - 1))
    outside = [a for a in shared_axes if not -rank < a < rank]
    if outside:
        raise ValueError(
            f"{layer}: shared_axes={shared_axes} names axis {outside[0]}, which an input of rank {rank} "
            f"lacks or which is its batch. Expected axes from 1 to {rank - 1}, or from {1 - rank} to -1."
        )
    return {a % rank for a in shared_axes}
