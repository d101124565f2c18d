"""The batch that is looked at."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

__all__ = ["Batch", "as_batch", "checked_batch"]


class Batch(NamedTuple):
    """A batch of data as tensors."""

    x: Any
    y: Any
    sample_weight: Any

    @property
    def samples(self) -> int:
        """How many samples it has."""
        return int(keras.tree.flatten(self.x)[0].shape[0])


def checked_batch(data: Any) -> Batch:
    """What a caller gave as `fit` takes it.

    Raises:
        ValueError: where the arrays have different lengths, or none.
    """
    batch = Batch(*keras.utils.unpack_x_y_sample_weight(data))
    lengths = {np.shape(a)[0] if np.ndim(a) else 0 for a in keras.tree.flatten(batch) if a is not None}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            "TrainingHealth: `batch` must be inputs, or (inputs, targets), or (inputs, targets, sample_weight), all of as "
            f"many samples. Received arrays of {sorted(lengths)} samples."
        )
    return batch


def as_batch(batch: Batch) -> Batch:
    """The arrays as tensors where training takes place."""
    return Batch(*(keras.tree.map_structure(_as_tensor, part) for part in batch))


def _as_tensor(array: Any) -> Any:
    """An array as `fit` hands it to a model, on every device of a `keras.distribution`."""
    if array is None:
        return None
    if not ops.is_tensor(array):
        array = np.asarray(array)
    dtype = keras.backend.standardize_dtype(array.dtype) if hasattr(array, "dtype") else None
    is_float = dtype is not None and dtype.startswith("float")
    tensor = ops.convert_to_tensor(array, keras.config.floatx() if is_float else None)
    distribution = keras.distribution.distribution() if keras.backend.backend() == "jax" else None
    if distribution is None:
        return tensor
    everywhere = keras.distribution.TensorLayout([None] * len(tensor.shape), distribution.device_mesh)
    return keras.distribution.distribute_tensor(tensor, everywhere)
