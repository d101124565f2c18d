"""TensorFlow's resource kernels under the rules' formulas: one pass over memory, in place.

Each function takes the rule's scalars, constants as numbers, others as tensors of the variables' dtype, and
gives a function of the gradient and the handles of a variable and its slots: what depends on no variable is
computed once a step.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_addons_l6.backends.portable import Tensor

__all__ = ["KERNELS", "Apply", "Kernel", "survives_rounding"]

Apply = Callable[..., None]  # of a gradient, and a variable's and its slots' resource tensors

# How far a kernel's 1 - b, taken from a b rounded to float32, may be from the formula's: half a unit in the last place
# below 1, of the 1 - 0.999 that is usual.
ROUNDING = 2.0**-25 / 0.001


def adam(*, a: Tensor, b1: float, b2: float, c1: Tensor, c2: Tensor, eps: float) -> Apply:
    """Adam, as x - a sqrt(c2)/c1 m / (sqrt(v) + eps sqrt(c2)), as in Kingma & Ba, section 2.

    The kernel rounds b1 and b2 to the dtype and takes 1 - b2 from that: v is the mean square of a b2 off
    by up to 3e-8 in float32, and the corrections are those of this b2.
    """
    correction = tf.sqrt(_correction_of_rounded(b2, c2))
    scalars = {
        "beta1_power": tf.zeros_like(c1),  # its own corrections come to 1: they are in lr and epsilon
        "beta2_power": tf.zeros_like(c1),
        "lr": a * correction / _correction_of_rounded(b1, c1),
        "beta1": tf.constant(b1, c1.dtype),
        "beta2": tf.constant(b2, c1.dtype),
        "epsilon": eps * correction,
    }
    return lambda g, x, m, v: tf.raw_ops.ResourceApplyAdam(var=x, m=m, v=v, grad=g, **scalars)


def _correction_of_rounded(b: float, c: Tensor) -> Tensor:
    """1 - r^t, where c is 1 - b^t and r is b rounded to the dtype of c."""
    rounded = _rounded(b, c.dtype)
    if rounded == b:
        return c
    if rounded == 0:
        return tf.ones_like(c)
    return -tf.math.expm1(tf.math.log1p(-c) * (math.log(rounded) / math.log(b)))


def _rounded(b: float, dtype: tf.DType) -> float:
    return float(dtype.as_numpy_dtype(b))


def survives_rounding(b: float, dtype: tf.DType) -> bool:
    """Whether a mean with this decay is still itself when a kernel takes 1 - b from b rounded to the dtype.

    1 - 1e-8 is 1 in float32: the mean would stay at its start for good, and its correction be 1 - 1.
    """
    return abs(b - _rounded(b, dtype)) <= ROUNDING * (1 - b)


def adagrad(*, a: Tensor, eps: float) -> Apply:
    """AdaGrad."""
    return lambda g, x, s: tf.raw_ops.ResourceApplyAdagradV2(var=x, accum=s, lr=a, epsilon=eps, grad=g)


def nesterov(*, a: Tensor, m: float) -> Apply:
    """Nesterov's momentum."""
    return lambda g, x, v: tf.raw_ops.ResourceApplyKerasMomentum(
        var=x, accum=v, lr=a, grad=g, momentum=m, use_nesterov=True
    )


class Kernel(NamedTuple):
    """A kernel, and what it serves."""

    with_scalars: Callable[..., Apply]
    slots: int
    """How many it takes; with another number the rule is in a form that it does not know, such as AMSGrad's."""
    decays: tuple[str, ...] = ()
    """The coefficients b of which it takes 1 - b itself, rounded."""

    def serves(self, dtype: tf.DType, slots: int, coefficients: dict[str, Any]) -> bool:
        """Whether it computes the formula for variables of this dtype with so many slots."""
        return (
            dtype in (tf.float32, tf.float64)  # in half precision a rule computes in float32
            and slots == self.slots
            and all(survives_rounding(coefficients[name], dtype) for name in self.decays)
        )


KERNELS = {
    "adam": Kernel(adam, 2, decays=("b1", "b2")),
    "adagrad": Kernel(adagrad, 1),
    "nesterov": Kernel(nesterov, 1),
}
