"""What Keras 3 leaves out: layers, optimizers, L-BFGS and BatchNorm folding."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_addons_l6.layers import SELU, BatchNorm, GroupNorm, InstanceNorm, PReLU, Swish
from keras_addons_l6.optimizers import (
    LBFGS,
    AdaGrad,
    Adam,
    AdamW,
    Nesterov,
    RMSProp,
    StopWhenConverged,
    fit_full_batch,
    minimize,
)

if TYPE_CHECKING:
    from keras_addons_l6.folding import export_folded, fold_batch_norm, inspect_batch_norm

__version__ = "0.1.0"

__all__ = [
    "LBFGS",
    "SELU",
    "AdaGrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "Nesterov",
    "PReLU",
    "RMSProp",
    "StopWhenConverged",
    "Swish",
    "export_folded",
    "fit_full_batch",
    "fold_batch_norm",
    "inspect_batch_norm",
    "minimize",
]

_FOLDING = ("export_folded", "fold_batch_norm", "inspect_batch_norm")


def __getattr__(name: str) -> Any:
    """Import folding on first use: unlike the classes above, it registers nothing with Keras."""
    if name in _FOLDING:
        return getattr(importlib.import_module("keras_addons_l6.folding"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
