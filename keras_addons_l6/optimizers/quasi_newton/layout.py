"""How what the caller of `minimize` gives, a nested structure of tensors, lies in the vectors that the method works on."""

import copy
import functools
import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_addons_l6.backends import traces
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.optimizers.quasi_newton.arguments import warn_if_narrower
from keras_addons_l6.optimizers.quasi_newton.vectors import working_dtype

__all__ = ["Arguments", "Layout", "scalar"]


class Layout:
    """How x0's tensors lie in one vector for each dtype: a pass over one is quicker than over many.

    Args:
        x0: A tensor, or what the backend takes for a nested structure of tensors.

    Raises:
        ValueError: for complex numbers, and where there is nothing to minimize over.
    """

    def __init__(self, x0: Any) -> None:
        leaves, self.pack = traces.flatten(x0, _means_a_vector)
        tensors = [_as_tensor(leaf) for leaf in leaves]
        self._shapes = [tuple(leaf.shape) for leaf in tensors]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        if sum(self._sizes) == 0:
            raise ValueError(f"`x0` must have a component at least. Received: x0={x0!r}.")
        self._dtypes = [keras.backend.standardize_dtype(leaf.dtype) for leaf in tensors]
        worked = [working_dtype(dtype) for dtype in self._dtypes]
        self._members = {d: [i for i, own in enumerate(worked) if own == d] for d in dict.fromkeys(worked)}
        # Where x0 is what the method works on there is nothing to do, and an eager loop would do it at each evaluation.
        self._is_one_vector = [len(shape) for shape in self._shapes] == [1] and self._dtypes == worked
        self.start = self.vectors(tensors)

    def of_any_values(self) -> "Layout":
        """The same layout without x0's tensors."""
        other = copy.copy(self)
        del other.start, other.pack
        return other

    def vectors(self, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One vector for each dtype."""
        if self._is_one_vector:
            return tuple(leaves)
        return tuple(
            _joined([_cast(_reshape(leaves[i], (self._sizes[i],)), self._dtypes[i], dtype) for i in members])
            for dtype, members in self._members.items()
        )

    def leaves(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """The tensors in the order of x0's."""
        if self._is_one_vector:
            return list(vectors)
        found: dict[int, Tensor] = {}
        for vector, (dtype, members) in zip(vectors, self._members.items(), strict=True):
            start = 0
            for i in members:
                part = vector if len(members) == 1 else vector[start : start + self._sizes[i]]
                found[i] = _cast(_reshape(part, self._shapes[i]), dtype, self._dtypes[i])
                start += self._sizes[i]
        return [found[i] for i in range(len(self._shapes))]


# What changes nothing is not called: an eager loop would pay for it at every evaluation.
def _reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if tuple(x.shape) == shape else ops.reshape(x, shape)


def _cast(x: Tensor, dtype: str, wanted: str) -> Tensor:
    return x if dtype == wanted else ops.cast(x, wanted)


def _joined(vectors: list[Tensor]) -> Tensor:
    return vectors[0] if len(vectors) == 1 else ops.concatenate(vectors)


class Arguments:
    """The arguments that a function takes beside x: tensors, arrays and real numbers are traced, the rest is as it is.

    Args:
        args: A tuple of nested structures, or one argument.
    """

    def __init__(self, args: Any, real: str) -> None:
        whole = args if isinstance(args, tuple) else (args,)
        leaves, self._rebuild = traces.flatten(whole, lambda leaf: False)
        self._traced = [_is_array(leaf) or isinstance(leaf, float) for leaf in leaves]
        self._others = [None if traced else leaf for leaf, traced in zip(leaves, self._traced, strict=True)]
        found = (leaf for leaf, traced in zip(leaves, self._traced, strict=True) if traced)
        self.tensors = [_detached(leaf, real if isinstance(leaf, float) else None) for leaf in found]

    def pack(self, tensors: Sequence[Tensor]) -> Sequence[Any]:
        """The arguments in their structure, with tensors in place of the traced ones."""
        following = iter(tensors)
        pairs = zip(self._traced, self._others, strict=True)
        return self._rebuild([next(following) if traced else other for traced, other in pairs])


def _is_array(leaf: Any) -> bool:
    """Whether a leaf is a tensor, a variable or an array of numbers."""
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _detached(leaf: Any, dtype: str | None = None) -> Tensor:
    return ops.stop_gradient(ops.convert_to_tensor(leaf, dtype))


def scalar(value: Any) -> Tensor:
    """What `fun` returned, checked."""
    if not ops.is_tensor(value):
        value = ops.convert_to_tensor(value)
    if tuple(value.shape) != () or not _is_floating(value.dtype):
        raise ValueError(
            f"`fun` must return one real number. Received: shape {tuple(value.shape)}, dtype "
            f"{keras.backend.standardize_dtype(value.dtype)}."
        )
    return value


@functools.cache
def _is_floating(dtype: Any) -> bool:
    """Whether a dtype of the backend is a real floating-point one; asked at every evaluation of an eager loop."""
    return "float" in keras.backend.standardize_dtype(dtype)


def _means_a_vector(node: Any) -> bool:
    """Whether a part of x0 is a list of plain numbers."""
    if type(node) not in (list, tuple) or not node:
        return False
    return all(isinstance(leaf, numbers.Real) or _means_a_vector(leaf) for leaf in node)


def _as_tensor(leaf: Any) -> Tensor:
    """One of x0's tensors, of a real floating-point dtype, and not the caller's memory."""
    if isinstance(leaf, list | tuple | int | float) and not isinstance(leaf, bool):
        return ops.convert_to_tensor(leaf, keras.config.floatx())
    tensor = _detached(leaf)
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if "complex" in dtype or dtype == "bool":
        raise ValueError(
            f"`x0` must be real: optimize real and imaginary parts as two tensors. Received: dtype {dtype}."
        )
    if hasattr(leaf, "dtype"):
        warn_if_narrower([(leaf.dtype, dtype)])
    return ops.copy(tensor) if "float" in dtype else ops.cast(tensor, keras.config.floatx())
