"""BatchNorm: both modes in every layout, masks, renorm, and what it refuses."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6 import keras_private
from keras_addons_l6.layers import BatchNorm, batch_norm
from tests.reference import layers as reference

CASES = [
    ((8, 6), -1),
    ((4, 5, 6), -1),
    ((4, 6, 5), 1),
    ((2, 3, 4, 6), 3),
    ((2, 3, 6, 4), -2),
    ((2, 6, 3, 4), 1),
    ((2, 2, 3, 2, 6), -1),
]


def data(shape, seed=0):
    return np.random.default_rng(seed).normal(3.0, 2.0, shape).astype("float32")


def statistics_of(layer):
    return ops.convert_to_numpy(layer.moving_mean), ops.convert_to_numpy(layer.moving_variance)


def train(layer, x, mask=None):
    """The output in training; the moving averages are updated."""
    return ops.convert_to_numpy(
        layer(x, training=True, mask=None if mask is None else ops.convert_to_tensor(mask))
    )


@pytest.mark.parametrize(("shape", "axis"), CASES, ids=str)
def test_training_and_inference_in_any_layout(shape, axis):
    layer = BatchNorm(axis=axis, momentum=0.75)
    layer.build(shape)
    rng = np.random.default_rng(1)
    gamma, beta = rng.uniform(0.5, 1.5, shape[axis]), rng.normal(size=shape[axis])
    layer.gamma.assign(gamma.astype("float32"))
    layer.beta.assign(beta.astype("float32"))
    moving_mean, moving_variance = np.zeros(shape[axis]), np.ones(shape[axis])
    for step in range(3):
        x = data(shape, step)
        expected, mean, variance = reference.batch_norm(x, gamma, beta, axis, 1e-5)
        np.testing.assert_allclose(train(layer, x), expected, rtol=1e-5, atol=1e-5)
        moving_mean = 0.75 * moving_mean + 0.25 * mean
        moving_variance = 0.75 * moving_variance + 0.25 * variance
    np.testing.assert_allclose(statistics_of(layer)[0], moving_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(statistics_of(layer)[1], moving_variance, rtol=1e-5)
    expected = reference.batch_norm_inference(x, gamma, beta, moving_mean, moving_variance, axis, 1e-5)
    for y in (layer(x), layer(x, training=False)):
        np.testing.assert_allclose(ops.convert_to_numpy(y), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(statistics_of(layer)[0], moving_mean, rtol=1e-5, atol=1e-6)


def test_defaults_are_the_lectures():
    layer = BatchNorm()
    assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


def test_a_frozen_layer_is_in_inference_mode():
    layer, x = BatchNorm(), data((8, 6))
    layer.build(x.shape)
    layer.trainable = False
    np.testing.assert_allclose(train(layer, x), x, rtol=1e-5)
    np.testing.assert_array_equal(statistics_of(layer)[0], np.zeros(6))


@pytest.mark.parametrize(("count", "factor"), [(2, 2.0), (5, 1.25), (1, 1.0)])
def test_unbiased_moving_variance(count, factor):
    """n / (n - 1) times the biased variance; of a single value both are 0."""
    x = data((count, 3))
    layers = [BatchNorm(momentum=0.0, unbiased_moving_variance=unbiased) for unbiased in (False, True)]
    outputs = [train(layer, x) for layer in layers]
    np.testing.assert_array_equal(*outputs)
    biased, unbiased = (statistics_of(layer)[1] for layer in layers)
    np.testing.assert_allclose(biased, x.astype("float64").var(axis=0), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(unbiased, biased * factor, rtol=1e-6, atol=1e-12)


MASKED = [
    ((4, 5, 6), -1, (4,)),
    ((4, 5, 6), -1, (4, 5)),
    ((4, 5, 6), -1, (4, 5, 1)),
    ((4, 5, 6), -1, (4, 5, 6)),
    ((4, 5, 6), -1, (1, 5)),
    ((4, 5, 1), -1, (4, 5)),
    ((4, 1), -1, (4,)),
    ((2, 5, 4, 6), -1, (2, 5)),
    ((2, 5, 4, 6), -1, (2, 5, 4)),
    ((4, 5, 6), 1, (4, 5)),
    ((2, 5, 4, 6), 1, (2, 5)),
    ((4, 6, 5), 1, (4, 1, 5)),
]


@pytest.mark.parametrize(("shape", "axis", "mask_shape"), MASKED, ids=str)
def test_masks_over_leading_axes(shape, axis, mask_shape):
    """Keras raises IndexError for one channel on JAX and torch, and takes only rank - 1."""
    mask = np.random.default_rng(2).uniform(size=mask_shape) < 0.7
    mask.flat[0] = True
    wide = mask.reshape(mask_shape + (1,) * (len(shape) - len(mask_shape)))
    some = np.broadcast_to(wide, shape).any(
        axis=tuple(a for a in range(len(shape)) if a != axis % len(shape))
    )
    layer, x = BatchNorm(axis=axis, momentum=0.0), data(shape)
    y = np.moveaxis(train(layer, x, mask), axis, -1)[..., some]
    channels = shape[axis]
    kept = [c for c in range(channels) if some[c]]
    expected, mean, variance = reference.batch_norm(
        np.moveaxis(x, axis, -1)[..., kept],
        np.ones(len(kept)),
        np.zeros(len(kept)),
        -1,
        1e-5,
        np.broadcast_to(np.moveaxis(np.broadcast_to(wide, shape), axis, -1)[..., kept], (*y.shape,)),
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics_of(layer)[0][some], mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(statistics_of(layer)[1][some], variance, rtol=1e-4, atol=1e-5)
    # a channel without any value keeps its averages
    np.testing.assert_array_equal(statistics_of(layer)[0][~some], 0.0)
    np.testing.assert_array_equal(statistics_of(layer)[1][~some], 1.0)


@pytest.mark.parametrize(("shape", "mask_shape"), [((4, 6, 5), (4, 5)), ((2, 6, 5, 3), (2, 5, 3))], ids=str)
def test_a_time_mask_with_channels_first(shape, mask_shape):
    """Keras refuses it."""
    mask = np.random.default_rng(2).uniform(size=mask_shape) < 0.7
    x = data(shape)
    y = train(BatchNorm(axis=1), x, mask)
    expected, _, _ = reference.batch_norm(x, np.ones(6), np.zeros(6), 1, 1e-5, mask[:, None])
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "axis", "mask_shape"),
    [((4, 5, 6), -1, (5,)), ((4, 5, 6), -1, (4, 6)), ((4, 5, 6), -1, (4, 5, 6, 1)), ((4, 5, 6), -1, ())],
    ids=str,
)
def test_a_mask_that_does_not_fit(shape, axis, mask_shape):
    layer = BatchNorm(axis=axis)
    layer.build(shape)
    with pytest.raises(ValueError, match=r"a mask of shape .* does not fit inputs of shape \(4, 5, 6\)"):
        layer.call(ops.convert_to_tensor(data(shape)), training=True, mask=ops.ones(mask_shape, dtype="bool"))


def test_a_mask_hides_infinity_and_nan():
    x = data((4, 5, 6))
    mask = np.ones((4, 5), bool)
    mask[0, 0], mask[1, 1] = False, False
    expected = train(BatchNorm(), x, mask)[mask]
    x[0, 0], x[1, 1] = np.nan, np.inf
    layer = BatchNorm()
    np.testing.assert_array_equal(train(layer, x, mask)[mask], expected)
    assert all(np.isfinite(s).all() for s in statistics_of(layer))


def test_a_batch_that_is_masked_entirely_changes_nothing():
    layer, x = BatchNorm(), data((4, 5, 6))
    train(layer, x)
    before = statistics_of(layer)
    y = train(layer, x, np.zeros((4, 5), bool))
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(statistics_of(layer), before)


@pytest.mark.parametrize("axis", [-1, 1])
def test_an_empty_batch_leaves_the_averages(axis):
    """A replica may get none of the last batch."""
    layer = BatchNorm(axis=axis)
    layer.build((None, 4, 6))
    assert train(layer, np.zeros((0, 4, 6), "float32")).shape == (0, 4, 6)
    np.testing.assert_array_equal(statistics_of(layer)[0], 0.0)
    np.testing.assert_array_equal(statistics_of(layer)[1], 1.0)


def test_batches_of_several_sizes_in_fit():
    """The batch's size is unknown where the step is traced."""
    model = keras.Sequential([keras.Input((4, 6)), BatchNorm(momentum=0.5)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = data((7, 4, 6))
    model.fit(x, x, batch_size=3, shuffle=False, verbose=0)
    mean, variance = np.zeros(6), np.ones(6)
    for batch in (x[:3], x[3:6], x[6:]):
        _, batch_mean, batch_variance = reference.batch_norm(batch, np.ones(6), np.zeros(6), -1, 1e-5)
        mean, variance = (mean + batch_mean) / 2, (variance + batch_variance) / 2
    np.testing.assert_allclose(statistics_of(model.layers[0]), (mean, variance), rtol=1e-5)


def test_masks_arrive_through_a_model():
    x = data((4, 5, 3))
    x[:, 3:] = 0.0
    model = keras.Sequential([keras.Input((5, 3)), keras.layers.Masking(), BatchNorm(momentum=0.0)])
    model(x, training=True)
    np.testing.assert_allclose(statistics_of(model.layers[-1])[0], x[:, :3].mean(axis=(0, 1)), rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_half_precision_takes_its_statistics_from_the_input_as_it_came(policy):
    """Of 3e5 a float16 knows only that it is infinite, of 2049 that it is even."""
    for x in (1e5 * data((64, 4)), data((64, 4)) + 2048.0):
        layer = BatchNorm(momentum=0.0, dtype=policy)
        y = layer(ops.convert_to_tensor(x), training=True)
        assert keras.backend.standardize_dtype(y.dtype) == "float16"
        expected, mean, variance = reference.batch_norm(x, np.ones(4), np.zeros(4), -1, 1e-5)
        # one rounding to float16 of values up to 4
        np.testing.assert_allclose(ops.convert_to_numpy(y).astype("float64"), expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(statistics_of(layer)[0], mean, rtol=1e-5)
        np.testing.assert_allclose(statistics_of(layer)[1], variance, rtol=1e-4)
        at_test_time = ops.convert_to_numpy(layer(ops.convert_to_tensor(x))).astype("float64")
        np.testing.assert_allclose(at_test_time, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("renorm", [False, True] if keras_private.HAS_RENORM else [False])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_does_not_enter_the_moving_averages(value, renorm):
    """It would stay there for good; the other channels' averages move."""
    layer = BatchNorm(renorm=renorm)
    train(layer, data((8, 3)))
    before = layer.get_weights()
    x = data((8, 3), 1)
    x[:4, 1] = value  # of 3e38 and ordinary values the variance overflows
    train(layer, x)
    for old, new in zip(before[2:], layer.get_weights()[2:], strict=True):
        assert np.isfinite(new).all()
        assert new[1] == old[1]
        assert (new[[0, 2]] != old[[0, 2]]).all()


def test_moving_averages_outgrow_float16():
    """A variance of 1e9 is infinite in float16, and the output at test time then beta."""
    x = np.random.default_rng(0).uniform(-6e4, 6e4, (64, 3)).astype("float16")
    layer = BatchNorm(momentum=0.0, dtype="float16")
    trained = train(layer, x)
    assert {keras.backend.standardize_dtype(w.dtype) for w in layer.trainable_weights} == {"float16"}
    assert {keras.backend.standardize_dtype(w.dtype) for w in layer.non_trainable_weights} == {"float32"}
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), trained, rtol=2e-3, atol=2e-3)


def renorm_step(x, state, momentum, renorm_momentum, clipping, epsilon):
    """Ioffe (2017), Algorithm 1, with Keras's deviation sqrt(variance + epsilon)."""
    mean, variance = x.mean(axis=0), x.var(axis=0)
    deviation = np.sqrt(variance + epsilon)
    r = np.clip(deviation / state["renorm_stddev"], clipping["rmin"], clipping["rmax"])
    d = np.clip((mean - state["renorm_mean"]) / state["renorm_stddev"], -clipping["dmax"], clipping["dmax"])
    y = (x - mean) / deviation * r + d
    for name, value, m in [
        ("renorm_mean", mean, renorm_momentum),
        ("renorm_stddev", deviation, renorm_momentum),
        ("moving_mean", mean, momentum),
        ("moving_stddev", deviation, momentum),
    ]:
        state[name] = m * state[name] + (1 - m) * value
    state["moving_variance"] = np.maximum(state["moving_stddev"] ** 2 - epsilon, 0)
    return y


needs_renorm = pytest.mark.skipif(not keras_private.HAS_RENORM, reason="this Keras has no renorm to subclass")


@needs_renorm
@pytest.mark.parametrize("clipping", [None, {"rmin": 0.8, "rmax": 1.2, "dmax": 0.3}], ids=str)
def test_renorm(clipping):
    layer = BatchNorm(momentum=0.75, renorm=True, renorm_clipping=clipping, renorm_momentum=0.5)
    layer.build((None, 3))
    layer.gamma.assign(np.array([0.5, 1.0, 2.0], "float32"))
    layer.beta.assign(np.array([0.0, -1.0, 1.0], "float32"))
    bounds = clipping or {"rmin": 0.0, "rmax": np.inf, "dmax": np.inf}
    state = dict.fromkeys(("renorm_mean", "moving_mean"), np.zeros(3))
    state |= dict.fromkeys(("renorm_stddev", "moving_stddev", "moving_variance"), np.ones(3))
    for step in range(4):
        x = data((16, 3), step)
        expected = renorm_step(x.astype("float64"), state, 0.75, 0.5, bounds, 1e-5)
        expected = expected * ops.convert_to_numpy(layer.gamma) + ops.convert_to_numpy(layer.beta)
        np.testing.assert_allclose(train(layer, x), expected, rtol=1e-5, atol=1e-5)
        for name, value in state.items():
            np.testing.assert_allclose(
                ops.convert_to_numpy(getattr(layer, name)), value, rtol=1e-5, err_msg=name
            )


@needs_renorm
def test_renorm_equals_keras():
    arguments = {
        "renorm": True,
        "renorm_clipping": {"rmax": 2.0, "dmax": 0.5},
        "momentum": 0.9,
        "epsilon": 1e-3,
    }
    ours, theirs = BatchNorm(**arguments), keras.layers.BatchNormalization(**arguments)
    for step in range(3):
        x = data((16, 3), step)
        np.testing.assert_allclose(train(ours, x), train(theirs, x), rtol=1e-5, atol=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_renorm_where_keras_has_none(monkeypatch):
    monkeypatch.setattr(batch_norm, "HAS_RENORM", False)
    with pytest.raises(ValueError, match=r"renorm=True needs Keras 3\.14 or later"):
        BatchNorm(renorm=True)
    layer = BatchNorm()
    assert layer.get_config() == BatchNorm.from_config(layer.get_config()).get_config()


def test_synchronized_is_tensorflows(backend):
    if backend == "tensorflow":
        x = data((8, 6))
        synchronized, alone = BatchNorm(synchronized=True), BatchNorm()
        np.testing.assert_allclose(train(synchronized, x), train(alone, x), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(statistics_of(synchronized), statistics_of(alone), rtol=1e-5)
        return
    expected = "global already" if backend == "jax" else "GroupNorm needs no synchronization"
    with pytest.raises(ValueError, match=rf"synchronized=True is TensorFlow's.*{backend}.*{expected}"):
        BatchNorm(synchronized=True)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"axis": 0}, "axis=0"),
        ({"axis": [3]}, r"axis=\[3\]"),
        ({"axis": 1.0}, "axis=1.0"),
        ({"axis": True}, "axis=True"),
        ({"momentum": -0.1}, "momentum=-0.1"),
        ({"momentum": 1.1}, "momentum=1.1"),
        ({"momentum": float("nan")}, "momentum=nan"),
        ({"momentum": None}, "momentum=None"),
        ({"epsilon": 0}, "epsilon=0"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
        ({"epsilon": float("inf")}, "epsilon=inf"),
        ({"renorm_momentum": 2.0}, "renorm_momentum=2.0"),
        ({"renorm_clipping": {"max": 1.0}}, "renorm_clipping={'max': 1.0}"),
        ({"renorm_clipping": {"rmin": 2.0, "rmax": 1.0}}, "renorm_clipping={'rmin': 2.0, 'rmax': 1.0}"),
        ({"renorm_clipping": {"dmax": -1.0}}, "renorm_clipping={'dmax': -1.0}"),
    ],
    ids=str,
)
def test_arguments_out_of_range(arguments, name):
    with pytest.raises(ValueError, match=f"BatchNorm: .*{name}"):
        BatchNorm(**arguments)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_momentum_may_be_either_end(momentum):
    layer, x = BatchNorm(momentum=momentum), data((8, 3))
    train(layer, x)
    expected = x.mean(axis=0) * (1 - momentum)
    np.testing.assert_allclose(statistics_of(layer)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("axis", [3, -3, -4])
def test_axes_that_the_input_lacks_or_that_are_its_batch(axis):
    for use in (lambda f: f.build((None, 4, 6)), lambda f: f.compute_output_shape((None, 4, 6))):
        with pytest.raises(ValueError, match=f"axis={axis} does not name a channel axis"):
            use(BatchNorm(axis=axis))


def test_an_unknown_number_of_channels():
    with pytest.raises(ValueError, match=r"number of channels, axis -1 .*must be known"):
        BatchNorm()(keras.Input((4, None)))


def test_unbiased_moving_variance_is_keyword_only():
    arguments = [-1, 0.9, 1e-5, True, True, "zeros", "ones", "zeros", "ones", None, None, None, None]
    assert BatchNorm(*arguments, False, None, 0.99, False).unbiased_moving_variance is False
    with pytest.raises(TypeError):
        BatchNorm(*arguments, False, None, 0.99, False, True)


def test_keras_is_reproduced():
    ours, theirs = BatchNorm(momentum=0.99, epsilon=1e-3), keras.layers.BatchNormalization()
    for step in range(3):
        x = data((4, 5, 5, 3), step)
        np.testing.assert_allclose(train(ours, x), train(theirs, x), rtol=1e-4, atol=1e-4)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(theirs(x)), rtol=1e-4, atol=1e-4
    )


def test_keras_loses_what_is_far_from_zero_and_ours_does_not(backend):
    """On the torch backend Keras takes E[x^2] - E[x]^2, a quarter of it NaN here."""
    x = (np.random.default_rng(3).normal(size=(16, 16, 16, 4)) + 1e4).astype("float32")
    expected, _, _ = reference.batch_norm(x, np.ones(4), np.zeros(4), -1, 1e-3)
    ours = np.abs(train(BatchNorm(epsilon=1e-3), x) - expected).max()
    theirs = np.abs(train(keras.layers.BatchNormalization(), x) - expected).max()
    assert ours < 1e-5
    assert not theirs < (0.1 if backend == "torch" else 1e-5)  # NaN is not below either


def test_pytorch_is_reproduced():
    """`torch.nn.BatchNorm2d`: biased in the output, unbiased in running_var; its momentum 0.1 is 1 - ours."""
    layer = BatchNorm(axis=1, unbiased_moving_variance=True)
    running_mean, running_variance = np.zeros(3), np.ones(3)
    for step in range(3):
        x = data((4, 3, 5, 5), step)
        wide = x.astype("float64").transpose(1, 0, 2, 3).reshape(3, -1)
        mean = wide.mean(axis=1)
        running_mean = (1 - 0.1) * running_mean + 0.1 * mean
        running_variance = (1 - 0.1) * running_variance + 0.1 * wide.var(axis=1, ddof=1)
        expected = (x - mean[:, None, None]) / np.sqrt(wide.var(axis=1) + 1e-5)[:, None, None]
        np.testing.assert_allclose(train(layer, x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(statistics_of(layer)[0], running_mean, rtol=1e-5)
    np.testing.assert_allclose(statistics_of(layer)[1], running_variance, rtol=1e-5)


def test_float64_is_float64(float64):
    """Keras's mean and moments on JAX and torch take float64 through float32."""
    x = np.random.default_rng(0).normal(3.0, 2.0, (8, 5, 6))
    layer = BatchNorm(momentum=0.0, dtype="float64")
    expected, mean, variance = reference.batch_norm(x, np.ones(6), np.zeros(6), -1, 1e-5)
    np.testing.assert_allclose(train(layer, x), expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(statistics_of(layer)[0], mean, rtol=1e-14)
    np.testing.assert_allclose(statistics_of(layer)[1], variance, rtol=1e-13)
