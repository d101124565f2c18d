"""The portable normalizations on torch's CPU, block by block, with a gradient of two passes.

Torch runs one operation after the other over a whole tensor, and asks the system for fresh memory for each large
result, which costs more than the arithmetic. In blocks that stay in the cache temporaries cost nothing, only the
result is new memory, and the backward pass recomputes u of `portable` instead of keeping it.

The statistics are those of `portable`, and so are its decisions. Derivatives of higher order, and whatever traces
or transforms the computation, take `portable` itself.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import layers as portable
from keras_addons_l6.backends.portable.layers import EXACT_SCALE, Statistics
from keras_addons_l6.backends.torch import private

__all__ = [
    "BLOCK",
    "Blocks",
    "Layout",
    "batch_norm",
    "differentiable_gradients",
    "group_norm",
    "normalize",
    "serve",
    "sum_over",
    "wide",
]

BLOCK = 1 << 18  # elements of a block: 1 MiB of float32, which a core's cache holds with its temporaries


class Blocks:
    """A tensor in blocks: slices of its first axis, of the first two where one sample is large.

    Args:
        x: The tensor.
        axis: Its channel axis, which stays whole.
    """

    def __init__(self, x: Tensor, axis: int) -> None:
        sample = x.numel() // x.shape[0]
        self._x, self._rows = x, max(1, BLOCK // sample)
        self._second = next((a for a in (1, 2) if a < x.dim() and a != axis), None)
        self._columns = 0  # 0: samples are whole
        if sample > BLOCK and self._second is not None:
            self._columns = max(1, BLOCK * x.shape[self._second] // sample)

    def of(self, *tensors: Tensor) -> list[list[Tensor]]:
        """The blocks of tensors that broadcast against x: views, the whole along an axis of length 1."""
        return [self._split(t) for t in tensors]

    def _split(self, t: Tensor) -> list[Tensor]:
        rows = _split(t, self._rows, 0, self._x)
        if not self._columns:
            return rows
        return [part for row in rows for part in _split(row, self._columns, self._second or 1, self._x)]

    def centred(self, shift: Tensor) -> Iterator[Tensor]:
        """The blocks of u of `portable`'s decision 4, one after the other, in the same memory."""
        shifts, blocks = self.of(-EXACT_SCALE * shift, self._x)
        memory = torch.empty_like(blocks[0])
        for k, x in zip(shifts, blocks, strict=True):
            fits = memory if x.shape == memory.shape else torch.empty_like(x)
            yield torch.add(k, x, alpha=EXACT_SCALE, out=fits)

    def sums(self, shift: Tensor, axes: Sequence[int], other: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sums over axes of v and of u * v, where v is another tensor or u; those of blocks are added in float64."""
        sums: tuple[list[Tensor], list[Tensor]] = ([], [])
        others = itertools.repeat(None) if other is None else self.of(other)[0]
        for u, v in zip(self.centred(shift), others, strict=False):
            v = u if v is None else v
            sums[0].append(sum_over(v, axes))
            sums[1].append(sum_over(u.mul_(v), axes))
        return self._total(sums[0], axes), self._total(sums[1], axes)

    def _total(self, parts: list[Tensor], axes: Sequence[int]) -> Tensor:
        """The sums over the whole tensor, for every sample where the samples' axis is not summed over."""
        by_sample = torch.cat(parts).unflatten(0, (1 if 0 in axes else self._x.shape[0], -1))
        return by_sample.sum(1, dtype=torch.float64).to(self._x.dtype)


def sum_over(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The sum over axes, which stay with length 1; in two steps where torch's threads would cross.

    They divide the first axis of an elementwise operation among them, and of a sum only if it is not summed over.
    So each sums what it has just computed, which is in its own core's cache.
    """
    long = [a for a in axes if x.shape[a] > 1]
    if not long:
        return x.clone()
    rows = x.sum(long[1:], keepdim=True) if len(long) > 1 else x
    return rows.sum(long[0], keepdim=True)


def _split(t: Tensor, step: int, axis: int, x: Tensor) -> list[Tensor]:
    """Slices of t, which broadcasts against x, that belong to the slices of x."""
    if t.shape[axis] == x.shape[axis]:
        return list(t.split(step, axis))
    return [t] * -(-x.shape[axis] // step)


class Layout(NamedTuple):
    """Which values are normalized together: those of a channel, or those of a group of a sample's channels."""

    axis: int
    groups: int | None  # None: all samples together, channel by channel

    def axes(self, x: Tensor) -> list[int]:
        """The axes that a block's sums run over."""
        return (portable.other_axes if self.groups is None else portable.spatial_axes)(x, self.axis)

    def shift(self, x: Tensor) -> Tensor:
        """The shift of `portable`'s decision 3."""
        if self.groups is None:
            return portable.batch_shift(x, self.axis)
        return portable.group_shift(x, self.groups, self.axis)

    def mean(self, sums: Tensor, x: Tensor) -> Tensor:
        """From sums over `axes` the means over all values that are normalized together."""
        means = sums / portable.size_over(x, self.axes(x))
        if self.groups is None:
            return means
        return portable.per_group(
            means, self.groups, self.axis, lambda grouped: grouped.mean(dim=2, keepdim=True)
        )

    def portably(self, x: Tensor, gamma: Tensor | None, beta: Tensor | None, epsilon: float) -> Tensor:
        """The normalized tensor by `portable`."""
        if self.groups is None:
            return portable.batch_norm(x, gamma, beta, axis=self.axis, epsilon=epsilon)[0]
        return portable.group_norm(x, gamma, beta, groups=self.groups, axis=self.axis, epsilon=epsilon)


def serve(*tensors: Tensor | None) -> bool:
    """Whether all are plain tensors on the CPU, with values, that nothing traces or transforms."""
    present = [t for t in tensors if t is not None]
    return (
        all(type(t) in (torch.Tensor, torch.nn.Parameter) and t.device.type == "cpu" for t in present)
        and present[0].numel() > 0
        and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        and not any(map(_is_transformed, present))
    )


def _is_transformed(x: Tensor) -> bool:
    """Whether `torch.func` or forward-mode differentiation is at work on a tensor."""
    return private.is_in_functorch(x) or forward_ad.unpack_dual(x).tangent is not None


def batch_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, axis: int, epsilon: float
) -> tuple[Tensor, Statistics]:
    """`portable.batch_norm`."""
    z = wide(x)
    y, shift, mean, variance = _Normalize.apply(z, gamma, beta, Layout(axis, None), epsilon)
    size = portable.size_over(z, portable.other_axes(z, axis))
    return y.to(x.dtype), portable.statistics(shift, mean, variance, size)


def group_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, groups: int, axis: int, epsilon: float
) -> Tensor:
    """`portable.group_norm`."""
    return _Normalize.apply(wide(x), gamma, beta, Layout(axis, groups), epsilon)[0].to(x.dtype)


