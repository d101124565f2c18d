"""torch's fused optimizer kernels for the CPU, under the rules' formulas: one pass over memory, in place.

Each function takes lists of contiguous tensors of one dtype, float32 or float64, where its rule takes one
tensor, and the rule's scalars as numbers. torch's own optimizers wrap other formulas around the same kernels.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from keras_addons_l6.backends.torch import private

__all__ = ["KERNELS", "Kernel"]

Tensors = Sequence[torch.Tensor]

# The steps at which the kernels' own bias corrections, 1 - b^t, and decay of the rate come to nothing.
_LAST, _FIRST = torch.tensor(math.inf), torch.tensor(1.0)


def adam(
    g: Tensors,
    x: Tensors,
    m: Tensors,
    v: Tensors,
    *,
    a: float,
    b1: float,
    b2: float,
    c1: float,
    c2: float,
    eps: float,
) -> None:
    """Adam, as x - a sqrt(c2)/c1 m / (sqrt(v) + eps sqrt(c2)), as in Kingma & Ba, section 2."""
    correction = math.sqrt(c2)
    private.fused_adam_(
        x,
        g,
        m,
        v,
        [],
        [_LAST] * len(x),
        lr=a * correction / c1,
        beta1=b1,
        beta2=b2,
        weight_decay=0.0,
        eps=eps * correction,
        amsgrad=False,
        maximize=False,
    )


def adagrad(g: Tensors, x: Tensors, s: Tensors, *, a: float, eps: float) -> None:
    """AdaGrad."""
    private.fused_adagrad_(
        x, g, s, [_FIRST] * len(x), lr=a, lr_decay=0.0, weight_decay=0.0, eps=eps, maximize=False
    )


def rmsprop(g: Tensors, x: Tensors, s: Tensors, *, a: float, rho: float, momentum: float, eps: float) -> None:
    """RMSProp without momentum: Adam at b1 = 0, whose first moment is the gradient and is not kept."""
    del momentum
    moment = _scratch(g)
    private.foreach_copy_(moment, g)  # at b1 = 0 it is multiplied by 0, which would keep a NaN
    adam(g, x, moment, s, a=a, b1=0.0, b2=rho, c1=1.0, c2=1.0, eps=eps)


def nesterov(g: Tensors, x: Tensors, v: Tensors, *, a: float, m: float) -> None:
    """Nesterov's x - m v + (1 + m) v' as x + (m v' - a g), with -a g in the gradient's place."""
    scaled = _scratch(g)
    for target, gradient in zip(scaled, g, strict=True):
        torch.mul(gradient, -a, out=target)
    private.fused_sgd_(
        x,
        scaled,
        v,
        weight_decay=0.0,
        momentum=m,
        lr=-1.0,
        dampening=0.0,
        nesterov=True,
        maximize=False,
        is_first_step=False,
    )


class Kernel(NamedTuple):
    """A kernel, and what it serves."""

    run: Callable[..., None]
    slots: int
    """How many it takes; with another number the rule is in a form that it does not know: RMSProp's momentum, its
    centered form, or AMSGrad, of which torch's own loses a NaN."""
    needs_scratch: bool = False
    """Whether it takes memory of the variables' size, so that they are better stepped in pieces."""

    def serves(self, slots: int, coefficients: dict[str, Any]) -> bool:
        """Whether it computes the formula with so many slots."""
        return slots == self.slots and coefficients.get("m") != 0  # without momentum it would not write v


KERNELS = {
    "adam": Kernel(adam, 2),
    "adagrad": Kernel(adagrad, 1),
    "rmsprop": Kernel(rmsprop, 1, needs_scratch=True),
    "nesterov": Kernel(nesterov, 1, needs_scratch=True),
}


def _scratch(like: Tensors) -> list[torch.Tensor]:
    """Uninitialized tensors of the same shapes, in one piece of memory."""
    sizes = [t.numel() for t in like]
    parts = torch.empty(sum(sizes), dtype=like[0].dtype).split(sizes)
    return [part.view(t.shape) for part, t in zip(parts, like, strict=True)]
