"""Arguments out of range raise at construction, naming the argument and the value."""

import keras
import numpy as np
import pytest

from keras_addons_l6.optimizers import AdaGrad, Adam, AdamW, Nesterov, RMSProp

ALL = [Nesterov, AdaGrad, RMSProp, Adam, AdamW]
NOT_NUMBERS = [np.nan, np.inf, -np.inf, "0.5", [0.5], True, None, 1j]
FRACTION = [*NOT_NUMBERS, -0.1, 1.0, 1.5]
POSITIVE = [*NOT_NUMBERS, 0.0, 0, -1e-8]
NOT_NEGATIVE = [*NOT_NUMBERS, -1e-8]
FLAG = [None, 0, 1, "yes", np.nan, 1.0]


def without_none(values):
    return [v for v in values if v is not None]


OWN = [
    (Nesterov, "momentum", FRACTION),
    (AdaGrad, "initial_accumulator_value", NOT_NEGATIVE),
    (AdaGrad, "epsilon", POSITIVE),
    (RMSProp, "rho", FRACTION),
    (RMSProp, "momentum", FRACTION),
    (RMSProp, "epsilon", POSITIVE),
    (RMSProp, "centered", FLAG),
    *((c, name, FRACTION) for c in (Adam, AdamW) for name in ("beta_1", "beta_2")),
    *((c, "epsilon", POSITIVE) for c in (Adam, AdamW)),
    *((c, "amsgrad", FLAG) for c in (Adam, AdamW)),
    (AdamW, "weight_decay", NOT_NEGATIVE),
    (AdamW, "decouple_lr", [np.nan, np.inf, "yes", None, 0.0, 0, -1.0]),
]
BASE = {
    "learning_rate": NOT_NEGATIVE,
    "weight_decay": without_none(NOT_NEGATIVE),
    "clipnorm": without_none(POSITIVE),
    "clipvalue": without_none(POSITIVE),
    "global_clipnorm": without_none(POSITIVE),
    "use_ema": FLAG,
    "ema_momentum": [*NOT_NUMBERS, -0.1, 1.1],
    "ema_overwrite_frequency": [0, -1, 1.5, True, "1", np.nan],
    "loss_scale_factor": without_none(POSITIVE),
    "gradient_accumulation_steps": [0, 1, -2, 2.0, True, "2", np.nan],
    "name": [1, b"adam"],
}
CASES = [*OWN, *((c, name, values) for c in ALL for name, values in BASE.items())]


@pytest.mark.parametrize(("optimizer_class", "name", "values"), CASES)
def test_out_of_range(optimizer_class, name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"`{name}` must be") as error:
            optimizer_class(**{name: value})
        assert f"{name}={value!r}" in str(error.value)


@pytest.mark.parametrize("optimizer_class", ALL)
def test_bounds_belong_to_the_range(optimizer_class):
    optimizer = optimizer_class(0.0, weight_decay=0.0, ema_momentum=1.0)
    assert optimizer_class(0, ema_momentum=0).get_config()["learning_rate"] == 0.0
    assert optimizer.get_config()["weight_decay"] == 0.0
    zero = {"momentum": 0.0, "rho": 0.0, "beta_1": 0.0, "beta_2": 0.0, "initial_accumulator_value": 0.0}
    own = {k: v for k, v in zero.items() if k in optimizer.get_config()}
    assert optimizer_class(**own).get_config().items() >= own.items()


@pytest.mark.parametrize("optimizer_class", ALL)
def test_numpy_numbers_become_python_numbers(optimizer_class):
    config = optimizer_class(
        np.float32(0.5),
        weight_decay=np.float64(0.25),
        gradient_accumulation_steps=np.int64(2),
        use_ema=np.True_,
        clipnorm=1,
    ).get_config()
    kinds = {
        "learning_rate": float,
        "weight_decay": float,
        "gradient_accumulation_steps": int,
        "use_ema": bool,
    }
    assert {key: type(config[key]) for key in kinds} == kinds
    assert type(config["clipnorm"]) is float


@pytest.mark.parametrize("optimizer_class", ALL)
def test_two_clippings(optimizer_class):
    with pytest.raises(ValueError, match="Only one of"):
        optimizer_class(clipnorm=1.0, clipvalue=1.0)


@pytest.mark.parametrize("optimizer_class", ALL)
def test_unknown_argument(optimizer_class):
    with pytest.raises(ValueError, match=r"has no argument `momentun`\. (Did you mean|It takes)"):
        optimizer_class(momentun=0.9)


class TestDecoupledRate:
    def test_true_takes_the_rate_at_construction(self):
        assert AdamW(0.25, decouple_lr=True).get_config()["decouple_lr"] == 0.25
        assert AdamW(lambda: 0.25, decouple_lr=True).decouple_lr == 0.25
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.25])
        assert AdamW(schedule, decouple_lr=True).decouple_lr == 0.5

    def test_stays_when_the_rate_is_set(self):
        optimizer = AdamW(0.25, decouple_lr=True)
        optimizer.learning_rate = 0.125
        assert AdamW.from_config(optimizer.get_config()).decouple_lr == 0.25

    def test_a_number_is_the_rate(self):
        assert AdamW(decouple_lr=0.5).get_config()["decouple_lr"] == 0.5
        assert AdamW().get_config()["decouple_lr"] is False

    @pytest.mark.parametrize(
        "rate", [0.0, keras.optimizers.schedules.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=5)]
    )
    def test_a_rate_that_starts_at_zero(self, rate):
        with pytest.raises(ValueError, match=r"`decouple_lr=True`.*which is 0\.0.*peak rate"):
            AdamW(rate, decouple_lr=True)
