"""PyTorch's own kernels, where they pass the tests of the portable ones, and passes with fewer temporaries.

Its normalizations do not pass: on channels-last memory `native_batch_norm` adds squares one after the other
in float32, so that over 500,000 centred values the output is off by 2e-4, and its derivative by reverse over
forward mode is wrong.
"""

import functools
import math
from collections.abc import Sequence

import torch

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import layers as portable
from keras_addons_l6.backends.portable.layers import Statistics
from keras_addons_l6.backends.torch import blocks, pointwise, private, rows

__all__ = [
    "batch_norm",
    "group_norm",
    "is_recomputed",
    "layer_norm",
    "masked_batch_norm",
    "masked_group_norm",
    "normalize",
    "prelu",
    "selu",
    "swish",
]


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """`portable.prelu`: in one pass by torch's kernel, whose gradient costs ten, so differentiated block by block."""
    if x.dim() > 0 and _is_differentiated(x, alpha) and blocks.serve(x, alpha):
        return pointwise.prelu(x, alpha)
    native = torch.nn.functional.prelu
    if alpha.numel() == 1 and x.dim() > 0:
        return native(x, alpha.reshape(1))
    if x.dim() > 1 and alpha.numel() == alpha.shape[-1] == x.shape[-1]:
        last = x.dim() - 1  # not -1, which the ONNX exporter writes down as it is
        return native(x.movedim(last, 1), alpha.reshape(-1)).movedim(1, last)
    if alpha.shape == x.shape[1:]:
        return native(x.flatten(1), alpha.flatten()).reshape(x.shape)
    return portable.prelu(x, alpha)


def _is_differentiated(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def selu(x: Tensor) -> Tensor:
    """`portable.selu` in one pass, and one backward."""
    return torch.nn.functional.selu(x)


def swish(x: Tensor, beta: Tensor) -> Tensor:
    """`portable.swish` where an infinity is among the values; else by torch's kernel for beta = 1, or block by block."""
    if not (x.dim() > 0 and blocks.serve(x, beta) and _is_finite(x)):
        return portable.swish(x, beta)
    if not _is_differentiated(beta) and beta.numel() == 1 and beta.item() == 1:
        return torch.nn.functional.silu(x)
    return pointwise.swish(x, beta)


def _is_finite(x: Tensor) -> bool:
    """Whether no value is infinite or NaN: then so is their sum or, in float16, where a sum overflows, their span."""
    values = x.detach()
    if values.dtype == torch.float16:
        smallest, largest = values.aminmax()
        return math.isfinite((largest - smallest).item())
    return math.isfinite(values.sum().item())


def _centred(x: Tensor, shift: Tensor) -> Tensor:
    """`portable.centred` in one pass; the scale is exact, so the result is the same."""
    return torch.add(-portable.EXACT_SCALE * shift, x, alpha=portable.EXACT_SCALE)


def _scaled(u: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """`portable.scaled` in one pass."""
    return torch.addcmul(offset, u, scale)


_PASSES = portable.Passes(centred=_centred, scaled=_scaled)

masked_batch_norm = functools.partial(portable.masked_batch_norm, passes=_PASSES)
masked_group_norm = functools.partial(portable.masked_group_norm, passes=_PASSES)


def is_recomputed(x: Tensor) -> bool:
    """`portable.is_recomputed`: a backward pass runs, and `torch.utils.checkpoint` calls the layer from it."""
    return private.backward_pass() != -1


def batch_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, axis: int, epsilon: float
) -> tuple[Tensor, Statistics]:
    """`portable.batch_norm`, block by block where that serves."""
    if blocks.serve(x, gamma, beta):
        return blocks.batch_norm(x, gamma, beta, axis=axis, epsilon=epsilon)
    return portable.batch_norm(x, gamma, beta, axis=axis, epsilon=epsilon, passes=_PASSES)


def group_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, groups: int, axis: int, epsilon: float
) -> Tensor:
    """`portable.group_norm`, block by block where that serves."""
    if blocks.serve(x, gamma, beta):
        return blocks.group_norm(x, gamma, beta, groups=groups, axis=axis, epsilon=epsilon)
    return portable.group_norm(x, gamma, beta, groups=groups, axis=axis, epsilon=epsilon, passes=_PASSES)


def layer_norm(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, *, axes: Sequence[int], epsilon: float
) -> Tensor:
    """`portable.layer_norm`, by torch's kernel where that serves: over the last axes."""
    if list(axes) == list(range(x.dim() - len(axes), x.dim())) and blocks.serve(x, gamma, beta):
        return rows.layer_norm(x, gamma, beta, axes=axes, epsilon=epsilon)
    return portable.layer_norm(x, gamma, beta, axes=axes, epsilon=epsilon, passes=_PASSES)


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
    """`portable.normalize`, block by block where that serves and no gradient is asked for."""
    tensors = (x, mean, variance, gamma, beta)
    if _is_differentiated(*tensors) or not blocks.serve(*tensors):
        return portable.normalize(x, mean, variance, gamma, beta, axis=axis, epsilon=epsilon, passes=_PASSES)
    return blocks.normalize(x, mean, variance, gamma, beta, axis=axis, epsilon=epsilon)
