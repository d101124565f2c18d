"""What is measured of tensors, as functions of tensors: sums over a batch, which run inside the compiled program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.health.activations import Limits

__all__ = [
    "finite_share",
    "moments",
    "norms",
    "relative_difference",
    "sampled",
    "unit_range",
    "values_of_activation",
]

SAMPLED = 2**16
"""Of a larger variable that many evenly spaced components stand for all: their root mean square is 0.3% uncertain."""


def wide(x: Tensor) -> Tensor:
    """The tensor in at least float32: half precision can't add a batch up."""
    return x if keras.backend.standardize_dtype(x.dtype) in ("float32", "float64") else ops.cast(x, "float32")


def observed(x: Tensor) -> Tensor:
    """The tensor in at least float32, without its gradient."""
    return ops.stop_gradient(wide(x))


def finite_share(x: Tensor) -> Tensor:
    """The share of values that are neither infinite nor NaN."""
    return ops.mean(ops.cast(ops.isfinite(ops.stop_gradient(x)), "float32"))


def values_of_activation(y: Tensor, limits: Limits) -> Tensor:
    """Mean, standard deviation and the share of saturated values of an activation's values."""
    y = observed(y)
    saturated = ops.zeros((), "float32")
    if limits.can_saturate:
        tops = ops.max(y, axis=-1) if limits.over_classes else y
        saturated = ops.mean(ops.cast((tops <= limits.low) | (tops >= limits.high), "float32"))
    return ops.stack([ops.cast(x, "float32") for x in (ops.mean(y), ops.std(y), saturated)])


def unit_range(y: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of each unit over the batch and all places."""
    y = observed(y)
    others = tuple(a for a in range(len(y.shape)) if a != axis % len(y.shape))
    return ops.min(y, axis=others), ops.max(y, axis=others)


def moments(x: Tensor, axis: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over the batch and all places that a mask leaves."""
    x = observed(x)
    axes = tuple(a for a in range(len(x.shape)) if a != axis % len(x.shape))
    if mask is None:
        mean = ops.mean(x, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=axes)
    else:
        weights = ops.cast(ops.reshape(mask, (*mask.shape, *[1] * (len(x.shape) - len(mask.shape)))), x.dtype)
        weights = ops.broadcast_to(weights, ops.shape(x))
        count = ops.sum(weights, axis=axes, keepdims=True)
        mean = ops.sum(weights * x, axis=axes, keepdims=True) / count
        variance = ops.sum(weights * ops.square(x - mean), axis=axes) / ops.reshape(count, (-1,))
    return ops.reshape(mean, (-1,)), ops.reshape(variance, (-1,))


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of each tensor, as one vector."""
    if not tensors:
        return ops.zeros((0,), "float32")
    return ops.cast(ops.stack([ops.norm(ops.reshape(wide(x), (-1,))) for x in tensors]), "float32")


def relative_difference(a: Any, b: Any) -> Tensor:
    """The root mean square of a - b over that of a, over all floating tensors of two structures."""
    pairs = [
        (observed(x), observed(y))
        for x, y in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True)
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
    ]
    apart = sum(ops.sum(ops.square(x - y)) for x, y in pairs)
    size = sum(ops.sum(ops.square(x)) for x, _ in pairs)
    return ops.cast(ops.sqrt(apart / size), "float32")


def sampled(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Copies of the tensors, flat; of a large one, evenly spaced components.

    An odd spacing is prime to the powers of two that channels mostly come in, so that every channel has its share.
    """
    spacings = [1 if _size(x) <= SAMPLED else -(-_size(x) // SAMPLED) | 1 for x in tensors]
    flat = (ops.reshape(x, (-1,))[::spacing] for x, spacing in zip(tensors, spacings, strict=True))
    return tuple(ops.copy(x) for x in flat)  # the trainer frees or overwrites the values themselves


def _size(x: Tensor) -> int:
    size = 1
    for length in x.shape:
        size *= int(length)
    return size
