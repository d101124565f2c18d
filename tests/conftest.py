"""What every test shares: one backend a process, seeded randomness, a clean Keras state."""

import collections
import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import keras
import pytest

from tests import quick


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark as `full` what `quick.ROWS` keeps out of the run for every change."""
    numbers = collections.Counter()
    for item in items:
        row = quick.row_of(item.nodeid)
        if quick.waits(item.nodeid, numbers[row], keras.config.backend()):
            item.add_marker(pytest.mark.full)
        numbers[row] += 1


@pytest.fixture(autouse=True)
def _seeded_and_clean():
    """Seed Python, NumPy and the backend before each test, and restore Keras's globals after it."""
    floatx, epsilon, policy = keras.config.floatx(), keras.config.epsilon(), keras.config.dtype_policy()
    keras.utils.set_random_seed(1)
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_epsilon(epsilon)
    keras.config.set_dtype_policy(policy)
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def float64():
    """Run a test in float64 throughout; JAX needs its own switch for that."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")  # asking for the policy, as above, has fixed it
    if keras.config.backend() != "jax":
        yield
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def backend():
    """Name of the active Keras backend, for the few tests that must know it."""
    return keras.config.backend()
