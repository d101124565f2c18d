"""What Keras's own tests assume of their surroundings."""

import keras
import pytest


def pytest_configure(config):
    """Declare the marks that Keras's tests carry."""
    config.addinivalue_line("markers", "requires_trainable_backend: Keras's own; every backend here trains")


@pytest.fixture(autouse=True)
def _traceback_filtering():
    """Keras's TestCase switches the filtering of tracebacks off for the process; switch it on again."""
    yield
    keras.config.enable_traceback_filtering()
