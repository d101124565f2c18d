"""A model that is compiled and saved before any training loads and trains as if it had not been saved."""

import keras
import numpy as np
import pytest

import keras_addons_l6 as l6

OPTIMIZERS = {
    "nesterov": lambda: l6.Nesterov(0.1),
    "adagrad": lambda: l6.AdaGrad(0.1, initial_accumulator_value=0.5),
    "rmsprop": lambda: l6.RMSProp(0.1, momentum=0.5, centered=True),
    "adam": lambda: l6.Adam(0.1, amsgrad=True, use_ema=True),
    "adamw": lambda: l6.AdamW(keras.optimizers.schedules.CosineDecay(0.1, 10)),
    "lbfgs": lambda: l6.LBFGS(history_size=3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_saved_before_training_loads_and_trains_the_same(name, tmp_path):
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    y = x[:, :2] * 2
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(OPTIMIZERS[name](), "mse")
    model.save(tmp_path / "untrained.keras")
    loaded = keras.saving.load_model(tmp_path / "untrained.keras")
    assert repr(loaded.optimizer) == repr(model.optimizer)
    losses = [
        m.fit(x, y, batch_size=8, shuffle=False, epochs=3, verbose=0).history["loss"] for m in (model, loaded)
    ]
    np.testing.assert_array_equal(*losses)
