"""PReLU: its values, which parameters it shares, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6.layers import PReLU, Swish
from tests.layers.derivatives import pullback
from tests.reference import layers as reference

X = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")


@pytest.mark.parametrize(
    ("shared_axes", "shape"),
    [
        ("spatial", (1, 1, 5)),
        ("all", ()),
        (None, (3, 4, 5)),
        ([1, 2], (1, 1, 5)),
        ((1,), (1, 4, 5)),
        (2, (3, 1, 5)),
        ([-1], (3, 4, 1)),
        ([-3, -2], (1, 1, 5)),
        ([2, -1], (3, 1, 1)),
        ([], (3, 4, 5)),
    ],
    ids=str,
)
def test_shared_axes_give_the_shape_of_alpha(shared_axes, shape):
    """Keras shares the axis before the one that a negative number names."""
    layer = PReLU(shared_axes=shared_axes, alpha_initializer="random_normal")
    y = ops.convert_to_numpy(layer(X))
    assert tuple(layer.alpha.shape) == shape
    np.testing.assert_allclose(y, reference.prelu(X, ops.convert_to_numpy(layer.alpha)), rtol=1e-6)


def test_alpha_starts_at_a_quarter():
    layer = PReLU()
    layer.build((None, 5))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.alpha), np.full(5, 0.25, "float32"))


@pytest.mark.parametrize("shared_axes", ["spatial", "all", [1, 2]], ids=str)
def test_any_spatial_size_works(shared_axes):
    layer = PReLU(shared_axes=shared_axes)
    model = keras.Sequential([keras.Input((None, None, 5)), layer])
    assert model(X).shape == (2, 3, 4, 5)
    assert model(X[:, :2, :1]).shape == (2, 2, 1, 5)


@pytest.mark.parametrize(("shared_axes", "axis"), [(None, 1), ([2], 1), ([1], 2)], ids=str)
def test_an_unknown_size_along_which_alpha_varies_is_named(shared_axes, axis):
    layer = PReLU(shared_axes=shared_axes)
    with pytest.raises(ValueError, match=rf"axis {axis} of the input.*shared_axes="):
        layer(keras.Input((None, None, 5)))


def test_an_unknown_number_of_channels_is_named():
    with pytest.raises(ValueError, match=r"axis 2 of the input.*shared_axes='spatial'"):
        PReLU()(keras.Input((4, None)))


@pytest.mark.parametrize(
    "shared_axes", ["channels", "", True, 1.5, [1.0], [None], [0], 0, {"a": 1}, b"all"], ids=repr
)
def test_what_shared_axes_may_not_be(shared_axes):
    with pytest.raises(ValueError, match="shared_axes"):
        PReLU(shared_axes=shared_axes)


@pytest.mark.parametrize("axis", [4, -4, -5])
def test_axes_that_the_input_lacks(axis):
    with pytest.raises(ValueError, match=f"names axis {axis}"):
        PReLU(shared_axes=[axis])(X)


@pytest.mark.parametrize("layer", [PReLU, Swish])
@pytest.mark.parametrize(
    ("shared_axes", "built", "called"),
    [
        ("spatial", (None, 8, 8, 1), (2, 8, 8, 5)),
        (None, (None, 1, 5), (2, 3, 5)),
        ([1], (None, 8, 1), (2, 8, 5)),
    ],
    ids=str,
)
def test_a_parameter_of_length_one_is_not_spread_over_another_length(layer, shared_axes, built, called):
    made = layer(shared_axes=shared_axes)
    made.build(built)
    with pytest.raises(ValueError, match=f"expected axis .* to have value 1.*{called[-1]}|expected axis 1"):
        made(np.ones(called, "float32"))
    fits = tuple(2 if n is None else n for n in built)
    assert tuple(made(np.ones(fits, "float32")).shape) == fits


def test_gradients_of_all_elements_reach_the_alpha_they_share():
    layer = PReLU()
    layer.build(X.shape)
    alpha = ops.convert_to_numpy(layer.alpha)
    _, d_alpha = pullback(lambda x, a: layer.stateless_call([a], [], x)[0], np.ones_like(X), X, alpha)
    np.testing.assert_allclose(d_alpha.ravel(), np.minimum(X, 0).sum(axis=(0, 1, 2)), rtol=1e-5)


def test_keras_is_reproduced():
    theirs, ours = keras.layers.PReLU(), PReLU(alpha_initializer="zeros", shared_axes=None)
    theirs.build(X.shape)
    ours.build(X.shape)
    np.testing.assert_array_equal(ops.convert_to_numpy(ours.alpha), ops.convert_to_numpy(theirs.alpha))
    alpha = np.random.default_rng(1).normal(size=X.shape[1:]).astype("float32")
    cotangent = np.random.default_rng(2).normal(size=X.shape).astype("float32")
    ours.alpha.assign(alpha)
    theirs.alpha.assign(alpha)
    np.testing.assert_allclose(ops.convert_to_numpy(ours(X)), ops.convert_to_numpy(theirs(X)), rtol=1e-6)
    ours_, theirs_ = (
        pullback(lambda x, a, f=f: f.stateless_call([a], [], x)[0], cotangent, X, alpha)
        for f in (ours, theirs)
    )
    for a, b in zip(ours_, theirs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_keras_differs_in_the_slope_at_zero_as_documented():
    zero, alpha = np.zeros((1, 3), "float32"), np.full(3, 0.25, "float32")
    slopes = []
    for layer in (PReLU(), keras.layers.PReLU()):
        layer.build(zero.shape)
        slopes.append(
            pullback(lambda x, a, f=layer: f.stateless_call([a], [], x)[0], zero + 1, zero, alpha)[0]
        )
    np.testing.assert_array_equal(slopes[0], zero + 0.25)
    np.testing.assert_array_equal(slopes[1], zero)


@pytest.mark.parametrize(("shared_axes", "shape"), [([2, 3], (3, 1, 1)), ("all", ())], ids=str)
def test_pytorch_is_reproduced(shared_axes, shape):
    """`torch.nn.PReLU`: max(0, x) + a min(0, x), one a or one per channel of axis 1, 0.25 at first."""
    layer = PReLU(shared_axes=shared_axes)
    expected = np.maximum(X, 0) + np.full(shape, 0.25) * np.minimum(X, 0)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(X)), expected, rtol=1e-6)
    assert tuple(layer.alpha.shape) == shape
