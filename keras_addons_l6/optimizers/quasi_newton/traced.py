"""Questions about values that may be symbols of a program under construction."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["known_now", "usable"]


def usable(loss: Any, gradients: Sequence[Any]) -> Any | None:
    """The loss as a scalar, or None where it belongs to another trace than the gradients.

    JAX does not promise that a value found while a function was differentiated may be used after it; it may
    be where the function ran in this trace, and raises where it ran in one of its own (under a `jax.jit`
    inside the gradient, say).
    """
    if keras.backend.backend() == "jax":
        from keras_addons_l6.backends.jax import private

        if not private.of_one_trace(loss, gradients):
            return None
    return ops.reshape(loss, ())


def known_now(x: Any) -> bool:
    """Whether a value can be read at once, without waiting for a program to run."""
    if keras.backend.backend() == "tensorflow":
        return hasattr(x, "numpy")
    if keras.backend.backend() == "jax":
        import jax

        return not isinstance(x, jax.core.Tracer)
    return True
