"""Applies an optimizer's rule to variables: the portable way, and the choice of the backend's own.

A rule is a pure function `rule(g, x, *slots, **coefficients) -> (x, *slots)` of one gradient, its parameter and that
parameter's slots (None for a slot the optimizer does without), in arithmetic alone.
"""

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
from keras import ops

Rule = Callable[..., tuple[Any, ...]]
Coefficients = dict[str, Any]


def compute_dtype(dtype: Any) -> str:
    """The dtype a rule computes in: at least float32, so that epsilon and 1 - beta^t survive half precision."""
    return "float64" if keras.backend.standardize_dtype(dtype) == "float64" else "float32"


def new_values(
    rule: Rule,
    gradient: Any,
    variable: Any,
    slots: Sequence[Any],
    coefficients: Coefficients,
    decay: Any = None,
) -> tuple[Any, ...]:
    """The values one step gives to a variable and its slots, computed in `compute_dtype`.

    `decay` is the fraction of the variable that weight decay takes off before the rule; None takes nothing.
    """
    dtype = compute_dtype(variable.dtype)
    g, x, *state = (None if v is None else ops.cast(v, dtype) for v in (gradient, variable, *slots))
    if decay is not None:
        x = x - decay * x
    return rule(g, x, *state, **coefficients)


def step_portably(
    rule: Rule,
    gradients: Sequence[Any],
    variables: Sequence[Any],
    slots: Sequence[Sequence[Any]],
    coefficients: Coefficients,
    decays: Sequence[Any],
    assign: Callable[[Any, Any], None],
) -> None:
    """Take one step of every variable, one variable after the other: the definition of what a step is.

    Args:
        rule: the optimizer's rule.
        gradients: one dense gradient a variable.
        variables: the parameters, all of one `compute_dtype`.
        slots: for each variable its slots, in the order the rule takes them.
        coefficients: the rule's scalars, by name.
        decays: for each variable the fraction weight decay takes off, or None.
        assign: writes a value into a variable or slot.
    """
    for gradient, variable, state, decay in zip(gradients, variables, slots, decays, strict=True):
        values = new_values(rule, gradient, variable, state, coefficients, decay)
        for target, value in zip((variable, *state), values, strict=True):
            if target is not None:
                assign(target, ops.cast(value, target.dtype))


def dense_portably(gradient: Any, variable: Any) -> Any:
    """A gradient as a dense tensor: a sparse one becomes the tensor it stands for, with its duplicate rows added."""
    return ops.convert_to_tensor(gradient, sparse=False)


def in_distribution_strategy_nowhere() -> bool:
    """False: only TensorFlow has strategies that update variables replica by replica."""
    return False


# A backend's module may replace any of the names below by a function of the same arguments and the same meaning.
_NATIVE = {
    "torch": "keras_addons_l6.kernels.rules_torch",
    "tensorflow": "keras_addons_l6.kernels.rules_tensorflow",
}
_native = (
    importlib.import_module(_NATIVE[keras.backend.backend()]) if keras.backend.backend() in _NATIVE else None
)

step = getattr(_native, "step", step_portably)
dense = getattr(_native, "dense", dense_portably)
in_distribution_strategy = getattr(_native, "in_distribution_strategy", in_distribution_strategy_nowhere)
outside_graph: Callable[[], AbstractContextManager[Any]] = getattr(_native, "outside_graph", nullcontext)
