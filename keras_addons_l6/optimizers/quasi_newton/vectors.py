"""Vectors as lists of tensors, one a parameter, so that tensors keep their shapes and layouts."""

import functools
import operator
from collections.abc import Sequence

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays

__all__ = ["dot", "largest", "working_dtype"]


def dot(arrays: NumpyArrays, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """The dot product of two lists of tensors."""
    return functools.reduce(operator.add, map(arrays.dot, x, y))


def largest(arrays: NumpyArrays, x: Sequence[Tensor]) -> Tensor:
    """The largest magnitude of a component in a list of tensors."""
    return functools.reduce(arrays.maximum, map(arrays.largest, x))


def working_dtype(dtype: str) -> str:
    """The dtype of a parameter's gradient, direction and pairs: its own, but at least float32."""
    return dtype if dtype in ("float32", "float64") else "float32"
