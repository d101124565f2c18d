"""float64 for all tests of a module: enabling it proves it anew, which takes JAX half a second."""

import pytest

from keras_addons_l6 import float64


@pytest.fixture(scope="module")
def true_float64():
    with float64():
        yield
