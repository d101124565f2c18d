"""What a subclassed model takes: symbolic arguments from a signature, or from the shapes of its build."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from keras_addons_l6.folding import keras_internals
from keras_addons_l6.folding.errors import FoldingError

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
    names = _data_arguments(model)
    if input_signature is None and keras_internals.is_functional(model):
        return {
            names[0]: keras.tree.map_structure(
                keras_internals.same_input, keras_internals.input_structure(model)
            )
        }
    if input_signature is None:
        return _arguments_of_build(model, names)
    several = isinstance(input_signature, (list, tuple)) and not _is_shape(input_signature)
    if several and (len(names) > 1 or len(input_signature) == 1):
        return {name: _symbolic(item) for name, item in zip(names, input_signature, strict=False)}
    return {names[0]: _symbolic(input_signature)}


def model_input(arguments: dict[str, Any]) -> Any:
    """The arguments as one structure: the only one itself, or a dictionary by name."""
    return next(iter(arguments.values())) if len(arguments) == 1 else arguments


def _data_arguments(model: keras.Model) -> list[str]:
    return [name for name in inspect.signature(model.call).parameters if name not in _NOT_DATA]


def _arguments_of_build(model: keras.Model, names: list[str]) -> dict[str, Any]:
    config = model.get_build_config() or {}
    if config.get("input_shape") is not None and names:
        return {names[0]: _symbolic(config["input_shape"], open_batch=True)}
    shapes = {name.removesuffix("_shape"): shape for name, shape in (config.get("shapes_dict") or {}).items()}
    if not shapes or not set(shapes) <= set(names):
        raise FoldingError(
            f"The input shape of model '{model.name}' is unknown. Call the model on data first, or pass "
            "`input_signature`, for example `input_signature=keras.KerasTensor((None, 32, 32, 3))`."
        )
    return {name: _symbolic(shape, open_batch=True) for name, shape in shapes.items()}


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


def _input(shape: Any, dtype: Any, name: str | None) -> keras.KerasTensor:
    dtype = None if dtype is None else keras.backend.standardize_dtype(dtype)
    return keras.Input(batch_shape=tuple(shape), dtype=dtype, name=name)
