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
from keras_addons_l6.backends.portable.rules import Assign, Held, Rule, Update
from keras_addons_l6.backends.torch import private
from keras_addons_l6.backends.torch.tensor_list import TensorList

__all__ = ["dense", "step"]

# Elements of the pieces worked on together. A rule's dozen temporaries then take a few MiB whatever the size
# of the model, and are still in the cache when the next operation reads them.
PIECE = 1 << 18
# Of those that a fused kernel reads after one other operation: fewer calls, and they are still in the cache. Of four
# sizes, 2^18 to 2^21, this one was the fastest over ResNet-50's variables and a transformer's.
FUSED_PIECE = 1 << 20

Operands = tuple[Any, ...]  # tensors of one shape: gradient, parameter, slots; None for a slot left out


def dense(gradient: Any, variable: Any) -> torch.Tensor:
    """A gradient as a strided tensor."""
    del variable
    if not isinstance(gradient, torch.Tensor):
        gradient = ops.convert_to_tensor(gradient)
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


@torch.no_grad()
def step(
    rule: Rule,
    updates: Sequence[Update],
    coefficients: dict[str, Any],
    decay: Tensor,
    assign: Assign,
    held: Held,
) -> None:
    """Do what `portable.step` does, in place: `assign` is not needed."""
    del assign
    kernel = _kernel(rule, coefficients)
    groups: dict[Any, list[Operands]] = {}
    for gradient, variable, slots, decayed in updates:
        x = held(variable)
        g = gradient if gradient.device == x.device else gradient.to(x.device)
        operands = (g, x, *[None if slot is None else held(slot) for slot in slots])
        served = kernel is not None and _serves(kernel, operands)
        groups.setdefault((served, x.dtype, x.device, decayed), []).append(operands)
    for (served, _, _, decayed), variables in groups.items():
        fraction = decay if decayed else None
        if kernel is not None and served:
            _step_fused(kernel, variables, coefficients, fraction)
        else:
            for pieces in _chunks(variables, PIECE):
                _step_pieces(rule, pieces, coefficients, fraction)


def _kernel(rule: Rule, coefficients: dict[str, Any]) -> "Kernel | None":
    """The fused kernel of this rule, or None."""
    kernel = KERNELS.get(rule.kernel or "")
    # A compiler fuses the rule itself; without momentum the kernel would not write v.
    return None if torch.compiler.is_compiling() or coefficients.get("m") == 0 else kernel


def _serves(kernel: "Kernel", operands: Operands) -> bool:
    """Whether the kernel computes the formula for these operands."""
    gradient, x, *slots = operands
    there = [s for s in slots if s is not None]
    return (
        x.is_cpu  # a CUDA device would be made to wait for the rule's scalars
        and x.dtype in (torch.float32, torch.float64)  # in half precision a step is rounded once, at its end
        and gradient.dtype == x.dtype
        and len(there) == kernel.slots
        and all(map(torch.Tensor.is_contiguous, (x, *there)))
    )


def _step_fused(
    kernel: "Kernel", variables: list[Operands], coefficients: dict[str, Any], decay: Tensor
) -> None:
    """Run a fused kernel on variables of one dtype."""
    numbers = {name: float(value) for name, value in coefficients.items()}
    in_pieces = decay is not None or kernel.needs_scratch
    scratch = variables[0][1].new_empty(0)
    for pieces in _chunks(variables, FUSED_PIECE) if in_pieces else [variables]:
        g, x, *state = (column for column in zip(*pieces, strict=True) if column[0] is not None)
        if decay is not None:
            private.foreach_add_(x, x, alpha=-float(decay))
        if kernel.needs_scratch:
            scratch = _at_least(sum(t.numel() for t in x), scratch)
            state.append(tuple(_shaped(scratch, x)))
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


def _chunks(variables: Iterable[Operands], elements: int) -> Iterator[list[Operands]]:
    """Lists of pieces that have about so many elements together."""
    chunk: list[Operands] = []
    size = 0
    for operands in variables:
        for piece in _pieces(operands, elements):
            chunk.append(piece)
            size += piece[1].numel()
            if size >= elements:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


def _pieces(operands: Operands, elements: int) -> Iterable[Operands]:
    """Views of at most so many elements of a variable's operands; them whole where no such views exist."""
    count = operands[1].numel()
    if count <= elements or not all(t is None or t.is_contiguous() for t in operands[1:]):
        return [operands]
    absent = [None] * -(-count // elements)
    return zip(*(absent if t is None else t.reshape(-1).split(elements) for t in operands), strict=True)


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


def rmsprop(
    g: Tensors, x: Tensors, s: Tensors, scratch: Tensors, *, a: float, rho: float, momentum: float, eps: float
) -> None:
    """RMSProp without momentum: Adam at b1 = 0, whose first moment is the gradient and is not kept."""
    del momentum
    private.foreach_copy_(scratch, g)  # at b1 = 0 it is multiplied by 0, which would keep a NaN
    adam(g, x, scratch, s, a=a, b1=0.0, b2=rho, c1=1.0, c2=1.0, eps=eps)


def nesterov(g: Tensors, x: Tensors, v: Tensors, scratch: Tensors, *, a: float, m: float) -> None:
    """Nesterov's x - m v + (1 + m) v' as x + (m v' - a g), with -a g in the gradient's place."""
    for target, gradient in zip(scratch, g, strict=True):
        torch.mul(gradient, -a, out=target)
    private.fused_sgd_(
        x,
        scratch,
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


KERNELS = {
    "adam": Kernel(adam, 2),
    "adagrad": Kernel(adagrad, 1),
    "rmsprop": Kernel(rmsprop, 1, needs_scratch=True),
    "nesterov": Kernel(nesterov, 1, needs_scratch=True),
}


def _at_least(elements: int, scratch: torch.Tensor) -> torch.Tensor:
    """The uninitialized memory that is there where it suffices, else more of it."""
    return scratch if scratch.numel() >= elements else scratch.new_empty(elements)


def _shaped(scratch: torch.Tensor, like: Tensors) -> list[torch.Tensor]:
    """Pieces of the memory, of these tensors' shapes."""
    sizes = [t.numel() for t in like]
    parts = scratch[: sum(sizes)].split(sizes)
    return [part.view(t.shape) for part, t in zip(parts, like, strict=True)]
