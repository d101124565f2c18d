"""What a subclassed model takes: symbolic arguments from a signature, or from the shapes of its build."""

from __future__ import annotations

import inspect
from collections.abc import Container
from typing import Any

import keras

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.errors import FoldingError

__all__ = ["data_arguments", "model_input", "symbolic_arguments", "with_whole_numbers"]

_NOT_DATA = ("training", "mask")


def symbolic_arguments(model: keras.Model, input_signature: Any = None) -> dict[str, Any]:
    """Symbolic tensors to call a model with, by the names of the arguments of its `call`.

    Args:
        model: A built model whose `call` is its own.
        input_signature: A structure of things with a `shape` (and a `dtype`), or of shapes. A list or
            tuple of several is one entry a positional argument of `call`, unless `call` takes a
            single one. None: the shapes of the first call, with the batch left open.

    Returns:
        Structures of symbolic tensors by argument.

    Raises:
        FoldingError: When no signature is given and the model does not know its shapes.
    """
    names = data_arguments(model)
    if input_signature is None and keras_private.is_functional(model):
        return {
            names[0]: keras.tree.map_structure(keras_private.same_input, keras_private.input_structure(model))
        }
    if input_signature is None:
        return _arguments_of_build(model, names)
    several = isinstance(input_signature, (list, tuple)) and not _is_shape(input_signature)
    if several and (len(names) > 1 or len(input_signature) == 1):
        return _by_name({name: _symbolic(item) for name, item in zip(names, input_signature, strict=False)})
    return {names[0]: _symbolic(input_signature)}


def model_input(arguments: dict[str, Any]) -> Any:
    """The arguments as one structure: the only one itself, or a dictionary by name."""
    return next(iter(arguments.values())) if len(arguments) == 1 else arguments


def data_arguments(model: keras.Model) -> list[str]:
    """The arguments of a model's `call` that take data."""
    parameters = inspect.signature(model.call).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.name not in _NOT_DATA and each.kind not in variadic]


def _arguments_of_build(model: keras.Model, names: list[str]) -> dict[str, Any]:
    config = model.get_build_config() or {}
    shapes = config.get("shapes_dict") or {}
    if config.get("input_shape") is not None:
        shapes = {names[0]: config["input_shape"]}
    shapes = {name.removesuffix("_shape"): shape for name, shape in shapes.items()}
    if not shapes or not _required(model, names) <= set(shapes) <= set(names):
        raise FoldingError(
            f"The shapes of what model '{model.name}' takes ({', '.join(names)}) are not known. Pass "
            "`input_signature`, for example `input_signature=keras.KerasTensor((None, 32, 32, 3))`, or a "
            "list with one for each argument of its `call`."
        )
    return _by_name({name: _symbolic(shape, open_batch=True) for name, shape in shapes.items()})


def _by_name(arguments: dict[str, Any]) -> dict[str, Any]:
    """Several arguments become one dictionary, whose keys must be the names of its inputs."""
    if len(arguments) == 1:
        return arguments
    return {name: _named(value, name) for name, value in arguments.items()}


def _required(model: keras.Model, names: list[str]) -> set[str]:
    parameters = inspect.signature(model.call).parameters
    return {name for name in names if parameters[name].default is inspect.Parameter.empty}


def _is_shape(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(size is None or isinstance(size, int) for size in value)


def _symbolic(signature: Any, open_batch: bool = False) -> Any:
    """Symbolic inputs in the structure of the signature."""
    if hasattr(signature, "shape"):
        return _input(signature.shape, getattr(signature, "dtype", None), getattr(signature, "name", None))
    if _is_shape(signature):
        return _input((None, *signature[1:]) if open_batch else signature, None, None)
    if isinstance(signature, dict):
        return {name: _named(_symbolic(item, open_batch), name) for name, item in signature.items()}
    if isinstance(signature, (list, tuple)):
        return type(signature)(_symbolic(item, open_batch) for item in signature)
    raise FoldingError(
        f"`input_signature` holds {signature!r}, which has no shape; expected a keras.KerasTensor."
    )


def _named(value: Any, name: str) -> Any:
    if not isinstance(value, keras.KerasTensor):
        return value
    return keras.Input(batch_shape=value.shape, dtype=value.dtype, name=name)


def with_whole_numbers(arguments: dict[str, Any], indices: Container[int]) -> dict[str, Any]:
    """The arguments with the inputs of these ids as whole numbers: a build remembers shapes, not types."""

    def retype(tensor: keras.KerasTensor) -> keras.KerasTensor:
        whole = id(tensor) in indices
        return keras.Input(batch_shape=tensor.shape, dtype="int32", name=tensor.name) if whole else tensor

    return keras.tree.map_structure(retype, arguments)


def _input(shape: Any, dtype: Any, name: str | None) -> keras.KerasTensor:
    dtype = None if dtype is None else keras.backend.standardize_dtype(dtype)
    return keras.Input(batch_shape=tuple(shape), dtype=dtype, name=name)
