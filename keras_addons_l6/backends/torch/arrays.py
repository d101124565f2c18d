"""The operations of `arrays` on torch: tensors there, scalars and small arrays in NumPy."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import torch

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar, Small, rows_at_once, widest

__all__ = ["SHARED", "SharedArrays", "TorchArrays", "arrays_for", "on_host", "pass_in_place", "widest_real"]


class TorchArrays(NumpyArrays):
    """torch's tensors, run eagerly.

    Products are vector by vector and matrix by vector, which no accelerator forms in TF32.
    """

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """As for NumPy, and nothing is recorded for differentiation."""
        stack = contextlib.ExitStack()
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(torch.no_grad())
        return stack

    def local(self, x: Any) -> Small:
        """A small array on the host."""
        return on_host(x)

    def scalars(self, values: Sequence[Tensor]) -> Sequence[Scalar]:
        """Numbers found on tensors, as scalars of dtype `real`, in one transfer."""
        if values[0].is_cpu:
            return tuple(np.array([float(value) for value in values], self.real))
        found = torch.stack([value.to(getattr(torch, self.real)) for value in values])
        return tuple(found.cpu().numpy())

    def zeros(self, shape: Sequence[int], dtype: str) -> Tensor:
        """A tensor of zeros on Keras's device."""
        return keras.ops.zeros(shape, dtype)

    def cast_like(self, x: Tensor, other: Tensor) -> Tensor:
        """A tensor in the dtype of another."""
        return x.to(other.dtype)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of the products of components."""
        return torch.dot(x.reshape(-1), y.reshape(-1))

    def largest(self, x: Tensor) -> Tensor:
        """The largest magnitude of a component; NaN if one is NaN."""
        return torch.linalg.vector_norm(x, float("inf")) if x.numel() else x.sum()

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        """The larger of two numbers found on tensors; NaN if one is."""
        return torch.maximum(x, y)

    def differ(self, x: Tensor, y: Tensor) -> Tensor:
        """1 if some component of x is not that of y, else 0."""
        return (x != y).any()

    def scale(self, factor: Scalar, x: Tensor) -> Tensor:
        """Every component times a scalar, in x's dtype."""
        return x * float(factor)

    def inner(self, ring: Tensor, vectors: Sequence[Tensor]) -> Small:
        """The product of each of k tensors x with each row of a ring of shape (r, *x.shape), shape (k, r)."""
        rows = ring.reshape(len(ring), -1)
        products = torch.stack([torch.mv(rows, x.reshape(-1)) for x in vectors])
        return products.cpu().numpy().astype(self.real, copy=False)

    def combine(self, coefficients: Small, ring: Tensor) -> Tensor:
        """The sum of a ring's rows times their coefficients."""
        weights = torch.from_numpy(coefficients).to(ring)
        return torch.mv(ring.reshape(len(ring), -1).T, weights).reshape(ring.shape[1:])

    def put(self, ring: Tensor, index: Scalar, row: Tensor, keep: Scalar) -> Tensor:
        """The ring with a row replaced if `keep`, in place."""
        if keep:
            ring[int(index)] = row
        return ring

    def flat(self, vectors: Sequence[Tensor]) -> Tensor:
        """A list of tensors as one vector of dtype `real`."""
        return torch.cat([x.reshape(-1).to(getattr(torch, self.real)) for x in vectors])

    def shaped(self, vector: Tensor, like: Sequence[Tensor]) -> Sequence[Tensor]:
        """A vector as a list of tensors with the shapes and dtypes of others."""
        pieces = torch.split(vector, [x.numel() for x in like])
        return tuple(piece.reshape(x.shape).to(x.dtype) for piece, x in zip(pieces, like, strict=True))

    def stacked(self, vectors: Sequence[Tensor]) -> Tensor:
        """Vectors as the rows of a matrix."""
        return torch.stack(list(vectors))

    def _pass_in_place(
        self, matrix: Tensor, vectors: Tensor, weights: Sequence[Scalar], factor: Tensor
    ) -> Tensor:
        return pass_in_place(matrix, vectors, weights, factor)


class SharedArrays(NumpyArrays):
    """NumPy on the memory of torch's tensors: a call costs a third of torch's, and few components need no threads."""

    def local(self, x: Any) -> Small:
        """A small array in NumPy."""
        return on_host(x)

    def view(self, x: Tensor) -> Tensor:
        """A tensor's memory as a NumPy array."""
        return x if isinstance(x, np.ndarray) else x.detach().numpy()

    def given_back(self, before: Tensor, after: Tensor) -> Tensor:
        """A NumPy array where one was given, else its memory as a tensor."""
        return after if isinstance(before, np.ndarray) else self.tensor(after)

    def scalars(self, values: Sequence[Any]) -> Sequence[Scalar]:
        """Numbers, NumPy's or on tensors of any precision, as scalars of dtype `real`."""
        return tuple(map(self._number, map(float, values)))

    def tensor(self, x: Tensor) -> Tensor:
        """A NumPy array's memory as a tensor."""
        return torch.from_numpy(np.asarray(x))  # NumPy makes scalars of arrays without axes

    def _pass_in_place(
        self, matrix: Tensor, vectors: Tensor, weights: Sequence[Scalar], factor: Tensor
    ) -> Tensor:
        """By torch, which needs no second matrix."""
        of_matrix, of_vectors, of_factor = map(torch.from_numpy, (matrix, vectors, factor))
        return pass_in_place(of_matrix, of_vectors, weights, of_factor).numpy()


def pass_in_place(
    matrix: torch.Tensor, vectors: torch.Tensor, weights: Sequence[Scalar], factor: torch.Tensor
) -> torch.Tensor:
    """What `updated_product` does, written into the matrix: the product."""
    scale, identity, *signs = map(float, weights)
    n, product = len(matrix), matrix.new_empty(len(matrix))
    size = rows_at_once(n) if matrix.is_cpu else n
    for start in range(0, n, size):
        rows = slice(start, start + size)
        block = matrix[rows]
        block.mul_(scale) if scale else block.zero_()
        # Not by `addmm`, which adds in another order above the diagonal than below it.
        for sign, vector in zip(signs, vectors, strict=True):
            block.addcmul_(vector[rows, None], vector[None], value=sign)
        if identity:
            block.diagonal(start).add_(identity)
        torch.mv(block, factor, out=product[rows])
    return product


def on_host(x: Any) -> np.ndarray:
    """A tensor, or what is a NumPy array already, in NumPy."""
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x


SHARED = 100_000  # components up to which NumPy's shorter calls gain more than torch's threads


def arrays_for(tensors: Sequence[Tensor]) -> NumpyArrays:
    """The operations for these tensors or variables, with scalars in their widest dtype."""
    real = widest(tensors)
    few = sum(math.prod(x.shape) for x in tensors) <= SHARED
    return SharedArrays(real) if few and all(map(_is_numpy_like, tensors)) else TorchArrays(real)


def widest_real(tensors: Sequence[Tensor]) -> str:
    """The widest dtype that torch has on the tensors' device."""
    return (
        "float32" if any(keras.ops.convert_to_tensor(x).device.type == "mps" for x in tensors) else "float64"
    )


def _is_numpy_like(x: Tensor) -> bool:
    """Whether NumPy can compute in a tensor's memory."""
    native = keras.backend.standardize_dtype(x.dtype) in ("float32", "float64")
    return native and keras.ops.convert_to_tensor(x).device.type == "cpu"
