"""Swish: the input times a sigmoid gate of itself, with a learned steepness."""

from typing import Any

import keras
from keras import ops

from keras_addons_l6 import argument_checks, backends
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.layers import arguments
from keras_addons_l6.layers import shared_axes as sharing
from keras_addons_l6.layers.arguments import Constraint, Initializer, Regularizer, Shape
from keras_addons_l6.layers.shared_axes import SharedAxes

__all__ = ["Swish"]


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class Swish(keras.layers.Layer):
    """Self-gated activation with a learned gate.

    With a trained gate beta::

        y = x * sigmoid(beta * x)

    Ramachandran, Zoph & Le, "Searching for Activation Functions" (2018), section 4. At beta = 1 it is SiLU,
    at 0 the line x / 2, and for large beta it approaches ReLU.

    Input shape: any (of rank >= 2 unless beta is one scalar); output: the same shape, in the compute dtype.

    Args:
        beta_initializer: Initializer of beta.
        beta_regularizer: Regularizer of beta.
        beta_constraint: Constraint on beta.
        trainable_beta: Whether beta is trained. If not, it keeps its initial value and is saved all the same.
        shared_axes: `"all"`: one beta. `"spatial"`: one per channel (the last axis). `None`: one per element.
            A list: one per element, shared along these axes; negative ones count from the end.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Raises:
        ValueError: `shared_axes` is none of these or names the batch axis, or, when the layer is built, an
            axis along which beta varies has no fixed size.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from keras_addons_l6.layers import Swish
        >>> layer = Swish(trainable_beta=False)
        >>> y = ops.convert_to_numpy(layer(np.array([-1.0, 0.0, 1.0])))
        >>> [f"{value:.4f}" for value in y]
        ['-0.2689', '0.0000', '0.7311']

    Differs from `keras.activations.silu`:
        1. A layer with a parameter, beta; `silu` is the case beta = 1.
        2. float16 and bfloat16 are computed in float32 and rounded once.

    To reproduce Keras pass `trainable_beta=False`: equal to `keras.activations.silu` within rounding.

    To reproduce PyTorch pass `trainable_beta=False`: equal to `torch.nn.SiLU` within rounding.
    """

    def __init__(
        self,
        beta_initializer: Initializer = "ones",
        beta_regularizer: Regularizer = None,
        beta_constraint: Constraint = None,
        trainable_beta: bool = True,
        shared_axes: SharedAxes = "all",
        **kwargs: Any,
    ) -> None:
        arguments.check_names(type(self).__name__, Swish, kwargs)
        checked_axes = sharing.checked(type(self).__name__, shared_axes)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.trainable_beta = argument_checks.flag(type(self).__name__, "trainable_beta", trainable_beta)
        self.shared_axes = checked_axes

    def build(self, input_shape: Shape) -> None:
        """Create beta."""
        shape = sharing.parameter_shape(type(self).__name__, self.shared_axes, input_shape)
        self.beta = self.add_weight(
            shape=shape,
            name="beta",
            initializer=self.beta_initializer,
            regularizer=self.beta_regularizer,
            constraint=self.beta_constraint,
            trainable=self.trainable_beta,
        )
        self.input_spec = sharing.input_spec(type(self).__name__, self.shared_axes, input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Apply the activation."""
        x = ops.cast(inputs, self.compute_dtype)
        return backends.layers.swish(x, ops.convert_to_tensor(self.beta))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output: that of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "trainable_beta": self.trainable_beta,
            "shared_axes": self.shared_axes,
        }