def normalize(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    axis: int,
    epsilon: float,
) -> Tensor:
    """`portable.normalize`, without a gradient."""
    with torch.no_grad():
        z = wide(x)
        mean, scale, offset = portable.fixed_affine(z, mean, variance, gamma, beta, axis, epsilon)
        offset = torch.zeros_like(scale) if offset is None else offset
        y = torch.empty_like(z)
        for out, block in zip(*Blocks(z, axis).of(y, z), strict=True):
            torch.addcmul(offset, torch.sub(block, mean, out=out), scale, out=out)
    return y.to(x.dtype)


def differentiable_gradients(
    y: Tensor, tensors: Sequence[Tensor | None], needed: Sequence[bool], dy: Tensor
) -> list[Tensor | None]:
    """The gradients of those tensors that need one, by what made y of them, with graphs of their own."""
    wanted = [t for t, needs in zip(tensors, needed, strict=False) if needs]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(found) if needs else None for _, needs in zip(tensors, needed, strict=False)]


def wide(x: Tensor) -> Tensor:
    """X in the dtype of `portable`'s decision 1."""
    return x.to(getattr(torch, portable.statistics_dtype(x.dtype)))


class _Normalize(torch.autograd.Function):
    """Gives y, and what it was normalized by, without gradient: the shift, and mean and variance of u."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor | None, beta: Tensor | None, layout: Layout, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        blocks, shift = Blocks(x, layout.axis), layout.shift(x)
        sums = blocks.sums(shift, layout.axes(x))
        mean, square = (layout.mean(s, x) for s in sums)
        variance = (square - mean * mean).clamp_(min=0)
        weight, bias = portable.along(gamma, layout.axis, x), portable.along(beta, layout.axis, x)
        scale, offset = portable.affine(mean, variance, weight, bias, epsilon)
        y = torch.empty_like(x)
        for out, u, a, b in zip(*blocks.of(y), blocks.centred(shift), *blocks.of(scale, offset), strict=True):
            torch.addcmul(b, u, a, out=out)
        ctx.layout, ctx.epsilon = layout, epsilon
        ctx.save_for_backward(x, gamma, beta, shift, mean, variance)
        ctx.mark_non_differentiable(shift, mean, variance)
        return y, shift, mean, variance

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *nothing: Any) -> tuple[Tensor | None, ...]:
        x, gamma, beta, *statistics = ctx.saved_tensors  # once: gradient checkpointing gives them one time
        if torch.is_grad_enabled():
            y = ctx.layout.portably(x, gamma, beta, ctx.epsilon)
            gradients = differentiable_gradients(y, (x, gamma, beta), ctx.needs_input_grad, dy)
        else:
            gradients = _gradients(ctx, dy, x, gamma, beta, *statistics)
        return (*gradients, None, None)


def _gradients(
    ctx: Any,
    dy: Tensor,
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
) -> list[Tensor | None]:
    """The gradients of x, gamma and beta (Ioffe & Szegedy 2015, section 3).

    With r = 1 / sqrt(variance + epsilon) and v = (u - mean) r: dgamma = sum(dy v), dbeta = sum(dy) and
    du = gamma r dy - r (mean(gamma dy) + v mean(gamma dy v)); dx is that in u's scale.
    """
    layout, epsilon, (wants_dx, *_) = ctx.layout, ctx.epsilon, ctx.needs_input_grad
    blocks = Blocks(x, layout.axis)
    sums_dy, sums_dyu = blocks.sums(shift, layout.axes(x), dy)
    r = 1.0 / torch.sqrt(variance + epsilon * EXACT_SCALE**2)
    sums_dyv = r * (sums_dyu - mean * sums_dy)

    def of_weights(weights: Tensor | None, sums: Tensor) -> Tensor | None:
        others = portable.other_axes(sums, layout.axis)
        return None if weights is None else sums.sum(others).to(weights.dtype)

    gradients = [None, of_weights(gamma, sums_dyv), of_weights(beta, sums_dy)]
    if not wants_dx:
        return gradients
    weight = 1.0 if gamma is None else portable.along(gamma, layout.axis, x)
    level, slope = (layout.mean(weight * s, x) for s in (sums_dy, sums_dyv))
    scale = (EXACT_SCALE * r) * weight
    on_u = -(EXACT_SCALE * r) * r * slope
    offset = -(EXACT_SCALE * r) * level - mean * on_u
    scale, on_u, offset = (torch.broadcast_to(t, shift.shape) for t in (scale, on_u, offset))
    dx = torch.empty_like(x)
    for out, u, g, a, b, c in zip(
        *blocks.of(dx), blocks.centred(shift), *blocks.of(dy, scale, on_u, offset), strict=True
    ):
        torch.addcmul(c, g, a, out=out).addcmul_(u, b)
    gradients[0] = dx
    return gradients
