"""Optimizer steps on torch: the rule runs once for many variables, in pieces that stay in the processor's cache."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from keras import ops

from keras_addons_l6.kernels.tensor_list import TensorList

# Elements of one piece. The dozen temporaries of a rule then take a few MiB, whatever the size of the model, and are
# still in the cache when the next operation reads them.
PIECE = 1 << 18

Operands = tuple[
    torch.Tensor | None, ...
]  # gradient, parameter, slots: all of one shape; None for a slot left out


def dense(gradient: Any, variable: Any) -> torch.Tensor:
    """A gradient as a strided tensor."""
    gradient = ops.convert_to_tensor(gradient)
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


@torch.no_grad()
def step(
    rule: Callable[..., tuple[Any, ...]],
    gradients: Sequence[Any],
    variables: Sequence[Any],
    slots: Sequence[Sequence[Any]],
    coefficients: dict[str, Any],
    decays: Sequence[Any],
    assign: Callable[[Any, Any], None],
) -> None:
    """Do what `rules.step_portably` does, in place; `assign` is not needed for that."""
    groups: dict[Any, list[Operands]] = {}
    for gradient, variable, state, decay in zip(gradients, variables, slots, decays, strict=True):
        x = variable.value
        operands = (gradient, x, *(None if s is None else s.value for s in state))
        groups.setdefault((x.dtype, x.device, decay is None), []).append(operands)
    decay = next((d for d in decays if d is not None), None)
    for (_, _, without_decay), operands in groups.items():
        for pieces in _chunks(operands):
            _step_of_pieces(rule, pieces, coefficients, None if without_decay else decay)


def _step_of_pieces(
    rule: Callable[..., tuple[Any, ...]], pieces: list[Operands], coefficients: dict[str, Any], decay: Any
) -> None:
    """Run the rule on some pieces at once and write what it returns back into them."""
    dtype = torch.promote_types(pieces[0][1].dtype, torch.float32)
    columns = [None if column[0] is None else column for column in zip(*pieces, strict=True)]
    g, x, *state = (None if c is None else TensorList([t.to(dtype) for t in c]) for c in columns)
    if decay is not None:
        x = x - x * decay
    for target, value in zip(columns[1:], rule(g, x, *state, **coefficients), strict=True):
        if target is not None:
            torch._foreach_copy_(target, value.tensors)


def _chunks(variables: list[Operands]) -> Iterator[list[Operands]]:
    """Lists of pieces with about `PIECE` elements together."""
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


def _pieces(operands: Operands) -> Iterator[Operands]:
    """Views of `PIECE` elements each of a variable's operands; the operands themselves where they are smaller."""
    x = operands[1]
    if x.numel() <= PIECE or not all(t is None or t.is_contiguous() for t in operands[1:]):
        return iter([operands])
    columns = [None if t is None else t.reshape(-1).split(PIECE) for t in operands]
    count = len(columns[1])
    return zip(*([None] * count if c is None else c for c in columns), strict=True)
