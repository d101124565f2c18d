"""GroupNorm: channels normalized in groups, each sample by itself."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_addons_l6 import argument_checks, backends
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.layers import arguments, masks
from keras_addons_l6.layers.arguments import Constraint, Initializer, Regularizer, Shape

__all__ = ["GroupNorm"]


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class GroupNorm(keras.layers.GroupNormalization):
    """Group normalization: each sample normalized in groups of neighbouring channels.

    With the mean and the biased variance over a group's channels and all positions of one sample::

        y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    Wu & He, "Group Normalization" (2018), equations 1, 2, 6 and 7. Training and test are alike.

    Statistics are computed in at least float32 by the corrected two-pass method, so values with a large mean
    keep their accuracy and a constant input gives beta.

    Input shape: any of rank >= 2, spatial sizes known or not; output: the same shape, in the compute dtype.

    Args:
        groups: Number of groups, a divisor of the number of channels; -1 for one group per channel.
        axis: Channel axis, any but the batch's.
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

    Call arguments:
        inputs: Tensor of rank >= 2.
        mask: Which values count for the statistics; all are normalized. Its rules are `BatchNorm`'s. A padded
            sample's valid part comes out as the sample without the padding does.

    Raises:
        ValueError: an argument out of range, at construction; an axis the input lacks, an unknown number of
            channels, one that `groups` does not divide, or groups of a single value, when the layer is built; a
            mask that does not fit, when it is called.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from keras_addons_l6.layers import GroupNorm
        >>> x = np.array([[1.0, 3.0, 10.0, 30.0]])
        >>> ops.convert_to_numpy(GroupNorm(groups=2)(x)).round(2).tolist()
        [[-1.0, 1.0, -1.0, 1.0]]

    Differs from `keras.layers.GroupNormalization`:
        1. `epsilon` is 1e-5, as in the paper's code, not 1e-3.
        2. The variance is never E[x^2] - E[x]^2, which on the torch backend loses all digits at a mean of
           1e4.
        3. Building the layer leaves `groups`, and with it the config, as it was.
        4. Errors say which number has to divide which; `axis` is one integer, and may not be the batch's.
        5. A mask is taken into account.
        6. A group that holds one value, its own mean, is an error when the layer is built.
        7. The input is not rounded to a lower compute dtype before its statistics are taken, in any version
           of Keras.

    To reproduce Keras pass `epsilon=1e-3`: equal within rounding.

    To reproduce PyTorch's `GroupNorm(groups, channels)` pass `groups=groups, axis=1`: equal within rounding.
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
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
        arguments.check_names(name, GroupNorm, kwargs)
        super().__init__(
            groups=_checked_groups(name, groups),
            axis=arguments.channel_axis(name, axis),
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
        channels = arguments.channels(type(self).__name__, self.axis, input_shape)
        self._check_divides(channels)
        self._check_has_values(channels, input_shape)
        self.gamma = self._add_affine("gamma", channels) if self.scale else None
        self.beta = self._add_affine("beta", channels) if self.center else None
        self.input_spec = keras.layers.InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalize the groups."""
        axis = self.axis % len(inputs.shape)
        x = ops.cast(inputs, backends.layers.statistics_dtype(inputs.dtype, self.compute_dtype))
        gamma = None if self.gamma is None else ops.convert_to_tensor(self.gamma)
        beta = None if self.beta is None else ops.convert_to_tensor(self.beta)
        groups = x.shape[axis] if self.groups == -1 else self.groups
        how = {"groups": groups, "axis": axis, "epsilon": self.epsilon}
        if mask is None:
            y = backends.layers.group_norm(x, gamma, beta, **how)
        else:
            mask = masks.aligned(type(self).__name__, mask, x, axis)
            y = backends.layers.masked_group_norm(x, mask, gamma, beta, **how)
        return ops.cast(y, self.compute_dtype)

    def rematerialized_call(
        self, layer_call: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Callable[..., Tensor]:
        """`call`, to be computed anew in the backward pass, where TensorFlow takes no keywords such as the mask's."""
        anew = super().rematerialized_call(lambda *tensors: layer_call(*tensors, **kwargs), *args, **kwargs)
        return lambda *tensors, **bound: anew(*tensors)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output: that of the input."""
        arguments.resolved_axis(type(self).__name__, self.axis, input_shape)
        return input_shape

    def _check_divides(self, channels: int) -> None:
        if self.groups != -1 and channels % self.groups != 0:
            divisors = [g for g in range(1, channels + 1) if channels % g == 0]
            raise ValueError(
                f"{type(self).__name__}: the number of channels, {channels}, must be a multiple of the "
                f"number of groups, groups={self.groups}. Pass one of groups={divisors}."
            )

    def _check_has_values(self, channels: int, input_shape: Shape) -> None:
        """Refuse what makes each value its own mean, whatever the sizes, so that the output would be beta."""
        if len(input_shape) == 2 and self.groups in (-1, channels) and channels > 0:
            raise ValueError(
                f"{type(self).__name__}: an input of shape {tuple(input_shape)} has no axes beside the batch's and the "
                f"channels', so {self._lone_value}: the output would be beta whatever the input. Expected an input of "
                "rank 3 or more; for vectors use LayerNorm or BatchNorm."
            )

    @property
    def _lone_value(self) -> str:
        return f"with groups={self.groups} each group has one value, its own mean"

    def _add_affine(self, name: str, channels: int) -> keras.Variable:
        return self.add_weight(
            shape=(channels,),
            name=name,
            initializer=getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer"),
            constraint=getattr(self, f"{name}_constraint"),
            autocast=False,
        )


def _checked_groups(layer: str, groups: Any) -> int:
    expected = "an integer of at least 1, or -1 for one group per channel"
    checked = argument_checks.integer(layer, "groups", groups, expected)
    if checked < 1 and checked != -1:
        raise ValueError(f"{layer}: `groups` must be {expected}. Received: groups={groups!r}")
    return checked
