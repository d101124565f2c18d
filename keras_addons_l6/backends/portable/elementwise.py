"""The functions that optimizer rules use beside + - * /, for one tensor or for many at once."""

import abc
import math
from typing import Any

from keras import ops


class ManyTensors(abc.ABC):
    """Several tensors that arithmetic treats as one operand."""

    @abc.abstractmethod
    def sqrt(self) -> "ManyTensors":
        """Square root of each."""

    @abc.abstractmethod
    def maximum(self, other: Any) -> "ManyTensors":
        """The larger of each and `other`; NaN where either is NaN."""


def sqrt(x: Any) -> Any:
    """Square root, of one tensor or of many."""
    return x.sqrt() if isinstance(x, ManyTensors) else ops.sqrt(x)


def maximum(x: Any, other: Any) -> Any:
    """The larger of `x` and `other`; NaN where either is NaN."""
    if isinstance(x, ManyTensors):
        return x.maximum(other)
    # Not `ops.maximum`, which on torch takes float64 through float32.
    return ops.where((x >= other) | ops.isnan(x), x, other)


def one_minus_power(base: float, exponent: Any) -> Any:
    """1 - base**exponent for a base in [0, 1), accurate to rounding in the exponent's dtype.

    In float32 `1 - 0.999**1`, taken literally, is wrong in the fifth digit. -expm1(t log b) is not: the
    logarithm is taken in float64, and rounding it changes the answer by no more than its own relative size.

    Args:
        base: a Python float in [0, 1).
        exponent: a floating point scalar tensor >= 1.
    """
    log = math.log(base) if base > 0 else -math.inf
    return -ops.expm1(exponent * log)
