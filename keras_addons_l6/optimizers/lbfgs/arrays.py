"""The array operations that the method is written in: for NumPy, for torch, and for TensorFlow and JAX.

Tensors are as large as a parameter. Scalars and the small matrices of the history are few: torch runs them in NumPy on the
host, since its loop decides there anyway and each operation of its own costs more than the arithmetic;
TensorFlow and JAX keep them in the compiled program.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

Tensor = Any
Scalar = Any
Small = Any  # a vector or matrix with `history_size` rows


class NumpyArrays:
    """NumPy arrays, and Python's own branches.

    Args:
        real: dtype of the scalars, "float32" or "float64".
    """

    small: Any = np  # where, concatenate, stack, take, arange, matmul, sqrt of small arrays

    def __init__(self, real: str) -> None:
        self.real = real
        self.unit_roundoff = float(np.finfo(real).eps) / 2

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """What a step runs under: trials that overflow are part of the method, not worth a warning."""
        return np.errstate(all="ignore")

    def select(self, condition: Scalar, yes: Scalar, no: Scalar) -> Scalar:
        """One of two scalars."""
        return yes if condition else no

    def isfinite(self, x: Scalar) -> Scalar:
        """Whether a scalar is neither infinite nor NaN."""
        return np.isfinite(x)

    def pack(self, values: Sequence[Scalar], dtype: str) -> Small:
        """One vector of scalars."""
        return np.array(values, dtype)

    def unpack(self, vector: Small, length: int) -> Sequence[Scalar]:
        """The scalars of a vector."""
        return tuple(self.local(vector))

    def local(self, x: Any) -> Small:
        """A small array where its arithmetic is done, from where variables keep it."""
        return x

    def solve_triangular(self, matrix: Small, vector: Small, lower: bool) -> Small:
        """The solution x of matrix x = vector."""
        return np.linalg.solve(matrix, vector)

    def cond(self, condition: Scalar, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """The result of one of two functions; the other does not run."""
        return yes() if condition else no()

    def scalars(self, values: Sequence[Tensor]) -> Sequence[Scalar]:
        """Numbers found on tensors as scalars to decide with, in one transfer; real ones in dtype `real`."""
        return tuple(np.array(values, self.real))

    def zeros(self, shape: Sequence[int], dtype: str) -> Tensor:
        """A tensor of zeros."""
        return np.zeros(shape, dtype)

    def dtype(self, x: Tensor) -> str:
        """Name of a tensor's dtype."""
        return str(x.dtype)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """A tensor in another dtype."""
        return np.asarray(x, dtype)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """x'y."""
        return np.vdot(x, y).astype(self.real)

    def largest(self, x: Tensor) -> Tensor:
        """Largest magnitude among the components."""
        return np.max(np.abs(x), initial=0).astype(self.real)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        """The larger component of each pair; NaN if one is."""
        return np.maximum(x, y)

    def differ(self, x: Tensor, y: Tensor) -> Tensor:
        """1 if some component of x is not y's, else 0."""
        return np.any(x != y).astype(self.real)

    def scale(self, step: Scalar, direction: Tensor) -> Tensor:
        """step * direction."""
        return direction.dtype.type(step) * direction

    def inner(self, history: Tensor, x: Tensor) -> Small:
        """Each row's product with x, shape (m,)."""
        return (history.reshape(len(history), -1) @ x.reshape(-1)).astype(self.real)

    def combine(self, coefficients: Small, history: Tensor) -> Tensor:
        """The sum of the rows times their coefficients."""
        rows = history.reshape(len(history), -1)
        return (coefficients.astype(rows.dtype) @ rows).reshape(history.shape[1:])

    def put(self, history: Tensor, slot: Scalar, row: Tensor, keep: Scalar) -> Tensor:
        """The history with row `slot` replaced if `keep`, in place where that is possible."""
        if keep:
            history[slot] = row
        return history


