"""What holds for every layer at every shape, axis, dtype, mask and number of groups."""

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_addons_l6.layers import SELU, BatchNorm, GroupNorm, InstanceNorm, LayerNorm, PReLU, Swish
from tests.properties.arrays import DTYPES, ROUNDING, SHAPES, divisors, inputs
from tests.reference import layers as reference

IMAGES = [shape for shape in SHAPES if len(shape) > 2]
# A norm is a chain of about ten operations on float32, of which the sums over at most 50 values add the most.
NORM = {"rtol": 2e-5, "atol": 2e-5}


def run(layer, x, **call):
    return keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x), **call))


def affine(channels, seed):
    random = np.random.default_rng(seed)
    return random.normal(size=channels), random.normal(size=channels)


def with_affine(layer, x, axis, seed):
    """Build a norm and give it drawn gamma and beta."""
    layer.build(x.shape)
    gamma, beta = affine(x.shape[axis], seed)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    return layer, gamma, beta


@given(inputs(), st.sampled_from([1e-5, 1e-3, 0.1]), st.integers(0, 99), st.booleans())
def test_batch_norm_is_the_papers_at_any_shape_and_axis(drawn, epsilon, seed, negative):
    x, axis = drawn
    layer = BatchNorm(axis=axis - x.ndim if negative else axis, epsilon=epsilon, momentum=0.75)
    layer, gamma, beta = with_affine(layer, x, axis, seed)
    expected, mean, variance = reference.batch_norm(x, gamma, beta, axis, epsilon)
    np.testing.assert_allclose(run(layer, x, training=True), expected, **NORM)
    np.testing.assert_allclose(layer.moving_mean, 0.25 * mean, rtol=1e-5, atol=1e-5 * np.abs(x).max())
    np.testing.assert_allclose(layer.moving_variance, 0.75 + 0.25 * variance, rtol=1e-5)


@given(inputs(), st.data(), st.integers(0, 99))
def test_group_norm_is_the_papers_at_any_shape_axis_and_number_of_groups(drawn, data, seed):
    x, axis = drawn
    groups = data.draw(st.sampled_from(divisors(x.shape[axis])))
    assume(x.ndim > 2 or groups < x.shape[axis])  # single values are refused
    layer, gamma, beta = with_affine(GroupNorm(groups=groups, axis=axis), x, axis, seed)
    np.testing.assert_allclose(
        run(layer, x), reference.group_norm(x, gamma, beta, groups, axis, 1e-5), **NORM
    )


@given(inputs(), st.data(), st.integers(0, 99))
def test_layer_norm_is_the_papers_at_any_shape_and_axes(drawn, data, seed):
    x, _ = drawn
    axes = data.draw(st.lists(st.integers(1, x.ndim - 1), min_size=1, unique=True))
    layer = LayerNorm(axis=[a - x.ndim if data.draw(st.booleans()) else a for a in axes])
    layer.build(x.shape)
    random = np.random.default_rng(seed)
    shape = [x.shape[a] for a in sorted(axes)]
    gamma, beta = random.normal(size=shape), random.normal(size=shape)
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    np.testing.assert_allclose(run(layer, x), reference.layer_norm(x, gamma, beta, axes, 1e-5), **NORM)


@given(inputs(IMAGES), st.integers(0, 99))
def test_instance_norm_is_group_norm_with_a_channel_a_group(drawn, seed):
    x, axis = drawn
    one, _, _ = with_affine(InstanceNorm(axis=axis), x, axis, seed)
    other, _, _ = with_affine(GroupNorm(groups=x.shape[axis], axis=axis), x, axis, seed)
    np.testing.assert_allclose(run(one, x), run(other, x), **NORM)


def norms(axis, epsilon):
    """The norms, BatchNorm as it trains."""
    return {
        "batch": (BatchNorm(axis=axis, epsilon=epsilon), {"training": True}),
        "group": (GroupNorm(groups=1, axis=axis, epsilon=epsilon), {}),
        "instance": (InstanceNorm(axis=axis, epsilon=epsilon), {}),
        "layer": (LayerNorm(axis=axis, epsilon=epsilon), {}),
    }


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "layer"])
@given(drawn=inputs(), power=st.integers(-8, 8))
def test_norm_is_invariant_to_a_scale(norm, drawn, power):
    """With epsilon scaled by its square, a power of two changes no digit but where a square underflows."""
    x, axis = drawn
    assume(norm != "instance" or x.ndim > 2)
    layer, call = norms(axis, 1e-5)[norm]
    scaled, _ = norms(axis, 1e-5 * 4.0**power)[norm]
    np.testing.assert_allclose(
        run(scaled, x * np.float32(2.0**power), **call), run(layer, x, **call), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "layer"])
