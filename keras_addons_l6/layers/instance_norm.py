"""InstanceNorm: each channel of each sample normalized by its own statistics."""

from typing import Any

import keras

from keras_addons_l6.layers import arguments
from keras_addons_l6.layers.arguments import Constraint, Initializer, Regularizer
from keras_addons_l6.layers.group_norm import GroupNorm

__all__ = ["InstanceNorm"]


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class InstanceNorm(GroupNorm):
    """Instance normalization: statistics per sample and channel, over space, the same at training and test.

    With the mean and the biased variance over all positions of one sample and channel::

        y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    Ulyanov, Vedaldi & Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization"
    (2017), equation 2, with a gain and an offset per channel. Numerics as in `GroupNorm`.

    Input shape: any of rank >= 3, spatial sizes known or not; output: the same shape, in the compute dtype.
    At rank 2 each channel would have one value, its own mean, and the output be beta: that is an error.

    Args:
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
        inputs: Tensor of rank >= 3.
        mask: Which values count for the statistics, as in `GroupNorm`.

    Raises:
        ValueError: an argument out of range, at construction; an axis the input lacks, an unknown number of
            channels, or an input without spatial axes, when the layer is built; a mask that does not fit, when it is
            called.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from keras_addons_l6.layers import InstanceNorm
        >>> x = np.array([[[1.0, 10.0], [3.0, 30.0]]])  # one sample, two places, two channels
        >>> ops.convert_to_numpy(InstanceNorm()(x)).round(2).tolist()
        [[[-1.0, -1.0], [1.0, 1.0]]]

    Differs from `keras.layers.GroupNormalization(groups=-1)`:
        1. `epsilon` is 1e-5, as in the authors' code, not 1e-3.
        2. There is no argument `groups`, and building the layer leaves its config as it was.
        3. The numerics, as listed under `GroupNorm`.

    To reproduce Keras pass `epsilon=1e-3`: equal to `GroupNormalization(groups=-1)` within rounding.

    To reproduce PyTorch's `InstanceNorm2d(channels)` pass `axis=1, center=False, scale=False`; for
    `affine=True`, `axis=1` alone. Its `track_running_stats=True` has no counterpart here.
    """

    def __init__(
        self,
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
        arguments.check_names(type(self).__name__, InstanceNorm, kwargs)
        super().__init__(
            groups=-1,
            axis=axis,
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )

    @property
    def _lone_value(self) -> str:
        return "each channel of a sample has one value, its own mean"

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        config = super().get_config()
        del config["groups"]
        return config
