"""The layers whose weights can take up a scale and shift, and how: one class a kind of layer."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_addons_l6.folding import registered
from keras_addons_l6.folding.planning.affine import Affine, float64_array
from keras_addons_l6.folding.reason import Reason

__all__ = ["Absorber", "Weights", "absorber_of", "channel_axis", "register_absorber"]

# float64 arrays by the name of the layer's attribute; a bias it does not have is left out
Weights = Mapping[str, np.ndarray]


_NO_SHIFT = Affine(np.ones(1), np.zeros(1))


class Absorber(abc.ABC):
    """How one kind of layer, y = K x + b before its activation, takes up an affine map (`register_absorber`).

    A map is an `affine` with float64 arrays `scale` and `shift`, one number a channel, along an `axis` counted from the
    front of a tensor of that `rank`.

    After it: s (K x + b) + t has the kernel s K, per output channel, and the bias s b + t.
    Before it: K (s x + t) + b has the kernel K s, per input channel, and the bias b + K t.
    Beside it: K x + b + (s x + t) has the kernel K + diag(s), at the place that reads x itself, and the bias b + t.

    Attributes:
        names: Attributes of the layer that hold its weights, the bias aside.
    """

    names: tuple[str, ...] = ("kernel",)

    def weights(self, layer: Any) -> Weights:
        """The layer's weights in float64, LoRA merged in."""
        variables = {name: getattr(layer, name, None) for name in (*self.names, "bias")}
        return {name: float64_array(variable) for name, variable in variables.items() if variable is not None}

    def config(self, config: dict[str, Any], axis: int | None, rank: int) -> dict[str, Any]:
        """The layer's configuration with a bias, so that it can hold a shift."""
        return config | {"use_bias": True}

    def refuses_after(self, layer: Any, axis: int, rank: int) -> Reason | None:
        """Why the layer cannot scale and shift its output along this axis; None where it can."""
        if getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear:
            return Reason("activation", f"'{layer.name}' applies its own activation first")
        return None if axis == channel_axis(layer, rank) else _wrong_axis(layer, axis)

    @abc.abstractmethod
    def after(self, weights: Weights, affine: Affine, layer: Any, axis: int, rank: int) -> Weights:
        """The weights of the layer followed by the map."""

    def refuses_before(self, layer: Any, affine: Affine, axis: int, rank: int) -> Reason | None:
        """Why the layer cannot take a map of its input; None where it can."""
        return Reason("layer", f"'{layer.name}' ({type(layer).__name__}) takes no scale and shift before it")

    def before(self, weights: Weights, affine: Affine, layer: Any) -> Weights:
        """The weights of the layer preceded by the map."""
        raise NotImplementedError

    def refuses_beside(self, layer: Any, axis: int, rank: int) -> Reason | None:
        """Why the layer cannot add the map of its input to its output; None where it can."""
        return Reason("layer", f"'{layer.name}' ({type(layer).__name__}) takes no scale and shift beside it")

    def beside(self, weights: Weights, affine: Affine, layer: Any) -> Weights:
        """The weights of the layer whose output the map of its input was added to."""
        raise NotImplementedError


class _WithPadding(Absorber):
    """A layer that slides over space: zeros padded around its input stand for zero, not for t."""

    def refuses_before(self, layer: Any, affine: Affine, axis: int, rank: int) -> Reason | None:
        if axis != channel_axis(layer, rank):
            return _wrong_axis(layer, axis)
        if layer.padding == "valid" or set(layer.kernel_size) == {1} or not affine.shift.any():
            return None
        return Reason("padding", f"'{layer.name}' pads its input with zeros, and the shift is not zero")

    def refuses_beside(self, layer: Any, axis: int, rank: int) -> Reason | None:
        if axis != channel_axis(layer, rank):
            return _wrong_axis(layer, axis)
        if not _reads_its_own_place(layer):
            return Reason("layer", f"'{layer.name}' has no weight that reads the place it writes")
        return None


def _reads_its_own_place(layer: Any) -> bool:
    """Whether a convolution's window lies around the place that it writes, channel for channel."""
    centred = layer.padding == "same" and all(size % 2 == 1 for size in layer.kernel_size)
    whole = centred or set(layer.kernel_size) == {1}
    return whole and set(layer.strides) == {1} and layer.activation is keras.activations.linear