@given(drawn=inputs(), shift=st.integers(-64, 64))
def test_norm_is_invariant_to_a_shift(norm, drawn, shift):
    """A shift of s deviations costs s roundings of each value, which one deviation divides."""
    x, axis = drawn
    assume(norm != "instance" or x.ndim > 2)
    layer, call = norms(axis, 1e-5)[norm]
    deviation = np.float32(x.std())
    moved = (x + shift * deviation).astype("float32")
    unrounded = moved.astype("float64") - np.float64(shift * deviation)
    same_values = run(norms(axis, 1e-5)[norm][0], unrounded.astype("float32"), **call)
    assume(np.abs(same_values).max() < 20)
    # The smallest group may deviate less than the whole: that factor is what the outputs' size bounds.
    np.testing.assert_allclose(run(layer, moved, **call), same_values, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "layer"])
@given(drawn=inputs(), seed=st.integers(0, 99))
def test_norm_of_a_permuted_batch_is_the_permuted_norm(norm, drawn, seed):
    x, axis = drawn
    assume(norm != "instance" or x.ndim > 2)
    order = np.random.default_rng(seed).permutation(len(x))
    layer, call = norms(axis, 1e-5)[norm]
    np.testing.assert_allclose(run(layer, x[order], **call), run(layer, x, **call)[order], **NORM)


@given(inputs(shapes=[(3, 5, 4), (2, 3, 4, 6)]), st.integers(0, 99), st.floats(-1e3, 1e3))
def test_masked_values_change_neither_the_others_nor_the_moving_averages(drawn, seed, junk):
    x, axis = drawn
    assume(axis == x.ndim - 1)
    mask = np.random.default_rng(seed).random(x.shape[:2]) < 0.6
    assume(mask.any())
    spoiled = x.copy()
    spoiled[~mask] = junk
    clean, dirty = BatchNorm(momentum=0.5), BatchNorm(momentum=0.5)
    mask_tensor = keras.ops.convert_to_tensor(mask)
    first = run(clean, x, training=True, mask=mask_tensor)
    second = run(dirty, spoiled, training=True, mask=mask_tensor)
    np.testing.assert_array_equal(first[mask], second[mask])
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_array_equal(getattr(clean, name), getattr(dirty, name))
    expected, mean, variance = reference.batch_norm(
        x,
        np.ones(x.shape[-1]),
        np.zeros(x.shape[-1]),
        axis,
        1e-5,
        mask=mask.reshape(mask.shape + (1,) * (x.ndim - 2)),
    )
    np.testing.assert_allclose(first[mask], expected[mask], **NORM)
    np.testing.assert_allclose(clean.moving_mean, 0.5 * mean, rtol=1e-5, atol=1e-5 * np.abs(x).max())
    np.testing.assert_allclose(clean.moving_variance, 0.5 + 0.5 * variance, rtol=1e-5)


LAYERS = {
    "PReLU": PReLU,
    "SELU": SELU,
    "Swish": Swish,
    "BatchNorm": BatchNorm,
    "GroupNorm": lambda **arguments: GroupNorm(groups=2, axis=-1, **arguments),
    "InstanceNorm": InstanceNorm,
    "LayerNorm": LayerNorm,
}


@pytest.mark.parametrize("name", LAYERS)
@given(drawn=inputs(), dtype=st.sampled_from([*DTYPES, "mixed_float16", "mixed_bfloat16"]))
def test_output_has_the_shape_and_dtype_that_were_announced(name, drawn, dtype):
    x, _ = drawn
    assume(x.shape[-1] % 2 == 0 and (name != "InstanceNorm" or x.ndim > 2))
    layer = LAYERS[name](dtype=dtype)
    announced = layer.compute_output_spec(keras.KerasTensor(x.shape, layer.compute_dtype))
    y = layer(keras.ops.convert_to_tensor(x))
    assert tuple(y.shape) == tuple(announced.shape) == tuple(layer.compute_output_shape(x.shape)) == x.shape
    assert keras.backend.standardize_dtype(y.dtype) == announced.dtype == layer.compute_dtype


