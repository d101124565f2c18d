"""JAX's own kernels, where they pass the tests of the portable ones.

XLA fuses the portable normalizations into the passes that a kernel by hand would make, so only activations are here.
"""

import jax
import jax.numpy as jnp

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import layers as portable

__all__ = ["prelu", "selu"]


def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """`portable.prelu`, whose `where` XLA:CPU computes one by one for 32 channels: it unrolls so short a loop."""
    z = x.astype(portable.statistics_dtype(x.dtype))
    return (jax.nn.relu(z) + alpha.astype(z.dtype) * _negative_part(z)).astype(x.dtype)


@jax.custom_jvp
def _negative_part(x: Tensor) -> Tensor:
    """min(0, x), with slope 1 at 0; JAX's own is 1/2 there."""
    return jnp.minimum(x, 0)


@_negative_part.defjvp
def _negative_part_jvp(primals: tuple[Tensor], tangents: tuple[Tensor]) -> tuple[Tensor, Tensor]:
    (x,), (tangent,) = primals, tangents
    return _negative_part(x), jnp.where(x > 0, jnp.zeros_like(tangent), tangent)


@jax.custom_jvp
def selu(x: Tensor) -> Tensor:
    """`portable.selu`, whose derivative JAX would take as expm1(x) + 1, which is 0 from x = -17 down."""
    return portable.selu(x)


@selu.defjvp
def _selu_jvp(primals: tuple[Tensor], tangents: tuple[Tensor]) -> tuple[Tensor, Tensor]:
    (x,), (tangent,) = primals, tangents
    z = x.astype(portable.statistics_dtype(x.dtype))
    positive = z > 0
    slope = jnp.where(positive, 1.0, portable.SELU_ALPHA * jnp.exp(jnp.where(positive, 0.0, z)))
    return selu(x), (portable.SELU_SCALE * slope * tangent.astype(z.dtype)).astype(x.dtype)
