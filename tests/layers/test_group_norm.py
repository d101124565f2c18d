"""GroupNorm and InstanceNorm: values in every layout, what they refuse, and how Keras and PyTorch compare."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6.layers import GroupNorm, InstanceNorm
from tests.layers.derivatives import pullback
from tests.reference import layers as reference

CASES = [
    ((4, 6), -1),
    ((4, 6), 1),
    ((2, 5, 6), -1),
    ((2, 6, 5), 1),
    ((2, 3, 4, 6), 3),
    ((2, 3, 6, 4), 2),
    ((2, 6, 3, 4), -3),
    ((2, 2, 3, 2, 6), -1),
    ((2, 6, 2, 3, 2), 1),
]


def data(shape, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, shape).astype("float32")


def with_affine(layer, shape, axis):
    layer.build(shape)
    rng = np.random.default_rng(1)
    gamma, beta = rng.uniform(0.5, 1.5, shape[axis]), rng.normal(size=shape[axis])
    layer.gamma.assign(gamma.astype("float32"))
    layer.beta.assign(beta.astype("float32"))
    return layer, gamma, beta


@pytest.mark.parametrize("groups", [1, 2, 3, 6, -1])
@pytest.mark.parametrize(("shape", "axis"), CASES, ids=str)
def test_group_norm_in_any_layout(shape, axis, groups):
    if len(shape) == 2 and groups in (6, -1):
        return  # single values are refused, below
    layer, gamma, beta = with_affine(GroupNorm(groups, axis=axis), shape, axis)
    x = data(shape)
    expected = reference.group_norm(x, gamma, beta, 6 if groups == -1 else groups, axis, 1e-5)
    # one value in a group is its own mean: what is left of it is the rounding of 3 / sqrt(1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("shape", "axis"), CASES[2:], ids=str)
def test_instance_norm_in_any_layout(shape, axis):
    layer, gamma, beta = with_affine(InstanceNorm(axis=axis), shape, axis)
    x = data(shape)
    expected = reference.instance_norm(x, gamma, beta, axis, 1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer", [InstanceNorm(), InstanceNorm(axis=1), GroupNorm(-1), GroupNorm(6)], ids=repr
)
def test_single_values_are_refused(layer):
    """Each would be its own mean and the output beta."""
    for use in (lambda: layer.build((None, 6)), lambda: layer(data((4, 6)))):
        with pytest.raises(
            ValueError, match=rf"{type(layer).__name__}: .*shape \(.*, 6\).*one value, its own mean"
        ):
            use()
    assert not layer.built


MASKED = [
    ((4, 5, 6), -1, (4, 5)),
    ((4, 5, 6), -1, (4, 5, 1)),
    ((4, 5, 6), -1, (4, 5, 6)),
    ((4, 5, 6), -1, (1, 5)),
    ((2, 5, 4, 6), -1, (2, 5)),
    ((2, 5, 4, 6), -1, (2, 5, 4)),
    ((4, 6, 5), 1, (4, 1, 5)),
    ((4, 6, 5), 1, (4, 5)),
]


@pytest.mark.parametrize("groups", [1, 3, -1])
@pytest.mark.parametrize(("shape", "axis", "mask_shape"), MASKED, ids=str)
def test_masked_values_do_not_count(shape, axis, mask_shape, groups):
    mask = np.random.default_rng(2).uniform(size=mask_shape) < 0.7
    mask |= np.indices(mask_shape)[1] == 0  # something is left of each sample and channel
    wide = mask.reshape(mask_shape + (1,) * (len(shape) - len(mask_shape)))
    if (axis, mask_shape) == (1, (4, 5)):
        wide = mask[:, None]  # times, the channels left out
    layer, gamma, beta = with_affine(GroupNorm(groups, axis=axis), shape, axis)
    x = data(shape)
    expected = reference.group_norm(x, gamma, beta, 6 if groups == -1 else groups, axis, 1e-5, wide)
    y = ops.convert_to_numpy(layer(x, mask=ops.convert_to_tensor(mask)))
    # one value may be left of a group: its rounding is divided by sqrt(1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("layer", [GroupNorm(2), GroupNorm(1), InstanceNorm()], ids=repr)
def test_the_valid_part_of_a_padded_sample_is_the_unpadded_sample(layer):
    x, junk = data((2, 6, 4)), np.zeros((2, 3, 4), "float32")
    expected = ops.convert_to_numpy(layer(x))
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, layer(keras.layers.Masking()(inputs)))
    padded = np.concatenate([x, junk], axis=1)
    np.testing.assert_allclose(model.predict(padded, verbose=0)[:, :6], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [GroupNorm(2), InstanceNorm()], ids=repr)
def test_a_mask_hides_infinity_and_nan_and_may_hide_all(layer):
    x, mask = data((3, 5, 4)), np.ones((3, 5), bool)
    mask[0, 0] = mask[1, 1] = False
    mask[2] = False
    expected = ops.convert_to_numpy(layer(x, mask=ops.convert_to_tensor(mask)))
    assert np.isfinite(expected).all()
    x[0, 0], x[1, 1] = np.nan, np.inf
    y = ops.convert_to_numpy(layer(x, mask=ops.convert_to_tensor(mask)))
    np.testing.assert_array_equal(y[mask], expected[mask])


@pytest.mark.parametrize("mask_shape", [(5,), (4, 6), (4, 5, 6, 1), ()], ids=str)
def test_a_mask_that_does_not_fit(mask_shape):
    layer = GroupNorm(2)
    layer.build((4, 5, 6))
    with pytest.raises(
        ValueError, match=r"GroupNorm: a mask of shape .* does not fit inputs of shape \(4, 5, 6\)"
    ):
        layer.call(ops.convert_to_tensor(data((4, 5, 6))), mask=ops.ones(mask_shape, dtype="bool"))


@pytest.mark.parametrize(("center", "scale"), [(False, True), (True, False), (False, False)])
def test_without_center_or_scale(center, scale):
    layer = GroupNorm(2, center=center, scale=scale)
    x = data((2, 3, 6))
    expected = reference.group_norm(x, 1.0, 0.0, 2, -1, 1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, rtol=1e-5, atol=1e-5)
    assert len(layer.weights) == center + scale


@pytest.mark.parametrize("layer", [GroupNorm(groups=2), InstanceNorm()], ids=["GroupNorm", "InstanceNorm"])
def test_an_empty_batch(layer):
    assert tuple(layer(np.zeros((0, 3, 4, 6), "float32")).shape) == (0, 3, 4, 6)


def test_samples_do_not_touch_each_other():
    layer = GroupNorm(2)
    x = data((3, 4, 4, 6))
    alone = [ops.convert_to_numpy(layer(x[i : i + 1])) for i in range(3)]
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), np.concatenate(alone), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("groups", [-1, 3])
def test_building_leaves_the_config_as_it_was(groups):
    """Keras writes the number of channels over groups=-1."""
    layer = GroupNorm(groups)
    before = layer.get_config()
    layer.build((None, 4, 6))
    assert layer.get_config() == before
    again = GroupNorm.from_config(before)
    again.build((None, 4, 12))
    assert again.groups == groups


def test_one_layer_object_rebuilt_from_config_fits_other_channels():
    config = InstanceNorm(axis=1).get_config()
    assert "groups" not in config
    assert InstanceNorm.from_config(config)(data((2, 9, 4))).shape == (2, 9, 4)


def test_channels_that_groups_do_not_divide():
    """Keras's message has the two the wrong way round."""
    with pytest.raises(ValueError, match=r"channels, 6, must be a multiple of .*groups=4.*\[1, 2, 3, 6\]"):
        GroupNorm(4).build((None, 6))
    with pytest.raises(ValueError, match=r"channels, 6, must be a multiple of .*groups=32"):
        GroupNorm()(data((2, 6)))


