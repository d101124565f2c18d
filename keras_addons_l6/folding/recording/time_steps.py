"""TimeDistributed as the layer it wraps, with the time steps merged into the batch and split off again."""

from __future__ import annotations

from typing import Any

import keras

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.recording.block import Untraceable

__all__ = ["merged_shape", "require_plain_steps", "split_shape", "takes_any_rank"]

# Layers that do the same to every place, whatever the axes in front.
_OF_ANY_RANK = tuple(
    getattr(keras.layers, name)
    for name in (
        "Dense",
        "Identity",
        "ReLU",
        "LeakyReLU",
        "ELU",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
    )
)


def takes_any_rank(operation: keras.Operation) -> bool:
    """Whether a layer gives the same for (batch, steps, ...) as for (batch * steps, ...)."""
    if isinstance(operation, keras.layers.BatchNormalization):
        return operation.axis == -1
    if type(operation) is keras.layers.Activation:
        return operation.activation is not keras.activations.softmax
    return type(operation) in _OF_ANY_RANK


def require_plain_steps(
    wrapper: keras.layers.TimeDistributed, given: keras.KerasTensor, kwargs: dict[str, Any]
) -> None:
    """Raise where a TimeDistributed layer does more than call the layer inside on every time step.

    Args:
        wrapper: The layer.
        given: What it is called on, (batch, steps, ...).
        kwargs: The call's keyword arguments.

    Raises:
        Untraceable: When a mask says which steps count, or the layer inside computes in another type.
    """
    if kwargs.get("mask") is not None or keras_private.mask_of(given) is not None:
        raise Untraceable("a mask says which of its time steps count")
    if wrapper.layer.compute_dtype != wrapper.compute_dtype or given.dtype != wrapper.compute_dtype:
        raise Untraceable(f"it hands '{wrapper.layer.name}' another type than it is given itself")


def merged_shape(given: keras.KerasTensor) -> tuple[int, ...]:
    """The shape (batch * steps, ...) for a tensor (batch, steps, ...), with -1 for the first size.

    Raises:
        Untraceable: When sizes are open that a reshape must know.
    """
    return -1, *_closed(given.shape[2:])


def split_shape(given: keras.KerasTensor, output: Any) -> tuple[int, ...]:
    """The shape (batch, steps, ...) of what a TimeDistributed layer gives.

    Args:
        given: What it is called on, (batch, steps, ...).
        output: What the layer inside makes of it, (batch * steps, ...).

    Returns:
        The shape, with -1 for the batch, or for the steps where they are open and the batch is not.

    Raises:
        Untraceable: When the layer inside has several outputs, or sizes are open that must be known.
    """
    if not isinstance(output, keras.KerasTensor):
        raise Untraceable("the layer inside has several outputs")
    batch, steps = given.shape[:2]
    if steps is None and batch is not None:
        return batch, -1, *_closed(output.shape[1:])
    return -1, *_closed((steps, *output.shape[1:]))


def _closed(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) < len(shape):
        raise Untraceable("its sizes are open, so its time steps cannot be merged into the batch")
    return sizes
