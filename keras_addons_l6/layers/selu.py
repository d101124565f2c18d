"""SELU: the self-normalizing exponential unit."""

import keras
from keras import ops

from keras_addons_l6 import backends
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.layers import arguments
from keras_addons_l6.layers.arguments import Shape

__all__ = ["SELU"]


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class SELU(keras.layers.Layer):
    """Scaled exponential linear unit, under which activations keep mean 0 and variance 1 from layer to layer.

    With l = 1.0507009873554805 and alpha = 1.6732632423543772::

        y = l * (x if x > 0 else alpha * (exp(x) - 1))

    Klambauer, Unterthiner, Mayr & Hochreiter, "Self-Normalizing Neural Networks" (2017), equation 2. The
    slope at x = 0 is l * alpha. Use it with `kernel_initializer="lecun_normal"` and
    `keras.layers.AlphaDropout`.

    Input shape: any; output: the same shape, in the compute dtype.

    Args:
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from keras_addons_l6.layers import SELU
        >>> y = ops.convert_to_numpy(SELU()(np.array([-1.0, 0.0, 1.0])))
        >>> [f"{value:.4f}" for value in y]
        ['-1.1113', '0.0000', '1.0507']

    Differs from `keras.activations.selu`:
        1. A layer, with a name, a dtype policy and mask support.
        2. The slope at exactly 0 is l * alpha = 1.7581 on every backend; TensorFlow's own kernel gives l
           there.
        3. float16 and bfloat16 are computed in float32 and rounded once.
        4. The gradient holds the exponential itself, also where y has reached -l * alpha in its dtype.

    To reproduce Keras pass nothing: equal within rounding, but for the slope at 0 on TensorFlow.

    To reproduce PyTorch pass nothing: equal within rounding.
    """

    def __init__(self, **kwargs: object) -> None:
        arguments.check_names(type(self).__name__, SELU, kwargs)
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs: Tensor) -> Tensor:
        """Apply the unit."""
        return backends.layers.selu(ops.cast(inputs, self.compute_dtype))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output: that of the input."""
        return input_shape
