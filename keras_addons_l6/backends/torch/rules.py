"""Optimizer steps on torch: a fused kernel, or the rule once for many variables in cache-sized pieces."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.rules import Assign, Rule, Update
from keras_addons_l6.backends.torch import fused_rules, private
from keras_addons_l6.backends.torch.fused_rules import Kernel
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


def _kernel(rule: Rule, operands: Operands, coefficients: dict[str, Any]) -> Kernel | None:
    """The fused kernel that serves these operands, or None."""
    gradient, x, *slots = operands
    kernel = fused_rules.KERNELS.get(rule.kernel or "")
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
    kernel: Kernel, variables: list[Operands], coefficients: dict[str, Any], decay: Tensor
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
