"""The one chooser: each part as the active backend has it.

`portable/` defines every part in `keras.ops`. A backend's folder has, in files of the same names, what it puts in place of
some of those definitions; nothing else of the package asks which backend is active. Another backend is another folder.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import keras

__all__ = [
    "SUPPORTED",
    "arrays_for",
    "chosen",
    "layers",
    "native",
    "programs",
    "rules",
    "traces",
    "widest_real",
]

SUPPORTED = ("tensorflow", "jax", "torch")


def native(part: str) -> ModuleType | None:
    """The active backend's own module of a part, or `None` where the portable definitions serve alone."""
    backend = keras.config.backend()
    if backend not in SUPPORTED or importlib.util.find_spec(f"{__name__}.{backend}.{part}") is None:
        return None
    return importlib.import_module(f"{__name__}.{backend}.{part}")


def chosen(part: str) -> SimpleNamespace:
    """The names of a part: the portable definitions, but for those that the active backend has its own of."""
    portable = importlib.import_module(f"{__name__}.portable.{part}")
    replaced = native(part)
    return SimpleNamespace(
        **{name: getattr(replaced, name, getattr(portable, name)) for name in portable.__all__}
    )


def _symbolic_too(name: str, chosen: Callable[..., Any], defined: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that symbolic tensors, which no native kernel takes, go through by its portable definition."""
    if chosen is defined or not callable(defined) or isinstance(defined, type):
        return chosen

    @functools.wraps(defined)
    def operation(x: Any, *args: Any, **kwargs: Any) -> Any:
        return (defined if isinstance(x, keras.KerasTensor) else chosen)(x, *args, **kwargs)

    return operation


def _chosen_layers() -> SimpleNamespace:
    portable = importlib.import_module(f"{__name__}.portable.layers")
    parts = vars(chosen("layers"))
    return SimpleNamespace(**{n: _symbolic_too(n, f, getattr(portable, n)) for n, f in parts.items()})


layers = _chosen_layers()
rules = chosen("rules")
programs = chosen("programs")
traces = chosen("traces")
arrays_for = chosen("arrays").arrays_for
widest_real = chosen("arrays").widest_real
