"""Checks of arguments, in one dialect: each returns the plain Python value, or raises `ValueError` in the same words.

An error names whose argument it is, the argument, what was expected and what came:
"Adam: `beta_1` must be a number in [0, 1). Received: beta_1=1.5".
"""

import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np

__all__ = [
    "UnknownArgumentError",
    "check_names",
    "count",
    "flag",
    "integer",
    "is_number",
    "knows_its_arguments",
    "names_of",
    "number",
    "optional_count",
    "optional_number",
    "refuse",
    "shown",
]

_LONGEST_SHOWN = 200  # characters of a value that a message repeats: a list of weights has thousands

P = ParamSpec("P")
R = TypeVar("R")


class UnknownArgumentError(TypeError, ValueError):
    """An argument that does not exist: Python's own functions raise `TypeError` then, Keras's classes `ValueError`."""


def refuse(owner: str, name: str, value: Any, expected: str) -> NoReturn:
    """Raise the `ValueError` that all checks raise.

    Args:
        owner: the class or function whose argument it is.
        name: the argument's name.
        value: what the caller passed.
        expected: what it must be, in words.
    """
    raise ValueError(f"{owner}: `{name}` must be {expected}. Received: {name}={shown(value)}")


def shown(value: Any) -> str:
    """`repr(value)`, cut where it is long."""
    text = repr(value)
    kind = type(value).__name__
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN].rstrip()}... (a {kind})"


def number(
    owner: str,
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    bounds: str = "[]",
) -> float:
    """Return `value` as a float when it is a finite real number between `low` and `high`.

    Args:
        owner: the class or function whose argument it is.
        name: the argument's name, for the message.
        value: what the caller passed.
        low: the lower bound.
        high: the upper bound.
        bounds: which bounds belong to the range, in interval notation: `"[)"` is low <= value < high.

    Raises:
        ValueError: for anything else, a NaN, an infinity and a bool included.
    """
    real = _as_float(value)
    above = low <= real if bounds[0] == "[" else low < real
    below = real <= high if bounds[1] == "]" else real < high
    if math.isfinite(real) and above and below:
        return real
    refuse(owner, name, value, _range_in_words(low, high, bounds))


def optional_number(owner: str, name: str, value: Any, **limits: Any) -> float | None:
    """Return None for None, else what `number` returns."""
    return None if value is None else number(owner, name, value, **limits)


