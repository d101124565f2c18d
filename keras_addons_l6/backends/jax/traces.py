"""Functions as JAX traces them: what they captured becomes arguments, and what remains is compared as a whole."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from keras_addons_l6.backends.portable.traces import Same, Trace

__all__ = ["flatten", "trace"]


def trace(
    fun: Callable[..., Any], x: Sequence[Any], args: Sequence[Any], differentiate: Callable[..., Any]
) -> Trace:
    """The function traced once; with its gradient only where it brings derivatives of its own.

    Args:
        fun: From the lists x and args to a value and something extra.
        x: Arrays.
        args: Arrays, and Python's real numbers.
        differentiate: `value_and_gradient`.
    """
    try:
        closed, structure = _traced(fun, x, args)
        key: Hashable = (len(x), _exact(closed.jaxpr, False))
        differentiated = False
    except _OwnDerivative:
        closed, structure = _traced(differentiate(fun), x, args)
        key, differentiated = (len(x), _exact(closed.jaxpr, True)), True

    jaxpr = closed.jaxpr  # without the constants, for what is kept must not hold data

    def call(x: Sequence[Any], args: Sequence[Any], constants: Sequence[Any]) -> Any:
        found = jaxpr_as_fun(ClosedJaxpr(jaxpr, constants))(*x, *args)
        return jax.tree.unflatten(structure, found)

    return Trace(key, tuple(map(_own, closed.consts)), call if differentiated else differentiate(call))


def flatten(tree: Any, is_leaf: Callable[[Any], bool]) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The leaves of what JAX takes for a nested structure, and what puts others in their places."""
    leaves, structure = jax.tree.flatten(tree, is_leaf=is_leaf)
    return leaves, structure.unflatten


def _traced(fun: Callable[..., Any], x: Sequence[Any], args: Sequence[Any]) -> tuple[ClosedJaxpr, Any]:
    """The function's operations and its result's structure; traced anew, which JAX does for a function it has not seen."""
    closed, shape = jax.make_jaxpr(lambda x, args: fun(x, args), return_shape=True)(list(x), list(args))
    return closed, jax.tree.structure(shape)


def _own(constant: Any) -> jax.Array:
    """A captured array as it is now: NumPy's may be written to while a run goes on."""
    return constant if isinstance(constant, jax.Array) else jnp.array(np.asarray(constant))


class _OwnDerivative(Exception):
    """A function has a derivative of its own, which its operations do not show."""


def _exact(jaxpr: Jaxpr, differentiated: bool) -> Hashable:
    """What operations compute, its equal for nothing that computes something else; values of `constvars` apart."""
    places: dict[Any, int] = {}

    def place(atom: Any) -> Hashable:
        if isinstance(atom, Literal):
            return atom.aval, _exact_value(atom.val, differentiated)
        return places.setdefault(atom, len(places)), atom.aval

    inputs = tuple(map(place, (*jaxpr.constvars, *jaxpr.invars)))
    equations = tuple(
        (
            equation.primitive,
            tuple(map(place, equation.invars)),
            tuple(map(place, equation.outvars)),
            _exact_parameters(equation.primitive.name, equation.params, differentiated),
        )
        for equation in jaxpr.eqns
    )
    return len(jaxpr.constvars), inputs, equations, tuple(map(place, jaxpr.outvars))


def _exact_parameters(primitive: str, parameters: dict[str, Any], differentiated: bool) -> Hashable:
    """An operation's parameters; its own derivative is not asked for any more once all is differentiated."""
    has_own = primitive.startswith(("custom_jvp_call", "custom_vjp_call"))
    if has_own and not differentiated:
        raise _OwnDerivative
    return tuple(
        (name, _exact_value(value, differentiated))
        for name, value in sorted(parameters.items())
        if not has_own or isinstance(value, ClosedJaxpr | Jaxpr | int | tuple)
    )


def _exact_value(value: Any, differentiated: bool) -> Hashable:
    """A value compared with its type and all its bits: 0.0 is not -0.0, 1 not True, and NaN is NaN."""
    if isinstance(value, ClosedJaxpr):
        constants = tuple(_exact_value(c, differentiated) for c in value.consts)
        return _exact(value.jaxpr, differentiated), constants
    if isinstance(value, Jaxpr):
        return _exact(value, differentiated)
    if isinstance(value, tuple | list):
        return type(value), tuple(_exact_value(v, differentiated) for v in value)
    if isinstance(value, dict):
        return tuple((k, _exact_value(v, differentiated)) for k, v in value.items())
    if isinstance(value, float | complex | np.ndarray | np.generic):
        array = np.asarray(value)
        return type(value), array.dtype, array.shape, array.tobytes()
    if isinstance(value, jax.Array):  # never written to
        return Same(value)
    try:
        hash(value)
    except TypeError:
        return Same(value)
    return type(value), value
