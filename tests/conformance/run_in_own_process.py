"""Collected by test_keras_own_process.py in its own process: one module of Keras's tests on ours."""

import pytest

from tests.conformance.own_process import cases_of_the_module_asked_for

# Exporters and TensorFlow's strategies warn of their own insides, which is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")
globals().update(cases_of_the_module_asked_for())
