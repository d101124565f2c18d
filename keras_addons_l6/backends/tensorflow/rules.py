"""Optimizer steps on TensorFlow: by its resource kernels, by XLA, and what only its own operations can do."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import rules as portable
from keras_addons_l6.backends.portable.rules import Assign, Rule, Update
from keras_addons_l6.backends.tensorflow import fused_rules
from keras_addons_l6.backends.tensorflow.fused_rules import Kernel

__all__ = ["dense", "in_distribution_strategy", "outside_graph", "step"]

# Elements from which on a step that a graph takes in a dozen passes is worth the time XLA needs to fuse it.
WORTH_COMPILING = 1 << 20


def step(
    rule: Rule, updates: Sequence[Update], coefficients: dict[str, Any], decay: Tensor, assign: Assign
) -> None:
    """Do what `portable.step` does: by a resource kernel what one serves, the rest compiled if large."""
    kernel = fused_rules.KERNELS.get(rule.kernel or "")
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


def _serves(kernel: Kernel, update: Update, coefficients: dict[str, Any]) -> bool:
    return kernel.serves(_resource(update.variable).dtype, len(_slots(update)), coefficients)


def _step_in_place(
    kernel: Kernel, updates: Sequence[Update], coefficients: dict[str, Any], decay: Tensor
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