@pytest.mark.parametrize("name", LAYERS)
@given(drawn=inputs(shapes=[(4, 6), (2, 3, 4, 6)]), dtype=st.sampled_from(DTYPES))
def test_half_precision_gives_the_float32_answer_rounded(name, drawn, dtype):
    """Computed in float32 on the rounded input and rounded once, or in the dtype where a few operations do."""
    x, _ = drawn
    assume(name != "InstanceNorm" or x.ndim > 2)
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(x, dtype), "float32"))
    expected = run(LAYERS[name](dtype="float32"), rounded)
    got = run(keras.Sequential([LAYERS[name](dtype=dtype), keras.layers.Lambda(_to_float32)]), rounded)
    # Swish is four operations (product, exponential, sum, quotient), each rounded in the dtype.
    np.testing.assert_allclose(got, expected, rtol=16 * ROUNDING[dtype], atol=16 * ROUNDING[dtype])


def _to_float32(y):
    return keras.ops.cast(y, "float32")


@given(inputs(), st.data(), st.integers(0, 99))
def test_prelu_and_swish_take_their_parameter_along_any_axes(drawn, data, seed):
    x, _ = drawn
    shared = data.draw(st.lists(st.integers(1, x.ndim - 1), unique=True))
    shape = [1 if axis in shared else n for axis, n in enumerate(x.shape[1:], 1)]
    parameter = np.random.default_rng(seed).normal(size=shape)
    for layer, name, formula in ((PReLU, "alpha", reference.prelu), (Swish, "beta", reference.swish)):
        one = layer(shared_axes=shared)
        one.build(x.shape)
        assert tuple(getattr(one, name).shape) == tuple(shape)
        getattr(one, name).assign(parameter)
        np.testing.assert_allclose(
            run(one, x), formula(x.astype("float64"), parameter), rtol=1e-5, atol=1e-6 * np.abs(x).max()
        )


@given(inputs(), st.floats(-2, 2).filter(lambda alpha: abs(alpha) > 1e-20), st.integers(0, 12))
def test_prelu_is_positively_homogeneous(drawn, alpha, power):
    """PReLU(2^k x) = 2^k PReLU(x), to the last digit, but of products so small that they have no more all digits."""
    x, _ = drawn
    layer = PReLU(alpha_initializer=keras.initializers.Constant(alpha))
    factor = np.float32(2.0**power)
    np.testing.assert_array_equal(run(layer, x * factor), run(layer, x) * factor)


@given(inputs(), st.sampled_from([-4.0, -0.5, 0.25, 1.0, 2.0]))
def test_swish_scales_with_beta(drawn, beta):
    """swish(x, beta) = swish(beta x, 1) / beta."""
    x, _ = drawn
    one = Swish(beta_initializer=keras.initializers.Constant(beta))
    np.testing.assert_allclose(run(one, x), run(Swish(), np.float32(beta) * x) / beta, rtol=1e-6, atol=1e-30)


@given(inputs())
def test_selu_is_the_papers_and_increasing(drawn):
    x, _ = drawn
    ordered = np.sort(x.ravel())[None]
    y = run(SELU(), ordered)
    np.testing.assert_allclose(y, reference.selu(ordered.astype("float64")), rtol=1e-6, atol=1e-7)
    # Increasing but for rounding: neighbours on TensorFlow's graph, by `tanh`, change places by up to 3e-7 of their size.
    assert (np.diff(y) >= -1e-6 * np.abs(y[:, 1:])).all()


@given(
    st.sampled_from([-1, 1, 2]),
    st.floats(0, 1, exclude_max=True),
    st.floats(1e-8, 1.0),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "l2"]),
)
def test_batch_norm_survives_its_config(axis, momentum, epsilon, center, scale, unbiased, regularizer):
    layer = BatchNorm(
        axis=axis,
        momentum=momentum,
        epsilon=epsilon,
        center=center,
        scale=scale,
        unbiased_moving_variance=unbiased,
        gamma_regularizer=regularizer,
    )
    again = BatchNorm.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert (again.momentum, again.epsilon, again.unbiased_moving_variance) == (momentum, epsilon, unbiased)
