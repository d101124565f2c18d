"""A model as a function of its variables' values, so that nothing that a look computes stays in it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_addons_l6.backends import programs
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.keras_private import sublayers

__all__ = ["Batch", "StatelessModel", "as_batch", "checked_batch"]


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


class StatelessModel:
    """A built model as a function of the values of its variables.

    Args:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._training = _training_argument(model)
        self.trainable = list(model.trainable_variables)
        # Keras keeps recurrent states out of a model's variables.
        states = [v for layer in _stateful(model) for v in _leaves(layer.states)]
        self.carried = [*model.non_trainable_variables, *states]

    def values(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The values of the trainable variables, and of the others."""
        return tuple(map(programs.value_of, self.trainable)), tuple(map(programs.value_of, self.carried))

    def scope(self, trainable: Sequence[Tensor], carried: Sequence[Tensor]) -> keras.StatelessScope:
        """A scope in which the model's variables have these values."""
        mapping = list(zip((*self.trainable, *self.carried), (*trainable, *carried), strict=True))
        return keras.StatelessScope(state_mapping=mapping, collect_losses=True)

    def loss(self, batch: Batch, y_pred: Any) -> Tensor:
        """The model's loss for outputs, as a number; within a scope."""
        x, y, sample_weight = batch
        loss = self.model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **self._training)
        return ops.reshape(loss, ())


def _training_argument(model: Any) -> dict[str, bool]:
    """What tells a model's `compute_loss` that it trains, if it wants to know."""
    parameters = inspect.signature(model.compute_loss).parameters
    named = "training" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {"training": True} if named else {}


def _stateful(model: Any) -> list[Any]:
    """The recurrent layers that hand their states on."""
    layers = sublayers(model)
    return [layer for layer in layers if isinstance(layer, keras.layers.RNN) and layer.stateful]


def _leaves(states: Any) -> list[Any]:
    """The variables in nested lists; to Keras's trees the lists that a layer tracks are leaves."""
    return [v for part in states for v in _leaves(part)] if isinstance(states, list | tuple) else [states]
