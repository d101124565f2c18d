"""The operations of `arrays` on JAX: as `keras.ops` has them, with products over rings as matrix products."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import KerasArrays, Scalar, Small, rows_at_once, widest

__all__ = ["FULL", "JaxArrays", "arrays_for", "widest_real"]

FULL = jax.lax.Precision.HIGHEST  # else accelerators round float32 factors to bfloat16 or TF32


class JaxArrays(KerasArrays):
    """JAX arrays. A matrix product reads a ring three times as fast as XLA:CPU sums products of its rows."""

    def pack(self, values: Sequence[Scalar], dtype: str) -> Small:
        """A vector of scalars, by selection: of a stack XLA:CPU makes a kernel for each scalar."""
        places = jnp.arange(len(values), dtype="int32")
        vector = jnp.zeros(len(values), dtype)
        for place, value in enumerate(values):
            vector = jnp.where(places == place, jnp.asarray(value, dtype), vector)
        return vector

    def _products(self, ring: Tensor, x: Tensor) -> Tensor:
        """The product of a tensor with each row of a ring, in full precision."""
        return jnp.tensordot(ring, x, axes=x.ndim, precision=FULL)

    def combine(self, coefficients: Small, ring: Tensor) -> Tensor:
        """The sum of a ring's rows times their coefficients, in full precision."""
        return jnp.tensordot(coefficients.astype(ring.dtype), ring, axes=1, precision=FULL)

    def _rows_at_once(self, n: int) -> int:
        return rows_at_once(n) if jax.default_backend() == "cpu" else n

    def _times(self, matrix: Tensor, vector: Tensor) -> Tensor:
        """A matrix times a vector, in full precision."""
        return jnp.dot(matrix, vector, precision=FULL)


def widest_real(tensors: Sequence[Tensor]) -> str:
    """The widest dtype that JAX has: float64 has to be switched on."""
    return "float64" if jax.config.jax_enable_x64 else "float32"


def arrays_for(tensors: Sequence[Tensor]) -> KerasArrays:
    """The operations for these tensors, with scalars in their widest dtype."""
    return JaxArrays(widest(tensors))
