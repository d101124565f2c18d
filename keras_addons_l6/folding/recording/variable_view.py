"""What stands for the weights that a layer keeps as attributes while its `call` is run on symbolic tensors."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras

__all__ = ["show_symbols", "symbols_for", "with_symbols"]


# What a symbolic tensor on the right of a weight is asked instead
_REFLECTED = {
    f"__{name}__": f"__r{name}__"
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
} | {"__lt__": "__gt__", "__le__": "__ge__", "__gt__": "__lt__", "__ge__": "__le__"}


def with_symbols(variable: keras.Variable) -> keras.Variable:
    """A view of a variable that may stand to the left of a symbolic tensor, as in `self.scale * x`.

    Keras's own computes with its value there, which no symbolic tensor takes; `x * self.scale` it records.

    Args:
        variable: The variable; the view holds the same value.

    Returns:
        The view.
    """
    kind: Any = type(variable)
    view: Any = object.__new__(_view_class(kind))
    vars(view).update(vars(variable))
    return view


@functools.cache
def _view_class(kind: type) -> type:
    return type(kind.__name__, (kind,), {name: _asking_right(kind, name) for name in _REFLECTED})


def _asking_right(kind: type, name: str) -> Callable[[Any, Any], Any]:
    def operate(self: Any, other: Any) -> Any:
        if isinstance(other, keras.KerasTensor):
            return getattr(other, _REFLECTED[name])(self)
        return getattr(kind, name)(self, other)

    return operate


def show_symbols(layer: Any) -> None:
    """Let the weights that a layer keeps as attributes, alone or in lists and dictionaries, be such views.

    Args:
        layer: A shadow, whose lists and dictionaries are its own.
    """
    for variable, put in _kept_weights(layer):
        put(with_symbols(variable))


@contextlib.contextmanager
def symbols_for(
    layer: Any, symbol_of: Callable[[keras.Variable], keras.KerasTensor | None]
) -> Iterator[None]:
    """For a while, hand out symbolic tensors in place of the weights that a layer keeps as attributes.

    Views alone would not do: `keras.ops.sigmoid(self.scale)` computes at once, and an array of JAX's
    takes no symbolic tensor on its right.

    Args:
        layer: A shadow, whose lists and dictionaries are its own.
        symbol_of: The symbolic tensor for a weight, None where it has none.

    Yields:
        Nothing.
    """
    kept = _kept_weights(layer)
    try:
        for variable, put in kept:
            symbol = symbol_of(variable)
            if symbol is not None:
                put(symbol)
        yield
    finally:
        for variable, put in kept:
            put(variable)


def _kept_weights(layer: Any) -> list[tuple[keras.Variable, Callable[[Any], None]]]:
    """The weights among a layer's attributes, each with what puts another thing in its place."""
    places: list[tuple[Any, Any, Any]] = [(dict, vars(layer), name) for name in vars(layer)]
    for name, items in vars(layer).items():
        # names with a bar in front are Keras's own lists of all weights
        if isinstance(items, (list, dict)) and not name.startswith("_"):
            kind = dict if isinstance(items, dict) else list
            places += [(kind, items, place) for place in (items if kind is dict else range(len(items)))]
    return [
        (items[place], functools.partial(kind.__setitem__, items, place))
        for kind, items, place in places
        if isinstance(items[place], keras.Variable)
    ]
