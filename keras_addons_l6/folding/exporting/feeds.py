"""What goes into an artifact and what should come out: random inputs for a model, and outputs, flat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_addons_l6.folding.exporting.runtimes import Feed, Leaf
from keras_addons_l6.folding.recording.random_input import random_array

__all__ = ["Shape", "feeds_for", "feeds_of", "flat_outputs"]

Shape = tuple[int | None, ...]

# Exporters that cannot keep a size open fix it, and every other open one, to 1.
_FIXED = 1


def feeds_for(inputs: Any, specs: Sequence[Any], unknown: int, limit: int) -> list[Feed]:
    """Seeded random inputs to try on an artifact of a model, the most general first.

    Args:
        inputs: The model's symbolic inputs, in the structure it takes.
        specs: The shape (None where a size is open) and dtype of each, flat.
        unknown: The size to use for open dimensions past the batch.
        limit: One past the largest whole number to draw.

    Returns:
        Inputs with a batch of 2, of 1, and of 1 with every open size 1; fewer where these are the same.
    """
    tried = {
        tuple(_closed(spec.shape, batch, size) for spec in specs): None
        for batch, size in ((2, unknown), (_FIXED, unknown), (_FIXED, _FIXED))
    }
    return [_feed(inputs, closed, [spec.dtype for spec in specs], limit) for closed in tried]


def feeds_of(inputs: Any, arrays: Any) -> list[Feed]:
    """A caller's batch to try on an artifact, and its first sample alone.

    Args:
        inputs: The model's symbolic inputs, in the structure it takes.
        arrays: Arrays in the same structure.

    Returns:
        The batch, and where it holds several samples, a batch of one.
    """
    first = keras.tree.map_structure(lambda array: array[:_FIXED], arrays)
    several = any(len(array) > _FIXED for array in keras.tree.flatten(arrays))
    return [_named(inputs, each) for each in ((arrays, first) if several else (arrays,))]


def _named(inputs: Any, structure: Any) -> Feed:
    names = [(tensor.name, *_key(path)) for path, tensor in keras.tree.flatten_with_path(inputs)]
    return Feed(structure, list(zip(names, keras.tree.flatten(structure), strict=True)))


def _closed(shape: Shape, batch: int, unknown: int) -> tuple[int, ...]:
    return tuple((unknown if axis else batch) if size is None else size for axis, size in enumerate(shape))


def _feed(inputs: Any, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str], limit: int) -> Feed:
    generator = np.random.default_rng(0)
    arrays = [
        random_array(shape, dtype, generator, (_FIXED, _FIXED), limit)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    return _named(inputs, keras.tree.pack_sequence_as(inputs, arrays))


def flat_outputs(outputs: Any) -> list[Leaf]:
    """A model's outputs as arrays, each named by the dict key it stands under, if it does."""
    return [
        (_key(path), np.asarray(keras.ops.convert_to_numpy(tensor)))
        for path, tensor in keras.tree.flatten_with_path(outputs)
    ]


def _key(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The dict key that a leaf stands under; a place in a list is no name."""
    return tuple(key for key in path[-1:] if isinstance(key, str))
