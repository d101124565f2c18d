"""SELU: its values, its fixed point, and how Keras and PyTorch compare."""

import keras
import numpy as np
from keras import ops

from keras_addons_l6.layers import SELU
from tests.layers.derivatives import pullback
from tests.reference import layers as reference

X = np.linspace(-12.0, 5.0, 171).astype("float32").reshape(-1, 3)


def test_values():
    expected = reference.selu(X.astype("float64"))
    np.testing.assert_allclose(ops.convert_to_numpy(SELU()(X)), expected, rtol=1e-6, atol=1e-7)


def test_mean_zero_and_variance_one_are_its_fixed_point():
    """Klambauer et al. (2017), section 2: what the constants were solved for."""
    x = np.random.default_rng(0).normal(size=(1_000_000,)).astype("float32")
    y = ops.convert_to_numpy(SELU()(x)).astype("float64")
    # a mean over 10^6 values of variance 1 errs by 1e-3, three times that is safe; the variance likewise
    assert abs(y.mean()) < 4e-3
    assert abs(y.var() - 1.0) < 8e-3


def test_keras_is_reproduced():
    expected = ops.convert_to_numpy(keras.activations.selu(ops.convert_to_tensor(X)))
    np.testing.assert_allclose(ops.convert_to_numpy(SELU()(X)), expected, rtol=1e-6, atol=1e-6)


def test_keras_differs_in_the_slope_at_zero_on_tensorflow_as_documented(backend):
    zero, one = np.zeros(3, "float32"), np.ones(3, "float32")
    (ours,), (theirs,) = (pullback(f, one, zero) for f in (SELU(), keras.activations.selu))
    np.testing.assert_allclose(ours, 1.7580993, rtol=1e-6)
    np.testing.assert_allclose(theirs, 1.0507010 if backend == "tensorflow" else 1.7580993, rtol=1e-6)


def test_pytorch_is_reproduced():
    """`torch.nn.SELU`: scale * (max(0, x) + min(0, alpha * (exp(x) - 1))), with the same constants."""
    x = X.astype("float64")
    small = np.minimum(0.0, 1.6732632423543772848170429916717 * (np.exp(np.minimum(x, 0.0)) - 1.0))
    expected = 1.0507009873554804934193349852946 * (np.maximum(0.0, x) + small)
    np.testing.assert_allclose(ops.convert_to_numpy(SELU()(X)), expected, rtol=1e-6, atol=1e-7)
