"""What true float64 needs of TensorFlow: Python's numbers unrounded, and operations that don't round their constants."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_addons_l6.backends.portable.float64 import exact_attention

__all__ = ["EXACT", "LIBRARY"]


class _WithWideNumbers:
    """TensorFlow as Keras's conversions use it, but that Python's floats become `floatx`, not float32."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    @tf.autograph.experimental.do_not_convert
    def convert_to_tensor(self, value: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        """TensorFlow's own, whose default for Python's floats is float32."""
        if dtype is None and _is_python_float(value):
            dtype = keras.config.floatx()
        return self._library.convert_to_tensor(value, dtype=dtype, **kwargs)

    @tf.autograph.experimental.do_not_convert
    def cast(self, x: Any, dtype: Any, **kwargs: Any) -> tf.Tensor:
        """TensorFlow's own, which makes a Python float a float32 before it casts."""
        x = self._library.convert_to_tensor(x, dtype="float64") if _is_python_float(x) else x
        return self._library.cast(x, dtype, **kwargs)


def _is_python_float(value: Any) -> bool:
    """Whether a value is a Python float, or lists of Python's numbers with one among them."""
    if isinstance(value, list | tuple):
        kinds = {type(item) for item in tf.nest.flatten(value)}
        return float in kinds and kinds <= {float, int, bool}
    return type(value) is float  # NumPy's float64 is a subclass, and keeps its type anyway


def _exact_gelu(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keras's GELU but for float64, of which TensorFlow takes the constants as float32."""

    @functools.wraps(original)
    def gelu(x: Any, approximate: bool = True) -> Any:
        x = keras.ops.convert_to_tensor(x)
        if x.dtype != tf.float64:
            return original(x, approximate)
        if approximate:
            return x * tf.sigmoid(_SQRT_8_OVER_PI * (x + 0.044715 * x * x * x))
        return 0.5 * x * tf.math.erfc(-x * _SQRT_HALF)

    return gelu


_SQRT_8_OVER_PI = 1.5957691216057308  # 0.5 (1 + tanh z) = sigmoid(2 z)
_SQRT_HALF = 0.7071067811865476


def _exact_leaky_relu(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keras's leaky ReLU but for float64, whose slope TensorFlow's kernel takes as a float32."""

    @functools.wraps(original)
    def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
        x = keras.ops.convert_to_tensor(x)
        if x.dtype != tf.float64:
            return original(x, negative_slope)
        return tf.where(x > 0, x, negative_slope * x)

    return leaky_relu


EXACT = {
    "dot_product_attention": exact_attention,
    "gelu": _exact_gelu,
    "leaky_relu": _exact_leaky_relu,
}
LIBRARY = {"tf": _WithWideNumbers}
