"""Optimizer steps on TensorFlow: by its resource kernels, by XLA, and what only its own operations can do.

The kernels come last: TensorFlow's resource kernels under the rules' formulas: one pass over memory, in place.
Each function takes the rule's scalars, constants as numbers, others as tensors of the variables' dtype, and
gives a function of the gradient and the handles of a variable and its slots: what depends on no variable is
computed once a step.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import tensorflow as tf

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import rules as portable
from keras_addons_l6.backends.portable.rules import Assign, Held, Rule, Update

__all__ = ["dense", "in_distribution_strategy", "outside_graph", "step"]

# Elements from which on a step that a graph takes in a dozen passes is worth the time XLA needs to fuse it.
WORTH_COMPILING = 1 << 20


def step(
    rule: Rule,
    updates: Sequence[Update],
    coefficients: dict[str, Any],
    decay: Tensor,
    assign: Assign,
    held: Held,
) -> None:
    """Do what `portable.step` does: by a resource kernel what one serves, the rest compiled if large."""
    del held
    kernel = KERNELS.get(rule.kernel or "")
    served = [update for update in updates if kernel is not None and _serves(kernel, update, coefficients)]
    rest = [update for update in updates if kernel is None or not _serves(kernel, update, coefficients)]
    if kernel is not None and served:
        _step_in_place(kernel, served, coefficients, decay)
    if _are_worth_compiling(rest):
        compiled = tf.function(
            lambda c, d: portable.step(rule, rest, c, d, assign), jit_compile=True, autograph=False
        )
        compiled(coefficients, decay)
    else:
        portable.step(rule, rest, coefficients, decay, assign)


def _serves(kernel: "Kernel", update: Update, coefficients: dict[str, Any]) -> bool:
    return kernel.serves(_resource(update.variable).dtype, len(_slots(update)), coefficients)


def _step_in_place(
    kernel: "Kernel", updates: Sequence[Update], coefficients: dict[str, Any], decay: Tensor
) -> None:
    """A step by a kernel, of variables of one dtype."""
    dtype = _resource(updates[0].variable).dtype
    scalars = {
        name: value if isinstance(value, float) else tf.cast(value, dtype)
        for name, value in coefficients.items()
    }
    apply = kernel.with_scalars(**scalars)
    for update in updates:
        x, *slots = map(_resource, (update.variable, *_slots(update)))
        if update.decayed:
            tf.raw_ops.AssignSubVariableOp(resource=x.handle, value=decay * x)
        apply(tf.cast(update.gradient, dtype), x.handle, *(s.handle for s in slots))


def _slots(update: Update) -> list[Any]:
    return [slot for slot in update.slots if slot is not None]


def _resource(variable: Any) -> tf.Variable:
    """The TensorFlow variable of a Keras one; itself where it is one."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def _are_worth_compiling(updates: Sequence[Update]) -> bool:
    """Large, on the CPU, and in a graph: eagerly they would be compiled anew at each step."""
    if tf.executing_eagerly():
        return False
    resources = [_resource(update.variable) for update in updates]
    large = sum(x.shape.num_elements() for x in resources) >= WORTH_COMPILING
    return large and all("CPU" in x.device for x in resources)


def dense(gradient: Any, variable: Any) -> tf.Tensor:
    """A gradient as a dense tensor; the rows of `tf.IndexedSlices` that name the same index add up."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
    if isinstance(gradient, tf.SparseTensor):
        return tf.sparse.to_dense(tf.sparse.reorder(gradient))
    return tf.convert_to_tensor(gradient)


def in_distribution_strategy() -> bool:
    """Whether variables may be mirrored here, so that each replica's copy is updated in its own context."""
    return tf.distribute.has_strategy()


def outside_graph() -> AbstractContextManager[Any]:
    """A scope whose operations run once, now, even while a graph is being traced."""
    return tf.init_scope()


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
