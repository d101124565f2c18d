"""A weight that a `call` uses by itself, as a stock layer that holds it: a table with one row."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.recording.block import Graph, graph_of_function

__all__ = ["Table", "may_be_table", "table_of", "type_in_call"]


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """The calls that make a weight of a `call`'s own, from any tensor.

    Attributes:
        anchor: The tensor they start from; nothing but its batch counts.
        graph: The calls. They look up row 0 of an Embedding with one row, exact in every type, so the
            weight is found in `model.weights`, trains, and is saved without classes of the user's.
        dtype: The type in which the `call` sees the weight.
    """

    anchor: keras.KerasTensor
    graph: Graph
    dtype: str


def may_be_table(variable: keras.Variable, weight_dtype: str, tensors: Sequence[keras.KerasTensor]) -> bool:
    """Whether `table_of` has calls that make this weight."""
    policy = _policy(variable.dtype, weight_dtype)
    return policy is not None and 0 not in variable.shape and any(map(_can_start, tensors))


def table_of(
    variable: keras.Variable, weight_dtype: str | None, tensors: Sequence[keras.KerasTensor]
) -> Table | None:
    """The calls that make a weight.

    Args:
        variable: The weight.
        weight_dtype: The type to which it is cast in the `call`; None for its own.
        tensors: Inputs of the model.

    Returns:
        None where no table can hold the weight, or no input starts the calls.
    """
    anchor = next((tensor for tensor in tensors if _can_start(tensor)), None)
    policy = _policy(variable.dtype, weight_dtype)
    if anchor is None or policy is None or 0 in variable.shape:
        return None
    table = _table(variable, policy)
    first = (slice(0, 1), *[0] * (len(anchor.shape) - 1))

    def look_up(x: keras.KerasTensor) -> keras.KerasTensor:
        row = table(keras.ops.zeros_like(x[first], dtype="int32"))
        return keras.ops.reshape(row, tuple(variable.shape))

    return Table(anchor, graph_of_function(look_up, anchor), table.compute_dtype)


def _table(variable: keras.Variable, policy: str) -> keras.layers.Embedding:
    size = math.prod(variable.shape)
    table = keras.layers.Embedding(1, size, embeddings_initializer="zeros", dtype=policy, name=variable.name)
    table.build((None,))
    table.embeddings.assign(np.reshape(_array(variable), (1, size)))
    table.trainable = variable.trainable
    return table


def _can_start(tensor: keras.KerasTensor) -> bool:
    sparse = tensor.sparse or tensor.dtype == "string"
    return not sparse and len(tensor.shape) > 0 and not keras_private.is_optional(tensor)


def _policy(dtype: str, weight_dtype: str | None) -> str | None:
    """The policy of a layer that keeps a weight in its type and shows it in that of the `call`."""
    if not keras.backend.is_float_dtype(dtype):
        return None
    if weight_dtype in (None, dtype):
        return dtype
    mixed = f"mixed_{weight_dtype}"
    return mixed if dtype == "float32" and mixed in ("mixed_float16", "mixed_bfloat16") else None


def type_in_call(layer: Any, outer: str | None) -> str | None:
    """The type to which a layer's `call` casts its own weights: in mixed precision, that of its results.

    Args:
        layer: The layer.
        outer: The same of the layer around it.

    Returns:
        The type, None where weights stay as they are.
    """
    if not layer.autocast:
        return None
    return layer.compute_dtype if outer is not None or layer.compute_dtype != layer.variable_dtype else None


def _array(variable: keras.Variable) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))
