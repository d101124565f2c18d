"""How the tensors inside a model are got at: its own layers are called, and each hands what it gives to a watcher."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from keras_addons_l6 import keras_private

__all__ = ["Watcher", "calls_of", "has_own_call", "watched"]

Watcher = Callable[[str, Any, Callable[..., Any], tuple, dict[str, Any]], Any]
"""Called in place of an operation's `call`, with its name, the operation, that `call` and the arguments."""

# Their layers are parts of one operation, and mostly run inside a loop of the backend.
_CLOSED_PACKAGES = ("keras", "keras_addons_l6")


def calls_of(model: keras.Model) -> dict[str, keras.Operation]:
    """The layers of a model and the operations of its graphs, by name behind the names of what they are in."""
    found: dict[str, keras.Operation] = {}
    seen: set[int] = set()

    def walk(container: Any, path: str) -> None:
        for operation in _inside(container):
            if id(operation) in seen or isinstance(operation, keras.layers.InputLayer):
                continue
            seen.add(id(operation))
            name = f"{path}{operation.name}"
            if not _is_model(operation):
                found[name] = operation
            if _is_model(operation) or not _is_closed(operation):
                walk(operation, f"{name}/")

    walk(model, "")
    return found


def _inside(container: Any) -> Iterable[Any]:
    if keras_private.is_functional(container):
        return container.operations
    if isinstance(container, keras.Layer):
        return keras_private.direct_sublayers(container)
    return ()


def _is_model(operation: Any) -> bool:
    return isinstance(operation, keras.Model)


def _is_closed(operation: Any) -> bool:
    return type(operation).__module__.split(".")[0] in _CLOSED_PACKAGES


def has_own_call(operation: Any) -> bool:
    """Whether a model or block computes by a `call` of its caller's, in which more may happen than calls of layers."""
    if keras_private.is_plain_graph(operation) or keras_private.is_plain_sequence(operation):
        return False
    return isinstance(operation, keras.Layer) and not _is_closed(operation)


@contextlib.contextmanager
def watched(operations: dict[str, keras.Operation], watcher: Watcher) -> Iterator[None]:
    """Call `watcher` in place of each operation's `call`, and put everything back."""
    before = {name: vars(operation).get("call") for name, operation in operations.items()}
    try:
        for name, operation in operations.items():
            # past Keras's own bookkeeping of attributes, in which this must leave no trace
            vars(operation)["call"] = _watching(name, operation, operation.call, watcher)
        yield
    finally:
        for name, operation in operations.items():
            vars(operation).pop("call", None)
            if before[name] is not None:
                vars(operation)["call"] = before[name]


def _watching(name: str, operation: Any, call: Callable[..., Any], watcher: Watcher) -> Callable[..., Any]:
    def watching(*args: Any, **kwargs: Any) -> Any:
        return watcher(name, operation, call, args, kwargs)

    return watching
