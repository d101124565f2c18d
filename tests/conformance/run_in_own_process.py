"""Collected by test_keras_own_process.py, in a process of its own: one module of Keras's tests on our classes."""

import pytest

from tests.conformance.own_process import cases_of_the_module_asked_for

# Exporters and TensorFlow's strategies warn of their own insides; what is tested here is that ours export and train.
pytestmark = pytest.mark.filterwarnings("ignore")
globals().update(cases_of_the_module_asked_for())
