"""Each optimizer against the float64 transcription of its paper, at arguments that no default hides."""

import keras
import numpy as np
import pytest

from keras_addons_l6.optimizers import AdaGrad, Adam, AdamW, Nesterov, RMSProp
from keras_addons_l6.optimizers.adam import one_minus_power
from tests.optimizers.driving import FASTEST, follow
from tests.reference import optimizers as reference

STEPS = 300
X0 = np.linspace(-2.0, 3.0, 6).reshape(2, 3)


class Wave(keras.optimizers.schedules.LearningRateSchedule):
    """0.01, 0.015, 0.02 and again: changes at every step, in floatx, and starts at 0.01."""

    def __call__(self, step):
        return 0.01 + 0.005 * keras.ops.cast(step % 3, keras.config.floatx())

    def get_config(self):
        return {}


RATES = 0.01 + 0.005 * (np.arange(STEPS) % 3)


def gradients():
    noise = np.random.default_rng(6).normal(0.2, 1.0, (STEPS, 2, 3))
    return (noise * np.logspace(-6, 1, 6).reshape(2, 3)).astype("float32").astype("float64")


CASES = {
    "nesterov": (
        lambda: Nesterov(Wave(), momentum=0.8),
        lambda g: reference.nesterov_look_ahead(X0, g, RATES, 0.8),
    ),
    "adagrad": (
        lambda: AdaGrad(Wave(), initial_accumulator_value=0.01, epsilon=1e-3),
        lambda g: reference.adagrad(X0, g, RATES, 0.01, 1e-3),
    ),
    "rmsprop": (
        lambda: RMSProp(Wave(), rho=0.7, epsilon=1e-3),
        lambda g: reference.rmsprop(X0, g, RATES, 0.7, 0.0, 1e-3),
    ),
    "rmsprop_momentum": (
        lambda: RMSProp(Wave(), rho=0.7, momentum=0.6, epsilon=1e-3),
        lambda g: reference.rmsprop(X0, g, RATES, 0.7, 0.6, 1e-3),
    ),
    "rmsprop_centered": (
        lambda: RMSProp(Wave(), rho=0.7, momentum=0.6, epsilon=1e-3, centered=True),
        lambda g: reference.rmsprop(X0, g, RATES, 0.7, 0.6, 1e-3, centered=True),
    ),
    "adam": (
        lambda: Adam(Wave(), beta_1=0.8, beta_2=0.95, epsilon=1e-4),
        lambda g: reference.adam(X0, g, RATES, 0.8, 0.95, 1e-4),
    ),
    "adam_without_means": (
        lambda: Adam(Wave(), beta_1=0.0, beta_2=0.0, epsilon=1e-4),
        lambda g: reference.adam(X0, g, RATES, 0.0, 0.0, 1e-4),
    ),
    "adam_amsgrad": (
        lambda: Adam(Wave(), beta_1=0.8, beta_2=0.95, epsilon=1e-4, amsgrad=True),
        lambda g: reference.adam(X0, g, RATES, 0.8, 0.95, 1e-4, amsgrad=True),
    ),
    "adamw": (
        lambda: AdamW(Wave(), weight_decay=0.3, beta_1=0.8, beta_2=0.95, epsilon=1e-4),
        lambda g: reference.adam(X0, g, RATES, 0.8, 0.95, 1e-4, decay=lambda rate: 0.3 * rate),
    ),
    "adamw_decoupled": (
        lambda: AdamW(Wave(), weight_decay=0.002, beta_1=0.8, epsilon=1e-4, decouple_lr=True),
        lambda g: reference.adam(X0, g, RATES, 0.8, 0.999, 1e-4, decay=lambda rate: 0.002 * rate / 0.01),
    ),
    "adamw_decoupled_from_a_given_rate": (
        lambda: AdamW(Wave(), weight_decay=0.002, epsilon=1e-4, decouple_lr=0.05),
        lambda g: reference.adam(X0, g, RATES, 0.9, 0.999, 1e-4, decay=lambda rate: 0.002 * rate / 0.05),
    ),
}


def worst(name):
    create, transcription = CASES[name]
    path, expected = follow(create(), X0, gradients(), FASTEST), transcription(gradients())
    return np.max(np.abs(path - expected)) / np.max(np.abs(expected))


@pytest.mark.parametrize("name", CASES)
def test_float64(name, float64):
    # 300 steps of a dozen roundings of 1.1e-16 each, relative to the largest x: 4e-13 if all add up.
    assert worst(name) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_float32(name):
    assert worst(name) < 1e-5


def test_a_callable_rate_keeps_its_digits(float64):
    path = follow(Nesterov(lambda: 0.1, momentum=0.0), np.zeros(1), np.ones((1, 1)))
    assert path.item() == -0.1  # float32's 0.1 is 1.5e-9 off


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_rounds_only_what_is_stored(name, dtype):
    # Slots lose up to half a unit in the last place a step, 2^-11 or 2^-8; over 20 steps of 0.015 at most,
    # x itself is within a few of its own units (x <= 4: 2^-9 and 2^-6). A rule computed in half precision
    # fails outright: 1 - 0.999 and epsilon round to nothing.
    create, transcription = CASES[name]
    g = np.clip(gradients()[:20], -10, 10)
    g = np.where(np.abs(g) < 1e-2, 1e-2, g)  # squares that float16 can store
    expected = transcription_of(transcription, g)
    path = follow(create(), X0, g, dtype=dtype).astype("float64")
    ulp = {"float16": 2.0**-9, "bfloat16": 2.0**-6}[dtype]
    assert np.max(np.abs(path - expected)) < 20 * ulp


def transcription_of(transcription, g):
    padded = np.concatenate([g, np.zeros((STEPS - len(g), *g.shape[1:]))])
    return transcription(padded)[: len(g)]


@pytest.mark.parametrize("base", [0.0, 0.5, 0.9, 0.999, 1 - 1e-6])
def test_one_minus_power_is_accurate_in_float32(base):
    # -expm1(y): y = t log b is rounded twice and expm1 once; none is magnified. 8 units leave room for a
    # library's expm1.
    t = np.array([1, 2, 3, 10, 1e3, 1e4, 1e6], dtype="float32")
    ours = keras.ops.convert_to_numpy(one_minus_power(base, keras.ops.convert_to_tensor(t)))
    exact = -np.expm1(t.astype("float64") * np.log(base)) if base else np.ones(len(t))
    np.testing.assert_allclose(ours, exact, rtol=8 * 2.0**-24)
