"""What a run of L-BFGS needs of a backend: here nothing is compiled, and nothing has a gradient."""

from collections.abc import Callable
from typing import Any

import keras

__all__ = ["argument", "compile_program", "outside_compiler", "repeat", "value_and_gradient"]


def compile_program(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program itself."""
    return program


def argument(number: float, dtype: str) -> Any:
    """A number on the host as a program takes it, so that another number needs no other program."""
    del dtype
    return number


def value_and_gradient(fun: Callable[..., Any]) -> Callable[..., tuple[Any, Any, Any]]:
    """From fun(x, *rest) -> (value, extra) a function that returns value, the gradient by x, and extra."""
    raise NotImplementedError(
        f"The backend '{keras.config.backend()}' computes no gradients. Set KERAS_BACKEND to tensorflow, jax or torch "
        "before Keras is imported."
    )


def repeat(condition: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
    """Apply `body` while `condition` holds."""
    while condition(carry):
        carry = body(carry)
    return carry


def outside_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself: the compiler takes it like any other."""
    return function
