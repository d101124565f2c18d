"""The one door to what JAX does not promise: each private use, and why no public way serves."""

from collections.abc import Iterable
from typing import Any

import jax

__all__ = ["of_one_trace"]

_TRACE = "_trace"
SUPPORTED = "0.5 or later, tested up to 0.10"


def of_one_trace(value: Any, others: Iterable[Any]) -> bool:
    """Whether a value may be used beside others: it is known, or one of them belongs to the trace it belongs to.

    JAX has no public question for it, and raises only when the whole program is complete.

    Raises:
        RuntimeError: where JAX's tracers no longer say which trace they belong to.
    """
    if not isinstance(value, jax.core.Tracer):
        return True
    trace = _trace_of(value)
    return any(isinstance(other, jax.core.Tracer) and _trace_of(other) is trace for other in others)


def _trace_of(tracer: jax.core.Tracer) -> Any:
    if not hasattr(tracer, _TRACE):
        raise RuntimeError(
            f"`{type(tracer).__name__}.{_TRACE}` is missing in the installed JAX {jax.__version__}. keras_addons_l6 relies "
            f"on it and supports JAX {SUPPORTED}: install one of these, or a newer keras_addons_l6."
        )
    return getattr(tracer, _TRACE)
