"""LayerNorm: values over any axes, what it refuses, and how Keras and PyTorch compare."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6.layers import LayerNorm
from tests.layers.derivatives import pullback
from tests.reference import layers as reference

CASES = [
    ((4, 6), -1),
    ((2, 5, 6), -1),
    ((2, 5, 6), 1),
    ((2, 5, 6), [1, 2]),
    ((2, 5, 6), [-1, -2]),
    ((2, 3, 4, 6), [-1]),
    ((2, 3, 4, 6), (1, -1)),
    ((2, 3, 4, 6), [3, 1, 2]),
    ((2, 1, 6), -1),
]


def data(shape, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, shape).astype("float32")


def with_affine(layer, shape):
    layer.build(shape)
    rng = np.random.default_rng(1)
    gamma, beta = rng.uniform(0.5, 1.5, layer.gamma.shape), rng.normal(size=layer.beta.shape)
    layer.gamma.assign(gamma.astype("float32"))
    layer.beta.assign(beta.astype("float32"))
    return layer, gamma, beta


@pytest.mark.parametrize(("shape", "axis"), CASES, ids=str)
def test_values_and_gradients_over_any_axes(shape, axis):
    layer, gamma, beta = with_affine(LayerNorm(axis), shape)
    axes = [axis] if isinstance(axis, int) else axis
    assert tuple(layer.gamma.shape) == tuple(shape[a] for a in sorted(a % len(shape) for a in axes))
    x, dy = data(shape), data(shape, 1)
    expected = reference.layer_norm(x, gamma, beta, axes, 1e-5)
    # a dozen roundings in float32 of values of order 1
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)
    weights = [ops.convert_to_numpy(w) for w in layer.weights]
    dx, d_gamma, d_beta = pullback(lambda t, *w: layer.stateless_call(list(w), [], t)[0], dy, x, *weights)
    others = tuple(a for a in range(len(shape)) if a not in {b % len(shape) for b in axes})
    plain = reference.layer_norm(x, np.ones_like(gamma), np.zeros_like(beta), axes, 1e-5)
    np.testing.assert_allclose(d_gamma, (dy * plain).sum(axis=others), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(d_beta, dy.sum(axis=others), rtol=1e-5, atol=1e-5)
    if len(axes) == 1:
        expected, _, _ = reference.layer_norm_gradient(x, dy, gamma, axes[0], 1e-5)
        np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("center", "scale"), [(False, True), (True, False), (False, False)])
def test_without_center_or_scale(center, scale):
    layer, x = LayerNorm(center=center, scale=scale), data((2, 3, 6))
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)),
        reference.layer_norm(x, np.ones(6), np.zeros(6), [-1], 1e-5),
        atol=1e-5,
    )
    assert [w.name for w in layer.weights] == ["gamma"] * scale + ["beta"] * center


@pytest.mark.parametrize("axis", [-1, 2, [-1, 1], [2]], ids=str)
def test_building_leaves_the_config_as_it_was(axis):
    """Keras makes a list of the axis and sorts it."""
    layer = LayerNorm(axis)
    before = layer.get_config()
    layer.build((None, 4, 6))
    assert layer.get_config() == before
    assert before["axis"] == axis
    assert "rms_scaling" not in before
    assert LayerNorm.from_config({**before, "rms_scaling": False}).get_config() == before


@pytest.mark.parametrize("sizes", [768, (768,), [16, 768], [[28]], "768"], ids=str)
def test_the_idiom_of_torch_is_explained(sizes):
    with pytest.raises(ValueError, match="LayerNorm: .*axis"):
        LayerNorm(sizes)
    if not isinstance(sizes, str) and sizes != [[28]]:
        with pytest.raises(ValueError, match=r"torch\.nn\.LayerNorm.*pass axis=-1.*axis=\[-2, -1\]"):
            LayerNorm(sizes)


@pytest.mark.parametrize("axis", [3, -3, [28, 28], [1, 3]], ids=str)
def test_axes_that_the_input_lacks_or_that_are_its_batch(axis):
    for use in (lambda f: f.build((None, 4, 6)), lambda f: f.compute_output_shape((None, 4, 6))):
        with pytest.raises(
            ValueError, match=r"does not name axes of an input of shape.*torch\.nn\.LayerNorm"
        ):
            use(LayerNorm(axis))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"axis": 0}, "axis=0"),
        ({"axis": [1, 0]}, r"axis=\[1, 0\]"),
        ({"axis": []}, r"axis=\[\]"),
        ({"axis": 1.0}, "axis=1.0"),
        ({"axis": True}, "axis=True"),
        ({"axis": {"axis": -1}}, "axis={'axis': -1}"),
        ({"axis": None}, "axis=None"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": float("nan")}, "epsilon=nan"),
        ({"center": "yes"}, "center='yes'"),
        ({"rms_scaling": True}, "rms_scaling=True.*RMSNormalization"),
        ({"rms_scaling": "no"}, "rms_scaling='no'"),
    ],
    ids=str,
)
def test_arguments_out_of_range(arguments, name):
    with pytest.raises(ValueError, match=f"LayerNorm: .*{name}"):
        LayerNorm(**arguments)


def test_an_axis_named_twice():
    with pytest.raises(ValueError, match=r"axis=\[-1, 2\] names an axis .* twice"):
        LayerNorm([-1, 2]).build((None, 4, 6))


def test_an_unknown_size():
    with pytest.raises(ValueError, match=r"axis=\[1, 2\], must be known.*\(None, None, 6\)"):
        LayerNorm([1, 2])(keras.Input((None, 6)))


def test_a_single_value_is_refused():
    for axis, shape in ((-1, (4, 5, 1)), ([1, 2], (4, 1, 1))):
        with pytest.raises(ValueError, match="one value along .*its own mean"):
            LayerNorm(axis)(np.ones(shape, "float32"))


def test_a_layer_built_for_one_length_takes_no_other():
    layer = LayerNorm([1, 2])
    layer.build((None, 1, 6))
    with pytest.raises(ValueError, match="expected axis 1"):
        layer(data((2, 3, 6)))


def test_inputs_of_any_rank_have_the_same_last_axes():
    layer, x = LayerNorm([-2, -1]), data((4, 5, 6))
    expected = ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x[:, None])), expected[:, None])
    fixed = LayerNorm([1, 2])
    fixed(x)
    with pytest.raises(ValueError, match="expected ndim=3"):
        fixed(x[:, None])


def test_an_empty_batch():
    layer = LayerNorm()
    layer.build((None, 0, 6))
    assert tuple(layer(np.zeros((2, 0, 6), "float32")).shape) == (2, 0, 6)
    assert tuple(layer(np.zeros((0, 3, 6), "float32")).shape) == (0, 3, 6)


def test_keras_is_reproduced():
    x = data((2, 4, 5, 6))
    for axis in (-1, [1, 2, 3]):  # at axis=1 Keras fails on torch
        ours, _, _ = with_affine(LayerNorm(axis, epsilon=1e-3), x.shape)
        theirs, _, _ = with_affine(keras.layers.LayerNormalization(axis), x.shape)
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(theirs(x)), rtol=1e-5, atol=1e-5
        )
        assert [w.path.split("/")[-1] for w in ours.weights] == [
            w.path.split("/")[-1] for w in theirs.weights
        ]


def test_keras_loses_what_is_far_from_zero_and_ours_does_not():
    x = (np.random.default_rng(3).normal(size=(64, 256)) + 1e4).astype("float32")
    expected = reference.layer_norm(x, np.ones(256), np.zeros(256), [-1], 1e-3)
    ours = np.abs(ops.convert_to_numpy(LayerNorm(epsilon=1e-3)(x)) - expected).max()
    theirs = np.abs(ops.convert_to_numpy(keras.layers.LayerNormalization()(x)) - expected).max()
    assert ours < 1e-6
    assert theirs > 1e-5


def test_pytorch_is_reproduced():
    """`torch.nn.LayerNorm`: biased variance, epsilon 1e-5, over the last axes."""
    x = data((2, 3, 4, 6))
    wide = x.astype("float64")
    for axis, over in ((-1, (3,)), ([-2, -1], (2, 3))):
        mean, variance = wide.mean(over, keepdims=True), wide.var(over, keepdims=True)
        expected = (wide - mean) / np.sqrt(variance + 1e-5)
        np.testing.assert_allclose(ops.convert_to_numpy(LayerNorm(axis)(x)), expected, rtol=1e-5, atol=1e-5)


def test_inputs_are_not_rounded_before_their_statistics_are_taken():
    x = data((2, 50, 64)) + 2048.0  # float16 keeps even numbers only up here
    y = LayerNorm(dtype="mixed_float16")(ops.convert_to_tensor(x))
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    expected = reference.layer_norm(x, np.ones(64), np.zeros(64), [-1], 1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(y).astype("float64"), expected, rtol=1e-3, atol=1e-3)


def test_a_constant_sample_gives_beta():
    layer, _, beta = with_affine(LayerNorm(), (3, 6))
    for value in (0.0, 0.1, -100.3, 1e18):
        y = ops.convert_to_numpy(layer(np.full((3, 6), value, "float32")))
        np.testing.assert_allclose(y, np.tile(beta, (3, 1)), rtol=1e-6)
