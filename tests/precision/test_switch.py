"""The switch is exact: what it sets it puts back, whatever happens in between."""

import os
import random
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6 import disable_float64, enable_float64, float64, keras_private
from keras_addons_l6.precision import probe
from tests.precision.settings import jax_x64, keras_modules, snapshot


@pytest.fixture(autouse=True)
def _as_a_process_starts():
    """Forget the policy that others asked for; fail a test that leaves anything behind."""
    keras.utils.clear_session(free_memory=False)
    before = snapshot()
    yield
    disable_float64()
    keras.utils.clear_session(free_memory=False)
    assert snapshot() == before


ROUNDS = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 12)
"""Whether Keras's promotion makes float32 of float64 on JAX and torch, as it does from 3.12 on."""


def computes_in_float64():
    x = np.linspace(0.1, 0.7, 5)
    tensor = ops.convert_to_tensor(x)
    exact = np.allclose(ops.convert_to_numpy(ops.mean(ops.tanh(tensor))), np.tanh(x).mean(), 1e-15, 0)
    return exact and keras.backend.result_type("float64", float) == "float64"


def test_enabling_and_disabling_leaves_everything_as_it_was():
    before = snapshot()
    enable_float64()
    assert computes_in_float64()
    assert keras.config.floatx() == "float64"
    assert keras.layers.Dense(1).dtype == "float64"
    assert jax_x64() in (True, None)
    disable_float64()
    assert snapshot() == before


def test_a_policy_that_was_set_is_replaced_and_comes_back():
    policy = keras.DTypePolicy("mixed_bfloat16")
    keras.config.set_dtype_policy(policy)
    enable_float64()
    assert keras.layers.Dense(1).compute_dtype == "float64"
    disable_float64()
    assert keras.config.dtype_policy() is policy


def test_enabling_twice_is_enabling_once():
    before = snapshot()
    enable_float64()
    once = snapshot()
    enable_float64()
    assert snapshot() == once
    disable_float64()
    assert snapshot() == before
    disable_float64()
    assert snapshot() == before


def test_enabling_again_mends_what_was_changed_in_between():
    before = snapshot()
    enable_float64()
    keras.config.set_floatx("float32")
    enable_float64()
    assert keras.config.floatx() == "float64"
    disable_float64()
    assert snapshot() == before


def test_blocks_inside_each_other_end_one_by_one():
    before = snapshot()
    with float64():
        outer = snapshot()
        with float64():
            assert computes_in_float64()
        assert snapshot() == outer
        assert computes_in_float64()
    assert snapshot() == before


def test_a_block_inside_of_enabled_leaves_it_enabled():
    before = snapshot()
    enable_float64()
    enabled = snapshot()
    with float64():
        disable_float64()
        assert snapshot() == before
    assert snapshot() == enabled
    disable_float64()
    assert snapshot() == before


def test_a_block_that_enables_or_fails_ends_as_it_began():
    before = snapshot()
    with pytest.raises(KeyError), float64():
        enable_float64()
        raise KeyError
    assert snapshot() == before
    disable_float64()
    assert snapshot() == before


def rounding(function):
    """The function in float32, with float64's name."""
    return lambda *args, **kw: ops.cast(ops.cast(function(*args, **kw), "float32"), "float64")


class RoundingLayer(keras.layers.Dense):
    def call(self, x):
        return rounding(super().call)(x)


# Where the probe finds an operation, its name there, and the words of the error.
OPERATIONS = [
    *((keras.ops, name, f"ops.{name}") for name in ("matmul", "mean", "add", "sin", "exp", "linspace")),
    (keras.activations, "tanh", "activations.tanh"),
]


once = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="the same on every backend; torch compiles nothing"
)


@once
@pytest.mark.parametrize(("owner", "name", "words"), OPERATIONS, ids=[row[2] for row in OPERATIONS])
def test_an_operation_that_rounds_is_named_and_all_is_undone(owner, name, words, monkeypatch):
    monkeypatch.setattr(owner, name, rounding(getattr(owner, name)))
    refused(words)


def refused(words):
    before = snapshot()
    with pytest.raises(RuntimeError, match=rf"`{words}.*Keras {keras.__version__}"):
        enable_float64()
    assert snapshot() == before


