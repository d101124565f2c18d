"""Optimizer steps on TensorFlow: what only its own operations can do."""

from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf


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
