"""What a compiled run of L-BFGS needs of TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def compile_program(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program as one XLA computation, or as a graph where some operation in it has no XLA kernel."""
    graph = tf.function(program, autograph=False)
    with_xla = tf.function(program, autograph=False, jit_compile=True)
    chosen: list[Callable[..., Any]] = []

    def run(*arguments: Any) -> Any:
        if not chosen:
            try:
                result = with_xla(*arguments)
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, tf.errors.NotFoundError):
                chosen.append(graph)
            else:
                chosen.append(with_xla)
                return result
        return chosen[0](*arguments)

    return run


def argument(number: float, dtype: str) -> Any:
    """A number on the host as a program takes it, so that another number needs no other program."""
    return tf.constant(number, dtype)


def value_and_gradient(fun: Callable[..., Any]) -> Callable[..., tuple[Any, Any, Any]]:
    """From fun(x, *rest) -> (value, extra) a function that returns value, the gradient by x, and extra."""

    def evaluate(x: Any, *rest: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value, extra = fun(x, *rest)
        gradient = tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return value, tf.nest.map_structure(tf.convert_to_tensor, gradient), extra

    return evaluate


def repeat(condition: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
    """Apply `body` while `condition` holds."""
    return tf.while_loop(condition, lambda carry: (body(carry),), (carry,))[0]
