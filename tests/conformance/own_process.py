"""The modules of Keras's that need a process of their own: what runs of each, and where."""

import os
from dataclasses import dataclass

from tests.conformance.deselections import EXPORTS_DIFFER, OPTIMIZERS_DIFFER
from tests.conformance.keras_modules import Deselection, run_on_ours

MODULE_VARIABLE = "KERAS_TEST_MODULE"


@dataclass(frozen=True)
class OwnProcess:
    """A module of Keras's tests: the names put in place, the backends it is for, whether it is long."""

    ours: tuple[str, ...]
    backends: tuple[str, ...]
    deselections: tuple[Deselection, ...]
    long: bool = False


BATCH_NORM = ("layers.BatchNormalization",)
MODULES = {
    # These two import TensorFlow whatever the backend, and the second splits its CPU into two devices.
    "callbacks.swap_ema_weights_test": OwnProcess(
        ("optimizers.SGD",), ("tensorflow", "jax", "torch"), OPTIMIZERS_DIFFER
    ),
    "backend.tensorflow.optimizer_distribute_test": OwnProcess(("SGD",), ("tensorflow",), OPTIMIZERS_DIFFER),
    # A SavedModel of the torch backend needs torch_xla, which Keras skips under NumPy 2.
    "export.saved_model_test": OwnProcess(BATCH_NORM, ("tensorflow", "jax"), EXPORTS_DIFFER, long=True),
    "export.onnx_test": OwnProcess(BATCH_NORM, ("tensorflow", "jax", "torch"), EXPORTS_DIFFER, long=True),
    # OpenVINO's converter runs no model of the JAX backend (docs/folding.md), and forks, of which JAX warns.
    "export.openvino_test": OwnProcess(BATCH_NORM, ("tensorflow", "torch"), EXPORTS_DIFFER, long=True),
    "export.torch_test": OwnProcess(BATCH_NORM, ("torch",), EXPORTS_DIFFER, long=True),
    "export.litert_test": OwnProcess(BATCH_NORM, ("tensorflow",), EXPORTS_DIFFER, long=True),
}


def cases_of_the_module_asked_for():
    """The test cases of the module named in the environment, on ours."""
    from tests.conformance.layer_adapters import BatchNormalization
    from tests.conformance.optimizer_adapters import SGD

    module = os.environ[MODULE_VARIABLE]
    one = MODULES[module]
    ours = {name: SGD if name.endswith("SGD") else BatchNormalization for name in one.ours}
    return run_on_ours(module, ours, one.deselections)
