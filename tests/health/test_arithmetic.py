"""The numbers of a look, against NumPy's own and against what layers do."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_addons_l6 as l6
from keras_addons_l6.health import arithmetic, measures
from keras_addons_l6.health.activations import activation_of, limits_of

RANDOM = np.random.default_rng(0)


def array(x):
    return ops.convert_to_numpy(x)


class TestActivations:
    @pytest.mark.parametrize(
        ("operation", "name"),
        [
            (layers.Dense(2, "relu"), "relu"),
            (layers.Conv2D(2, 3, activation="hard_sigmoid"), "hard_sigmoid"),
            (layers.Dense(2, activation=layers.LeakyReLU()), "leaky_relu"),
            (layers.Dense(2), None),
            (layers.Activation("swish"), "silu"),
            (layers.ReLU(max_value=6.0), "relu6"),
            (layers.ReLU(negative_slope=0.1), "leaky_relu"),
            (layers.TimeDistributed(layers.Dense(2, "tanh")), "tanh"),
            (layers.LSTM(2), None),
            (l6.SELU(), "selu"),
            (l6.Swish(), "silu"),
            (l6.PReLU(), "prelu"),
            (layers.BatchNormalization(), None),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_are_found_in_layers(self, operation, name):
        assert activation_of(operation) == name

    @pytest.mark.parametrize(
        "name", ["sigmoid", "tanh", "soft_sign", "elu", "selu", "hard_sigmoid", "hard_tanh", "relu6"]
    )
    def test_saturate_where_their_slope_is_gone(self, name):
        """The limit lies within a step of where central differences fall to 1% of the largest slope."""
        step = 1e-3
        x = np.arange(-30, 30, step)
        function = keras.activations.get("softsign" if name == "soft_sign" else name)
        y = np.asarray(array(function(ops.convert_to_tensor(x, "float32"))), "float64")
        slope = np.gradient(y, step)
        limits = limits_of(name, 0.01)
        flat = (y <= limits.low) | (y >= limits.high)
        largest = slope.max() if name != "relu6" else 1.0
        expected = slope <= 0.01 * largest
        if name == "relu6":
            expected &= y > 0  # at the other end units are dead
        assert np.mean(flat != expected) < 2e-3

    def test_units_are_silent_where_all_their_values_are(self):
        y = np.array([[0.0, 0.0, -1e-4], [0.0, 1.0, -1.0]], "float32")
        low, high = (array(part) for part in measures.unit_range(ops.convert_to_tensor(y), -1))
        assert arithmetic.silent(low, high, limits_of("relu", 0.01)).tolist() == [True, False, True]
        assert arithmetic.silent(low, high, limits_of("silu", 0.01)).tolist() == [True, False, False]
        assert arithmetic.silent(low, high, limits_of("prelu", 0.01)).tolist() == [False, False, False]


class TestMeasures:
    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_values_of_an_activation(self, dtype):
        y = ops.cast(RANDOM.uniform(size=(40, 50)).astype("float32"), dtype)
        exact = np.asarray(array(ops.cast(y, "float32")), "float64")
        mean, deviation, saturated = array(measures.values_of_activation(y, limits_of("sigmoid", 0.5)))
        bound = (1 - math.sqrt(0.5)) / 2
        assert mean == pytest.approx(exact.mean(), rel=1e-5)
        assert deviation == pytest.approx(exact.std(), rel=1e-5)
        assert saturated == pytest.approx(np.mean((exact <= bound) | (exact >= 1 - bound)), abs=1e-6)

    def test_softmax_saturates_by_its_largest_value(self):
        y = np.array([[0.999, 0.001, 0.0], [0.5, 0.3, 0.2]], "float32")
        assert (
            array(measures.values_of_activation(ops.convert_to_tensor(y), limits_of("softmax", 0.01)))[2]
            == 0.5
        )

    def test_finite_share(self):
        y = np.array([1.0, np.inf, np.nan, -np.inf], "float32")
        assert array(measures.finite_share(ops.convert_to_tensor(y))) == 0.25

    @pytest.mark.parametrize("axis", [1, -1])
    def test_moments_with_a_mask_leave_out_what_it_hides(self, axis):
        x = RANDOM.normal(3, 2, size=(4, 5, 5)).astype("float32")
        mask = RANDOM.uniform(size=(4, 5) if axis == -1 else (4,)) < 0.6
        mean, variance = (
            array(part)
            for part in measures.moments(ops.convert_to_tensor(x), axis, ops.convert_to_tensor(mask))
        )
        kept = np.moveaxis(x, axis, -1)[mask].reshape(-1, 5)
        np.testing.assert_allclose(mean, kept.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(variance, kept.var(axis=0), rtol=1e-5)

    def test_a_large_variable_is_sampled_in_every_channel(self):
        shape = (1, 1, 512, 1024)
        (sample,) = measures.sampled([ops.reshape(ops.arange(512 * 1024, dtype="int32"), shape)])
        places = array(sample)
        assert len(places) <= measures.SAMPLED
        assert len(set(places % 1024)) == 1024
        assert len(set(places // 1024)) == 512

    def test_norms(self):
        a, b = RANDOM.normal(size=(3, 3, 2, 4)).astype("float32"), np.full(70000, 10, "float16")
        found = array(measures.norms([ops.convert_to_tensor(a), ops.convert_to_tensor(b)]))
        np.testing.assert_allclose(found, [np.linalg.norm(a), 10 * math.sqrt(70000)], rtol=1e-5)


class TestBatchNorm:
    @pytest.mark.parametrize("norm", [layers.BatchNormalization, l6.BatchNorm])
    def test_the_gap_is_that_of_the_layers_two_modes(self, norm):
        layer = norm(gamma_initializer="random_normal", beta_initializer="random_normal")
        x = RANDOM.normal(RANDOM.normal(size=6), RANDOM.uniform(0.5, 2, size=6), size=(32, 5, 6)).astype(
            "float32"
        )
        layer.build(x.shape)
        layer.moving_mean.assign(RANDOM.normal(size=6))
        layer.moving_variance.assign(RANDOM.uniform(0.1, 3, size=6))
        gamma, beta, moving, variance = (
            array(ops.convert_to_tensor(v)).astype("float64")
            for v in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        )
        testing = array(layer(x, training=False)).astype("float64")
        training = array(layer(x, training=True)).astype("float64")
        direct = np.sqrt(np.mean((training - testing) ** 2) / np.mean((training - beta) ** 2))
        batch = (x.mean(axis=(0, 1), dtype="float64"), x.var(axis=(0, 1), dtype="float64"))
        found = arithmetic.batch_norm_gap(*batch, moving, variance, gamma, layer.epsilon)
        assert found == pytest.approx(direct, rel=1e-4)

    def test_chance_gives_what_the_noise_says(self):
        gaps = []
        for _ in range(400):
            x = RANDOM.normal(size=(32, 16))
            gaps.append(
                arithmetic.batch_norm_gap(
                    x.mean(axis=0), x.var(axis=0), np.zeros(16), np.ones(16), np.ones(16), 0.0
                )
            )
        # to first order in 1/n, n = 32; and the variances' mean is short by 1/n
        assert np.sqrt(np.mean(np.square(gaps))) == pytest.approx(arithmetic.noise_of_gap(32), rel=0.1)

    def test_distance_and_ratio(self):
        mean, variance = np.array([1.0, 2.0]), np.array([4.0, 9.0])
        assert arithmetic.distance_of_means(mean, variance, np.array([3.0, 2.0]), 0.0) == pytest.approx(
            math.sqrt(0.5)
        )
        assert arithmetic.ratio_of_variances(variance, np.array([16.0, 9.0]), 0.0) == pytest.approx(2.0)


def test_update_ratio():
    assert arithmetic.update_ratio(0.0, 5.0) == 0
    assert arithmetic.update_ratio(0.5, 5.0) == 0.1
    assert arithmetic.update_ratio(5.0, 0.0) == np.inf
    assert arithmetic.update_ratio(0.0, 0.0) == 0
