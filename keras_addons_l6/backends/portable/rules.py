"""What a step by an optimizer's rule is, in `keras.ops`: the definition that every backend is held to."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_addons_l6.backends.portable import Tensor

__all__ = [
    "Rule",
    "Update",
    "compute_dtype",
    "dense",
    "in_distribution_strategy",
    "outside_graph",
    "scalar",
    "step",
]

Assign = Callable[[Any, Any], None]
Held = Callable[[Any], Any]


@dataclass(frozen=True)
class Rule:
    """An optimizer's formula, and the name of the kernels that compute it."""

    formula: Callable[..., tuple[Tensor, ...]]
    """A pure function `formula(g, x, *slots, **coefficients) -> (x, *slots)` of one gradient, its parameter and that
    parameter's slots (None for a slot the optimizer does without), in arithmetic and `elementwise` alone."""
    kernel: str | None = None
    """What a backend calls its kernel for this formula, where it has one; None for a formula that has none."""

    def __call__(
        self, g: Tensor, x: Tensor, *slots: Tensor | None, **coefficients: Any
    ) -> tuple[Tensor, ...]:
        """Compute the formula."""
        return self.formula(g, x, *slots, **coefficients)


class Update(NamedTuple):
    """One variable's part in a step."""

    gradient: Tensor
    """Dense, of the variable's shape."""
    variable: Any
    slots: Sequence[Any]
    """In the order the rule takes them."""
    decayed: bool
    """Whether weight decay takes its fraction off first."""


def compute_dtype(dtype: Any) -> str:
    """The dtype a rule computes in: at least float32, so that epsilon survives half precision."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"


def scalar(value: Any, dtype: str) -> Tensor:
    """A number, tensor or variable as a scalar of `dtype`."""
    # `ops.cast` would take a Python number through float32 on TensorFlow.
    return ops.convert_to_tensor(value, dtype) if isinstance(value, int | float) else ops.cast(value, dtype)


def step(
    rule: Rule,
    updates: Sequence[Update],
    coefficients: dict[str, Any],
    decay: Tensor,
    assign: Assign,
    held: Held | None = None,
) -> None:
    """Take one step, variable by variable: the definition of what a step is.

    Args:
        rule: the optimizer's rule.
        updates: the variables, all of one `compute_dtype`.
        coefficients: the rule's scalars, by name.
        decay: the fraction that weight decay takes off those that are `decayed`; None where none is.
        assign: writes a value into a variable or slot.
        held: the backend's own variable behind one of Keras's, for backends that step it in place.
    """
    del held
    for gradient, variable, slots, decayed in updates:
        dtype = compute_dtype(variable.dtype)
        g, x, *state = (None if v is None else ops.cast(v, dtype) for v in (gradient, variable, *slots))
        x = x - decay * x if decayed else x
        values = rule.formula(g, x, *state, **coefficients)
        for target, value in zip((variable, *slots), values, strict=True):
            if target is not None:
                assign(target, ops.cast(value, target.dtype))


def dense(gradient: Any, variable: Any) -> Tensor:
    """A gradient as a dense tensor: a sparse one's rows of the same index add up."""
    del variable
    return ops.convert_to_tensor(gradient, sparse=False)


def in_distribution_strategy() -> bool:
    """False: only TensorFlow has strategies that update variables replica by replica."""
    return False


def outside_graph() -> AbstractContextManager[Any]:
    """Nothing: only TensorFlow traces graphs that assignments would become part of."""
    return nullcontext()
