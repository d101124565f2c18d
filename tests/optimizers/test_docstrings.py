"""The examples in the optimizers' docstrings run and print what they say."""

import doctest
import importlib

import pytest

MODULES = ["nesterov", "adagrad", "rmsprop", "adam", "adamw"]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"keras_addons_l6.optimizers.{name}")
    failed, tried = doctest.testmod(module)
    assert failed == 0
    assert tried >= 5
