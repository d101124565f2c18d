"""Many small tensors as one: a program gives one vector, which crosses to the host at once, and there they are taken apart."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_addons_l6.backends.portable import Tensor

__all__ = ["Packing"]


class Packing:
    """Packs a structure of tensors while a program is traced, and opens what the program gives.

    Example:
        >>> from keras import ops
        >>> from keras_addons_l6.health.packing import Packing
        >>> packing = Packing()
        >>> vector = packing.packed({"a": ops.ones((2, 2)), "b": ops.zeros(())})
        >>> opened = packing.opened(vector)
        >>> opened["a"].shape, float(opened["b"])
        ((2, 2), 0.0)
    """

    def __init__(self) -> None:
        self._structure: Any = ()
        self._shapes: list[tuple[int, ...]] = []

    def packed(self, tensors: Any) -> Tensor:
        """All numbers as one vector in float32."""
        flat = keras.tree.flatten(tensors)
        self._structure = keras.tree.map_structure(lambda _: 0, tensors)
        self._shapes = [tuple(map(int, x.shape)) for x in flat]
        return ops.concatenate([_in_float32(ops.reshape(x, (-1,))) for x in flat])

    def opened(self, vector: Tensor) -> Any:
        """The structure that was packed, with arrays for tensors."""
        ends = np.cumsum([math.prod(shape) for shape in self._shapes])
        parts = np.split(np.asarray(ops.convert_to_numpy(vector)), ends[:-1])
        arrays = [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return keras.tree.pack_sequence_as(self._structure, arrays)


def _in_float32(x: Tensor) -> Tensor:
    return x if keras.backend.standardize_dtype(x.dtype) == "float32" else ops.cast(x, "float32")
