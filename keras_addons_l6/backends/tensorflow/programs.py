"""What a compiled run of L-BFGS needs of TensorFlow."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from keras_addons_l6.backends.portable.programs import NO_GRADIENT

__all__ = [
    "argument",
    "compile_for_few_runs",
    "compile_program",
    "complete",
    "of_one_program",
    "owned",
    "repeat",
    "value_and_gradient",
    "value_of",
]


def compile_program(program: Callable[..., Any], donate: tuple[int, ...] = ()) -> Callable[..., Any]:
    """The program as one XLA computation, or as a graph where some operation in it has no XLA kernel.

    An argument in a place of `donate`, of which there is one at most, is `owned` and has the result's structure: the result
    is written into it.
    """
    if donate:
        return _written_in_place(program, *donate)
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


def compile_for_few_runs(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program as a graph: XLA would take seconds to compile it, and on the CPU runs convolutions on one core."""
    return tf.function(program, autograph=False)


def owned(arrays: Any) -> Any:
    """Tensors as variables, which XLA writes into where nothing else holds their memory."""
    return tf.nest.map_structure(lambda x: tf.Variable(x, trainable=False), arrays)


def _written_in_place(program: Callable[..., Any], place: int) -> Callable[..., Any]:
    """The program whose result takes the place of an `owned` argument."""

    def assign(*arguments: Any) -> None:
        variables = arguments[place]
        values = tf.nest.map_structure(lambda v: v.read_value(), variables)
        result = program(*arguments[:place], values, *arguments[place + 1 :])
        tf.nest.map_structure(lambda v, new: v.assign(new), variables, result)

    compiled = compile_program(assign)

    def run(*arguments: Any) -> Any:
        compiled(*arguments)
        return arguments[place]

    return run


def argument(number: float, dtype: str) -> Any:
    """A number on the host as a program takes it, so that another number needs no other program."""
    return tf.constant(number, dtype)


def value_and_gradient(fun: Callable[..., Any], part: bool = False) -> Callable[..., tuple[Any, Any, Any]]:
    """From fun(x, *rest) -> (value, extra) a function that returns value, the gradient by x, and extra."""

    def evaluate(x: Any, *rest: Any) -> tuple[Any, Any, Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value, extra = fun(x, *rest)
        return value, complete(tape.gradient(value, x), x, part), extra

    return evaluate


def complete(gradients: Sequence[Any], x: Sequence[Any], part: bool = False) -> list[Any]:
    """Gradients as tensors, zero for those of x that the value does not depend on.

    Raises:
        ValueError: where it depends on none, unless it is only a `part` of the loss.
    """
    if all(gradient is None for gradient in gradients) and not part:
        raise ValueError(NO_GRADIENT)
    return [
        tf.zeros_like(leaf) if gradient is None else tf.convert_to_tensor(gradient)
        for gradient, leaf in zip(gradients, x, strict=True)
    ]


def value_of(variable: Any) -> Any:
    """A variable's value as a program takes it: Keras takes a variable for a tensor already, a tape does not."""
    return tf.convert_to_tensor(variable.value)


def repeat(condition: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
    """Apply `body` while `condition` holds."""
    return tf.while_loop(condition, lambda carry: (body(carry),), (carry,))[0]


def of_one_program(value: Any, others: Iterable[Any]) -> bool:
    """Whether a tensor belongs to the graph that others belong to, not to a loop or branch inside it."""
    graph = getattr(value, "graph", None)  # an eager tensor has none
    return graph is None or any(getattr(other, "graph", None) is graph for other in others)
