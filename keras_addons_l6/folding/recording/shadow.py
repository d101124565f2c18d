"""Copies of layer objects that share the variables: what folding may call without touching a model."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_addons_l6 import keras_private

__all__ = ["Shadows"]


class Shadows:
    """Makes, and remembers, a shadow of every operation it is asked for.

    A shadow is an object of the same class with the same attributes and no recorded calls. Variables
    are the original's own, so a shadow costs no memory; the layers in its attributes, lists and
    dictionaries are shadows too. Calling shadows on symbolic tensors records calls on them alone, and
    `get_config`, which many subclassed models lack, is not needed.

    Args:
        with_variables: Whether each variable is copied too, which makes the shadow a layer in its own
            right.
        prepare: Called with each new shadow.
    """

    def __init__(
        self, with_variables: bool = False, prepare: Callable[[keras.Operation], None] | None = None
    ) -> None:
        self._with_variables = with_variables
        self._prepare = prepare
        self._shadow_of: dict[int, Any] = {}
        self._original_of: dict[int, Any] = {}
        # ids are only unique while the objects live
        self._alive: list[Any] = []

    def of(self, operation: keras.Operation) -> keras.Operation:
        """The shadow of an operation; a shadow is its own."""
        return operation if id(operation) in self._original_of else self._copy(operation)

    def original(self, operation: keras.Operation) -> keras.Operation:
        """The operation that a shadow was made from; itself where it is no shadow."""
        return self._original_of.get(id(operation), operation)

    def _copy(self, value: Any) -> Any:
        if id(value) in self._shadow_of:
            return self._shadow_of[id(value)]
        copiers = _COPIERS + (_VARIABLE_COPIERS if self._with_variables else ())
        copier = next((copier for kind, copier in copiers if isinstance(value, kind)), None)
        return value if copier is None else copier(self, value)

    def _remember(self, value: Any, shadow: Any) -> None:
        self._shadow_of[id(value)] = shadow
        self._alive += [value, shadow]

    def _copy_operation(self, operation: keras.Operation) -> keras.Operation:
        shadow = object.__new__(type(operation))
        self._remember(operation, shadow)
        self._original_of[id(shadow)] = operation
        state = keras_private.without_calls(vars(operation))
        vars(shadow).update({name: self._copy(value) for name, value in state.items()})
        if keras_private.is_functional(operation):
            keras_private.run_on(shadow, operation, self.of)
        if self._prepare is not None:
            self._prepare(shadow)
        return shadow

    def _copy_object(self, value: Any) -> Any:
        shadow = object.__new__(type(value))
        self._remember(value, shadow)
        vars(shadow).update({name: self._copy(item) for name, item in vars(value).items()})
        return shadow

    def _copy_variable(self, value: Any) -> Any:
        array = np.array(keras.ops.convert_to_numpy(value))
        cast = keras_private.is_cast(value)
        shadow = keras.Variable(array, None, value.dtype, value.trainable, autocast=cast, name=value.name)
        self._remember(value, shadow)
        return shadow

    def _copy_list(self, value: list) -> list:
        shadow = _empty_like(value, list)
        self._remember(value, shadow)
        list.extend(shadow, [self._copy(item) for item in value])
        return self._with_attributes(value, shadow)

    def _copy_dict(self, value: dict) -> dict:
        shadow = _empty_like(value, dict)
        self._remember(value, shadow)
        for key, item in value.items():
            dict.__setitem__(shadow, key, self._copy(item))
        return self._with_attributes(value, shadow)

    def _copy_set(self, value: set) -> set:
        shadow = _empty_like(value, set)
        self._remember(value, shadow)
        set.update(shadow, [self._copy(item) for item in value])
        return self._with_attributes(value, shadow)

    def _with_attributes(self, value: Any, shadow: Any) -> Any:
        for name, item in getattr(value, "__dict__", {}).items() if hasattr(shadow, "__dict__") else ():
            vars(shadow)[name] = self._copy(item)
        return shadow

    def _copy_tuple(self, value: tuple) -> tuple:
        items = [self._copy(item) for item in value]
        if type(value) is tuple or not issubclass(type(value), tuple):
            return tuple(items)
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)

    def _copy_method(self, value: types.MethodType) -> types.MethodType:
        return types.MethodType(value.__func__, self._copy(value.__self__))

    def _copy_partial(self, value: functools.partial) -> functools.partial:
        keywords = {name: self._copy(item) for name, item in value.keywords.items()}
        return functools.partial(self._copy(value.func), *map(self._copy, value.args), **keywords)


def _empty_like(value: Any, builtin: type) -> Any:
    # TensorFlow's wrappers hold their items apart, and only some of them are the class they claim to be
    wrapped = type(value).__module__.split(".")[0] == "tensorflow"
    kind: Any = builtin if wrapped else type(value)
    return kind.__new__(kind)


_TRACKER = keras_private.tracker_class()

_COPIERS: tuple[tuple[type, Callable[[Shadows, Any], Any]], ...] = (
    (keras.Operation, Shadows._copy_operation),
    (_TRACKER, Shadows._copy_object),
    (list, Shadows._copy_list),
    (dict, Shadows._copy_dict),
    (set, Shadows._copy_set),
    (tuple, Shadows._copy_tuple),
    (types.MethodType, Shadows._copy_method),
    (functools.partial, Shadows._copy_partial),
)
# initializers, policies, arrays and functions are always shared: nothing changes them
_VARIABLE_COPIERS: tuple[tuple[type, Callable[[Shadows, Any], Any]], ...] = (
    (keras.Variable, Shadows._copy_variable),
    (keras.random.SeedGenerator, Shadows._copy_object),
)
