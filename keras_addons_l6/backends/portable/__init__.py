"""The definitions, in `keras.ops`: what every backend is held to."""

from typing import Any

__all__ = ["Tensor"]

Tensor = Any  # a backend's tensor, or a symbolic one: the three have no type in common
