"""The calls that let a scale and shift through, and where the map is found on their other side."""

from __future__ import annotations

import functools

import keras

from keras_addons_l6 import keras_private
from keras_addons_l6.folding import registered
from keras_addons_l6.folding.planning.affine import Placed
from keras_addons_l6.folding.planning.channels import carried_back, carried_forward
from keras_addons_l6.folding.planning.constants import carried_across, line_of
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.tape import Call

__all__ = ["after", "before", "register_passage"]

# At test time the output is the input.
_SAME = (
    "Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout AlphaDropout GaussianNoise Identity "
    "Activation ActivityRegularization"
)
# Values are moved, or those of one channel averaged with weights that sum to one; padded constants are looked at.
_MOVES = (
    "AveragePooling1D AveragePooling2D AveragePooling3D Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D "
    "UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D GlobalAveragePooling1D GlobalAveragePooling2D "
    "GlobalAveragePooling3D Permute Reshape Flatten RepeatVector"
)
# max(s x + t) = s max(x) + t for s >= 0.
_MAXIMA = (
    "MaxPooling1D MaxPooling2D MaxPooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D "
    "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D"
)
# The same of `keras.ops`.
_MOVING_FUNCTIONS = (
    "transpose swapaxes moveaxis reshape pad get_item split unstack slice expand_dims squeeze mean flip roll repeat tile "
    "broadcast_to average_pool resize depth_to_space space_to_depth"
)
_MAXIMUM_FUNCTIONS = "max max_pool"


def _layers(names: str) -> set[type]:
    # what an older Keras lacks cannot be in a model of its
    return {getattr(keras.layers, name) for name in names.split() if hasattr(keras.layers, name)}


_same = _layers(_SAME)
_moves = _layers(_MOVES)
_maxima = _layers(_MAXIMA)


def register_passage(layer_class: type, *, maximum: bool = False) -> None:
    """Tell folding that affine maps of channels pass the layers of a class.

    A layer may be registered that, called on one tensor at test time, moves values, or replaces each by an average of
    values of its channel with weights that sum to one, or by the largest of them (`maximum`). Which channel ends where is
    found by calling it on the channels' numbers, and every fold is checked like any other.

    Args:
        layer_class: The class; classes that derive from it are not meant.
        maximum: Whether a maximum is taken, which maps with a negative scale do not pass.

    Raises:
        ValueError: For what is no layer class.

    Example:
        >>> import keras
        >>> from keras_addons_l6.folding import register_passage
        >>> @keras.saving.register_keras_serializable("mine")
        ... class ShuffleChannels(keras.layers.Layer):
        ...     def call(self, x):
        ...         return keras.ops.flip(x, axis=-1)
        >>> register_passage(ShuffleChannels)
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise ValueError(f"`layer_class` must be a class of layers. Received: {layer_class!r}")
    registered.remember(layer_class)
    (_maxima if maximum else _moves).add(layer_class)


def before(call: Call, output: int, placed: Placed) -> Placed | Reason:
    """A map of one of a call's outputs as the map with the same effect on its input, or why there is none."""
    refusal = _refusal(call, placed)
    if refusal is not None:
        return refusal
    line = line_of(call)
    if line is not None:
        return carried_across(call, line, placed, forward=False)
    return placed if type(call.operation) in _same else carried_back(call, output, placed)


def after(call: Call, placed: Placed) -> list[Placed] | Reason:
    """A map of a call's input as the maps with the same effect on its outputs, or why there are none."""
    refusal = _refusal(call, placed)
    if refusal is not None:
        return refusal
    line = line_of(call)
    if line is None:
        return [placed] if type(call.operation) in _same else carried_forward(call, placed)
    found = carried_across(call, line, placed, forward=True)
    return found if isinstance(found, Reason) else [found]


def _refusal(call: Call, placed: Placed) -> Reason | None:
    """Why no map passes a call, or not this one."""
    layer = call.operation
    if keras_private.is_activation(layer):
        return Reason("activation", f"the activation '{layer.name}' stands between")
    kinds = _operations()
    known = type(layer) in _same | _moves | _maxima | kinds["moves"] | kinds["maxima"]
    if len(call.inputs) != 1 or not (known or line_of(call) is not None):
        return Reason("layer", f"'{layer.name}' ({type(layer).__name__}) lets no scale and shift through")
    if call.kwargs.get("training"):
        return Reason("training", f"'{layer.name}' is called with `training=True`")
    if type(layer) in _maxima | kinds["maxima"] and (placed.affine.scale < 0).any():
        return Reason("sign", f"the maximum in '{layer.name}' cannot be scaled by a negative number")
    return None


@functools.cache
def _operations() -> dict[str, set[type]]:
    """The classes of `keras.ops` that let maps through; asked for once, when something is folded."""
    names = {"moves": _MOVING_FUNCTIONS.split(), "maxima": _MAXIMUM_FUNCTIONS.split()}
    return {
        kind: {keras_private.operation_class(name) for name in functions if keras_private.has_operation(name)}
        for kind, functions in names.items()
    }