@once
def test_a_layer_or_loss_that_rounds_is_named(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(keras.layers, "Dense", RoundingLayer)
        refused("layers.Dense")
    monkeypatch.setattr(keras.losses.Huber, "call", rounding(keras.losses.Huber.call))
    refused("losses.Huber")


@once
def test_a_result_in_float32_is_named_however_exact(monkeypatch):
    monkeypatch.setattr(keras.ops, "max", lambda x: ops.cast(0.5 + 0 * ops.sum(x), "float32"))
    refused("ops.max")


@once
def test_an_operation_that_raises_is_named(monkeypatch):
    def fails(x):
        raise TypeError("expected Float but found Double")

    monkeypatch.setattr(keras.ops, "cos", fails)
    refused("ops.cos`.*found Double")


def test_a_block_that_cannot_begin_changes_nothing(monkeypatch):
    monkeypatch.setattr(keras.ops, "matmul", rounding(keras.ops.matmul))
    before = snapshot()
    with pytest.raises(RuntimeError, match="`ops.matmul` still rounds"), float64():
        raise AssertionError("entered")
    assert snapshot() == before


@pytest.mark.skipif(
    keras.config.backend() == "tensorflow" or not ROUNDS,
    reason="Keras's promotion rounds on JAX and torch alone, from 3.12 on",
)
def test_a_promotion_that_cannot_be_mended_is_seen_by_its_values(monkeypatch):
    monkeypatch.setattr(keras_private, "type_tables", list)
    refused("")


def test_the_probe_takes_no_name_and_no_random_number_of_the_users():
    results = []
    for enabling in (False, True):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        if enabling:
            enable_float64()
            disable_float64()
        layer = keras.layers.Dense(2)
        layer.build((None, 2))
        names = (layer.name, keras.layers.Conv2D(1, 1).name, keras.losses.Huber().name)
        results.append((names, layer.get_weights()[0].tolist(), random.random()))
    assert results[0] == results[1]


def test_every_number_of_the_probe_needs_float64():
    """A check whose expected result float32 holds exactly could not fail."""
    x = np.linspace(0.11, 0.97, 12).reshape(3, 4)
    with float64():
        groups = (
            *(probe._of_numbers, probe._of_operations, probe._of_activations),
            *(probe._of_losses, probe._of_layers),
        )
        checks = [check for group in groups for check in group(x)]
    assert len(checks) > 40
    for check in checks:
        expected = np.asarray(check.expected)
        rounded = expected.astype("float32").astype("float64")
        assert np.max(np.abs(rounded - expected)) > 1e4 * probe.TOLERANCE * np.max(np.abs(expected)), (
            check.name
        )


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX alone keeps programs by itself")
@pytest.mark.skipif(not ROUNDS, reason="Keras 3.10 and 3.11 round nothing that could be kept")
def test_no_program_that_rounded_is_kept():
    """Where JAX had its 64 bits before, its own programs do not tell the one promotion from the other."""
    import jax

    x = np.linspace(0.1, 0.7, 5)
    compiled = jax.jit(ops.tanh)
    jax.config.update("jax_enable_x64", True)
    try:
        rounded = np.asarray(compiled(x))
        assert not np.allclose(rounded, np.tanh(x), 1e-14, 0)
        with float64():
            np.testing.assert_allclose(compiled(x), np.tanh(x), 1e-15)
        np.testing.assert_array_equal(compiled(x), rounded)
        assert jax.config.jax_enable_x64
    finally:
        jax.config.update("jax_enable_x64", False)


def test_models_and_tensors_of_other_types_keep_theirs():
    pairs = [("float32", float), ("float32", "int32"), ("float16", float), ("int32", int), ("bfloat16", int)]
    promoted = [keras.backend.result_type(*pair) for pair in pairs]
    single, half = keras.layers.Dense(2, dtype="float32"), keras.layers.Dense(2, dtype="mixed_float16")
    with float64():
        assert [keras.backend.result_type(*pair) for pair in pairs] == promoted
        for dense, dtype in ((single, "float32"), (half, "float16")):
            y = dense(np.ones((3, 2), "float32"))
            assert keras.backend.standardize_dtype(y.dtype) == dtype


def test_tables_say_64_bits_only_where_they_said_less():
    dtypes, *_ = keras_modules()
    before = dict(dtypes.BIT64_TO_BIT32_DTYPE)
    with float64():
        after = dict(dtypes.BIT64_TO_BIT32_DTYPE)
    assert after.keys() == before.keys()
    assert {k: v for k, v in after.items() if "int" in k} == {k: v for k, v in before.items() if "int" in k}


NOTHING_AT_IMPORT = """
import keras
from tests.precision.settings import snapshot
before = snapshot()
import sys
import keras_addons_l6 as l6
assert not [name for name in sys.modules if name.startswith("keras_addons_l6.precision")]
assert {"enable_float64", "disable_float64", "float64"} <= set(dir(l6))
assert snapshot() == before
import keras_addons_l6.precision
assert callable(l6.float64)
try:
    l6.enable_float64()
except RuntimeError as error:
    assert snapshot() == before
    print(error)
"""


@once
def test_nothing_happens_at_import_and_a_backend_that_rounds_is_refused():
    """Keras's NumPy backend convolves by JAX in float32."""
    env = {**os.environ, "KERAS_BACKEND": "numpy"}
    run = subprocess.run(
        [sys.executable, "-c", NOTHING_AT_IMPORT], capture_output=True, text=True, check=False, env=env
    )
    assert "`layers.Conv2D` still rounds float64" in run.stdout, run.stderr
