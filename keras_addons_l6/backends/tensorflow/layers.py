"""TensorFlow's own kernels, where they pass the tests of the portable ones."""

import functools
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import layers as portable

__all__ = [
    "average",
    "batch_norm",
    "group_norm",
    "layer_norm",
    "masked_batch_norm",
    "masked_group_norm",
    "selu",
    "swish",
    "synchronized_batch_norm",
]

_CHUNK = 512  # longest axis that is summed in one go; see `average`


def average(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean over `axes`, which stay with length 1: one axis at a time, long ones in two steps.

    TensorFlow on CPU adds one value after the other, so that over a million values the mean of a constant is
    off by 1e-2 of it. Sums of a few hundred terms, added in turn, keep it within 1e-4, and are no slower.
    """
    for axis in axes:
        x = _average_over(x, axis)
    return x


def _average_over(x: Tensor, axis: int) -> Tensor:
    if x.shape[axis] is not None and x.shape[axis] <= _CHUNK:
        return tf.reduce_mean(x, axis=axis, keepdims=True)
    shape = tf.shape(x)
    chunks = shape[axis] // _CHUNK
    head, tail = tf.split(x, [chunks * _CHUNK, shape[axis] - chunks * _CHUNK], axis=axis)
    chunked = tf.reshape(head, tf.concat([shape[:axis], [chunks, _CHUNK], shape[axis + 1 :]], axis=0))
    total = tf.reduce_sum(tf.reduce_sum(chunked, axis=axis + 1), axis=axis, keepdims=True)
    total += tf.reduce_sum(tail, axis=axis, keepdims=True)
    return total / tf.cast(shape[axis], x.dtype)


def _average_of_replicas(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean over `axes` of what all replicas of a distribution strategy hold, an empty replica included."""
    count = _size(x, axes)
    total, count = _sum_of_replicas([tf.math.multiply_no_nan(average(x, axes), count), count])
    return total / count


def _size_of_replicas(x: Tensor, axes: Sequence[int]) -> Tensor:
    return _sum_of_replicas([_size(x, axes)])[0]


def _size(x: Tensor, axes: Sequence[int]) -> Tensor:
    return tf.cast(portable.size_over(x, axes), x.dtype)  # a bare number would travel as float32


def _sum_of_replicas(tensors: list[Tensor]) -> list[Tensor]:
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return tensors
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


_SELU_SLOPE = portable.SELU_SCALE * portable.SELU_ALPHA  # at 0, and from below


@tf.custom_gradient
def selu(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """`portable.selu`, with expm1(z) = 2 t / (1 - t), t = tanh(z / 2): TensorFlow's own expm1 takes four times as long.

    `tf.nn.selu` subtracts 1 from the exponential, and so has no digit of a small negative number right.
    """
    z = tf.cast(x, portable.statistics_dtype(x.dtype))
    t = tf.tanh(0.5 * tf.minimum(z, 0))
    negative = 2 * _SELU_SLOPE * (t / (1 - t))
    y = portable.SELU_SCALE * tf.nn.relu(z) + negative

    def gradient(dy: Tensor) -> Tensor:
        slope = tf.where(z > 0, portable.SELU_SCALE, _SELU_SLOPE * tf.exp(tf.minimum(z, 0)))
        return tf.cast(slope * tf.cast(dy, z.dtype), x.dtype)

    return tf.cast(y, x.dtype), gradient


def swish(x: Tensor, beta: Tensor) -> Tensor:
    """`portable.swish` in fewer passes, and a gradient that computes no second exponential."""
    z = tf.cast(x, portable.statistics_dtype(x.dtype))
    return tf.cast(_swish(z, tf.cast(beta, z.dtype)), x.dtype)


@tf.custom_gradient
def _swish(x: Tensor, beta: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Compute x s with s = sigmoid(beta x); its slopes are s + beta x s (1 - s) for x and x^2 s (1 - s) for beta.

    Of the infinities those at which s is 0 are brought to the largest number, and all where beta is 0, so that no
    product is NaN and every limit comes out, but for infinity itself at beta = 0.
    """
    largest, infinity = tf.constant(x.dtype.max, x.dtype), tf.constant(math.inf, x.dtype)
    gated = _clipped(x, tf.where(beta < 0, -infinity, -largest), tf.where(beta > 0, infinity, largest))
    s = tf.sigmoid(gated * beta)
    y = gated * s

    def gradient(dy: Tensor) -> tuple[Tensor, Tensor]:
        rest = _finite(y) * (1 - s)
        return dy * (s + rest * beta), _summed_to(beta, dy * (_finite(x) * rest))

    return y, gradient


def _finite(x: Tensor) -> Tensor:
    return _clipped(x, tf.constant(x.dtype.min, x.dtype), tf.constant(x.dtype.max, x.dtype))


def _clipped(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """X within bounds that broadcast against it."""
    return tf.minimum(tf.maximum(x, low), high)


def _summed_to(weights: Tensor, x: Tensor) -> Tensor:
    """X summed over the axes along which `weights` were broadcast."""
    added = x.shape.rank - weights.shape.rank
    axes = [*range(added), *(added + a for a, size in enumerate(weights.shape) if size == 1)]
    return tf.reshape(tf.reduce_sum(x, axes), tf.shape(weights))


_PASSES = portable.Passes(average=average)
_PASSES_OF_REPLICAS = portable.Passes(average=_average_of_replicas)

batch_norm = functools.partial(portable.batch_norm, passes=_PASSES)
masked_batch_norm = functools.partial(portable.masked_batch_norm, passes=_PASSES)
synchronized_batch_norm = functools.partial(
    portable.masked_batch_norm, passes=_PASSES_OF_REPLICAS, size=_size_of_replicas
)
group_norm = functools.partial(portable.group_norm, passes=_PASSES)
layer_norm = functools.partial(portable.layer_norm, passes=_PASSES)
masked_group_norm = functools.partial(portable.masked_group_norm, passes=_PASSES)
