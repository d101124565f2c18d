"""TensorFlow's resource kernels under the rules' formulas: one pass over memory, in place.

Each function takes the rule's scalars, constants as numbers, others as tensors of the variables' dtype, and
gives a function of the gradient and the handles of a variable and its slots: what depends on no variable is
computed once a step.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

Apply = Callable[..., None]  # of a gradient, and a variable's and its slots' resource tensors


def adam(*, a: tf.Tensor, b1: float, b2: float, c1: tf.Tensor, c2: tf.Tensor, eps: float) -> Apply:
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


def _correction_of_rounded(b: float, c: tf.Tensor) -> tf.Tensor:
    """1 - r^t, where c is 1 - b^t and r is b rounded to the dtype of c."""
    rounded = float(c.dtype.as_numpy_dtype(b))
    if rounded == b:
        return c
    return -tf.math.expm1(tf.math.log1p(-c) * (math.log(rounded) / math.log(b)))


def adagrad(*, a: tf.Tensor, eps: float) -> Apply:
    """AdaGrad."""
    return lambda g, x, s: tf.raw_ops.ResourceApplyAdagradV2(var=x, accum=s, lr=a, epsilon=eps, grad=g)


def nesterov(*, a: tf.Tensor, m: float) -> Apply:
    """Nesterov's momentum."""
    return lambda g, x, v: tf.raw_ops.ResourceApplyKerasMomentum(
        var=x, accum=v, lr=a, grad=g, momentum=m, use_nesterov=True
    )


class Kernel(NamedTuple):
    """A kernel, and how many slots it takes."""

    with_scalars: Callable[..., Apply]
    slots: int


KERNELS = {"adam": Kernel(adam, 2), "adagrad": Kernel(adagrad, 1), "nesterov": Kernel(nesterov, 1)}
