"""Every native kernel against the portable operation it replaces, forward and backward, in every dtype."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6.backends import layers as kernels
from keras_addons_l6.backends import native
from keras_addons_l6.backends.portable import layers as portable
from tests.backends.operations import EPSILON as GROUP_EPSILON
from tests.backends.operations import activations, inference, norms
from tests.layers.derivatives import backend_gradient, in_one_piece

NATIVE = native("layers")
SHAPES = [((6, 4), 1), ((3, 5, 4), 2), ((3, 4, 5), 1), ((3, 5, 5, 4), 3), ((2, 3, 2, 2, 4), 4)]
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def native_operations():
    cases = []
    for shape, axis in SHAPES:
        elementwise = activations(4) if axis == len(shape) - 1 else []
        for operation in [*elementwise, *norms(shape, axis), *inference(shape, axis)]:
            if hasattr(NATIVE, operation.kernel):
                cases.append(pytest.param(operation, shape, id=f"{operation}-{shape}"))
    return cases


def output_and_gradients(implementation, operation, cotangent, arrays):
    def loss(*tensors):
        return ops.sum(operation.call(implementation, *tensors) * ops.cast(cotangent, tensors[0].dtype))

    def both(*tensors):
        return [operation.call(implementation, *tensors), *backend_gradient(loss, list(tensors))]

    return in_one_piece(both)(*arrays)


def smallest_deviation(operation, x):
    """Of groups of two values, where one is small by chance: their gradient is what parts over the deviation leave.

    Half precision is rounded once, from float32, which hides it.
    """
    if (
        operation.kernel != "group_norm"
        or len(x.shape) > 2
        or "16" in keras.backend.standardize_dtype(x.dtype)
    ):
        return 1.0
    pairs = ops.convert_to_numpy(x).reshape(-1, 2)
    return min(1.0, np.sqrt(pairs.var(axis=1).min() + GROUP_EPSILON))


def test_every_backend_has_native_kernels():
    assert native_operations()


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("operation", "shape"), native_operations())
def test_native_kernel_equals_the_portable_one(float64, operation, shape, dtype, offset):
    rng = np.random.default_rng(6)
    x = ops.cast(ops.convert_to_tensor(rng.normal(size=shape) + offset), dtype)
    # weights of activations come in the compute dtype, those of normalizations in at least float32
    wide = operation.kernel in ("prelu", "swish")
    weight_dtype = dtype if wide else kernels.statistics_dtype(dtype)
    weights = [ops.cast(ops.convert_to_tensor(p), weight_dtype) for p in operation.parameters]
    cotangent = ops.convert_to_tensor(rng.normal(size=shape))
    found = output_and_gradients(NATIVE, operation, cotangent, [x, *weights])
    expected = output_and_gradients(portable, operation, cotangent, [x, *weights])
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        a, b = (ops.convert_to_numpy(ops.cast(t, "float64")) for t in (a, b))
        # up to 75 terms summed and half a dozen roundings in the dtype; parameters' gradients sum all of x
        tolerance = 32 * EPSILON[dtype] * max(1.0, np.abs(b).max(), offset if dtype == "float64" else 1.0)
        tolerance /= smallest_deviation(operation, x)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("operation", "shape"), native_operations())
def test_symbolic_tensors_take_the_portable_operation(operation, shape):
    y = operation.call(
        kernels, keras.KerasTensor(shape), *(p.astype("float32") for p in operation.parameters)
    )
    assert tuple(y.shape) == shape
