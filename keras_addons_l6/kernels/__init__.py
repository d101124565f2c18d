"""The operations of the layers, each in the active backend's own kernel where it has one here."""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras

from keras_addons_l6.kernels import portable
from keras_addons_l6.kernels.portable import Statistics, Tensor, statistics_dtype

__all__ = [
    "Statistics",
    "Tensor",
    "batch_norm",
    "group_norm",
    "masked_batch_norm",
    "normalize",
    "prelu",
    "selu",
    "statistics_dtype",
    "swish",
    "synchronized_batch_norm",
]


def native_kernels(backend: str) -> ModuleType | None:
    """The module of `backend`'s kernels, or `None` where the portable ones serve it alone."""
    name = f"{__name__}.{backend}"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def _pick(name: str) -> Callable[..., Any]:
    """The active backend's kernel for tensors, and for symbolic tensors the portable one."""
    defined: Callable[..., Any] = getattr(portable, name)
    native: Callable[..., Any] | None = getattr(native_kernels(keras.config.backend()), name, None)
    if native is None:
        return defined

    @functools.wraps(defined)
    def operation(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        symbolic = isinstance(x, keras.KerasTensor)
        return (defined if symbolic else native)(x, *args, **kwargs)

    return operation


batch_norm = _pick("batch_norm")
group_norm = _pick("group_norm")
masked_batch_norm = _pick("masked_batch_norm")
normalize = _pick("normalize")
prelu = _pick("prelu")
selu = _pick("selu")
swish = _pick("swish")
synchronized_batch_norm = _pick("synchronized_batch_norm")
