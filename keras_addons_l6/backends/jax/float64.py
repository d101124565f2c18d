"""What true float64 needs of JAX: its 64-bit types."""

from collections.abc import Callable
from typing import Any

import jax

__all__ = ["WIDE", "compiled", "precision", "set_precision"]

WIDE = True
_SWITCH = "jax_enable_x64"


def precision() -> bool:
    """Whether JAX has 64-bit types at all."""
    return jax.config.read(_SWITCH)


def set_precision(value: bool) -> None:
    """Set what `precision` returns."""
    if value == precision():
        # JAX knows compiled functions apart by this switch; where it stays, those that rounded would go on rounding.
        jax.clear_caches()
    jax.config.update(_SWITCH, value)


def compiled(program: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The program compiled as one: operation by operation its compilation would take seconds."""
    return jax.jit(program)