def integer(owner: str, name: str, value: Any, expected: str) -> int:
    """Return `value` as an int; booleans, floats, strings and lists are not integers.

    Raises:
        ValueError: for anything else, saying that `expected` was.
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    refuse(owner, name, value, expected)


def count(owner: str, name: str, value: Any, *, low: int = 1) -> int:
    """Return `value` as an int of at least `low`."""
    expected = f"an integer >= {low}"
    checked = integer(owner, name, value, expected)
    return checked if checked >= low else refuse(owner, name, value, expected)


def optional_count(owner: str, name: str, value: Any, *, low: int = 1) -> int | None:
    """Return None for None, else `value` as an int of at least `low`."""
    if value is None:
        return None
    expected = f"an integer >= {low}, or None"
    checked = integer(owner, name, value, expected)
    return checked if checked >= low else refuse(owner, name, value, expected)


def flag(owner: str, name: str, value: Any) -> bool:
    """Return `value` when it is True or False (NumPy's included); 1 and 0 are numbers, meant for another argument."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    refuse(owner, name, value, "True or False")


def is_number(value: Any) -> bool:
    """Whether `value` is a real number, an infinite one included, and not a NaN or a bool."""
    return not math.isnan(_as_float(value))


def _range_in_words(low: float, high: float, bounds: str) -> str:
    if math.isinf(low) and math.isinf(high):
        return "a finite number"
    if math.isinf(high):
        return f"a finite number {'>=' if bounds[0] == '[' else '>'} {low:g}"
    return f"a number in {bounds[0]}{low:g}, {high:g}{bounds[1]}"


def _as_float(value: Any) -> float:
    """`value` as a float; NaN for a bool, for what is no real number, and for an integer beyond any float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


# What users of PyTorch, SciPy, optax and older packages call an argument, and what it is called here; of several, those
# that the class or function has are told.
_RIGHT_NAMES: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "rate": ("learning_rate",),
    "step_size": ("learning_rate",),
    "eps": ("epsilon",),
    "betas": ("beta_1", "beta_2"),
    "beta1": ("beta_1",),
    "beta2": ("beta_2",),
    "b1": ("beta_1",),
    "momentum": ("beta_1",),
    "b2": ("beta_2",),
    "alpha": ("rho", "alpha_initializer"),
    "decay_rate": ("rho",),
    "wd": ("weight_decay",),
    "clip_norm": ("clipnorm",),
    "max_norm": ("global_clipnorm",),
    "accumulation_steps": ("gradient_accumulation_steps",),
    "init": ("alpha_initializer",),
    "beta": ("beta_initializer",),
    "num_groups": ("groups",),
    "affine": ("center", "scale"),
    "elementwise_affine": ("center", "scale"),
    "dim": ("axis",),
    "max_iter": ("max_iterations",),
    "maxiter": ("max_iterations",),
    "epochs": ("max_iterations",),
    "steps": ("max_iterations",),
    "max_eval": ("max_evaluations",),
    "maxfun": ("max_evaluations",),
    "maxls": ("max_line_search_steps",),
    "tolerance_grad": ("gradient_tolerance",),
    "gtol": ("gradient_tolerance",),
    "pgtol": ("gradient_tolerance",),
    "tol": ("gradient_tolerance", "change_tolerance"),
    "tolerance_change": ("change_tolerance",),
    "ftol": ("change_tolerance",),
    "factr": ("change_tolerance",),
    "maxcor": ("history_size",),
    "memory_size": ("history_size",),
}
_ITERATIONS = "Pass `epochs` to `fit`, or `max_iterations` to `fit_full_batch` or `minimize`."
# What to do where no one argument stands for it.
_INSTEAD: dict[str, str] = {
    "decay": "Pass a schedule as `learning_rate` to lower the rate, or `weight_decay`.",
    "lr_decay": "Pass a schedule as `learning_rate`.",
    "params": "An optimizer gets its variables from the model, by `compile` or `build`.",
    "num_features": "Leave it out: the number of channels is read from the input.",
    "num_channels": "Leave it out: the number of channels is read from the input.",
    "num_parameters": "Pass `shared_axes`, which says where the parameter is the same.",
    "normalized_shape": "Pass `axis`; sizes are read from the input.",
    "track_running_stats": "Leave it out: BatchNorm always keeps statistics, the other layers never do.",
    "inplace": "Leave it out: a layer never changes its input.",
    "device": "Leave it out: weights are where the backend puts them.",
    "line_search_fn": "Leave it out: a line search is part of the method.",
    "jac": "Leave it out: gradients are computed from the function.",
    "groups": "Only GroupNorm has groups.",
    "momentum": "Only BatchNorm, Nesterov and RMSProp have one.",
    "max_iter": _ITERATIONS,
    "maxiter": _ITERATIONS,
    "max_iterations": _ITERATIONS,
    "options": "Pass each option as an argument of its own.",
    "fused": "Leave it out: the fastest kernel that serves is taken.",
    "foreach": "Leave it out: the fastest kernel that serves is taken.",
    "maximize": "Leave it out, and minimize the negative.",
    "nesterov": "Use the optimizer `Nesterov`.",
}


def check_names(owner: str, given: Iterable[str], known: Iterable[str], *, all_known: bool = True) -> None:
    """Raise for an argument that does not exist, with the name that was meant where that can be told.

    Args:
        owner: the class or function that was called.
        given: the names that the caller gave.
        known: the names that it takes.
        all_known: whether that is all of them; else only the names for which another one can be told are refused, and
            the rest is left to whoever gets it next.

    Raises:
        UnknownArgumentError: a `TypeError` and a `ValueError`.
    """
    known = tuple(known)
    for name in given:
        if name in known:
            continue
        hint = _hint(name, known)
        if hint or all_known:
            hint = hint or f"It takes {', '.join(known)}."
            raise UnknownArgumentError(f"{owner} has no argument `{name}`. {hint}")


def _hint(name: str, known: tuple[str, ...]) -> str | None:
    """What to pass instead; None where nothing comes near."""
    right = [n for n in _RIGHT_NAMES.get(name, ()) if n in known]
    right = right or difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if right:
        return f"Did you mean {' and '.join(f'`{n}`' for n in right)}?"
    return _INSTEAD.get(name)


def knows_its_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function tell the right name for a wrong one, as `check_names` does."""
    known = names_of(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_names(function.__name__, kwargs, known)
        return function(*args, **kwargs)

    return checked


def names_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names that a function or a constructor takes, without `self`, `*args` and `**kwargs`."""
    if isinstance(function, type):
        function = inspect.getattr_static(function, "__init__")  # Keras's `__new__` takes anything
    parameters = inspect.signature(function).parameters.values()
    return tuple(
        p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != "self"
    )
