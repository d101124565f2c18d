"""LayerNorm: each sample normalized over its features."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_addons_l6 import argument_checks, backends
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.layers import arguments
from keras_addons_l6.layers.arguments import Constraint, Initializer, Regularizer, Shape

__all__ = ["LayerNorm"]

_EXPECTED = "an integer, such as -1 for the last axis, or a list of them, such as [-2, -1]"
_LARGEST_RANK = 64  # NumPy's, and no backend's tensors have more axes in use


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class LayerNorm(keras.layers.LayerNormalization):
    """Layer normalization: statistics over the features of each sample and position, at training as at test.

    With the mean and the biased variance over `axis`::

        y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    Ba, Kiros & Hinton, "Layer Normalization" (2016), equations 3 and 4, with one gamma and one beta for each
    place along `axis`.

    Statistics are computed in at least float32 by the corrected two-pass method, so values with a large mean
    keep their accuracy and a constant input gives beta.

    Input shape: any of rank >= 2, sizes known or not but along `axis`; output: the same shape, in the compute dtype.

    Args:
        axis: The axis that statistics are taken over, or several, any but the batch's.
        epsilon: Added to the variance.
        center: Whether to add beta.
        scale: Whether to multiply by gamma.
        beta_initializer: Initializer of beta.
        gamma_initializer: Initializer of gamma.
        beta_regularizer: Regularizer of beta.
        gamma_regularizer: Regularizer of gamma.
        beta_constraint: Constraint on beta.
        gamma_constraint: Constraint on gamma.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Raises:
        ValueError: an argument out of range, at construction; an axis the input lacks or names twice, a size along it
            that is not known, or a single value to normalize, when the layer is built.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from keras_addons_l6.layers import LayerNorm
        >>> x = np.array([[1.0, 3.0], [10.0, 30.0]])
        >>> ops.convert_to_numpy(LayerNorm()(x)).round(2).tolist()
        [[-1.0, 1.0], [-1.0, 1.0]]

    Differs from `keras.layers.LayerNormalization`:
        1. `epsilon` is 1e-5, as in PyTorch, not 1e-3; the paper has none.
        2. The mean is subtracted before anything else, so no digits are lost where it is large.
        3. Building the layer leaves `axis`, and with it the config, as it was.
        4. `axis=0`, arguments out of range, an axis named twice, and a single value to normalize, which is its own
           mean, are errors.
        5. There is no `rms_scaling`, which Keras deprecates: `keras.layers.RMSNormalization` has the right formula.
        6. An input whose sizes along `axis` differ from those the layer was built for is refused.

    To reproduce Keras pass `epsilon=1e-3`: equal within rounding.

    To reproduce PyTorch's `LayerNorm(768)` pass nothing; for `LayerNorm([28, 28])`, whose argument is the sizes of
    the last axes, pass `axis=[-2, -1]`: equal within rounding.
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Initializer = "zeros",
        gamma_initializer: Initializer = "ones",
        beta_regularizer: Regularizer = None,
        gamma_regularizer: Regularizer = None,
        beta_constraint: Constraint = None,
        gamma_constraint: Constraint = None,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        arguments.check_names(name, LayerNorm, kwargs)
        if argument_checks.flag(name, "rms_scaling", kwargs.pop("rms_scaling", False)):
            raise ValueError(
                f"{name}: rms_scaling=True is not supported; Keras deprecates it, since it divides by the deviation and "
                "not by the root of the mean square. Use keras.layers.RMSNormalization."
            )
        super().__init__(
            axis=_checked_axes(name, axis),
            epsilon=argument_checks.number(name, "epsilon", epsilon, low=0.0, bounds="(]"),
            center=argument_checks.flag(name, "center", center),
            scale=argument_checks.flag(name, "scale", scale),
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        self.autocast = False  # statistics of the input as it came; older Keras rounds it first

    def build(self, input_shape: Shape) -> None:
        """Create gamma and beta."""
        sizes = self._sizes(input_shape)
        shape = tuple(sizes.values())
        self.gamma = self._add_affine("gamma", shape) if self.scale else None
        self.beta = self._add_affine("beta", shape) if self.center else None
        # Axes counted from the end are the same in inputs of any rank, as in Keras.
        given, rank = [self.axis] if isinstance(self.axis, int) else self.axis, len(input_shape)
        if all(a < 0 for a in given):
            from_the_end = {a - rank: size for a, size in sizes.items()}
            self.input_spec = keras.layers.InputSpec(min_ndim=1 - min(given), axes=from_the_end)
        else:
            self.input_spec = keras.layers.InputSpec(ndim=rank, axes=sizes)

    def call(self, inputs: Tensor) -> Tensor:
        """Normalize the features."""
        x = ops.cast(inputs, backends.layers.statistics_dtype(inputs.dtype, self.compute_dtype))
        y = backends.layers.layer_norm(
            x,
            None if self.gamma is None else ops.convert_to_tensor(self.gamma),
            None if self.beta is None else ops.convert_to_tensor(self.beta),
            axes=_resolved_axes(type(self).__name__, self.axis, x.shape),
            epsilon=self.epsilon,
        )
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output: that of the input."""
        _resolved_axes(type(self).__name__, self.axis, input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        config = super().get_config()
        del config["rms_scaling"]
        return config

    def _sizes(self, input_shape: Shape) -> dict[int, int]:
        """Length of each axis that is normalized over, which has to be known for the weights to be made."""
        name = type(self).__name__
        sizes = {a: input_shape[a] for a in _resolved_axes(name, self.axis, input_shape)}
        known = {a: size for a, size in sizes.items() if size is not None}
        if known.keys() != sizes.keys():
            raise ValueError(
                f"{name}: the size of each axis that is normalized over, axis={self.axis}, must be known to create the "
                f"weights. Received an input of shape {tuple(input_shape)}. Give keras.Input that size, or pass another "
                "`axis`."
            )
        if math.prod(known.values()) == 1:
            raise ValueError(
                f"{name}: an input of shape {tuple(input_shape)} has one value along axis={self.axis}, its own mean: the "
                "output would be beta whatever the input. Pass an axis, or several, with more values."
            )
        return known

    def _add_affine(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
            autocast=False,
        )


def _checked_axes(layer: str, axis: Any) -> int | list[int]:
    """`axis` as the config holds it: an integer or a list of integers."""
    if not isinstance(axis, list | tuple):
        return _checked_axis(layer, axis, axis)
    if not axis:
        argument_checks.refuse(layer, "axis", axis, _EXPECTED)
    return [_checked_axis(layer, a, axis) for a in axis]


def _checked_axis(layer: str, axis: Any, given: Any) -> int:
    checked = argument_checks.integer(layer, "axis", axis, _EXPECTED)
    if checked == 0:
        raise ValueError(
            f"{layer}: axis={given} names the batch axis, 0, and samples are normalized one by one. Leave it out."
        )
    if not -_LARGEST_RANK <= checked < _LARGEST_RANK:
        raise ValueError(f"{layer}: axis={given} names an axis that no input has. {_NOT_SIZES}")
    return checked


_NOT_SIZES = (
    "`axis` says which axes to normalize over and not, as the first argument of torch.nn.LayerNorm, how long they "
    "are: pass axis=-1, the default, in place of the size of the last axis, or axis=[-2, -1] in place of those of "
    "the last two."
)


def _resolved_axes(layer: str, axis: int | list[int], input_shape: Shape) -> list[int]:
    """The axes counted from 0 and in order, where an input of this shape has them and none is the batch axis."""
    rank, given = len(input_shape), [axis] if isinstance(axis, int) else axis
    if rank < 2 or not all(-rank < a < rank for a in given):
        raise ValueError(
            f"{layer}: axis={axis} does not name axes of an input of shape {tuple(input_shape)}. Expected an input "
            f"of rank 2 or more and axes from 1 to {rank - 1} or from {1 - rank} to -1; axis 0 is the batch. {_NOT_SIZES}"
        )
    resolved = sorted({a % rank for a in given})
    if len(resolved) < len(given):
        raise ValueError(
            f"{layer}: axis={axis} names an axis of an input of shape {tuple(input_shape)} twice. Name each once."
        )
    return resolved
