"""Each operation of the layers once, in `keras.ops`: the definition that every native kernel is held to.

Numerical decisions, which a native kernel has to keep:

1. Statistics are computed in at least float32, whatever the dtype of the input; outputs have the input's
   dtype.
2. A variance is never E[x^2] - E[x]^2. It is the corrected two-pass of Chan, Golub & LeVeque (1983, eq. 1.7):
   with a shift K close to the mean and u ~ x - K, d = mean(u) and variance = mean(u^2) - d^2, where d is
   nothing but the rounding error of K.
3. K is the mean or, where the two differ by rounding only, a value of the group, as a rule its first, so a constant group
   is centred exactly, at any magnitude. K carries no gradient: mean and variance do not depend on the shift,
   so derivatives of every order come out right without it, and the backward pass needs two sums instead of
   three.
4. u is x - K over 4096, and epsilon goes over 4096^2 with it. Both are exact, and the sum of N squares
   overflows only where the variance itself is within a factor N / 2^24 of overflowing.
5. The reciprocal deviation is 1 / sqrt(variance + epsilon), not rsqrt: the derivative of rsqrt holds its
   cube, which underflows in float32 from a deviation of 1e13 on.
6. y = u * scale + offset with scale and offset per channel: one multiplication and addition per element, and
   the sums over dy and dy * u are all that its gradient needs.
7. Branches that are not taken see harmless values (`where` twice), so infinity and NaN in one never reach the
   other.
8. PReLU, SELU and Swish of float16 and bfloat16 are computed in float32 and rounded once, and so are the sums that
   make the gradients of their weights: in float16 such a sum stands still once it is 2,048 times its terms.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_addons_l6.backends.portable import Tensor

__all__ = [
    "Statistics",
    "batch_norm",
    "group_norm",
    "is_recomputed",
    "layer_norm",
    "masked_batch_norm",
    "masked_group_norm",
    "normalize",
    "prelu",
    "selu",
    "statistics_dtype",
    "swish",
    "synchronized_batch_norm",
]

Average = Callable[[Tensor, Sequence[int]], Tensor]
Size = Callable[[Tensor, Sequence[int]], Tensor]
Pick = Callable[[Tensor], Tensor]
Centre = Callable[[Tensor, Tensor], Tensor]
Scale = Callable[[Tensor, Tensor, Tensor], Tensor]

SELU_SCALE = 1.0507009873554805  # lambda of Klambauer et al. (2017), section 2
SELU_ALPHA = 1.6732632423543772  # alpha there
EXACT_SCALE = 2.0**-12  # decision 4: a power of two, so that scaling there and back is exact
FLAT_SIGMOID = 1e3  # beyond it the sigmoid's slope s (1 - s) is 0 in every dtype
_SNAP = 2.0**-16  # decision 3: above the rounding error of a mean in float32, below any spread it could hide


class Statistics(NamedTuple):
    """Mean and biased variance per channel, and how many values of each channel they were taken over.

    They feed the moving averages and carry no gradient.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """Compute max(0, x) + alpha * min(0, x), with slope alpha at 0; `alpha` broadcasts against `x`."""
    z = ops.cast(x, statistics_dtype(x.dtype))
    alpha = ops.cast(alpha, z.dtype)
    return ops.cast(z * ops.where(z > 0, ops.ones_like(alpha), alpha), x.dtype)


def selu(x: Tensor) -> Tensor:
    """Compute scale * (x if x > 0 else alpha * (exp(x) - 1)), with slope scale * alpha at 0."""
    z = ops.cast(x, statistics_dtype(x.dtype))
    positive = z > 0
    negative_part = ops.where(positive, ops.zeros_like(z), z)
    y = ops.where(positive, SELU_SCALE * z, SELU_SCALE * SELU_ALPHA * ops.expm1(negative_part))
    return ops.cast(y, x.dtype)


def swish(x: Tensor, beta: Tensor) -> Tensor:
    """Compute x * sigmoid(beta * x), at infinities its limits; `beta` broadcasts against `x`."""
    z = ops.cast(x, statistics_dtype(x.dtype))
    beta = ops.cast(beta, z.dtype)
    infinite = ops.isinf(z)
    finite = ops.where(infinite, ops.zeros_like(z), z)  # decision 7
    limit = ops.where(z * beta < 0, ops.zeros_like(z), z)
    y = ops.where(infinite, limit, finite * ops.sigmoid(finite * beta))
    return ops.cast(y, x.dtype)


