"""The operations of `arrays` on TensorFlow: as `keras.ops` has them, matrix products over rings on the CPU only."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import KerasArrays, Scalar, Small, rows_at_once, widest

__all__ = ["TensorFlowArrays", "arrays_for", "rounds_products"]


def rounds_products() -> bool:
    """Whether a matrix product may run on an accelerator, in TF32 or bfloat16; it takes no precision argument."""
    return any(device.device_type != "CPU" for device in tf.config.list_logical_devices())


class TensorFlowArrays(KerasArrays):
    """TensorFlow's tensors."""

    def _products(self, ring: Tensor, x: Tensor) -> Tensor:
        """The product of a tensor with each row of a ring, in full precision."""
        if rounds_products():
            return super()._products(ring, x)
        return tf.tensordot(ring, x, axes=len(x.shape))

    def combine(self, coefficients: Small, ring: Tensor) -> Tensor:
        """The sum of a ring's rows times their coefficients, in full precision."""
        if rounds_products():
            return super().combine(coefficients, ring)
        return tf.tensordot(tf.cast(coefficients, ring.dtype), ring, axes=1)

    def put(self, ring: Tensor, index: Scalar, row: Tensor, keep: Scalar) -> Tensor:
        """The ring with a row replaced if `keep`; the old one is gathered: XLA compiles `slice` anew for each index."""
        start = tf.stack([index] + [0] * (len(ring.shape) - 1))
        return keras.ops.slice_update(ring, start, tf.where(keep, row, tf.gather(ring, index))[None])

    def _rows_at_once(self, n: int) -> int:
        return n if rounds_products() else rows_at_once(n)

    def _rows(self, matrix: Tensor, at: Scalar, length: int) -> Tensor:
        """So many rows of a matrix, gathered: a slice makes XLA copy the whole matrix before it is written."""
        return tf.gather(matrix, at + tf.range(length))

    def _times(self, matrix: Tensor, vector: Tensor) -> Tensor:
        """A matrix times a vector, in full precision."""
        # Accelerators round float32 factors, and no others.
        if rounds_products() and matrix.dtype != tf.float64:
            return super()._times(matrix, vector)
        return tf.linalg.matvec(matrix, vector)


def arrays_for(tensors: Sequence[Tensor]) -> KerasArrays:
    """The operations for these tensors, with scalars in their widest dtype."""
    return TensorFlowArrays(widest(tensors))
