"""What is excluded from weight decay stays excluded, and what reaches nothing is told."""

import contextlib
import json
import warnings

import keras
import numpy as np
import pytest

from keras_addons_l6 import compat
from keras_addons_l6.optimizers import Adam, AdamW

# Keras turns a torch or JAX variable into an array in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


def variable(path, size=3):
    """A variable of that path."""
    *scopes, name = path.split("/")
    with contextlib.ExitStack() as stack:
        for scope in scopes:
            stack.enter_context(keras.name_scope(scope))
        return keras.Variable(np.ones(size), name=name)


def network():
    """Layers whose names Keras chooses but for the normalization."""
    layers = [
        keras.layers.Dense(4),
        keras.layers.LayerNormalization(name="layer_norm"),
        keras.layers.Dense(1),
    ]
    return keras.Sequential([keras.Input((3,)), *layers])


def undecayed(optimizer, variables):
    """Which of the variables keep their values under a gradient of zero."""
    optimizer.build(variables)
    before = [np.array(keras.ops.convert_to_numpy(v.value)) for v in variables]
    optimizer.apply([keras.ops.zeros(tuple(v.shape)) for v in variables], variables)
    after = [keras.ops.convert_to_numpy(v.value) for v in variables]
    return [np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def excluding(**what):
    optimizer = AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(**what)
    return optimizer


def reread(optimizer):
    return type(optimizer).from_config(json.loads(json.dumps(optimizer.get_config())))


PATHS = ["net/layer_norm/gamma", "net/layer_norm/beta", "net/dense_1/kernel", "net/dense_1/bias"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("layer_norm", [True, True, False, False]),
        ("bias", [False, False, False, True]),
        ("^beta$", [False, True, False, False]),
        ("^dense", [False, False, True, True]),
        ("dense_1/kernel", [False, False, True, False]),
        ("net", [True, True, True, True]),
    ],
)
def test_a_pattern_is_found_in_name_path_and_parts_of_it(pattern, expected):
    optimizer = excluding(var_names=[pattern])
    assert undecayed(optimizer, [variable(path) for path in PATHS]) == expected
    assert undecayed(reread(optimizer), [variable(path) for path in PATHS]) == expected


@pytest.mark.parametrize("read", [lambda optimizer: optimizer, reread])
def test_a_pattern_that_reaches_nothing_is_told(read):
    optimizer = read(excluding(var_names=["bias", "layer_nrom"]))
    with pytest.warns(UserWarning, match="exclude_from_weight_decay.*'layer_nrom' is found in no") as told:
        assert undecayed(optimizer, [variable(path) for path in PATHS]) == [False, False, False, True]
    (message,) = [str(w.message) for w in told if w.category is UserWarning]
    assert "'bias'" not in message


def test_a_saved_path_that_reaches_nothing_is_told():
    listed = variable("net/dense_1/kernel")
    optimizer = reread(excluding(var_list=[listed]))
    with pytest.warns(
        UserWarning, match="exclude_from_weight_decay.*there is no variable 'net/dense_1/kernel'"
    ):
        assert undecayed(optimizer, [variable("kernel")]) == [False]


def test_a_variable_that_is_not_trained_is_told():
    optimizer = excluding(var_list=[variable("a/kernel")])
    with pytest.warns(UserWarning, match="there is no variable 'a/kernel'"):
        optimizer.build([variable("b/kernel")])


