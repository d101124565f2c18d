"""The one door to what TensorFlow does not promise: each private use, and why no public way serves."""

import functools
from typing import Any

import tensorflow as tf

__all__ = ["has_own_gradient", "without_own_gradient"]

_OWN_GRADIENT = (
    "_gradient_op_type"  # of an operation in a graph: the name of the gradient that it has of its own
)
SUPPORTED = "2.18 or later, tested up to 2.21"


def has_own_gradient(node: Any) -> bool:
    """Whether an operation of a graph has a gradient of its own; no public reader of a graph says so.

    Raises:
        RuntimeError: where TensorFlow no longer writes it there.
    """
    _check()
    return _OWN_GRADIENT in node.attr


def without_own_gradient(node: Any) -> None:
    """Take the name of its own gradient from an operation: a number that is another at each tracing."""
    _check()
    node.attr.pop(_OWN_GRADIENT, None)


@functools.cache
def _check() -> None:
    @tf.custom_gradient
    def doubled(x: Any) -> Any:
        return 2.0 * x, lambda dy: 2.0 * dy

    graph = tf.function(doubled).get_concrete_function(tf.TensorSpec((), tf.float32)).graph.as_graph_def()
    if not any(_OWN_GRADIENT in node.attr for node in graph.node):
        raise RuntimeError(
            f"The attribute `{_OWN_GRADIENT}` is missing in the graphs of the installed TensorFlow {tf.__version__}. "
            f"keras_addons_l6 relies on it and supports TensorFlow {SUPPORTED}: install one of these, or a newer "
            "keras_addons_l6."
        )
