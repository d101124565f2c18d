"""The portable LayerNorm over the last axes on torch's CPU: torch's own kernel, on values it does not lose digits of.

Derivatives of higher order, and whatever traces or transforms the computation, take `portable` itself.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import layers as portable
from keras_addons_l6.backends.portable.layers import EXACT_SCALE
from keras_addons_l6.backends.torch import blocks

__all__ = ["FEW_ROWS", "Rows", "layer_norm"]

FEW_ROWS = 1 << 12  # that may be added one after the other in float32: as many as a block has of 64 features


def layer_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, axes: Sequence[int], epsilon: float
) -> Tensor:
    """`portable.layer_norm` over the last axes."""
    return _NormalizeRows.apply(x, gamma, beta, tuple(axes), epsilon)


class Rows:
    """A tensor as rows of the values that are normalized together, in blocks of whole rows.

    Args:
        x: The tensor.
        features: How many values a row has.
    """

    def __init__(self, x: Tensor, features: int) -> None:
        self.whole = x.reshape(-1, features)
        self._step = max(1, blocks.BLOCK // features)

    def of(self, t: Tensor) -> tuple[Tensor, ...]:
        """The blocks of a tensor with a row, or a value, for each row of x: views."""
        return t.reshape(self.whole.shape[0], -1).split(self._step)

    def centred(self, shift: Tensor) -> Iterator[Tensor]:
        """The blocks of u of `portable`'s decision 4, one after the other, in the same memory."""
        parts = self.of(self.whole)
        memory = torch.empty(parts[0].shape, dtype=shift.dtype)
        for k, x in zip(self.of(-EXACT_SCALE * shift), parts, strict=True):
            yield torch.add(k, blocks.wide(x), alpha=EXACT_SCALE, out=memory[: len(x)])


class _NormalizeRows(torch.autograd.Function):
    """`portable.layer_norm` by torch's own kernel: on x where x is centred well enough, else on u, which always is.

    What the kernel loses is what x and its mean have in common: where no mean is larger than twice its deviation, at most
    the last two of float32's 24 binary digits.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor | None, beta: Tensor | None, axes: tuple[int, ...], epsilon: float
    ) -> Tensor:
        rows = Rows(x, math.prod(x.shape[a] for a in axes))
        weight, bias = _row_weights(gamma, beta, x, rows)
        shift = None
        y, mean, reciprocal = torch.native_layer_norm(rows.whole, rows.whole.shape[1:], weight, bias, epsilon)
        if not _are_centred(mean, reciprocal):
            shift = portable.feature_shift(blocks.wide(rows.whole), [1])
            moments = []
            for out, u in zip(rows.of(y), rows.centred(shift), strict=True):
                result, *found = torch.native_layer_norm(
                    u, u.shape[1:], weight, bias, epsilon * EXACT_SCALE**2
                )
                out.copy_(result)
                moments.append(found)
            mean, reciprocal = (torch.cat(parts) for parts in zip(*moments, strict=True))
        ctx.axes, ctx.epsilon = axes, epsilon
        ctx.save_for_backward(x, gamma, beta, shift, mean, reciprocal)
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, beta, *statistics = ctx.saved_tensors  # once: gradient checkpointing gives them one time
        if torch.is_grad_enabled():
            y = portable.layer_norm(x, gamma, beta, axes=ctx.axes, epsilon=ctx.epsilon)
            gradients = blocks.differentiable_gradients(y, (x, gamma, beta), ctx.needs_input_grad, dy)
        else:
            gradients = _gradients_of_rows(ctx, dy, x, gamma, beta, *statistics)
        return (*gradients, None, None)


def _are_centred(mean: Tensor, reciprocal: Tensor) -> bool:
    """Whether no mean is larger than twice its deviation, whose reciprocal is 0 where the squares overflowed."""
    smallest, largest = (mean * reciprocal).aminmax()
    return smallest.item() >= -2 and largest.item() <= 2 and reciprocal.min().item() > 0


def _gradients_of_rows(
    ctx: Any,
    dy: Tensor,
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    reciprocal: Tensor,
) -> list[Tensor | None]:
    """The gradients of x, gamma and beta.

    The kernel adds row after row in the dtype of x: so it gets no half precision, and few rows at a time.
    """
    rows = Rows(x, math.prod(x.shape[a] for a in ctx.axes))
    weight, bias = _row_weights(gamma, beta, x, rows)
    wanted = list(ctx.needs_input_grad[:3])

    def kernel(u: Tensor, dy: Tensor, *moments: Tensor) -> tuple[Tensor, ...]:
        return torch.ops.aten.native_layer_norm_backward(
            blocks.wide(dy.contiguous()), u, u.shape[1:], *moments, weight, bias, wanted
        )

    at_once = shift is None and x.dtype in (torch.float32, torch.float64) and len(rows.whole) <= FEW_ROWS
    if at_once:
        dx, *sums = kernel(rows.whole, dy.reshape(rows.whole.shape), mean, reciprocal)
    else:
        dx, *sums = _by_blocks(kernel, rows, shift, dy, mean, reciprocal)
    found = zip((dx, *sums), (x, gamma, beta), wanted, strict=True)
    return [
        t.reshape(like.shape).to(like.dtype) if needed and like is not None else None
        for t, like, needed in found
    ]


def _by_blocks(
    kernel: Callable[..., tuple[Tensor, ...]], rows: Rows, shift: Tensor | None, *beside: Tensor
) -> Iterator[Tensor | None]:
    """What the kernel gives for all rows: dx in pieces, in the dtype of x, and sums of blocks added in float64."""
    whole = rows.whole
    scale, values = (
        (1.0, map(blocks.wide, rows.of(whole))) if shift is None else (EXACT_SCALE, rows.centred(shift))
    )
    dx, parts = torch.empty(whole.shape, dtype=whole.dtype), []
    for out, u, *block in zip(rows.of(dx), values, *map(rows.of, beside), strict=True):
        du, *of_weights = kernel(u, *block)
        if du is not None:
            out.copy_(du.mul_(scale))
        parts.append(of_weights)
    yield dx
    for part in zip(*parts, strict=True):
        yield None if part[0] is None else torch.stack(part).sum(0, dtype=torch.float64)


def _row_weights(
    gamma: Tensor | None, beta: Tensor | None, x: Tensor, rows: Rows
) -> tuple[Tensor | None, Tensor | None]:
    """Gamma and beta as the kernel takes them: in at least float32, which keeps its moments so, too."""
    dtype = getattr(torch, portable.statistics_dtype(x.dtype))
    weight, bias = (None if t is None else t.reshape(-1).to(dtype) for t in (gamma, beta))
    if weight is None and bias is None and dtype != x.dtype:
        weight = torch.ones(rows.whole.shape[1], dtype=dtype)
    return weight, bias
