"""The export formats of Keras: which there are, and which one a path asks for."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import keras

from keras_addons_l6.folding.exporting.destination import free_destination

__all__ = ["FORMATS", "Format", "checked_destination"]

# Keras's own files, which its exporters do not write
_SAVED = (".keras", ".h5", ".hdf5")


@dataclasses.dataclass(frozen=True)
class Format:
    """An export format of Keras.

    Attributes:
        since: The Keras release that brought it.
        backends: The Keras backends that can make it.
        suffix: What a path of this format ends with; empty for a directory.
        insists: Whether Keras's exporter refuses another suffix.
    """

    since: tuple[int, int]
    backends: tuple[str, ...] = ("tensorflow", "jax", "torch")
    suffix: str = ""
    insists: bool = True


FORMATS = {
    "tf_saved_model": Format((3, 10)),  # and before: 3.10 is the oldest Keras this package runs on
    "onnx": Format((3, 10), suffix=".onnx", insists=False),
    "openvino": Format((3, 11), suffix=".xml"),
    "litert": Format((3, 13), ("tensorflow", "torch"), ".tflite"),
    "torch": Format((3, 15), ("torch",), ".pt2"),
}


def checked_destination(
    filepath: str | os.PathLike[str], format: str | None, overwrite: bool
) -> tuple[Path, str]:
    """The destination and the format of an export, tried before any work is done.

    Args:
        filepath: The file or directory to be.
        format: A key of `FORMATS`; None takes the one that the path's suffix says, `tf_saved_model` for none.
        overwrite: Whether a destination that exists may be replaced.

    Returns:
        The destination, absolute, and the format.

    Raises:
        ValueError: An unknown format, one that the installed Keras or its backend lacks, or a suffix that
            says another one.
        OSError: The destination exists and may not be replaced, or its directory cannot be written.
    """
    format = _format_of(os.fspath(filepath), format)
    _require_support(format)
    destination = free_destination(filepath, overwrite, directory=format == "tf_saved_model")
    if format == "openvino":
        free_destination(destination.with_suffix(".bin"), overwrite)
    return destination, format


def _format_of(path: str, format: str | None) -> str:
    suffix = Path(path).suffix.lower()
    said = next((name for name, kind in FORMATS.items() if kind.suffix and kind.suffix == suffix), None)
    if format is None and suffix in _SAVED:
        raise ValueError(
            f"'{path}' is a name for a saved Keras model, which is no export format: save what "
            "`fold_batch_norm` returns, or end the path with "
            f"{', '.join(kind.suffix for kind in FORMATS.values() if kind.suffix)}."
        )
    format = format or said or "tf_saved_model"
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, but got {format!r}.")
    kind = FORMATS[format]
    if said not in (None, format) or (kind.insists and kind.suffix and suffix != kind.suffix):
        ends = f"a path that ends with {kind.suffix}" if kind.suffix else "a directory, which has no suffix"
        raise ValueError(f"Format {format!r} wants {ends}, but got '{path}'.")
    return format


def _require_support(format: str) -> None:
    """Raise where the installed Keras, or its backend, lacks a format."""
    kind, backend = FORMATS[format], keras.config.backend()
    if tuple(int(part) for part in keras.__version__.split(".")[:2]) < kind.since:
        came = ".".join(map(str, kind.since))
        raise ValueError(f"Format {format!r} came with Keras {came}; this is Keras {keras.__version__}.")
    if backend not in kind.backends:
        raise ValueError(
            f"Keras exports {format!r} on {' and '.join(kind.backends)} only, and the backend is {backend}. "
            f"Save the folded model as .keras and export it under KERAS_BACKEND={kind.backends[0]}."
        )
