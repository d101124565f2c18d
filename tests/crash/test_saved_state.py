"""A saved optimizer state that does not fit is refused by name, whichever way a model loads it."""

import keras
import numpy as np
import pytest

from keras_addons_l6 import optimizers


def trained(optimizer, units=3):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    model.compile(optimizer, "mse")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model.fit(x, np.zeros((8, units), "float32"), verbose=0)
    return model


MISMATCHES = {
    "a slot is missing": (lambda: optimizers.Adam(), lambda: optimizers.Adam(amsgrad=True), "velocity"),
    "a slot too many": (lambda: optimizers.RMSProp(momentum=0.5), lambda: optimizers.RMSProp(), "velocity"),
    "another history": (
        lambda: optimizers.LBFGS(history_size=5),
        lambda: optimizers.LBFGS(history_size=3),
        "_rings'",
    ),
    "another method": (lambda: optimizers.Adam(), lambda: optimizers.LBFGS(), "point|gradient|direction"),
    "another rule": (lambda: optimizers.AdaGrad(), lambda: optimizers.Adam(), "momentum|velocity"),
}


@pytest.mark.parametrize("case", MISMATCHES)
def test_state_of_another_optimizer_is_refused_and_changes_nothing(case, tmp_path):
    saved, loading, named = MISMATCHES[case]
    trained(saved()).save_weights(tmp_path / "saved.weights.h5")
    model = trained(loading())
    before = [np.array(v) for v in map(keras.ops.convert_to_numpy, model.optimizer.variables)]
    with pytest.raises(ValueError, match=named):
        model.load_weights(tmp_path / "saved.weights.h5")
    for variable, value in zip(model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("case", MISMATCHES)
def test_state_loaded_before_the_slots_exist_is_refused_when_they_do(case, tmp_path):
    saved, loading, named = MISMATCHES[case]
    trained(saved()).save_weights(tmp_path / "saved.weights.h5")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(loading(), "mse")
    with pytest.raises(ValueError, match=named):
        model.load_weights(tmp_path / "saved.weights.h5")
        model.optimizer.build(model.trainable_variables)


@pytest.mark.parametrize("name", ["Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW", "LBFGS"])
def test_state_that_fits_is_taken(name, tmp_path):
    model = trained(getattr(optimizers, name)())
    model.save_weights(tmp_path / "saved.weights.h5")
    other = trained(getattr(optimizers, name)())
    other.load_weights(tmp_path / "saved.weights.h5")
    for one, two in zip(other.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, two, err_msg=one.path)
