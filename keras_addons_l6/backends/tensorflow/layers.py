"""TensorFlow's own kernels, where they pass the tests of the portable ones."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import layers as portable
from keras_addons_l6.backends.portable.layers import Statistics

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
    """Mean over `axes`, which stay with length 1: one axis at a time, the longest first, and long ones in two steps.

    TensorFlow on CPU adds one value after the other, so that over a million values the mean of a constant is
    off by 1e-2 of it. Sums of a few hundred terms, added in turn, keep it within 1e-4, and are no slower.
    """
    for axis in sorted(axes, key=lambda a: -(x.shape[a] or 0)):
        if x.shape[axis] != 1:
            x = _average_over(x, axis)
    return x


def _average_over(x: Tensor, axis: int) -> Tensor:
    length = x.shape[axis]
    if length is not None and length <= _CHUNK:
        return tf.reduce_mean(x, axis=axis, keepdims=True)
    shape = tf.shape(x)
    chunk = _CHUNK if length is None else _divisor(length)
    chunks = shape[axis] // chunk
    head, tail = x, None
    if length is None or length % chunk:
        head, tail = tf.split(x, [chunks * chunk, shape[axis] - chunks * chunk], axis=axis)
    chunked = tf.reshape(head, tf.concat([shape[:axis], [chunks, chunk], shape[axis + 1 :]], axis=0))
    total = tf.reduce_sum(tf.reduce_sum(chunked, axis=axis + 1), axis=axis, keepdims=True)
    if tail is not None:
        total += tf.reduce_sum(tail, axis=axis, keepdims=True)
    return total / tf.cast(shape[axis], x.dtype)


def _divisor(length: int) -> int:
    """The longest chunk that divides a length, so that nothing need be cut off and copied; else one that leaves a rest."""
    dividing = [chunk for chunk in range(length // _CHUNK, _CHUNK + 1) if chunk and length % chunk == 0]
    return max(dividing, default=_CHUNK)


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


def selu(x: Tensor) -> Tensor:
    """`portable.selu`, in fewer passes in float32; a leaky ReLU's slope is float32."""
    z = tf.cast(x, portable.statistics_dtype(x.dtype))
    return portable.selu(z) if z.dtype == tf.float64 else tf.cast(_selu(z), x.dtype)