class KerasArrays(NumpyArrays):
    """Tensors of TensorFlow and JAX, by `keras.ops`: the one Keras name here, for it is one text for both."""

    small: Any = keras.ops

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Nothing: compiled arithmetic does not warn."""
        return contextlib.nullcontext()

    def select(self, condition: Scalar, yes: Scalar, no: Scalar) -> Scalar:
        """One of two scalars."""
        return keras.ops.where(condition, self._typed(yes), self._typed(no))

    def _typed(self, x: Scalar) -> Scalar:
        """Python's own numbers in the dtype of the rest; TensorFlow converts none itself."""
        if isinstance(x, float):
            return keras.ops.convert_to_tensor(x, self.real)
        return keras.ops.convert_to_tensor(x, "int32") if type(x) is int else x

    def isfinite(self, x: Scalar) -> Scalar:
        """Whether a scalar is neither infinite nor NaN."""
        return keras.ops.isfinite(x)

    def pack(self, values: Sequence[Scalar], dtype: str) -> Small:
        """One vector of scalars."""
        return keras.ops.stack([keras.ops.cast(value, dtype) for value in values])

    def unpack(self, vector: Small, length: int) -> Sequence[Scalar]:
        """The scalars of a vector."""
        return tuple(vector[i] for i in range(length))

    def solve_triangular(self, matrix: Small, vector: Small, lower: bool) -> Small:
        """The solution x of matrix x = vector."""
        return keras.ops.solve_triangular(matrix, vector, lower=lower)

    def cond(self, condition: Scalar, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """The result of one of two functions; the other does not run."""
        return keras.ops.cond(condition, yes, no)

    def scalars(self, values: Sequence[Tensor]) -> Sequence[Scalar]:
        """Numbers found on tensors as scalars to decide with."""
        return tuple(values)

    def zeros(self, shape: Sequence[int], dtype: str) -> Tensor:
        """A tensor of zeros."""
        return keras.ops.zeros(shape, dtype)

    def dtype(self, x: Tensor) -> str:
        """Name of a tensor's dtype."""
        return keras.backend.standardize_dtype(x.dtype)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """A tensor in another dtype."""
        return keras.ops.cast(x, dtype)

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """x'y: multiplied and summed, which no accelerator does in TF32 or bfloat16."""
        return keras.ops.cast(keras.ops.sum(x * y), self.real)

    def largest(self, x: Tensor) -> Tensor:
        """Largest magnitude among the components."""
        return keras.ops.cast(keras.ops.max(keras.ops.abs(x), initial=0), self.real)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        """The larger component of each pair; NaN if one is."""
        return keras.ops.maximum(x, y)

    def differ(self, x: Tensor, y: Tensor) -> Tensor:
        """1 if some component of x is not y's, else 0."""
        return keras.ops.cast(keras.ops.any(x != y), self.real)

    def scale(self, step: Scalar, direction: Tensor) -> Tensor:
        """step * direction."""
        return keras.ops.cast(step, direction.dtype) * direction

    def inner(self, history: Tensor, x: Tensor) -> Small:
        """Each row's product with x, shape (m,)."""
        rows = tuple(range(1, len(history.shape)))
        return keras.ops.cast(keras.ops.sum(history * x, axis=rows), self.real)

    def combine(self, coefficients: Small, history: Tensor) -> Tensor:
        """The sum of the rows times their coefficients."""
        weights = keras.ops.reshape(coefficients, (-1,) + (1,) * (len(history.shape) - 1))
        return keras.ops.sum(keras.ops.cast(weights, history.dtype) * history, axis=0)

    def put(self, history: Tensor, slot: Scalar, row: Tensor, keep: Scalar) -> Tensor:
        """The history with row `slot` replaced if `keep`; XLA does it in place."""
        zero = keras.ops.zeros_like(slot)
        start = (slot,) + (zero,) * (len(history.shape) - 1)
        old = keras.ops.slice(history, start, (1, *history.shape[1:]))
        return keras.ops.slice_update(history, start, keras.ops.where(keep, row[None], old))


class TorchArrays(NumpyArrays):
    """Tensors of torch; their scalars in NumPy, fetched once for each decision."""

    def __init__(self, real: str) -> None:
        import torch

        super().__init__(real)
        self.torch = torch

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """As for NumPy, and nothing is recorded for differentiation."""
        stack = contextlib.ExitStack()
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(self.torch.no_grad())
        return stack

    def scalars(self, values: Sequence[Tensor]) -> Sequence[Scalar]:
        """Numbers found on tensors as scalars to decide with, in one transfer; real ones in dtype `real`."""
        like = next(value for value in values if isinstance(value, self.torch.Tensor))
        found = self.torch.stack(
            [self.torch.as_tensor(v, dtype=self._real, device=like.device) for v in values]
        )
        return tuple(found.cpu().numpy())

    def local(self, x: Any) -> Small:
        """A small array on the host, from where variables keep it."""
        return x.detach().cpu().numpy() if isinstance(x, self.torch.Tensor) else x

    @property
    def _real(self) -> Any:
        return getattr(self.torch, self.real)

    def zeros(self, shape: Sequence[int], dtype: str) -> Tensor:
        """A tensor of zeros on Keras's device."""
        return keras.ops.zeros(shape, dtype)

    def dtype(self, x: Tensor) -> str:
        """Name of a tensor's dtype."""
        return str(x.dtype).removeprefix("torch.")

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """A tensor in another dtype."""
        return x.to(getattr(self.torch, dtype))

    def dot(self, x: Tensor, y: Tensor) -> Tensor:
        """x'y: multiplied and summed, which no accelerator does in TF32 or bfloat16."""
        return self.torch.dot(x.reshape(-1), y.reshape(-1)).to(self._real)

    def largest(self, x: Tensor) -> Tensor:
        """Largest magnitude among the components."""
        return x.abs().max().to(self._real)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        """The larger component of each pair; NaN if one is."""
        return self.torch.maximum(x, y)

    def differ(self, x: Tensor, y: Tensor) -> Tensor:
        """1 if some component of x is not y's, else 0."""
        return (x != y).any().to(self._real)

    def scale(self, step: Scalar, direction: Tensor) -> Tensor:
        """step * direction."""
        return direction * float(step)

    def inner(self, history: Tensor, x: Tensor) -> Small:
        """Each row's product with x, shape (m,)."""
        products = history.reshape(len(history), -1) @ x.reshape(-1)
        return products.to(self._real).cpu().numpy()

    def combine(self, coefficients: Small, history: Tensor) -> Tensor:
        """The sum of the rows times their coefficients."""
        weights = self.torch.as_tensor(coefficients).to(history)
        return (weights @ history.reshape(len(history), -1)).reshape(history.shape[1:])

    def put(self, history: Tensor, slot: Scalar, row: Tensor, keep: Scalar) -> Tensor:
        """The history with row `slot` replaced if `keep`, in place."""
        if keep:
            history[int(slot)] = row
        return history


def arrays_for(parameters: Sequence[Tensor]) -> NumpyArrays:
    """The operations for tensors of Keras's backend, with scalars in the widest dtype among them, at least float32."""
    wide = any(keras.backend.standardize_dtype(x.dtype) == "float64" for x in parameters)
    kind = TorchArrays if keras.backend.backend() == "torch" else KerasArrays
    return kind("float64" if wide else "float32")
