"""The portable activations with a weight on torch's CPU, block by block, with a gradient of one pass.

In blocks that stay in the cache temporaries cost nothing, so the results are the only new memory; and the backward
pass computes anew what torch would keep. Derivatives of higher order, and whatever traces or transforms the
computation, take `portable` itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import layers as portable
from keras_addons_l6.backends.torch import blocks

__all__ = ["prelu", "swish"]


class _Activation(NamedTuple):
    """An activation y(x, w): each function takes a block of x and the weights that belong to it."""

    definition: Callable[[Tensor, Tensor], Tensor]  # of `portable`
    value: Callable[[Tensor, Tensor], Tensor]  # y
    slopes: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # dy/dx and dy/dw


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """`portable.prelu`."""
    return _Blockwise.apply(x, _of_rank(x.dim(), alpha), _PRELU)


def swish(x: Tensor, beta: Tensor) -> Tensor:
    """`portable.swish` of finite values."""
    return _Blockwise.apply(x, _of_rank(x.dim(), beta), _SWISH)


def _prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """Compute max(0, x) + alpha * min(0, x), with one rounding."""
    return x.clamp(min=0).addcmul_(alpha, x.clamp(max=0))


def _prelu_slopes(x: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """1 or alpha, for x, and min(0, x) for alpha: exact arithmetic, since `where` costs torch fifteen such passes."""
    positive = torch.gt(x, 0, out=torch.empty_like(x))  # 1 or 0
    return torch.lerp(alpha, torch.ones_like(alpha), positive), x.clamp(max=0)


def _swish(x: Tensor, beta: Tensor) -> Tensor:
    """Compute x sigmoid(beta x)."""
    z = blocks.wide(x)
    return (z * beta).sigmoid_().mul_(z)


def _swish_slopes(x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """With s = sigmoid(beta x) and t = x s (1 - s): s + beta t, for x, and t x for beta."""
    s = (x * beta).sigmoid_()
    t = torch.ops.aten.sigmoid_backward(x, s)
    return s.addcmul_(beta, t), t.mul_(x)


_PRELU = _Activation(portable.prelu, _prelu, _prelu_slopes)
_SWISH = _Activation(portable.swish, _swish, _swish_slopes)


def _of_rank(rank: int, weights: Tensor) -> Tensor:
    """Weights that broadcast against x, with as many axes as x has."""
    return weights.reshape((1,) * (rank - weights.dim()) + tuple(weights.shape))


class _Blockwise(torch.autograd.Function):
    """An activation of x and weights of the same rank, computed in at least float32 and rounded once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, activation: _Activation) -> Tensor:
        ctx.activation = activation
        ctx.save_for_backward(x, weights)
        y = torch.empty_like(x)
        for out, *block in zip(*blocks.Blocks(x, x.dim() - 1).of(y, x, weights), strict=True):
            out.copy_(activation.value(*block))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weights = ctx.saved_tensors  # once: gradient checkpointing gives them one time
        if torch.is_grad_enabled():
            y = ctx.activation.definition(x, weights)
            return *blocks.differentiable_gradients(y, (x, weights), ctx.needs_input_grad, dy), None
        return *_gradients(ctx.activation, x, weights, dy), None


def _gradients(activation: _Activation, x: Tensor, weights: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the weights; those of blocks are added in float64."""
    dx, total = torch.empty_like(x), torch.zeros(weights.shape, dtype=torch.float64)
    axes = [a for a, size in enumerate(weights.shape) if size == 1]
    for of_x, of_weights, *block in zip(
        *blocks.Blocks(x, x.dim() - 1).of(dx, total, x, weights, dy), strict=True
    ):
        z, w, g = map(blocks.wide, block)
        slope, slope_of_weights = activation.slopes(z, w)
        torch.mul(slope, g, out=of_x)
        of_weights.add_(blocks.sum_over(slope_of_weights.mul_(g), axes))
    return dx, total.to(weights.dtype)