def average(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean over `axes`, which stay with length 1; no axes, no change.

    Not by `ops.mean`, which computes in float32 what is float64 on JAX and torch, but for symbolic tensors,
    whose sizes may be unknown.
    """
    if not axes:
        return x
    if isinstance(x, keras.KerasTensor):
        return ops.mean(x, axis=tuple(axes), keepdims=True)
    return ops.sum(x, axis=tuple(axes), keepdims=True) / size_over(x, axes)


def size_over(x: Tensor, axes: Sequence[int]) -> Tensor:
    """How many values lie along `axes`: a number where it is known, or a tensor in the dtype of `x`."""
    size: Tensor = 1
    for a in axes:
        size = size * ops.shape(x)[a]
    return float(size) if isinstance(size, int) else ops.cast(size, x.dtype)


def pick(grouped: Tensor) -> Tensor:
    """One value of each group along the last of three axes, which stays with length 1: here the first.

    Where XLA compiles, a maximum is better: it is computed once. A slice is taken again for each value of the layer's input, in the
    loops that read it, and in half precision those then use no vector instructions.
    """
    return grouped[:, :, :1]


def centred(x: Tensor, shift: Tensor) -> Tensor:
    """U of decision 4."""
    return (x - shift) * EXACT_SCALE


def scaled(u: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """U * scale + offset (decision 6)."""
    return u * scale + offset


class Passes(NamedTuple):
    """What reads the whole tensor, or picks from its groups; a backend may have a way of its own for each."""

    average: Average = average
    pick: Pick = pick
    centred: Centre = centred
    scaled: Scale = scaled


PORTABLE = Passes()


def batch_norm(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    axis: int,
    epsilon: float,
    passes: Passes = PORTABLE,
) -> tuple[Tensor, Statistics]:
    """Normalize each channel by the statistics of this batch.

    Args:
        x: Tensor of any rank; `axis` is the channels'.
        gamma: Scale, shape `(channels,)`, or `None` for 1.
        beta: Offset, shape `(channels,)`, or `None` for 0.
        axis: Channel axis, from 0.
        epsilon: Added to the variance.
        passes: The backend's ways through the whole tensor.

    Returns:
        The normalized tensor in the dtype of `x`, and the statistics it was normalized by.
    """
    z = ops.cast(x, statistics_dtype(x.dtype))
    axes = other_axes(z, axis)
    shift = batch_shift(z, axis, passes.average)
    u = passes.centred(z, shift)
    moments = moments_about_zero(u, lambda t: passes.average(t, axes))
    y = passes.scaled(u, *affine(*moments, along(gamma, axis, z), along(beta, axis, z), epsilon))
    return ops.cast(y, x.dtype), statistics(shift, *moments, size_over(z, axes))


def masked_batch_norm(
    x: Tensor,
    mask: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    axis: int,
    epsilon: float,
    passes: Passes = PORTABLE,
    size: Size = size_over,
) -> tuple[Tensor, Statistics]:
    """`batch_norm` with statistics over the values where `mask`, which broadcasts against `x`, is true.

    All values are normalized, masked or not. What is masked may be infinite or NaN without harm to the
    statistics. Where nothing is left, mean and variance are 0 and so is the count.
    """
    z = ops.cast(x, statistics_dtype(x.dtype))
    axes = other_axes(z, axis)
    mask = ops.cast(mask, "bool")
    share = passes.average(ops.cast(mask, z.dtype), axes)
    u, shift, moments = masked_moments(z, mask, share, lambda t: passes.average(t, axes), passes.centred)
    y = passes.scaled(u, *affine(*moments, along(gamma, axis, z), along(beta, axis, z), epsilon))
    count = ops.round(share * size(z, axes))
    return ops.cast(y, x.dtype), statistics(shift, *moments, count)


def synchronized_batch_norm(
    x: Tensor,
    mask: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    axis: int,
    epsilon: float,
) -> tuple[Tensor, Statistics]:
    """`masked_batch_norm` with statistics over what all replicas hold: here there is one."""
    return masked_batch_norm(x, mask, gamma, beta, axis=axis, epsilon=epsilon)


def normalize(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    axis: int,
    epsilon: float,
    passes: Passes = PORTABLE,
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta with given statistics of shape `(channels,)`.

    The mean is subtracted first: x * scale + (beta - mean * scale) would lose what x and the mean have in
    common.
    """
    z = ops.cast(x, statistics_dtype(x.dtype))
    mean, scale, beta = fixed_affine(z, mean, variance, gamma, beta, axis, epsilon)
    u = z - mean
    return ops.cast(u * scale if beta is None else passes.scaled(u, scale, beta), x.dtype)


def fixed_affine(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    axis: int,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mean, scale and offset with which (x - mean) * scale + offset is normalized by given statistics."""
    scale = 1.0 / ops.sqrt(ops.cast(variance, x.dtype) + epsilon)
    if gamma is not None:
        scale = scale * ops.cast(gamma, x.dtype)
    return along(mean, axis, x), along(scale, axis, x), along(beta, axis, x)


def group_norm(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    groups: int,
    axis: int,
    epsilon: float,
    passes: Passes = PORTABLE,
) -> Tensor:
    """Normalize each group of neighbouring channels of each sample by its own statistics.

    The tensor is never reshaped: sums are taken per sample and channel first, and the groups formed from
    those.

    Args:
        x: Tensor of rank >= 2, axis 0 the samples'.
        gamma: Scale, shape `(channels,)`, or `None` for 1.
        beta: Offset, shape `(channels,)`, or `None` for 0.
        groups: Number of groups, a divisor of the number of channels; `channels` of them is instance
            normalization.
        axis: Channel axis, from 1.
        epsilon: Added to the variance.
        passes: The backend's ways through the whole tensor.

    Returns:
        The normalized tensor in the dtype of `x`.
    """
    z = ops.cast(x, statistics_dtype(x.dtype))
    u = passes.centred(z, group_shift(z, groups, axis, passes.average, passes.pick))
    moments = moments_about_zero(u, lambda t: group_average(t, groups, axis, passes.average))
    y = passes.scaled(u, *affine(*moments, along(gamma, axis, z), along(beta, axis, z), epsilon))
    return ops.cast(y, x.dtype)


def layer_norm(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    axes: Sequence[int],
    epsilon: float,
    passes: Passes = PORTABLE,
) -> Tensor:
    """Normalize over `axes`, each set of values at one place of the other axes by its own statistics.

    Args:
        x: Tensor of rank >= 2.
        gamma: Scale, of the sizes along `axes`, or `None` for 1.
        beta: Offset, of the same shape, or `None` for 0.
        axes: What the statistics are taken over, from 0 and in order.
        epsilon: Added to the variance.
        passes: The backend's ways through the whole tensor.

    Returns:
        The normalized tensor in the dtype of `x`.
    """
    z = ops.cast(x, statistics_dtype(x.dtype))
    u = passes.centred(z, feature_shift(z, axes, passes.average))
    y = passes.scaled(
        u, *affine(*moments_about_zero(u, lambda t: passes.average(t, axes)), None, None, epsilon)
    )
    if gamma is not None:
        y = y * along_axes(gamma, axes, z)
    if beta is not None:
        y = y + along_axes(beta, axes, z)
    return ops.cast(y, x.dtype)


def masked_group_norm(
    x: Tensor,
    mask: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    groups: int,
    axis: int,
    epsilon: float,
    passes: Passes = PORTABLE,
) -> Tensor:
    """`group_norm` with statistics over the values where `mask`, which broadcasts against `x`, is true.

    What holds of masked values in `masked_batch_norm` holds here of each group.
    """
    z = ops.cast(x, statistics_dtype(x.dtype))
    mask = ops.cast(mask, "bool")
    channels = [z.shape[axis] if a == axis else 1 for a in range(len(z.shape))]
    share = passes.average(ops.cast(mask, z.dtype), spatial_axes(z, axis)) * ops.ones(channels, z.dtype)
    share = per_group(share, groups, axis, lambda grouped: passes.average(grouped, [2]))
    u, _, moments = masked_moments(
        z, mask, share, lambda t: group_average(t, groups, axis, passes.average), passes.centred
    )
    y = passes.scaled(u, *affine(*moments, along(gamma, axis, z), along(beta, axis, z), epsilon))
    return ops.cast(y, x.dtype)


def is_recomputed(x: Tensor) -> bool:
    """Whether a layer sees `x` once more in a backward pass, which computes anew what was not kept.

    Backends that trace a step run the layer's code once whatever is computed anew.
    """
    return False


def statistics_dtype(*dtypes: Any) -> str:
    """Float64 if one of them is, else float32 (decision 1); Keras's `result_type` lacks float64 on JAX."""
    return "float64" if "float64" in map(keras.backend.standardize_dtype, dtypes) else "float32"


def other_axes(x: Tensor, axis: int) -> list[int]:
    """All axes of `x` but `axis`."""
    return [a for a in range(len(x.shape)) if a != axis]


def spatial_axes(x: Tensor, axis: int) -> list[int]:
    """All axes of `x` but the samples' and `axis`."""
    return [a for a in other_axes(x, axis) if a != 0]


def along(vector: Tensor | None, axis: int, x: Tensor) -> Tensor | None:
    """`vector` in the dtype of `x`, shaped to broadcast along `axis` of it."""
    if vector is None:
        return None
    return ops.reshape(ops.cast(vector, x.dtype), [-1 if a == axis else 1 for a in range(len(x.shape))])


def along_axes(weights: Tensor, axes: Sequence[int], x: Tensor) -> Tensor:
    """`weights` in the dtype of `x`, shaped to broadcast along `axes` of it."""
    sizes = [x.shape[a] if a in axes else 1 for a in range(len(x.shape))]
    return ops.reshape(ops.cast(weights, x.dtype), sizes)


def first_value(x: Tensor, axes: Sequence[int], average: Average) -> Tensor:
    """The first value along `axes`, which stay with length 1 even where `x` is empty and the value NaN."""
    return average(x[tuple(slice(0, 1 if a in axes else None) for a in range(len(x.shape)))], axes)


def batch_shift(x: Tensor, axis: int, average: Average = average) -> Tensor:
    """The shift of decision 3 for each channel."""
    axes = other_axes(x, axis)
    return snapped_mean(average(x, axes), first_value(x, axes, average))


def group_shift(x: Tensor, groups: int, axis: int, average: Average = average, pick: Pick = pick) -> Tensor:
    """The shift of decision 3 for each sample and channel, the same for the channels of a group."""
    first = first_value(x, spatial_axes(x, axis), average)
    first = per_group(first, groups, axis, pick)
    return snapped_mean(group_average(x, groups, axis, average), first)


def feature_shift(x: Tensor, axes: Sequence[int], average: Average = average) -> Tensor:
    """The shift of decision 3 for each set of values along `axes`."""
    return snapped_mean(average(x, axes), first_value(x, axes, average))


def group_average(x: Tensor, groups: int, axis: int, average: Average) -> Tensor:
    """Mean of each sample's groups, one for each of their channels."""
    per_channel = average(x, spatial_axes(x, axis))
    return per_group(per_channel, groups, axis, lambda grouped: average(grouped, [2]))


def snapped_mean(mean: Tensor, first: Tensor) -> Tensor:
    """The shift of decision 3."""
    rounding = _SNAP * ops.abs(mean)
    return ops.stop_gradient(ops.where(ops.abs(first - mean) <= rounding, first, mean))


def corrected_mean(x: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
    """The shift where no value stands for its group: the mean, plus the mean of what it leaves."""
    mean = average(x)
    return ops.stop_gradient(mean + average(x - mean))


def moments_about_zero(u: Tensor, average: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance of values that are already centred but for rounding (decision 2)."""
    mean = average(u)
    variance = average(ops.square(u)) - ops.square(mean)
    return mean, ops.where(variance < 0, ops.zeros_like(variance), variance)


def masked_moments(
    x: Tensor, mask: Tensor, share: Tensor, average: Callable[[Tensor], Tensor], centred: Centre
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """U, the shift, and u's moments over what the mask leaves, which is `share` of the values averaged over."""
    some = ops.where(share > 0, share, ops.ones_like(share))

    def masked_average(t: Tensor) -> Tensor:
        return average(ops.where(mask, t, ops.zeros_like(t))) / some

    shift = corrected_mean(x, masked_average)
    u = centred(x, shift)
    return u, shift, moments_about_zero(ops.where(mask, u, ops.zeros_like(u)), masked_average)


def affine(
    mean: Tensor, variance: Tensor, gamma: Tensor | None, beta: Tensor | None, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Scale and offset with which u * scale + offset is normalized (decisions 5 and 6), from u's moments."""
    scale = 1.0 / ops.sqrt(variance + epsilon * EXACT_SCALE**2)
    if gamma is not None:
        scale = scale * gamma
    offset = -mean * scale
    return scale, offset if beta is None else offset + beta


def per_group(per_channel: Tensor, groups: int, axis: int, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """Reduce the channels of each group and give every channel the result; other axes have length 1."""
    channels = per_channel.shape[axis]
    if groups == channels:
        return per_channel
    grouped = ops.reshape(per_channel, (-1, groups, channels // groups))
    spread = ops.repeat(reduce(grouped), channels // groups, axis=2)
    shape = [-1] + [channels if a == axis else 1 for a in range(1, len(per_channel.shape))]
    return ops.reshape(spread, shape)


def statistics(shift: Tensor, mean: Tensor, variance: Tensor, count: Tensor) -> Statistics:
    """Undo shift and scale of u's moments, flatten to one value a channel and stop gradients."""
    mean, variance = shift + mean / EXACT_SCALE, variance / EXACT_SCALE**2
    tensors = (mean, variance, ops.cast(count, mean.dtype))
    return Statistics(*(ops.reshape(ops.stop_gradient(t), (-1,)) for t in tensors))
