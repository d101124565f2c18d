"""What Keras 3 leaves out: layers, optimizers, quasi-Newton methods, BatchNorm folding and watching a training."""

import importlib as _importlib
import typing as _typing

from keras_addons_l6.layers import SELU, BatchNorm, GroupNorm, InstanceNorm, LayerNorm, PReLU, Swish
from keras_addons_l6.optimizers import (
    BFGS,
    LBFGS,
    AdaGrad,
    Adam,
    AdamW,
    MinimizeResult,
    Nesterov,
    RMSProp,
    StopWhenConverged,
    fit_full_batch,
    minimize,
)

if _typing.TYPE_CHECKING:
    from keras_addons_l6.folding import (
        FoldingError,
        export_folded,
        fold_batch_norm,
        fold_with_report,
        inspect_batch_norm,
        verify_folding,
    )
    from keras_addons_l6.health import TrainingHealth
    from keras_addons_l6.precision import disable_float64, enable_float64, float64

__version__ = "0.2.0"

__all__ = [
    "BFGS",
    "LBFGS",
    "SELU",
    "AdaGrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "FoldingError",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "MinimizeResult",
    "Nesterov",
    "PReLU",
    "RMSProp",
    "StopWhenConverged",
    "Swish",
    "TrainingHealth",
    "disable_float64",
    "enable_float64",
    "export_folded",
    "fit_full_batch",
    "float64",
    "fold_batch_norm",
    "fold_with_report",
    "inspect_batch_norm",
    "minimize",
    "verify_folding",
]

# Imported on first use: unlike the classes above, these register nothing with Keras.
_LATER = {
    "FoldingError": "folding",
    "TrainingHealth": "health",
    "disable_float64": "precision",
    "enable_float64": "precision",
    "export_folded": "folding",
    "fold_batch_norm": "folding",
    "fold_with_report": "folding",
    "float64": "precision",
    "inspect_batch_norm": "folding",
    "verify_folding": "folding",
}


def __getattr__(name: str) -> _typing.Any:
    """Import on first use what `import keras_addons_l6` alone need not pay for."""
    if name in _LATER:
        return getattr(_importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names and the rooms, whether imported yet or not."""
    return sorted({*__all__, "__version__", "compat", "folding", "health", "layers", "optimizers"})
