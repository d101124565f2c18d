"""Every public name is documented, and every example in a docstring runs."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import keras_addons_l6

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_addons_l6.__path__, "keras_addons_l6.")
    # A backend's folder imports that backend; importing the command line would run it.
    if not module.name.startswith("keras_addons_l6.backends.") and not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    results = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    assert results.failed == 0


@pytest.mark.parametrize("name", keras_addons_l6.__all__)
def test_public_name_is_documented_with_an_example(name):
    docstring = inspect.getdoc(getattr(keras_addons_l6, name)) or ""
    assert ">>> " in docstring, f"{name} has no example"
    assert (
        "Args:" in docstring
        or "Attributes:" in docstring
        or not inspect.signature(getattr(keras_addons_l6, name)).parameters
    )