@pytest.mark.parametrize("layer", [GroupNorm, InstanceNorm])
def test_an_unknown_number_of_channels(layer):
    with pytest.raises(ValueError, match=r"number of channels, axis -1 .*must be known.*\(None, 4, None\)"):
        layer()(keras.Input((4, None)))


@pytest.mark.parametrize("layer", [GroupNorm, InstanceNorm])
@pytest.mark.parametrize("axis", [3, -3, -4])
def test_axes_that_the_input_lacks_or_that_are_its_batch(layer, axis):
    for use in (lambda f: f.build((None, 4, 6)), lambda f: f.compute_output_shape((None, 4, 6))):
        with pytest.raises(ValueError, match=f"axis={axis} does not name a channel axis"):
            use(layer(axis=axis))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"groups": 0}, "groups=0"),
        ({"groups": -2}, "groups=-2"),
        ({"groups": True}, "groups=True"),
        ({"groups": 2.0}, "groups=2.0"),
        ({"groups": "2"}, "groups='2'"),
        ({"groups": None}, "groups=None"),
        ({"axis": 0}, "axis=0"),
        ({"axis": [1, 2]}, r"axis=\[1, 2\]"),
        ({"axis": 1.0}, "axis=1.0"),
        ({"axis": False}, "axis=False"),
        ({"epsilon": 0.0}, "epsilon=0.0"),
        ({"epsilon": -1e-5}, "epsilon=-1e-05"),
        ({"epsilon": float("nan")}, "epsilon=nan"),
        ({"epsilon": "small"}, "epsilon='small'"),
        ({"epsilon": True}, "epsilon=True"),
    ],
    ids=str,
)
def test_arguments_out_of_range(arguments, name):
    layers = [GroupNorm] if "groups" in arguments else [GroupNorm, InstanceNorm]
    for layer in layers:
        with pytest.raises(ValueError, match=rf"{layer.__name__}: .*{name}"):
            layer(**arguments)


