"""The functions that optimizer rules use beside + - * /, for one tensor or for many at once."""

import abc

from keras import ops

from keras_addons_l6.backends.portable import Tensor

__all__ = ["ManyTensors", "maximum", "sqrt"]


class ManyTensors(abc.ABC):
    """Several tensors that arithmetic treats as one operand."""

    @abc.abstractmethod
    def sqrt(self) -> "ManyTensors":
        """Square root of each."""

    @abc.abstractmethod
    def maximum(self, other: "ManyTensors | float") -> "ManyTensors":
        """The larger of each and `other`; NaN where either is NaN."""


def sqrt(x: Tensor) -> Tensor:
    """Square root, of one tensor or of many."""
    return x.sqrt() if isinstance(x, ManyTensors) else ops.sqrt(x)


def maximum(x: Tensor, other: Tensor | float) -> Tensor:
    """The larger of `x` and `other`; NaN where either is NaN."""
    if isinstance(x, ManyTensors):
        return x.maximum(other)
    # Not `ops.maximum`, which on torch takes float64 through float32.
    return ops.where((x >= other) | ops.isnan(x), x, other)
