"""A model that computes in half precision as one that computes in float32, from the same weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.planning.absorb import Weights
from keras_addons_l6.folding.recording.shadow import Shadows
from keras_addons_l6.folding.tape import Call, Played

__all__ = ["HALF", "computes_in_half", "in_float32", "linear"]

HALF = ("float16", "bfloat16")


def computes_in_half(played: Played) -> bool:
    """Whether any tensor of a model is in half precision, or any layer computes in it, be it inside a block."""
    operations = [call.operation for calls in played.calls for call in calls]
    layers = [
        layer
        for operation in operations
        if isinstance(operation, keras.Layer)
        for layer in (operation, *keras_private.sublayers(operation))
    ]
    tensors = [tensor for tensors in played.tensors for tensor in tensors]
    return any(x.dtype in HALF for x in tensors) or any(layer.compute_dtype in HALF for layer in layers)


def in_float32(played: Played, exact: Mapping[int, Weights]) -> Played:
    """The same calls, of layers that compute in float32.

    Weights that are stored in half precision are widened, which is exact; the copies share all others.

    Args:
        played: The model. It is not changed.
        exact: Weights that take the place of a layer's own, by the number of the call: those that were
            rounded to half precision to be stored.

    Returns:
        The calls with other operations; their symbolic tensors keep their old types.
    """
    shadows = Shadows()
    calls = [
        [dataclasses.replace(call, operation=shadows.of(call.operation)) for call in group]
        for group in played.calls
    ]
    wide: dict[int, keras.Variable] = {}
    for i, weights in exact.items():
        layer: Any = calls[i][-1].operation
        wide |= {id(getattr(layer, name)): _variable(values) for name, values in weights.items()}
    for call in (call for group in calls for call in group):
        _widen(call.operation, wide)
    return dataclasses.replace(played, calls=calls)


def _widen(operation: Any, wide: dict[int, keras.Variable]) -> None:
    """Let a shadow compute in float32, with the variables that `wide` lists by the id of the old ones."""
    if not isinstance(operation, keras.Layer):
        if getattr(operation, "dtype", None) in HALF:  # a cast
            vars(operation)["dtype"] = "float32"
        return
    for layer in (operation, *keras_private.sublayers(operation)):
        if layer.quantization_mode is not None:
            continue
        if layer.compute_dtype in HALF:
            keras_private.compute_in(layer, keras.DTypePolicy("float32"))
        for name, value in list(vars(layer).items()):
            if isinstance(value, keras.Variable) and value.dtype in HALF:
                if id(value) not in wide:
                    wide[id(value)] = _variable(array(value))
                vars(layer)[name] = wide[id(value)]


def _variable(values: np.ndarray) -> keras.Variable:
    return keras.Variable(values.astype("float32"), dtype="float32", trainable=False)


def linear(call: Call) -> Call | None:
    """The call with its layer's own activation left out; None for a layer that has none.

    A kernel that took up a map is compared before the activation, which may hide it: a softmax may be
    saturated.
    """
    activation = getattr(call.operation, "activation", None)
    if activation is None or activation is keras.activations.linear:
        return None
    shadow = Shadows().of(call.operation)
    vars(shadow)["activation"] = keras.activations.linear
    return dataclasses.replace(call, operation=shadow)


def array(tensor: Any) -> np.ndarray:
    """A tensor's numbers."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))
