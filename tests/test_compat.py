"""Models saved by TensorFlow Addons 0.23 and keras-contrib load, answer as they did, and train on."""

import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import keras_addons_l6 as l6
from keras_addons_l6 import compat

FILES = Path(__file__).parent / "fixtures" / "old_models"
# Two float32 implementations of four layers of sums over at most 36 products; 1e-6 is eight roundings of 1.
TOLERANCE = 1e-6


def load(name):
    """Return the model of a file and the arrays recorded when it was written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = keras.saving.load_model(FILES / name)
    with np.load(FILES / f"{Path(name).stem}.npz") as recorded:
        return model, dict(recorded)


@pytest.mark.parametrize("name", ["addons.h5", "addons.keras", "contrib.h5"])
def test_old_model_answers_as_it_did_and_trains_on(name):
    model, recorded = load(name)
    output = model.predict(recorded["x"], verbose=0)
    np.testing.assert_allclose(output, recorded["output"], rtol=0, atol=TOLERANCE)
    before = float(np.mean((output - recorded["y"]) ** 2))
    history = model.fit(recorded["x"], recorded["y"], epochs=20, batch_size=3, verbose=0).history["loss"]
    assert history[0] == pytest.approx(before, rel=1e-5)
    assert history[-1] < before


def test_optimizer_state_of_addons_is_taken():
    model, recorded = load("addons.h5")
    model.fit(recorded["x"], recorded["y"], epochs=1, batch_size=3, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 21
    fresh = keras.saving.load_model(FILES / "addons.h5", compile=False)
    fresh.compile(l6.AdamW(1e-2, weight_decay=1e-3, decouple_lr=True), "mean_squared_error")
    fresh.fit(recorded["x"], recorded["y"], epochs=1, batch_size=3, verbose=0)
    # A fresh Adam moves every component by the rate; one with twenty steps of history does not.
    moved = [np.abs(a - b).max() for a, b in zip(model.get_weights(), fresh.get_weights(), strict=True)]
    assert max(moved) > 1e-3
    with h5py.File(FILES / "addons.h5") as file:
        m = np.array(file["optimizer_weights/AdamW/dense/kernel/m:0"])
    reloaded, _ = load("addons.h5")
    reloaded.optimizer.build(reloaded.trainable_variables)
    slot = next(v for v in reloaded.optimizer.variables if v.path.endswith("dense_kernel_momentum"))
    np.testing.assert_array_equal(slot.numpy(), m)


@pytest.mark.parametrize("name", ["addons.h5", "contrib.h5"])
def test_resaved_model_loads_as_it_is(name, tmp_path):
    model, recorded = load(name)
    model.save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras")
    output = again.predict(recorded["x"], verbose=0)
    np.testing.assert_allclose(output, recorded["output"], rtol=0, atol=TOLERANCE)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]


def test_own_classes_keep_their_saved_names():
    for cls in (l6.InstanceNorm, l6.GroupNorm, l6.AdamW):
        assert keras.saving.get_registered_name(cls) == f"keras_addons_l6>{cls.__name__}"
    assert isinstance(
        keras.layers.deserialize(keras.layers.serialize(keras.layers.GroupNormalization())),
        keras.layers.GroupNormalization,
    )


def contrib_reference(x, axis, epsilon):
    """keras-contrib's instance normalization in float64."""
    axes = tuple(a for a in range(1, x.ndim) if axis is None or a != axis % x.ndim)
    x = x.astype("float64")
    return (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + epsilon)


@pytest.mark.parametrize("axis", [None, -1, 1])
def test_contrib_instance_normalization_has_epsilon_outside_the_root(axis):
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype("float32")
    y = keras.ops.convert_to_numpy(compat.ContribInstanceNormalization(axis=axis, epsilon=0.5)(x))
    np.testing.assert_allclose(y, contrib_reference(x, axis, 0.5), rtol=0, atol=1e-6)


def test_contrib_group_normalization_is_group_norm_where_channels_come_first():
    x = np.random.default_rng(0).normal(size=(2, 8, 3, 5)).astype("float32")
    contrib, ours = compat.ContribGroupNormalization(groups=4, axis=1), l6.GroupNorm(groups=4, axis=1)
    y, expected = (keras.ops.convert_to_numpy(layer(x)) for layer in (contrib, ours))
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6)


def test_shared_name_is_said():
    config = {"class_name": "GroupNormalization", "config": {"groups": 2, "dtype": "float32", "name": "g"}}
    with pytest.warns(UserWarning, match="custom_objects"):
        compat.ALIASES["GroupNormalization"].from_config(config["config"])


# Keras turns a torch tensor into an array in a way that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_schedule_of_addons_adamw_is_said():
    schedule = keras.optimizers.schedules.serialize(keras.optimizers.schedules.CosineDecay(0.1, 10))
    with pytest.warns(UserWarning, match="Loshchilov"):
        optimizer = compat.ALIASES["Addons>AdamW"].from_config(
            {"learning_rate": schedule, "weight_decay": 0.1}
        )
    assert isinstance(optimizer, l6.AdamW)


@pytest.mark.parametrize("arguments", [{"axis": 0}, {"axis": 0, "epsilon": 1.0}])
def test_batch_axis_is_refused(arguments):
    with pytest.raises(ValueError, match="axis=0"):
        compat.ContribInstanceNormalization(**arguments)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="groups=4"):
        compat.ContribGroupNormalization(groups=4)(np.zeros((1, 2, 2, 6), "float32"))