@pytest.mark.parametrize("groups", [np.int64(2), np.int32(-1)])
def test_integers_of_numpy_are_integers(groups):
    config = GroupNorm(groups).get_config()
    assert type(config["groups"]) is int


def test_keras_is_reproduced():
    x, shape = data((2, 4, 4, 6)), (2, 4, 4, 6)
    for ours, theirs in [
        (GroupNorm(3, epsilon=1e-3), keras.layers.GroupNormalization(3)),
        (InstanceNorm(epsilon=1e-3), keras.layers.GroupNormalization(-1)),
    ]:
        with_affine(ours, shape, -1)
        with_affine(theirs, shape, -1)
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(theirs(x)), rtol=1e-5, atol=1e-5
        )


def test_keras_loses_what_is_far_from_zero_and_ours_does_not(backend):
    """On the torch backend Keras takes E[x^2] - E[x]^2."""
    x = (np.random.default_rng(3).normal(size=(2, 32, 32, 6)) + 1e4).astype("float32")
    expected = reference.group_norm(x, 1.0, 0.0, 2, -1, 1e-3)
    ours = np.abs(ops.convert_to_numpy(GroupNorm(2, epsilon=1e-3)(x)) - expected).max()
    theirs = np.abs(ops.convert_to_numpy(keras.layers.GroupNormalization(2)(x)) - expected).max()
    assert ours < 1e-5
    assert not theirs < (0.1 if backend == "torch" else 1e-5)  # NaN is not below either


def test_pytorch_is_reproduced():
    """`torch.nn.GroupNorm` and `InstanceNorm2d`: biased variance, epsilon 1e-5, (batch, channels, ...)."""
    x = data((2, 6, 4, 4))
    wide = x.astype("float64").reshape(2, 3, -1)
    mean, variance = wide.mean(-1, keepdims=True), wide.var(-1, keepdims=True)
    expected = ((wide - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(ops.convert_to_numpy(GroupNorm(3, axis=1)(x)), expected, rtol=1e-5, atol=1e-5)
    wide = x.astype("float64")
    mean, variance = wide.mean((2, 3), keepdims=True), wide.var((2, 3), keepdims=True)
    expected = (wide - mean) / np.sqrt(variance + 1e-5)
    plain = InstanceNorm(axis=1, center=False, scale=False)
    np.testing.assert_allclose(ops.convert_to_numpy(plain(x)), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(InstanceNorm(axis=1)(x)), expected, rtol=1e-5, atol=1e-5)
    assert plain.weights == []


@pytest.mark.parametrize("layer", [GroupNorm(2), InstanceNorm(axis=1)], ids=repr)
def test_the_gradient_is_orthogonal_to_shift_and_scale(layer):
    """The mean and, but for epsilon, the scale of x leave y alone, so dx sums to 0, and dx * x."""
    x, dy = data((2, 5, 5, 6)), data((2, 5, 5, 6), seed=4)
    (dx,) = pullback(lambda t: layer(t), dy, x)
    wide = dx.astype("float64")
    # 300 terms, of order 10, in float32
    np.testing.assert_allclose(wide.sum(), 0.0, atol=1e-3)
    np.testing.assert_allclose((wide * x).sum(), 0.0, atol=1e-2)


def test_inputs_are_not_rounded_before_their_statistics_are_taken():
    x = data((2, 50, 6)) + 2048.0  # float16 keeps even numbers only up here
    layer = GroupNorm(2, dtype="mixed_float16")
    y = layer(ops.convert_to_tensor(x))
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    expected = reference.group_norm(x, 1.0, 0.0, 2, -1, 1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(y).astype("float64"), expected, rtol=1e-3, atol=1e-3)
