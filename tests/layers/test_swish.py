"""Swish: its values, its gate and what it refuses."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6.layers import Swish
from tests.layers.derivatives import pullback
from tests.reference import layers as reference

X = np.random.default_rng(0).normal(scale=3.0, size=(2, 3, 4, 5)).astype("float32")


@pytest.mark.parametrize(
    ("shared_axes", "shape"),
    [("all", ()), ("spatial", (1, 1, 5)), (None, (3, 4, 5)), ([-1], (3, 4, 1)), ([1, 2], (1, 1, 5))],
    ids=str,
)
def test_values_and_the_gradient_of_beta(shared_axes, shape):
    layer = Swish(
        shared_axes=shared_axes, beta_initializer=keras.initializers.RandomUniform(0.5, 2.0, seed=3)
    )
    y = ops.convert_to_numpy(layer(X))
    beta = ops.convert_to_numpy(layer.beta)
    assert beta.shape == shape
    np.testing.assert_allclose(y, reference.swish(X.astype("float64"), beta), rtol=1e-5, atol=1e-6)

    _, found = pullback(lambda x, b: layer.stateless_call([b], [], x)[0], np.ones_like(X), X, beta)
    step = 1e-6
    above, below = (reference.swish(X.astype("float64"), beta.astype("float64") + s) for s in (step, -step))
    elementwise = (above - below) / (2 * step)
    over = tuple(a for a in range(4) if shape == () or a == 0 or shape[a - 1] == 1)
    np.testing.assert_allclose(found, elementwise.sum(axis=over).reshape(shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arguments", [{}, {"trainable_beta": False}], ids=str)
def test_at_minus_infinity_it_is_zero_and_flat(arguments):
    layer = Swish(**arguments)
    x = np.array([[-np.inf, np.inf, -3.0]], "float32")
    y = ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(y[0, :2], [0.0, np.inf])
    (slope,) = pullback(lambda t: layer(t), np.ones_like(x), x)
    np.testing.assert_array_equal(slope[0, :2], [0.0, 1.0])


def test_a_frozen_beta_is_not_trained_but_saved():
    """keras-contrib lost it (keras-contrib#482)."""
    layer = Swish(beta_initializer=keras.initializers.Constant(1.5), trainable_beta=False)
    layer.build((None, 5))
    assert layer.trainable_weights == []
    assert [float(w[()]) for w in layer.get_weights()] == [1.5]


def test_limits():
    """Ramachandran et al. (2018), section 4: x / 2 at beta 0, ReLU for large beta."""
    half = Swish(beta_initializer="zeros")(X)
    np.testing.assert_allclose(ops.convert_to_numpy(half), X / 2, rtol=1e-6)
    relu = Swish(beta_initializer=keras.initializers.Constant(1e4))(X)
    np.testing.assert_allclose(ops.convert_to_numpy(relu), np.maximum(X, 0), atol=1e-4)


@pytest.mark.parametrize("shared_axes", ["channels", 1.5, [0], [True]], ids=repr)
def test_what_shared_axes_may_not_be(shared_axes):
    with pytest.raises(ValueError, match=r"Swish: .*shared_axes"):
        Swish(shared_axes=shared_axes)


def test_keras_and_pytorch_are_reproduced():
    """`keras.activations.silu` and `torch.nn.SiLU`: x / (1 + exp(-x))."""
    y = ops.convert_to_numpy(Swish(trainable_beta=False)(X))
    np.testing.assert_allclose(y, X / (1.0 + np.exp(-X.astype("float64"))), rtol=1e-5, atol=1e-7)
    theirs = ops.convert_to_numpy(keras.activations.silu(ops.convert_to_tensor(X)))
    np.testing.assert_allclose(y, theirs, rtol=1e-5, atol=1e-7)


def test_a_frozen_beta_is_read_at_every_call():
    """A backend's kernel for beta = 1 must not outlive that value."""
    layer = Swish(trainable_beta=False)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(X)), reference.swish(X, 1.0), rtol=1e-5, atol=1e-6)
    layer.beta.assign(2.0)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(X)), reference.swish(X, 2.0), rtol=1e-5, atol=1e-6)


def test_a_frozen_beta_is_read_at_each_call():
    """Backends have a kernel for beta = 1: what tells that it serves may not be remembered."""
    layer = Swish(trainable_beta=False)
    x = np.array([[-2.0, 0.5, 3.0]], "float32")
    layer(x)
    layer.beta.assign(2.0)
    expected = x / (1 + np.exp(-2 * x))
    # A few roundings of a float32 sigmoid and product.
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), expected, rtol=1e-6)
