"""What a compiled run of L-BFGS needs of JAX."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def compile_program(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program, compiled at its first call.

    On the CPU at LLVM's second level, not XLA's usual third, which unrolls loops over up to 32 columns whole before it looks
    for vectors in them, and then computes a `tanh` number by number; docs/lbfgs.md has the figures.
    """
    options = {"xla_backend_optimization_level": 2} if jax.default_backend() == "cpu" else None
    return jax.jit(program, compiler_options=options)


def argument(number: float, dtype: str) -> Any:
    """A number on the host as a program takes it, so that another number needs no other program."""
    return np.asarray(number, dtype)  # which a program takes sooner than an array of JAX's


def value_and_gradient(fun: Callable[..., Any]) -> Callable[..., tuple[Any, Any, Any]]:
    """From fun(x, *rest) -> (value, extra) a function that returns value, the gradient by x, and extra."""
    differentiated = jax.value_and_grad(fun, has_aux=True)

    def evaluate(x: Any, *rest: Any) -> tuple[Any, Any, Any]:
        (value, extra), gradient = differentiated(x, *rest)
        return value, gradient, extra

    return evaluate


def repeat(condition: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
    """Apply `body` while `condition` holds."""
    return jax.lax.while_loop(condition, body, carry)
