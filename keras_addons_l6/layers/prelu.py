"""PReLU: a leaky rectifier whose slope is learned."""

from typing import Any

import keras
from keras import ops

from keras_addons_l6 import backends
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.layers import arguments
from keras_addons_l6.layers import shared_axes as sharing
from keras_addons_l6.layers.arguments import Constraint, Initializer, Regularizer, Shape
from keras_addons_l6.layers.shared_axes import SharedAxes

__all__ = ["PReLU"]

_INITIAL_SLOPE = keras.initializers.Constant(0.25)  # He et al. (2015), section 2.1


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class PReLU(keras.layers.PReLU):
    """Parametric rectifier: the identity above 0, a learned slope from 0 down.

    With a trained slope alpha::

        y = max(0, x) + alpha * min(0, x)

    He, Zhang, Ren & Sun, "Delving Deep into Rectifiers" (2015), equation 1. The slope at x = 0 is alpha.

    Input shape: any of rank >= 2; output: the same shape, in the compute dtype.

    Args:
        alpha_initializer: Initializer of alpha; 0.25 as in the paper.
        alpha_regularizer: Regularizer of alpha. The paper advises against weight decay, which pulls it
            towards 0.
        alpha_constraint: Constraint on alpha.
        shared_axes: `"spatial"`: one alpha per channel (the last axis), so any spatial size works. `"all"`:
            one alpha. `None`: one per element. A list: one per element, shared along these axes; negative
            ones count from the end.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Raises:
        ValueError: `shared_axes` is none of these or names the batch axis, or, when the layer is built, an
            axis along which alpha varies has no fixed size.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from keras_addons_l6.layers import PReLU
        >>> layer = PReLU()
        >>> ops.convert_to_numpy(layer(np.array([[-4.0, 0.0, 2.0]]))).tolist()
        [[-1.0, 0.0, 2.0]]
        >>> tuple(layer.alpha.shape)
        (3,)

    Differs from `keras.layers.PReLU`:
        1. alpha starts at 0.25, not 0, as in the paper.
        2. One alpha per channel by default, as in the paper, not one per element.
        3. The slope at exactly 0 is alpha, not 0.
        4. Negative `shared_axes` count from the end; Keras shares the axis before the one named.
        5. An axis of unknown size gives an error that names `shared_axes`.

    To reproduce Keras pass `alpha_initializer="zeros", shared_axes=None`: the same outputs and gradients, but
    for the gradient at x = 0 exactly, which is alpha here and 0 there; no argument changes that.

    To reproduce PyTorch's `PReLU(num_parameters=channels)` pass nothing for channels last, or
    `shared_axes=[2, 3]` for its own layout; for `PReLU()`, one parameter, pass `shared_axes="all"`.
    """

    def __init__(
        self,
        alpha_initializer: Initializer = _INITIAL_SLOPE,
        alpha_regularizer: Regularizer = None,
        alpha_constraint: Constraint = None,
        shared_axes: SharedAxes = "spatial",
        **kwargs: Any,
    ) -> None:
        arguments.check_names(type(self).__name__, PReLU, kwargs)
        checked_axes = sharing.checked(type(self).__name__, shared_axes)
        super().__init__(alpha_initializer, alpha_regularizer, alpha_constraint, **kwargs)
        self.shared_axes = checked_axes

    def build(self, input_shape: Shape) -> None:
        """Create alpha."""
        shape = sharing.parameter_shape(type(self).__name__, self.shared_axes, input_shape)
        self.alpha = self.add_weight(
            shape=shape,
            name="alpha",
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )
        self.input_spec = sharing.input_spec(type(self).__name__, self.shared_axes, input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Apply the rectifier."""
        x = ops.cast(inputs, self.compute_dtype)
        return backends.layers.prelu(x, ops.convert_to_tensor(self.alpha))
