"""Applies an optimizer's rule to variables: the choice between the portable way and the backend's own."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from keras_addons_l6.kernels.known_rules import Rule
from keras_addons_l6.kernels.portable_rules import (
    Update,
    compute_dtype,
    dense_portably,
    scalar,
    step_portably,
)

__all__ = [
    "Rule",
    "Update",
    "compute_dtype",
    "dense",
    "in_distribution_strategy",
    "outside_graph",
    "scalar",
    "step",
    "step_portably",
]


def never_in_distribution_strategy() -> bool:
    """False: only TensorFlow has strategies that update variables replica by replica."""
    return False


# A backend's module may replace any of the names below by a function that takes and does the same.
_NATIVE = {"torch": "rules_torch", "tensorflow": "rules_tensorflow"}
_module = _NATIVE.get(keras.backend.backend())
_native = None if _module is None else importlib.import_module(f"keras_addons_l6.kernels.{_module}")

step = getattr(_native, "step", step_portably)
dense = getattr(_native, "dense", dense_portably)
in_distribution_strategy = getattr(_native, "in_distribution_strategy", never_in_distribution_strategy)
outside_graph: Callable[[], AbstractContextManager[Any]] = getattr(_native, "outside_graph", nullcontext)
