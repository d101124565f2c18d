"""JAX's own kernels, where they pass the tests of the portable ones.

XLA fuses the portable normalizations into the passes that a kernel by hand would make, so of them only a choice of GroupNorm's is
here.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import layers as portable

__all__ = ["group_norm", "prelu", "selu", "swish"]


def _pick(grouped: Tensor) -> Tensor:
    """`portable.pick` by a maximum."""
    return jnp.max(grouped, axis=2, keepdims=True)


group_norm = functools.partial(portable.group_norm, passes=portable.Passes(pick=_pick))


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
def swish(x: Tensor, beta: Tensor) -> Tensor:
    """`portable.swish`, with slopes of fewer passes: JAX's own come from both sides of each `where`."""
    return portable.swish(x, beta)


def _swish_jvp(primals: tuple[Tensor, Tensor], tangents: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    """With s = sigmoid(g), g = beta x, the slopes are s + g s (1 - s), for x, and x^2 s (1 - s), for beta."""
    x, beta = primals
    z = x.astype(portable.statistics_dtype(x.dtype))
    finite = jnp.clip(z, -jnp.finfo(z.dtype).max, jnp.finfo(z.dtype).max)
    g = finite * beta.astype(z.dtype)
    s = jax.nn.sigmoid(g)
    slope_of_s = s * (1 - s)
    along = jnp.zeros((), z.dtype)
    flat = portable.FLAT_SIGMOID
    if not isinstance(tangents[0], SymbolicZero):
        along += tangents[0].astype(z.dtype) * (s + jnp.clip(g, -flat, flat) * slope_of_s)
    if not isinstance(tangents[1], SymbolicZero):
        along += tangents[1].astype(z.dtype) * (finite * (finite * slope_of_s))
    return swish(x, beta), jnp.broadcast_to(along, x.shape).astype(x.dtype)


swish.defjvp(_swish_jvp, symbolic_zeros=True)


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
