"""What a run of L-BFGS needs of a backend: here nothing is compiled, and nothing has a gradient."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

__all__ = [
    "NO_GRADIENT",
    "argument",
    "beside_training",
    "compile_for_few_runs",
    "compile_program",
    "of_one_program",
    "outside_compiler",
    "owned",
    "repeat",
    "value_and_gradient",
    "value_of",
]

NO_GRADIENT = (
    "The loss does not depend on what is to be minimized over, as far as differentiation can tell, so it has no gradient. Look "
    "for `detach`, `.item()`, `stop_gradient`, `inference_mode` or NumPy functions between the argument and the loss, or "
    "for a loss that leaves the argument out."
)


def compile_program(program: Callable[..., Any], donate: tuple[int, ...] = ()) -> Callable[..., Any]:
    """The program itself; elsewhere it may write into the arguments in the places `donate`, which are `owned`."""
    del donate
    return program


def compile_for_few_runs(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program itself; elsewhere compiled as suits one that runs once an epoch."""
    return program


def owned(arrays: Any) -> Any:
    """Arrays of any structure as a program may write into them, of whom the caller keeps none."""
    return arrays


def argument(number: float, dtype: str) -> Any:
    """A number on the host as a program takes it, so that another number needs no other program."""
    del dtype
    return number


def value_and_gradient(fun: Callable[..., Any], part: bool = False) -> Callable[..., tuple[Any, Any, Any]]:
    """From fun(x, *rest) -> (value, extra) a function that returns value, the gradient by x, and extra.

    It raises `ValueError` where the value depends on no tensor of the list x, unless it is only a `part` of the loss.
    """
    raise NotImplementedError(
        f"The backend '{keras.config.backend()}' computes no gradients. Set KERAS_BACKEND to tensorflow, jax or torch "
        "before Keras is imported."
    )


def value_of(variable: keras.Variable) -> Any:
    """A variable's value as a program takes it."""
    return ops.convert_to_tensor(variable)


def repeat(condition: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
    """Apply `body` while `condition` holds."""
    while condition(carry):
        carry = body(carry)
    return carry


def outside_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself: the compiler takes it like any other."""
    return function


def beside_training() -> contextlib.AbstractContextManager[Any]:
    """What a look at a model runs in, so that the training's random numbers are those that it would have drawn."""
    return contextlib.nullcontext()


def of_one_program(value: Any, others: Iterable[Any]) -> bool:
    """Whether a tensor belongs to the program that others belong to, not to a loop or branch inside it."""
    del value, others
    return True
