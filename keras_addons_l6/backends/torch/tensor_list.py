"""A list of torch tensors that arithmetic treats as one operand, by torch's multi-tensor operations."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from keras_addons_l6.backends.portable.elementwise import ManyTensors
from keras_addons_l6.backends.torch import private

__all__ = ["Operand", "TensorList"]

Operand = Any  # a TensorList, a Python number or a 0-dimensional tensor


class TensorList(ManyTensors):
    """Tensors of any shapes; +, -, * and / work tensor by tensor, or with one scalar for all.

    A rule written for one tensor thus runs unchanged for many, each operation one call into torch.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.tensors = tensors

    def __mul__(self, other: Operand) -> "TensorList":
        return self._apply(private.foreach_mul, other)

    def __truediv__(self, other: Operand) -> "TensorList":
        return self._apply(private.foreach_div, other)

    def __add__(self, other: Operand) -> "TensorList":
        return self._apply(private.foreach_add, other)

    def __sub__(self, other: Operand) -> "TensorList":
        return self._apply(private.foreach_sub, other)

    __rmul__ = __mul__
    __radd__ = __add__

    def sqrt(self) -> "TensorList":
        """Square root of each tensor."""
        return TensorList(private.foreach_sqrt(self.tensors))

    def maximum(self, other: Operand) -> "TensorList":
        """The larger of each element and `other`'s; NaN where either is NaN."""
        return self._apply(private.foreach_maximum, other)

    def _apply(self, operation: Callable[..., Any], other: Operand) -> "TensorList":
        return TensorList(operation(self.tensors, other.tensors if isinstance(other, TensorList) else other))
