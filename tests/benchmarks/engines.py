"""The choice of the module that knows the active backend."""

import importlib
from types import ModuleType

import keras


def engine() -> ModuleType:
    """`on_jax`, `on_tensorflow` or `on_torch`."""
    return importlib.import_module(f"tests.benchmarks.on_{keras.config.backend()}")
