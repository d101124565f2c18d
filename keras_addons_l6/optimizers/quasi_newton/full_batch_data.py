"""The data of `fit_full_batch` as tensors, checked, and parts of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_addons_l6.backends.portable import Tensor

__all__ = ["Data", "common_length", "prepared", "rows", "signature"]


class Data(NamedTuple):
    """What a model trains on: each a tensor, a list or dict of tensors, or None."""

    x: Any
    y: Any = None
    sample_weight: Any = None


def prepared(x: Any, y: Any, sample_weight: Any, class_weight: Mapping[int, float] | None) -> Data:
    """The data as `fit` would hand them to the model: tensors, real numbers in `keras.config.floatx()`.

    Raises:
        ValueError: for what are no arrays with samples along their first axis, and for class weights that
            `fit` refuses.
    """
    if class_weight is not None:
        sample_weight = _weights_of_classes(y, sample_weight, class_weight)
    data = Data(*keras.tree.map_structure(_as_keras_takes_it, (x, y, sample_weight)))
    arrays = _arrays(data)
    if not arrays or any(len(a.shape) == 0 or int(a.shape[0]) == 0 for a in arrays):
        raise ValueError(
            "`fit_full_batch` needs arrays with samples along their first axis, and at least one sample. "
            f"Received shapes: {[tuple(a.shape) for a in arrays]}."
        )
    return data


def common_length(data: Data, batch_size: int | None) -> int | None:
    """The number of samples; None for sets of points of different lengths in x.

    Raises:
        ValueError: where y or the weights have another length than x, or sets of different lengths are to be cut.
    """
    lengths = sorted({int(a.shape[0]) for a in _arrays(data)})
    if len(lengths) == 1:
        return lengths[0]
    if len({int(a.shape[0]) for a in _arrays(Data(data.x))}) == 1:
        raise ValueError(f"All arrays must have the same number of samples. Received: {lengths}.")
    if batch_size is not None:
        raise ValueError(
            f"Sets of points of different lengths cannot be cut into pieces. Received: {lengths} samples and "
            f"batch_size={batch_size}. Leave `batch_size` out."
        )
    return None


def rows(data: Any, start: Any, length: int) -> Any:
    """Some samples of each array."""

    def part(x: Tensor) -> Tensor:
        rest = tuple(x.shape)[1:]
        # JAX wants the starts of one dtype.
        return ops.slice(x, (start, *[start * 0] * len(rest)), (length, *rest))

    return keras.tree.map_structure(lambda x: None if x is None else part(x), data)


def signature(data: Data) -> str:
    """Structure, shapes and dtypes: what a program for these data may depend on."""

    def described(x: Any) -> str:
        return "None" if x is None else f"{keras.backend.standardize_dtype(x.dtype)}{tuple(x.shape)}"

    return str(keras.tree.map_structure(described, data))


def _arrays(data: Data) -> list[Tensor]:
    return [x for x in keras.tree.flatten(data) if x is not None]


def _as_keras_takes_it(array: Any) -> Any:
    """An array as a tensor."""
    if array is None:
        return None
    if not ops.is_tensor(array):
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise ValueError(
                "`fit_full_batch` takes arrays, or lists or dicts of arrays. For a dataset or a generator "
                f"use `fit` with the optimizer's `gradient_accumulation_steps`. Received dtype: {array.dtype}."
            )
    is_real = "float" in keras.backend.standardize_dtype(array.dtype)
    tensor = ops.convert_to_tensor(array, keras.config.floatx() if is_real else None)
    distribution = keras.distribution.distribution() if keras.backend.backend() == "jax" else None
    if distribution is None:
        return tensor
    return keras.distribution.distribute_tensor(tensor, distribution.get_data_layout(tuple(tensor.shape)))


def _weights_of_classes(y: Any, sample_weight: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """A weight for each sample by its class, as in `fit`: whole labels, or one column a class."""
    if sample_weight is not None:
        raise ValueError("`class_weight` and `sample_weight` cannot both be given. Multiply them into one.")
    if y is None or keras.tree.is_nested(y):
        raise ValueError(f"`class_weight` needs `y` to be one array of labels. Received: y of {type(y)}.")
    labels = ops.convert_to_numpy(y) if ops.is_tensor(y) else np.asarray(y)
    if labels.ndim > 1:
        labels = labels.argmax(axis=-1) if labels.shape[-1] != 1 else labels[..., 0]
    if labels.ndim != 1:
        raise ValueError(f"`class_weight` needs one label a sample. Received: y of shape {np.shape(y)}.")
    return np.array([class_weight.get(round(float(k)), 1.0) for k in labels], keras.config.floatx())
