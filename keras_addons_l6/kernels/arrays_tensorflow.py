"""The operations of `arrays` on TensorFlow: as `keras.ops` has them, matrix products over rings on the CPU only."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_addons_l6.kernels.arrays import KerasArrays, Scalar, Small, Tensor


def rounds_products() -> bool:
    """Whether a matrix product may run on an accelerator, in TF32 or bfloat16; it takes no precision argument."""
    return any(device.device_type != "CPU" for device in tf.config.list_logical_devices())


class TensorFlowArrays(KerasArrays):
    """TensorFlow's tensors."""

    def inner(self, ring: Tensor, x: Tensor) -> Small:
        """The product of x with each row of a ring of shape (m, *x.shape), in full precision."""
        if rounds_products():
            return super().inner(ring, x)
        return tf.cast(tf.tensordot(ring, x, axes=len(x.shape)), self.real)

    def combine(self, coefficients: Small, ring: Tensor) -> Tensor:
        """The sum of a ring's rows times their coefficients, in full precision."""
        if rounds_products():
            return super().combine(coefficients, ring)
        return tf.tensordot(tf.cast(coefficients, ring.dtype), ring, axes=1)

    def put(self, ring: Tensor, slot: Scalar, row: Tensor, keep: Scalar) -> Tensor:
        """The ring with row `slot` replaced if `keep`; the row is gathered: XLA compiles `slice` anew for each slot."""
        start = tf.stack([slot] + [0] * (len(ring.shape) - 1))
        return keras.ops.slice_update(ring, start, tf.where(keep, row, tf.gather(ring, slot))[None])


def arrays(real: str, tensors: Sequence[Tensor]) -> KerasArrays:
    """The operations for these tensors, with scalars of dtype `real`."""
    return TensorFlowArrays(real)
