"""What a compiled run of L-BFGS needs of JAX."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, Literal, jaxpr_as_fun

from keras_addons_l6.backends.jax import private
from keras_addons_l6.backends.portable.programs import NO_GRADIENT

__all__ = [
    "argument",
    "compile_for_few_runs",
    "compile_program",
    "of_one_program",
    "repeat",
    "value_and_gradient",
]

of_one_program = private.of_one_trace


def compile_program(program: Callable[..., Any], donate: tuple[int, ...] = ()) -> Callable[..., Any]:
    """The program, compiled at its first call; it may write into the arguments in the places `donate`.

    On the CPU at LLVM's second level, not XLA's usual third, which unrolls loops over up to 32 columns whole before it looks
    for vectors in them, and then computes a `tanh` number by number; docs/quasi_newton.md has the figures.
    """
    options = {"xla_backend_optimization_level": 2} if jax.default_backend() == "cpu" else None
    return jax.jit(program, compiler_options=options, donate_argnums=donate)


def compile_for_few_runs(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program, compiled at its first call."""
    return compile_program(program)


def argument(number: float, dtype: str) -> Any:
    """A number on the host as a program takes it, so that another number needs no other program."""
    return np.asarray(number, dtype)  # which a program takes sooner than an array of JAX's


def value_and_gradient(fun: Callable[..., Any], part: bool = False) -> Callable[..., tuple[Any, Any, Any]]:
    """From fun(x, *rest) -> (value, extra) a function that returns value, the gradient by x, and extra."""
    differentiated = jax.value_and_grad(fun, has_aux=True)

    def evaluate(x: Any, *rest: Any) -> tuple[Any, Any, Any]:
        if part:
            (value, extra), gradient = differentiated(x, *rest)
            return value, gradient, extra
        closed, shape = jax.make_jaxpr(
            lambda *arguments: differentiated(*arguments),  # new to JAX, which else would not trace it again
            return_shape=True,
        )(x, *rest)
        ((value, extra), gradient) = jax.tree.unflatten(
            jax.tree.structure(shape), jaxpr_as_fun(closed)(*jax.tree.leaves((x, rest)))
        )
        first = len(jax.tree.leaves((value, extra)))
        if all(_is_nothing(closed.jaxpr, atom) for atom in closed.jaxpr.outvars[first:]):
            raise ValueError(NO_GRADIENT)
        return value, gradient, extra

    return evaluate


def _is_nothing(jaxpr: Jaxpr, atom: Any) -> bool:
    """Whether a gradient is the zero that JAX puts where there is no path, not one that was computed."""
    if isinstance(atom, Literal):
        return not np.any(atom.val)
    made = [equation for equation in jaxpr.eqns if atom in equation.outvars]
    if not made or made[0].primitive.name != "broadcast_in_dim":
        return False
    return isinstance(made[0].invars[0], Literal) and not np.any(made[0].invars[0].val)


def repeat(condition: Callable[[Any], Any], body: Callable[[Any], Any], carry: Any) -> Any:
    """Apply `body` while `condition` holds."""
    return jax.lax.while_loop(condition, body, carry)