@tf.custom_gradient
def _selu(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """SELU with expm1(x) = 2 t / (1 - t), t = tanh(x / 2): TensorFlow's own expm1 takes four times as long.

    t / (1 - t) is the softsign of t where x <= 0, and there above x; where x > 0 the softsign of t is below x. So the larger
    of the two is x or half of expm1(x). `tf.nn.selu` subtracts 1 from the exponential, and so has no digit of a small
    negative number right.
    """
    larger = tf.maximum(x, tf.nn.softsign(tf.tanh(0.5 * x)))
    y = portable.SELU_SCALE * tf.nn.leaky_relu(larger, 2 * portable.SELU_ALPHA)

    def gradient(dy: Tensor) -> Tensor:
        dy = dy * tf.exp(tf.minimum(x, 0))
        return portable.SELU_SCALE * tf.raw_ops.LeakyReluGrad(
            gradients=dy, features=x, alpha=portable.SELU_ALPHA
        )

    return y, gradient


def swish(x: Tensor, beta: Tensor) -> Tensor:
    """`portable.swish` in fewer passes, and a gradient that computes no second exponential."""
    z = tf.cast(x, portable.statistics_dtype(x.dtype))
    return tf.cast(_swish(z, tf.cast(beta, z.dtype)), x.dtype)


@tf.custom_gradient
def _swish(x: Tensor, beta: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Compute x s with s = sigmoid(g), g = beta x; its slopes are s + g s (1 - s) for x and x^2 s (1 - s) for beta.

    Of the infinities those at which s is 0 are brought to the largest number, and all where beta is 0, so that no
    product is NaN and every limit comes out, but for infinity itself at beta = 0.
    """
    largest, infinity = tf.constant(x.dtype.max, x.dtype), tf.constant(math.inf, x.dtype)
    gated = tf.maximum(x, tf.where(beta < 0, -infinity, -largest))
    gated = tf.minimum(gated, tf.where(beta > 0, infinity, largest))
    g = gated * beta
    s = tf.sigmoid(g)

    def gradient(dy: Tensor) -> tuple[Tensor, Tensor]:
        slope = s + tf.raw_ops.SigmoidGrad(y=s, dy=_clipped(g, portable.FLAT_SIGMOID))
        finite = _clipped(x, x.dtype.max)
        return dy * slope, _summed_to(beta, dy * (finite * tf.raw_ops.SigmoidGrad(y=s, dy=finite)))

    return gated * s, gradient


def _clipped(x: Tensor, bound: float) -> Tensor:
    """X brought to within the bound, in one pass, for gradients: not every format of exported models has it."""
    return tf.raw_ops.ClipByValue(t=x, clip_value_min=-bound, clip_value_max=bound)


def _summed_to(weights: Tensor, x: Tensor) -> Tensor:
    """X summed over the axes along which `weights` were broadcast."""
    added = x.shape.rank - weights.shape.rank
    axes = [*range(added), *(added + a for a, size in enumerate(weights.shape) if size == 1)]
    return tf.reshape(tf.reduce_sum(x, axes), tf.shape(weights))


_Reduce = Callable[[Tensor], Tensor]


def _normalized(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    shift: Tensor,
    *,
    axes: Sequence[int],
    epsilon: float,
    over_group: _Reduce = lambda per_channel: per_channel,
) -> tuple[Tensor, Tensor, Tensor]:
    """The passes of `portable`, with a gradient of seven passes where TensorFlow's own takes twelve.

    Args:
        x: Tensor of float32 or float64.
        gamma: Scale that broadcasts against `x` and is constant along `axes`, or `None` for 1.
        beta: Offset likewise, or `None` for 0.
        shift: That of decision 3.
        axes: What averages are taken over.
        epsilon: Added to the variance.
        over_group: From averages over `axes` to those of the groups that are normalized.

    Returns:
        The normalized tensor, and mean and variance of u, which carry no gradient.
    """

    @tf.custom_gradient
    def normalized(x: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Any, Callable[..., Any]]:
        u = portable.centred(x, shift)
        mean, variance = portable.moments_about_zero(u, lambda t: over_group(average(t, axes)))
        scale, offset = portable.affine(mean, variance, None, None, epsilon)  # x_hat = u * scale + offset

        def gradient(dy: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            of_beta = average(dy, axes)
            of_gamma = scale * average(dy * u, axes) + offset * of_beta  # average of dy * x_hat
            mean, product = over_group(gamma * of_beta), over_group(gamma * of_gamma)
            # dx = (gamma * dy - mean - x_hat * product) / deviation
            per_deviation = portable.EXACT_SCALE * scale
            rest = u * (per_deviation * scale * product) + per_deviation * (mean + offset * product)
            size = _size(x, axes)
            return (
                dy * (per_deviation * gamma) - rest,
                _summed_to(gamma, tf.math.multiply_no_nan(of_gamma, size)),
                _summed_to(beta, tf.math.multiply_no_nan(of_beta, size)),
            )

        return (u * (scale * gamma) + (offset * gamma + beta), mean, variance), gradient

    y, mean, variance = normalized(
        x,
        tf.ones([], x.dtype) if gamma is None else gamma,
        tf.zeros([], x.dtype) if beta is None else beta,
    )
    return y, tf.stop_gradient(mean), tf.stop_gradient(variance)


def batch_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, axis: int, epsilon: float
) -> tuple[Tensor, Statistics]:
    """`portable.batch_norm` with a shorter gradient."""
    z = tf.cast(x, portable.statistics_dtype(x.dtype))
    axes = portable.other_axes(z, axis)
    shift = portable.batch_shift(z, axis, average)
    gamma, beta = portable.along(gamma, axis, z), portable.along(beta, axis, z)
    y, mean, variance = _normalized(z, gamma, beta, shift, axes=axes, epsilon=epsilon)
    return tf.cast(y, x.dtype), portable.statistics(shift, mean, variance, portable.size_over(z, axes))


def group_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, groups: int, axis: int, epsilon: float
) -> Tensor:
    """`portable.group_norm` with a shorter gradient."""

    def over_group(per_channel: Tensor) -> Tensor:
        return portable.per_group(per_channel, groups, axis, lambda grouped: average(grouped, [2]))

    z = tf.cast(x, portable.statistics_dtype(x.dtype))
    axes = portable.spatial_axes(z, axis)
    shift = portable.group_shift(z, groups, axis, average, _pick)
    gamma, beta = portable.along(gamma, axis, z), portable.along(beta, axis, z)
    y, *_ = _normalized(z, gamma, beta, shift, axes=axes, epsilon=epsilon, over_group=over_group)
    return tf.cast(y, x.dtype)


def _pick(grouped: Tensor) -> Tensor:
    """`portable.pick` by a maximum; Keras's refuses an empty batch."""
    return tf.reduce_max(grouped, axis=2, keepdims=True)


def layer_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, axes: Sequence[int], epsilon: float
) -> Tensor:
    """`portable.layer_norm` with a shorter gradient."""
    z = tf.cast(x, portable.statistics_dtype(x.dtype))
    shift = portable.feature_shift(z, axes, average)
    y, *_ = _normalized(z, None, None, shift, axes=axes, epsilon=epsilon)
    if gamma is not None:
        y = y * portable.along_axes(gamma, axes, z)
    if beta is not None:
        y = y + portable.along_axes(beta, axes, z)
    return tf.cast(y, x.dtype)


_PASSES = portable.Passes(average=average)
_PASSES_OF_REPLICAS = portable.Passes(average=_average_of_replicas)

masked_batch_norm = functools.partial(portable.masked_batch_norm, passes=_PASSES)
synchronized_batch_norm = functools.partial(
    portable.masked_batch_norm, passes=_PASSES_OF_REPLICAS, size=_size_of_replicas
)
masked_group_norm = functools.partial(portable.masked_group_norm, passes=_PASSES)