def _centre(kernel: np.ndarray) -> tuple[int, ...]:
    return tuple(size // 2 for size in kernel.shape[:-2])


class _Dense(Absorber):
    """kernel (in, out)."""

    def after(self, weights: Weights, affine: Affine, layer: Any, axis: int, rank: int) -> Weights:
        return {"kernel": weights["kernel"] * affine.scale, "bias": _bias_after(weights, affine)}

    def refuses_before(self, layer: Any, affine: Affine, axis: int, rank: int) -> Reason | None:
        return None if axis == rank - 1 else _wrong_axis(layer, axis)

    def before(self, weights: Weights, affine: Affine, layer: Any) -> Weights:
        kernel = weights["kernel"]
        return {"kernel": kernel * affine.scale[:, None], "bias": _bias(weights) + affine.shift @ kernel}

    def refuses_beside(self, layer: Any, axis: int, rank: int) -> Reason | None:
        square = (
            layer.kernel.shape[0] == layer.kernel.shape[1] and layer.activation is keras.activations.linear
        )
        return self.refuses_before(layer, _NO_SHIFT, axis, rank) if square else _not_square(layer)

    def beside(self, weights: Weights, affine: Affine, layer: Any) -> Weights:
        kernel = weights["kernel"] + np.diag(affine.scale)
        return {"kernel": kernel, "bias": _bias(weights) + affine.shift}


class _Conv(_WithPadding):
    """kernel (*window, in / groups, out); output channel o reads the inputs of group o // (out / groups)."""

    def after(self, weights: Weights, affine: Affine, layer: Any, axis: int, rank: int) -> Weights:
        return {"kernel": weights["kernel"] * affine.scale, "bias": _bias_after(weights, affine)}

    def before(self, weights: Weights, affine: Affine, layer: Any) -> Weights:
        kernel = weights["kernel"]
        scale, shift = (_of_groups(values, layer, kernel) for values in (affine.scale, affine.shift))
        moved = (kernel * shift).sum(axis=tuple(range(kernel.ndim - 1)))
        return {"kernel": kernel * scale, "bias": _bias(weights) + moved}

    def refuses_beside(self, layer: Any, axis: int, rank: int) -> Reason | None:
        inside, out = layer.kernel.shape[-2:]
        return (
            super().refuses_beside(layer, axis, rank) if inside * layer.groups == out else _not_square(layer)
        )

    def beside(self, weights: Weights, affine: Affine, layer: Any) -> Weights:
        kernel = weights["kernel"].copy()
        out = np.arange(kernel.shape[-1])
        # channel o is number o modulo (in / groups) of those that its group reads
        kernel[_centre(kernel)][out % kernel.shape[-2], out] += affine.scale
        return {"kernel": kernel, "bias": _bias(weights) + affine.shift}


class _ConvTranspose(Absorber):
    """kernel (*window, out, in)."""

    def after(self, weights: Weights, affine: Affine, layer: Any, axis: int, rank: int) -> Weights:
        return {"kernel": weights["kernel"] * affine.scale[:, None], "bias": _bias_after(weights, affine)}


class _Depthwise(_WithPadding):
    """kernel (*window, in, multiplier); output channel in * multiplier + m."""

    def after(self, weights: Weights, affine: Affine, layer: Any, axis: int, rank: int) -> Weights:
        kernel = weights["kernel"]
        scale = affine.scale.reshape(kernel.shape[-2:])
        return {"kernel": kernel * scale, "bias": _bias_after(weights, affine)}

    def before(self, weights: Weights, affine: Affine, layer: Any) -> Weights:
        kernel = weights["kernel"]
        moved = (kernel * affine.shift[:, None]).sum(axis=tuple(range(kernel.ndim - 2)))
        return {"kernel": kernel * affine.scale[:, None], "bias": _bias(weights) + moved.reshape(-1)}

    def refuses_beside(self, layer: Any, axis: int, rank: int) -> Reason | None:
        single = layer.kernel.shape[-1] == 1
        return super().refuses_beside(layer, axis, rank) if single else _not_square(layer)

    def beside(self, weights: Weights, affine: Affine, layer: Any) -> Weights:
        kernel = weights["kernel"].copy()
        kernel[_centre(kernel)][:, 0] += affine.scale
        return {"kernel": kernel, "bias": _bias(weights) + affine.shift}


class _Separable(_WithPadding):
    """A depthwise kernel (*window, in, multiplier), then a pointwise one (1.., in * multiplier, out)."""

    names = ("depthwise_kernel", "pointwise_kernel")

    def refuses_beside(self, layer: Any, axis: int, rank: int) -> Reason | None:
        return Absorber.refuses_beside(self, layer, axis, rank)

    def after(self, weights: Weights, affine: Affine, layer: Any, axis: int, rank: int) -> Weights:
        pointwise = weights["pointwise_kernel"] * affine.scale
        return dict(weights) | {"pointwise_kernel": pointwise, "bias": _bias_after(weights, affine)}

    def before(self, weights: Weights, affine: Affine, layer: Any) -> Weights:
        depthwise, pointwise = weights["depthwise_kernel"], weights["pointwise_kernel"]
        moved = (depthwise * affine.shift[:, None]).sum(axis=tuple(range(depthwise.ndim - 2)))
        bias = _bias(weights) + moved.reshape(-1) @ pointwise.reshape(pointwise.shape[-2:])
        scaled = depthwise * affine.scale[:, None]
        return {"depthwise_kernel": scaled, "pointwise_kernel": pointwise, "bias": bias}


class _EinsumDense(Absorber):
    """kernel with one axis a letter; the normalized axis must be one of its letters, and of the bias's."""

    def config(self, config: dict[str, Any], axis: int | None, rank: int) -> dict[str, Any]:
        if config["bias_axes"] is not None or axis is None:
            return config
        return config | {"bias_axes": _einsum_letter(config["equation"], axis, rank)}

    def refuses_after(self, layer: Any, axis: int, rank: int) -> Reason | None:
        if layer.activation is not keras.activations.linear:
            return Reason("activation", f"'{layer.name}' applies its own activation first")
        letter = _einsum_letter(layer.equation, axis, rank)
        if letter is None or layer.equation.split("->")[0].split(",")[1].count(letter) != 1:
            return Reason(
                "axis", f"axis {axis} is no axis of the kernel of '{layer.name}' ({layer.equation})"
            )
        if layer.bias_axes is not None and letter not in layer.bias_axes:
            return Reason("axis", f"the bias of '{layer.name}' does not vary along axis {axis}")
        return None

    def after(self, weights: Weights, affine: Affine, layer: Any, axis: int, rank: int) -> Weights:
        letters = layer.equation.split("->")[0].split(",")[1].strip()
        place = letters.index(_einsum_letter(layer.equation, axis, rank))
        kernel = weights["kernel"]
        bias = weights.get("bias", np.zeros((1,) * (rank - axis)))
        along = _along(affine, axis - (rank - bias.ndim), bias.ndim)
        return {
            "kernel": kernel * _along(affine, place, kernel.ndim).scale,
            "bias": bias * along.scale + along.shift,
        }


class _Embedding(Absorber):
    """A table (vocabulary, out): every row is an output."""

    names = ("embeddings",)

    def config(self, config: dict[str, Any], axis: int | None, rank: int) -> dict[str, Any]:
        return config

    def refuses_after(self, layer: Any, axis: int, rank: int) -> Reason | None:
        return None if axis == rank - 1 else _wrong_axis(layer, axis)

    def after(self, weights: Weights, affine: Affine, layer: Any, axis: int, rank: int) -> Weights:
        return {"embeddings": weights["embeddings"] * affine.scale + affine.shift}


class _BatchNorm(Absorber):
    """Another BatchNorm that stays: gamma s and beta s + t."""

    names = ("gamma", "beta", "moving_mean", "moving_variance")

    def config(self, config: dict[str, Any], axis: int | None, rank: int) -> dict[str, Any]:
        return config | {"scale": True, "center": True}

    def refuses_after(self, layer: Any, axis: int, rank: int) -> Reason | None:
        return None if axis == layer.axis % rank else _wrong_axis(layer, axis)

    def after(self, weights: Weights, affine: Affine, layer: Any, axis: int, rank: int) -> Weights:
        gamma, beta = weights.get("gamma", np.ones(())), weights.get("beta", np.zeros(()))
        return dict(weights) | {"gamma": gamma * affine.scale, "beta": beta * affine.scale + affine.shift}


_KINDS: dict[type, Absorber] = {
    keras.layers.Dense: _Dense(),
    keras.layers.Conv1D: _Conv(),
    keras.layers.Conv2D: _Conv(),
    keras.layers.Conv3D: _Conv(),
    keras.layers.Conv1DTranspose: _ConvTranspose(),
    keras.layers.Conv2DTranspose: _ConvTranspose(),
    keras.layers.Conv3DTranspose: _ConvTranspose(),
    keras.layers.DepthwiseConv1D: _Depthwise(),
    keras.layers.DepthwiseConv2D: _Depthwise(),
    keras.layers.SeparableConv1D: _Separable(),
    keras.layers.SeparableConv2D: _Separable(),
    keras.layers.EinsumDense: _EinsumDense(),
    keras.layers.Embedding: _Embedding(),
}
_BATCH_NORM = _BatchNorm()


def absorber_of(layer: keras.Operation) -> Absorber | None:
    """How a layer takes up an affine map; None for a layer that cannot, or whose class is not known.

    Only the exact class counts: a subclass may compute anything.
    """
    if isinstance(layer, keras.layers.BatchNormalization):
        return _BATCH_NORM
    return _KINDS.get(type(layer))


def register_absorber(layer_class: type, absorber: Absorber) -> None:
    """Tell folding how the layers of a class take up a BatchNorm before or after them.

    The class is meant alone: one that derives from it may compute anything, and is kept until it is registered itself. Its
    layers are made anew from their configuration, and every fold is checked like any other, so an absorber that is wrong
    for a layer (one that rounds its kernel, say) ends in a `FoldingError`. An absorber says in `refuses_after` and
    `refuses_before` where that would be so, and the BatchNorm is then kept.

    Args:
        layer_class: The class.
        absorber: How: an instance of a subclass of `Absorber`.

    Raises:
        ValueError: For what is no layer class, or no absorber.

    Example:
        >>> import keras
        >>> from keras_addons_l6.folding import Absorber, register_absorber
        >>> @keras.saving.register_keras_serializable("mine")
        ... class Linear(keras.layers.Dense):
        ...     def call(self, x):
        ...         return keras.ops.matmul(x, self.kernel) + self.bias
        >>> class TakesUp(Absorber):
        ...     def after(self, weights, affine, layer, axis, rank):
        ...         scaled = {name: values * affine.scale for name, values in weights.items()}
        ...         return scaled | {"bias": scaled["bias"] + affine.shift}
        >>> register_absorber(Linear, TakesUp())
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.Layer)):
        raise ValueError(f"`layer_class` must be a class of layers. Received: {layer_class!r}")
    if not isinstance(absorber, Absorber):
        raise ValueError(
            f"`absorber` must be an instance of a subclass of `Absorber`. Received: {absorber!r}"
        )
    registered.remember(layer_class)
    _KINDS[layer_class] = absorber


def channel_axis(layer: Any, rank: int) -> int:
    """The axis of the features, counted from the front."""
    return 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else rank - 1


def _not_square(layer: Any) -> Reason:
    return Reason("layer", f"'{layer.name}' has other channels in than out, or applies its own activation")


def _wrong_axis(layer: Any, axis: int) -> Reason:
    return Reason("axis", f"it normalizes axis {axis}, which is not the channel axis of '{layer.name}'")


def _bias(weights: Weights) -> np.ndarray:
    return weights.get("bias", np.zeros(()))


def _bias_after(weights: Weights, affine: Affine) -> np.ndarray:
    return _bias(weights) * affine.scale + affine.shift


def _of_groups(values: np.ndarray, layer: Any, kernel: np.ndarray) -> np.ndarray:
    """Values of the input channels as (in / groups, out), each output channel seeing its own group."""
    inside, out = kernel.shape[-2:]
    return np.repeat(values.reshape(layer.groups, inside), out // layer.groups, axis=0).T


def _along(affine: Affine, axis: int, rank: int) -> Affine:
    """The map with its channels on one axis of several."""
    shape = tuple(-1 if place == axis else 1 for place in range(rank))
    return Affine(affine.scale.reshape(shape), affine.shift.reshape(shape))


def _einsum_letter(equation: str, axis: int, rank: int) -> str | None:
    """The letter of an output axis; None for one behind an ellipsis."""
    output = equation.split("->")[1].strip()
    letters = output.removeprefix("...")
    place = axis - (rank - len(letters))
    return letters[place] if "." not in letters and 0 <= place < len(letters) else None
