"""What folding knows of one BatchNorm call: that it is one, and which affine map it is at test time."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_addons_l6.folding.planning.affine import Affine, Placed, batch_norm_affine, float64_array
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.tape import Call

__all__ = ["is_batch_norm", "placed_map"]

# Our BatchNorm has a `call` of its own (corrected statistics in training) and is known by the name
# under which it is saved, so that folding imports no layers.
_OURS = "keras_addons_l6>BatchNorm"


def is_batch_norm(operation: keras.Operation) -> bool:
    """Whether an operation is a BatchNorm of any class."""
    return isinstance(operation, keras.layers.BatchNormalization)


def placed_map(call: Call) -> Placed | Reason:
    """The affine map of a BatchNorm call and its axis, or why it is none that can be folded."""
    layer = call.operation
    refusal = _refusal(call)
    if refusal is not None:
        return refusal
    affine = _affine(layer)
    if affine is None:
        return Reason(
            "statistics", f"the weights of '{layer.name}' are not finite, or its variance is negative"
        )
    return Placed(affine, layer.axis % len(call.inputs[0].shape))


def _refusal(call: Call) -> Reason | None:
    layer = call.operation
    if not _has_known_call(layer):
        return Reason("custom", f"'{type(layer).__name__}' has a `call` of its own")
    if call.kwargs.get("training") and layer.trainable:
        return Reason(
            "training", f"'{layer.name}' is called with `training=True` and uses the batch's statistics"
        )
    if call.kwargs.get("mask") is not None or len(call.inputs) != 1:
        return Reason("custom", f"'{layer.name}' is called with a mask of its own, which travels on from it")
    if not keras.backend.is_float_dtype(call.inputs[0].dtype):
        return Reason("input", f"'{layer.name}' normalizes whole numbers")
    return None


def _has_known_call(layer: Any) -> bool:
    """Whether the layer computes what the class that it is, or derives from, documents."""
    definer = next(cls for cls in type(layer).__mro__ if "call" in vars(cls))
    known = definer is keras.layers.BatchNormalization or keras.saving.get_registered_name(definer) == _OURS
    return known and "call" not in vars(layer) and type(layer).__call__ is keras.Layer.__call__


def _affine(layer: Any) -> Affine | None:
    """The layer's map; None where a number in it is not finite, or the variance is negative."""
    mean, variance = float64_array(layer.moving_mean), float64_array(layer.moving_variance)
    gamma = np.ones(()) if layer.gamma is None else float64_array(layer.gamma)
    beta = np.zeros(()) if layer.beta is None else float64_array(layer.beta)
    if not all(np.isfinite(values).all() for values in (gamma, beta, mean, variance)) or (variance < 0).any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        affine = batch_norm_affine(gamma, beta, mean, variance, layer.epsilon)
    return affine if np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all() else None