def test_survives_a_file_in_which_paths_lose_the_model_in_front(tmp_path):
    model = network()
    assert model.layers[1].gamma.path.startswith("sequential")
    model.compile(excluding(var_list=[model.layers[1].gamma, model.layers[2].kernel]), "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    paths = [v.path for v in loaded.trainable_variables]
    excluded = {paths[i] for i in loaded.optimizer._undecayed}
    assert excluded == {"layer_norm/gamma", f"{model.layers[2].name}/kernel"}


class TestOnePath:
    """Two variables with one path."""

    def test_are_told_apart(self):
        first, second = variable("kernel"), variable("kernel")
        optimizer = excluding(var_list=[second])
        assert undecayed(optimizer, [first, second]) == [False, True]
        again = reread(optimizer)
        assert undecayed(again, [variable("kernel"), variable("kernel")]) == [False, True]
        assert reread(again).get_config() == optimizer.get_config()

    def test_both(self):
        twins = [variable("kernel"), variable("kernel")]
        optimizer = excluding(var_list=twins)
        before = optimizer.get_config()
        assert undecayed(optimizer, twins) == [True, True]
        assert optimizer.get_config() == before
        assert undecayed(reread(optimizer), [variable("kernel"), variable("kernel")]) == [True, True]

    def test_written_before_anyone_knew_are_both_excluded_and_told(self):
        optimizer = reread(excluding(var_list=[variable("kernel")]))
        with pytest.warns(UserWarning, match="2 variables have the path 'kernel'"):
            assert undecayed(optimizer, [variable("kernel"), variable("kernel")]) == [True, True]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"var_names": "bias"}, "must be a list.*'bias'"),
        ({"var_names": ["("]}, r"regular expressions.*'\('"),
        ({"var_names": [3]}, "regular expressions.* 3"),
        ({"var_list": ["kernel"]}, "must hold variables.*'kernel'"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(what, told):
    optimizer = excluding(var_names=["bias"])
    before = optimizer.get_config()
    with pytest.raises(ValueError, match=told):
        optimizer.exclude_from_weight_decay(**what)
    assert optimizer.get_config() == before


def test_a_variable_instead_of_a_list_is_refused():
    with pytest.raises(ValueError, match="`var_list` must be a list"):
        excluding(var_list=variable("kernel"))


def test_without_decay_it_is_kept():
    optimizer = Adam()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build([variable("a/bias")])
    assert reread(optimizer).get_config()["exclude_from_weight_decay"] == {
        "var_paths": [],
        "var_names": ["bias"],
    }


class TestAddons:
    """TensorFlow Addons' AdamW searched in whole names: `layer_norm/gamma:0`."""

    def loaded(self, *patterns):
        config = {"learning_rate": 0.1, "weight_decay": 0.5, "exclude_from_weight_decay": list(patterns)}
        return compat.ALIASES["Addons>AdamW"].from_config(config)

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("layer_norm", [True, True, False, False]),
            ("layer_norm/gamma:0", [True, False, False, False]),
            ("^layer_norm", [True, True, False, False]),
            ("bias:0$", [False, False, False, True]),
        ],
    )
    def test_the_loaded_twin_does_too(self, pattern, expected):
        paths = [path.removeprefix("net/") for path in PATHS]
        optimizer = self.loaded(pattern)
        assert undecayed(optimizer, [variable(path) for path in paths]) == expected
        assert undecayed(reread(optimizer), [variable(path) for path in paths]) == expected

    def test_what_reached_nothing_there_reaches_nothing_here(self):
        with pytest.warns(UserWarning, match=r"'\^gamma' is found in no variable"):
            assert undecayed(self.loaded("^gamma"), [variable("layer_norm/gamma")]) == [False]

    @pytest.mark.parametrize("built", [True, False])
    @pytest.mark.parametrize("amsgrad", [True, False])
    def test_takes_the_old_state_built_or_not(self, built, amsgrad):
        config = {"learning_rate": 0.1, "weight_decay": 0.5, "amsgrad": amsgrad}
        optimizer = compat.ALIASES["Addons>AdamW"].from_config(config)
        variables = [variable("dense/kernel", 3), variable("dense/bias", 2)]
        kinds = ["momentum", "velocity", "velocity_hat"][: 2 + amsgrad]
        old = {(k, v.path): np.full(v.shape, 1.0 + i) for i, k in enumerate(kinds) for v in variables}
        if built:
            optimizer.build(variables)
        optimizer.set_weights([np.array(20), *old.values()])
        optimizer.build(variables)
        assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == 20
        for slot, value in optimizer._own_slots():
            if slot.path:
                np.testing.assert_array_equal(
                    keras.ops.convert_to_numpy(value.value), old[slot.name, slot.path]
                )
