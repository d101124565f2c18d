"""Optimizer steps on torch: a fused kernel, or the rule once for many variables in cache-sized pieces.

The kernels come last: torch's fused optimizer kernels for the CPU, under the rules' formulas: one pass over memory, in place.
Each function takes lists of contiguous tensors of one dtype, float32 or float64, where its rule takes one
tensor, and the rule's scalars as numbers. torch's own optimizers wrap other formulas around the same kernels.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.rules import Assign, Rule, Update
from keras_addons_l6.backends.torch import private
from keras_addons_l6.backends.torch.tensor_list import TensorList

__all__ = ["dense", "step"]

# Elements of the pieces worked on together. A rule's dozen temporaries then take a few MiB whatever the size
# of the model, and are still in the cache when the next operation reads them.
PIECE = 1 << 18

Operands = tuple[Any, ...]  # tensors of one shape: gradient, parameter, slots; None for a slot left out


def dense(gradient: Any, variable: Any) -> torch.Tensor:
    """A gradient as a strided tensor."""
    del variable
    gradient = ops.convert_to_tensor(gradient)
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


@torch.no_grad()
def step(
    rule: Rule, updates: Sequence[Update], coefficients: dict[str, Any], decay: Tensor, assign: Assign
) -> None:
    """Do what `portable.step` does, in place: `assign` is not needed."""
    del assign
    groups: dict[Any, list[Operands]] = {}
    for update in updates:
        operands = (
            update.gradient,
            update.variable.value,
            *(None if s is None else s.value for s in update.slots),
        )
        x = operands[1]
        kind = (_kernel(rule, operands, coefficients), x.dtype, x.device, update.decayed)
        groups.setdefault(kind, []).append(operands)
    for (kernel, _, _, decayed), variables in groups.items():
        fraction = decay if decayed else None
        if kernel is None:
            for pieces in _chunks(variables):
                _step_pieces(rule, pieces, coefficients, fraction)
        else:
            _step_fused(kernel, variables, coefficients, fraction)


def _kernel(rule: Rule, operands: Operands, coefficients: dict[str, Any]) -> "Kernel | None":
    """The fused kernel that serves these operands, or None."""
    gradient, x, *slots = operands
    kernel = KERNELS.get(rule.kernel or "")
    served = (
        kernel is not None
        and not torch.compiler.is_compiling()  # a compiler fuses the rule itself
        and x.device.type == "cpu"  # a CUDA device would be made to wait for the rule's scalars
        and x.dtype in (torch.float32, torch.float64)  # in half precision a step is rounded once, at its end
        and gradient.dtype == x.dtype
        and all(t is None or t.is_contiguous() for t in (x, *slots))
        and kernel.serves(len([s for s in slots if s is not None]), coefficients)
    )
    return kernel if served else None


def _step_fused(
    kernel: "Kernel", variables: list[Operands], coefficients: dict[str, Any], decay: Tensor
) -> None:
    """Run a fused kernel on variables of one dtype."""
    numbers = {name: float(value) for name, value in coefficients.items()}
    in_pieces = decay is not None or kernel.needs_scratch
    for pieces in _chunks(variables) if in_pieces else [variables]:
        g, x, *state = (column for column in zip(*pieces, strict=True) if column[0] is not None)
        if decay is not None:
            private.foreach_add_(x, x, alpha=-float(decay))
        kernel.run([t.contiguous() for t in g], x, *state, **numbers)


def _step_pieces(rule: Rule, pieces: list[Operands], coefficients: dict[str, Any], decay: Tensor) -> None:
    """Run the rule on pieces of one dtype and write what it returns back into them."""
    dtype = torch.promote_types(pieces[0][1].dtype, torch.float32)
    columns = [None if column[0] is None else column for column in zip(*pieces, strict=True)]
    g, x, *state = (None if c is None else TensorList([t.to(dtype) for t in c]) for c in columns)
    x = x if decay is None else x - decay * x
    for target, value in zip(columns[1:], rule.formula(g, x, *state, **coefficients), strict=True):
        if target is not None:
            private.foreach_copy_(target, value.tensors)


def _chunks(variables: Iterable[Operands]) -> Iterator[list[Operands]]:
    """Lists of pieces that have about `PIECE` elements together."""
    chunk: list[Operands] = []
    size = 0
    for operands in variables:
        for piece in _pieces(operands):
            chunk.append(piece)
            size += piece[1].numel()
            if size >= PIECE:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


def _pieces(operands: Operands) -> Iterable[Operands]:
    """Views of at most `PIECE` elements of a variable's operands; them whole where no such views exist."""
    count = operands[1].numel()
    if count <= PIECE or not all(t is None or t.is_contiguous() for t in operands[1:]):
        return [operands]
    absent = [None] * -(-count // PIECE)
    return zip(*(absent if t is None else t.reshape(-1).split(PIECE) for t in operands), strict=True)


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
