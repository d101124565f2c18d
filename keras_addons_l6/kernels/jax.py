"""JAX's own kernels, where they pass the tests of the portable ones.

XLA fuses the portable normalizations into the passes that a kernel by hand would make, so only SELU is here.
"""

import jax
import jax.numpy as jnp

from keras_addons_l6.kernels import portable
from keras_addons_l6.kernels.portable import Tensor


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
