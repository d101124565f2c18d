"""The layer classes that users have told folding about: they are kept whole, as Keras's own are."""

from __future__ import annotations

__all__ = ["is_registered", "remember"]

_CLASSES: set[type] = set()


def remember(layer_class: type) -> None:
    """Keep the layers of a class whole from now on."""
    _CLASSES.add(layer_class)


def is_registered(layer_class: type) -> bool:
    """Whether a class, this one and not one that it derives from, has been registered."""
    return layer_class in _CLASSES
