"""The operations of `arrays` on JAX: as `keras.ops` has them, with products over rings as matrix products."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import KerasArrays, Scalar, Small, widest

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

    def updated_product(
        self,
        matrix: Tensor,
        vectors: Tensor,
        weights: Sequence[Scalar],
        factor: Tensor,
        wanted: Scalar,
    ) -> tuple[Tensor, Tensor]:
        """A matrix after an update of low rank, and its product with a vector; XLA writes it in place, all rows at once.

        XLA:CPU updates a matrix in place on all cores, but writes a block's rows into one on a single core. A loop of
        one round or none is what XLA neither computes unasked, as it does a selection, nor copies a matrix for, as it
        does for a branch. A barrier with the round's number keeps XLA from taking outer products out of the loop, as
        matrices.
        """
        scale, identity, *signs = weights
        places = jnp.arange(matrix.shape[0], dtype="int32")
        begins = wanted & (scale == 0)
        scale = jnp.where(begins, 1.0, scale)

        def begin(i: Scalar, matrix: Tensor) -> Tensor:
            rows, e, zero = jax.lax.optimization_barrier((places + i, identity, 0 * scale))
            return jnp.where(rows[:, None] == places, e, zero)

        def update(i: Scalar, carried: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            signed = [sign * vector for sign, vector in zip(signs, vectors, strict=True)]
            left, right, _ = jax.lax.optimization_barrier((signed, list(vectors), i))
            new = scale * carried[0]
            for column, row in zip(left, right, strict=True):
                new = new + column[:, None] * row
            return new, jnp.dot(new, factor, precision=FULL)

        matrix = jax.lax.fori_loop(0, jnp.where(begins, 1, 0), begin, matrix)
        return jax.lax.fori_loop(0, jnp.where(wanted, 1, 0), update, (matrix, jnp.zeros_like(factor)))


def widest_real(tensors: Sequence[Tensor]) -> str:
    """The widest dtype that JAX has: float64 has to be switched on."""
    return "float64" if jax.config.jax_enable_x64 else "float32"


def arrays_for(tensors: Sequence[Tensor]) -> KerasArrays:
    """The operations for these tensors, with scalars in their widest dtype."""
    return JaxArrays(widest(tensors))
