"""The array operations that L-BFGS is written in, for NumPy and for `keras.ops`.

Tensors are as large as a parameter. Scalars and the small matrices of the history are few: compiled backends keep
them in the program; an eager one works on them in NumPy on the host, where its loop decides anyway and where
arithmetic costs less than a call to the backend. `arrays_for` picks, and a backend's `arrays.py` has its own.
"""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import keras
import numpy as np

from keras_addons_l6.backends.portable import Tensor

__all__ = [
    "Count",
    "KerasArrays",
    "NumpyArrays",
    "Real",
    "Scalar",
    "Small",
    "arrays_for",
    "rows_at_once",
    "widest",
    "widest_real",
]

Scalar = Any
Real = Annotated[Scalar, float]  # what a record's field holds, which decides where the record is packed
Count = Annotated[Scalar, int]
Small = Any  # a vector or matrix with as many rows as the history


class NumpyArrays:
    """NumPy for tensors, small arrays and scalars; decisions are Python's.

    Args:
        real: The dtype of scalars and small arrays, "float32" or "float64".
    """

    small: Any = np  # the namespace of small arrays and of scalars

    def __init__(self, real: str) -> None:
        self.real = real
        self._number = np.dtype(real).type
        self.unit_roundoff = float(np.finfo(real).eps) / 2

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """What a step runs in: trials that overflow are part of the method, not worth a warning."""
        return np.errstate(all="ignore")

    def select(self, condition: Scalar, yes: Any, no: Any) -> Any:
        """One of two scalars or tensors."""
        return yes if condition else no

    def cond(self, condition: Scalar, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """The result of one of two functions; the other does not run."""
        return yes() if condition else no()

    def either(
        self, condition: Scalar, yes: Callable[[], Sequence[Scalar]], no: Callable[[], Sequence[Scalar]]
    ) -> Sequence[Scalar]:
        """The scalars of one of two functions; without a branch in a compiled program, where both are cheap."""
        return yes() if condition else no()

    def local(self, x: Any) -> Small:
        """A small array where small arrays are worked on, from wherever a variable keeps it."""
        return x

    def view(self, x: Tensor) -> Tensor:
        """A tensor of the caller's as the operations here take it."""
        return x

    def tensor(self, x: Tensor) -> Tensor:
        """A tensor from here as the caller takes it."""
        return x

    def given_back(self, before: Tensor, after: Tensor) -> Tensor:
        """A tensor from here in the kind of the one that the caller gave."""
        return after

    def written(self, before: Tensor, after: Tensor) -> Tensor:
        """A ring of the caller's after `put`: itself where that writes in place."""
        return before

    def pack(self, values: Sequence[Scalar], dtype: str) -> Small:
        """A vector of scalars."""
        return np.array(values, dtype)

    def row(self, values: Sequence[Scalar], dtype: str) -> Any:
        """Scalars as a loop carries them from step to step: a vector where it is compiled, else a tuple."""
        return tuple(map(np.dtype(dtype).type, values))

    def packed(self, row: Any, dtype: str) -> Small:
        """A vector of scalars from `row`."""
        return self.pack(row, dtype)

    def unpack(self, vector: Small, length: int) -> Sequence[Scalar]:
        """The scalars of a vector of that length, or of a row."""
        return vector if isinstance(vector, tuple) else tuple(self.local(vector))

    def scalars(self, values: Sequence[Tensor]) -> Sequence[Scalar]:
        """Numbers found on tensors, as scalars of dtype `real`, in one transfer."""
        return tuple(map(self._number, values))

    def isfinite(self, x: Scalar) -> Scalar:
        """Whether a scalar is neither infinite nor NaN."""
        return math.isfinite(x)

    def smaller(self, x: Scalar, y: Scalar) -> Scalar:
        """The smaller of two scalars that are not NaN."""
        return x if x < y else y

    def larger(self, x: Scalar, y: Scalar) -> Scalar:
        """The larger of two scalars that are not NaN."""
        return x if x > y else y

    def stack(self, arrays: Sequence[Any]) -> Small:
        """Small arrays, in a nest of lists, as one."""
        return np.array(arrays)

    def component(self, x: Small, index: Scalar) -> Scalar:
        """A component of a small vector."""
        return x[index]

    def product(self, matrix: Small, vector: Small) -> Small:
        """A small matrix times a vector."""
        return matrix @ vector

    def crossed(self, matrix: Small, index: Scalar, row: Small, column: Small, corner: Scalar) -> Small:
        """The small matrix with row and column `index` replaced, and the component where they cross."""
        other = matrix.copy()
        other[index], other[:, index], other[index, index] = row, column, corner
        return other

    def zeros(self, shape: Sequence[int], dtype: str) -> Tensor:
        """A tensor of zeros."""
        return np.zeros(shape, dtype)

    def dtype(self, x: Tensor) -> str:
        """The name of a tensor's dtype."""
        return keras.backend.standardize_dtype(x.dtype)

    def cast_like(self, x: Tensor, other: Tensor) -> Tensor:
        """A tensor in the dtype of another."""
        return x.astype(other.dtype, copy=False)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of the products of components."""
        return np.vdot(x, y)

    def largest(self, x: Tensor) -> Tensor:
        """The largest magnitude of a component; NaN if one is NaN."""
        return np.maximum.reduce(np.abs(x), axis=None, initial=0)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        """The larger of two numbers found on tensors; NaN if one is."""
        return np.maximum(x, y)

    def differ(self, x: Tensor, y: Tensor) -> Tensor:
        """1 if some component of x is not that of y, else 0."""
        return (x != y).any()

    def scale(self, factor: Scalar, x: Tensor) -> Tensor:
        """Every component times a scalar, in x's dtype."""
        return x.dtype.type(factor) * x

    def inner(self, ring: Tensor, vectors: Sequence[Tensor]) -> Small:
        """The product of each of k tensors x with each row of a ring of shape (r, *x.shape), shape (k, r)."""
        rows = ring.reshape(len(ring), -1)
        return (np.array([x.reshape(-1) for x in vectors]) @ rows.T).astype(self.real, copy=False)

    def combine(self, coefficients: Small, ring: Tensor) -> Tensor:
        """The sum of a ring's rows times their coefficients."""
        weights = coefficients.astype(ring.dtype, copy=False)
        return (weights @ ring.reshape(len(ring), -1)).reshape(ring.shape[1:])

    def put(self, ring: Tensor, index: Scalar, row: Tensor, keep: Scalar) -> Tensor:
        """The ring with a row replaced if `keep`, in place where that is possible."""
        if keep:
            ring[index] = row
        return ring

    def with_real(self, real: str) -> "NumpyArrays":
        """The operations with scalars and small arrays of another dtype."""
        return self if real == self.real else type(self)(real)

    def flat(self, vectors: Sequence[Tensor]) -> Tensor:
        """A list of tensors as one vector of dtype `real`."""
        return np.concatenate([x.reshape(-1).astype(self.real, copy=False) for x in vectors])

    def shaped(self, vector: Tensor, like: Sequence[Tensor]) -> Sequence[Tensor]:
        """A vector as a list of tensors with the shapes and dtypes of others."""
        pieces = zip(_cuts(like), like, strict=True)
        return tuple(vector[a:b].reshape(x.shape).astype(x.dtype) for (a, b), x in pieces)

    def stacked(self, vectors: Sequence[Tensor]) -> Tensor:
        """Vectors as the rows of a matrix."""
        return np.stack(vectors)

    def updated_product(
        self,
        matrix: Tensor,
        vectors: Tensor,
        weights: Sequence[Scalar],
        factor: Tensor,
        wanted: Scalar,
    ) -> tuple[Tensor, Tensor]:
        """A matrix after a symmetric update of low rank, and its product with a vector, in one pass over memory.

        Args:
            matrix: (n, n), written in place where that is possible.
            vectors: (k, n).
            weights: c, e and k signs: the matrix becomes c matrix + e I + the sum of sign vector vector'; what it
                holds does not count where c is 0.
            factor: The vector that the new matrix is multiplied by.
            wanted: Whether to do it; else the matrix stays, and the product means nothing.
        """
        if not wanted:
            return matrix, factor
        return matrix, self._pass_in_place(matrix, vectors, weights, factor)

    def _pass_in_place(
        self, matrix: Tensor, vectors: Tensor, weights: Sequence[Scalar], factor: Tensor
    ) -> Tensor:
        """What `updated_product` does, written into the matrix: the product."""
        scale, identity, *signs = weights
        left = (vectors * np.array(signs, vectors.dtype)[:, None]).T
        n, product = len(matrix), np.empty(len(matrix), matrix.dtype)
        for start in range(0, n, rows_at_once(n)):
            rows = slice(start, start + rows_at_once(n))
            block = left[rows] @ vectors
            block += scale * matrix[rows] if scale != 0 else 0
            block[np.arange(len(block)), np.arange(len(block)) + start] += identity
            matrix[rows] = block
            product[rows] = block @ factor
        return product


BLOCK = 2**18  # numbers of a matrix that are worked on at a time: they stay in a core's cache


def rows_at_once(n: int) -> int:
    """How many rows of n numbers make a block."""
    return max(1, min(n, BLOCK // max(n, 1)))


def _cuts(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Where each tensor begins and ends in the vector of all."""
    ends = list(itertools.accumulate(math.prod(x.shape) for x in tensors))
    return list(zip([0, *ends], ends, strict=False))


class KerasArrays(NumpyArrays):
    """`keras.ops` for everything; a compiled program decides."""

    small: Any = keras.ops

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Nothing: compiled arithmetic does not warn."""
        return contextlib.nullcontext()

    def select(self, condition: Scalar, yes: Any, no: Any) -> Any:
        """One of two scalars or tensors."""
        return keras.ops.where(condition, self._typed(yes), self._typed(no))

    def _typed(self, x: Any) -> Any:
        """Python's own numbers in the dtypes of scalars; `where` would give them Keras's floatx."""
        if isinstance(x, float):
            return keras.ops.convert_to_tensor(x, self.real)
        return keras.ops.convert_to_tensor(x, "int32") if type(x) is int else x

    def cond(self, condition: Scalar, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """The result of one of two functions; the other does not run."""
        return keras.ops.cond(condition, yes, no)

    def either(
        self, condition: Scalar, yes: Callable[[], Sequence[Scalar]], no: Callable[[], Sequence[Scalar]]
    ) -> Sequence[Scalar]:
        """The scalars of one of two functions, both of which run."""
        return [self.select(condition, a, b) for a, b in zip(yes(), no(), strict=True)]

    def written(self, before: Tensor, after: Tensor) -> Tensor:
        """A ring of the caller's after `put`."""
        return after

    def pack(self, values: Sequence[Scalar], dtype: str) -> Small:
        """A vector of scalars."""
        return keras.ops.stack([keras.ops.cast(value, dtype) for value in values])

    def row(self, values: Sequence[Scalar], dtype: str) -> Any:
        """Scalars as a loop carries them from step to step: a vector."""
        return self.pack(values, dtype)

    def packed(self, row: Any, dtype: str) -> Small:
        """A vector of scalars from `row`."""
        return row

    def unpack(self, vector: Small, length: int) -> Sequence[Scalar]:
        """The scalars of a vector of that length."""
        return tuple(vector[i] for i in range(length))

    def scalars(self, values: Sequence[Tensor]) -> Sequence[Scalar]:
        """Numbers found on tensors, as they are."""
        return tuple(keras.ops.cast(value, self.real) for value in values)

    def isfinite(self, x: Scalar) -> Scalar:
        """Whether a scalar is neither infinite nor NaN."""
        return keras.ops.isfinite(x)

    def smaller(self, x: Scalar, y: Scalar) -> Scalar:
        """The smaller of two scalars that are not NaN."""
        return keras.ops.minimum(x, y)

    def larger(self, x: Scalar, y: Scalar) -> Scalar:
        """The larger of two scalars that are not NaN."""
        return keras.ops.maximum(x, y)

    def stack(self, arrays: Sequence[Any]) -> Small:
        """Small arrays, in a nest of lists, as one."""
        return keras.ops.stack([self.stack(a) if isinstance(a, list) else a for a in arrays])

    def component(self, x: Small, index: Scalar) -> Scalar:
        """A component of a small vector."""
        return keras.ops.sum(keras.ops.where(_indices(x.shape[0]) == index, x, 0))

    def product(self, matrix: Small, vector: Small) -> Small:
        """A small matrix times a vector, which no accelerator forms in TF32 or bfloat16."""
        return keras.ops.sum(matrix * vector, axis=-1)

    def crossed(self, matrix: Small, index: Scalar, row: Small, column: Small, corner: Scalar) -> Small:
        """The small matrix with row and column `index` replaced, and the component where they cross."""
        here = _indices(matrix.shape[0]) == index
        column = keras.ops.where(here, corner, column)
        return keras.ops.where(here, column[:, None], keras.ops.where(here[:, None], row, matrix))

    def zeros(self, shape: Sequence[int], dtype: str) -> Tensor:
        """A tensor of zeros."""
        return keras.ops.zeros(shape, dtype)

    def cast_like(self, x: Tensor, other: Tensor) -> Tensor:
        """A tensor in the dtype of another."""
        return keras.ops.cast(x, other.dtype)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of the products of components, which no accelerator forms in TF32 or bfloat16."""
        return keras.ops.cast(keras.ops.sum(x * y), self.real)

    def largest(self, x: Tensor) -> Tensor:
        """The largest magnitude of a component, as a number of dtype `real`."""
        return keras.ops.cast(keras.ops.max(keras.ops.abs(x), initial=0), self.real)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        """The larger of two numbers found on tensors."""
        return keras.ops.maximum(x, y)

    def differ(self, x: Tensor, y: Tensor) -> Tensor:
        """1 if some component of x is not that of y, else 0, as a number of dtype `real`."""
        return keras.ops.cast(keras.ops.any(x != y), self.real)

    def scale(self, factor: Scalar, x: Tensor) -> Tensor:
        """Every component times a scalar, in x's dtype."""
        return keras.ops.cast(factor, x.dtype) * x

    def inner(self, ring: Tensor, vectors: Sequence[Tensor]) -> Small:
        """The product of each of k tensors x with each row of a ring of shape (r, *x.shape), shape (k, r)."""
        return keras.ops.stack([keras.ops.cast(self._products(ring, x), self.real) for x in vectors])

    def _products(self, ring: Tensor, x: Tensor) -> Tensor:
        """The product of a tensor with each row of a ring, multiplied and summed as in `dot`."""
        return keras.ops.sum(ring * x, axis=tuple(range(1, len(ring.shape))))

    def combine(self, coefficients: Small, ring: Tensor) -> Tensor:
        """The sum of a ring's rows times their coefficients, multiplied and summed as in `dot`."""
        weights = keras.ops.reshape(coefficients, (-1,) + (1,) * (len(ring.shape) - 1))
        return keras.ops.sum(keras.ops.cast(weights, ring.dtype) * ring, axis=0)

    def put(self, ring: Tensor, index: Scalar, row: Tensor, keep: Scalar) -> Tensor:
        """The ring with a row replaced if `keep`; XLA does it in place."""
        start = (index,) + (keras.ops.zeros_like(index),) * (len(ring.shape) - 1)
        old = keras.ops.slice(ring, start, (1, *ring.shape[1:]))
        return keras.ops.slice_update(ring, start, keras.ops.where(keep, row[None], old))

    def flat(self, vectors: Sequence[Tensor]) -> Tensor:
        """A list of tensors as one vector of dtype `real`."""
        return keras.ops.concatenate(
            [keras.ops.cast(keras.ops.reshape(x, (-1,)), self.real) for x in vectors]
        )

    def shaped(self, vector: Tensor, like: Sequence[Tensor]) -> Sequence[Tensor]:
        """A vector as a list of tensors with the shapes and dtypes of others."""
        pieces = zip(_cuts(like), like, strict=True)
        return tuple(self.cast_like(keras.ops.reshape(vector[a:b], x.shape), x) for (a, b), x in pieces)

    def stacked(self, vectors: Sequence[Tensor]) -> Tensor:
        """Vectors as the rows of a matrix."""
        return keras.ops.stack(vectors)

    def updated_product(
        self,
        matrix: Tensor,
        vectors: Tensor,
        weights: Sequence[Scalar],
        factor: Tensor,
        wanted: Scalar,
    ) -> tuple[Tensor, Tensor]:
        """A matrix after an update of low rank, and its product with a vector; XLA writes it in place, block by block.

        Only the blocks are touched: a branch, or a second use of the matrix, would make XLA copy it at each step.
        """
        n = matrix.shape[0]
        rows = self._rows_at_once(n)
        carried = matrix, keras.ops.zeros_like(factor)

        def blocks(
            first: int, length: int, count: int, carried: tuple[Tensor, Tensor]
        ) -> tuple[Tensor, Tensor]:
            def body(i: Scalar, carried: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
                return self._updated_block(first + i * length, length, vectors, weights, factor, carried)

            wanted_count = keras.ops.where(wanted, *(self._typed(k) for k in (count, 0)))
            return keras.ops.fori_loop(0, wanted_count, body, carried)

        carried = blocks(0, rows, n // rows, carried)
        return blocks(n - n % rows, n % rows, 1, carried) if n % rows else carried

    def _rows_at_once(self, n: int) -> int:
        return rows_at_once(n)

    def _updated_block(
        self,
        at: Scalar,
        length: int,
        vectors: Tensor,
        weights: Sequence[Scalar],
        factor: Tensor,
        carried: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """What `updated_product` does to `length` rows from row `at`."""
        ops = keras.ops
        matrix, product = carried
        scale, identity, *signs = weights
        n, zero = matrix.shape[0], ops.zeros_like(at)
        block = self._rows(matrix, at, length)
        mine = ops.slice(vectors, (zero, at), (vectors.shape[0], length))
        block = ops.where(scale == 0, ops.zeros_like(block), scale * block)
        is_diagonal = _indices(n)[None, :] - _indices(length)[:, None] == at
        block = block + ops.where(is_diagonal, identity, ops.zeros_like(identity))
        for k, sign in enumerate(signs):
            block = block + (sign * mine[k])[:, None] * vectors[k][None, :]
        product = ops.slice_update(product, (at,), self._times(block, factor))
        return ops.slice_update(matrix, (at, zero), block), product

    def _rows(self, matrix: Tensor, at: Scalar, length: int) -> Tensor:
        """So many rows of a matrix, from row `at`."""
        return keras.ops.slice(matrix, (at, keras.ops.zeros_like(at)), (length, matrix.shape[1]))

    def _times(self, matrix: Tensor, vector: Tensor) -> Tensor:
        """A matrix times a vector, multiplied and summed as in `dot`."""
        return keras.ops.sum(matrix * vector, axis=-1)


@functools.cache
def _indices(length: int) -> np.ndarray:
    return np.arange(length, dtype="int32")


def widest(tensors: Sequence[Tensor]) -> str:
    """The widest dtype of the tensors, at least float32: that of scalars."""
    wide = any(keras.backend.standardize_dtype(x.dtype) == "float64" for x in tensors)
    return "float64" if wide else "float32"


def widest_real(tensors: Sequence[Tensor]) -> str:
    """The widest dtype that the backend has where the tensors are."""
    return "float64"


def arrays_for(tensors: Sequence[Tensor]) -> NumpyArrays:
    """The operations for these tensors, with scalars in their widest dtype."""
    return KerasArrays(widest(tensors))
