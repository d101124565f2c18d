"""What every test of exports shares."""

import dataclasses
import importlib.util

import keras
import pytest

from keras_addons_l6.folding.exporting import runtimes


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch):
    """OpenVINO's converter reports its use over the network, from a fork; tests do neither."""
    if importlib.util.find_spec("openvino_telemetry") is not None:
        monkeypatch.setattr(
            "openvino_telemetry.utils.sender.TelemetrySender.send", lambda *args, **kwargs: None
        )


@pytest.fixture
def one_process(monkeypatch):
    """On JAX, SavedModels are reloaded in the test's own process: for tests of what else export does."""
    if keras.config.backend() == "jax":
        here = dataclasses.replace(runtimes.RUNTIMES["tf_saved_model"][0], home="jax")
        monkeypatch.setitem(runtimes.RUNTIMES, "tf_saved_model", (here,))
