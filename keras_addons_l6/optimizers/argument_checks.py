"""Checks of constructor arguments: each returns the plain Python value or raises `ValueError` naming it."""

import math
import numbers
from typing import Any


def number(
    name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, bounds: str = "[]"
) -> float:
    """Return `value` as a float when it is a finite real number between `low` and `high`.

    Args:
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
    raise ValueError(f"`{name}` must be {_range_in_words(low, high, bounds)}. Received: {name}={value!r}")


def optional_number(name: str, value: Any, **limits: Any) -> float | None:
    """Return None for None, else what `number` returns."""
    return None if value is None else number(name, value, **limits)


def optional_count(name: str, value: Any, *, low: int) -> int | None:
    """Return None for None, else `value` as an int of at least `low`."""
    if value is None:
        return None
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= low:
        return int(value)
    raise ValueError(f"`{name}` must be an integer >= {low}, or None. Received: {name}={value!r}")


def flag(name: str, value: Any) -> bool:
    """Return `value` when it is True or False (NumPy's included)."""
    # numpy.bool_ is no subclass of bool; its name is "bool" or "bool_" by version.
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")


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
