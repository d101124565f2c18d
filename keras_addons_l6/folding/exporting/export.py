"""Export of a folded model: written beside its destination, reloaded, compared, and only then moved in."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_addons_l6.folding.building.rewrite import build
from keras_addons_l6.folding.errors import FoldingError, one_line
from keras_addons_l6.folding.exporting.destination import free_destination, written_whole
from keras_addons_l6.folding.exporting.feeds import feeds_for, flat_outputs
from keras_addons_l6.folding.exporting.repair import export_mended
from keras_addons_l6.folding.exporting.runtimes import RUNTIMES, ArtifactError, Feed, Leaf, run_artifact
from keras_addons_l6.folding.planning.plan import Plan, make_plan
from keras_addons_l6.folding.progress import Progress
from keras_addons_l6.folding.proving.verify import (
    NOISE_MULTIPLE,
    OPEN_SIZES,
    difference,
    first_run,
    largest_index,
    own_noise,
    require_fitting,
    rounding_bound,
    run_inference,
    verify_folding,
)
from keras_addons_l6.folding.recording.trace import record


class ExportError(FoldingError):
    """A folded model that could not be exported, or whose artifact does not give the model's outputs.

    The message says whether the folding is at fault, or Keras's exporter: then the model before folding
    fails in the same way.
    """


@dataclasses.dataclass(frozen=True)
class Format:
    """An export format of Keras.

    Attributes:
        since: The Keras release that brought it.
        backends: The Keras backends that can make it.
        suffix: What Keras's exporter wants the path to end with.
    """

    since: tuple[int, int]
    backends: tuple[str, ...] = ("tensorflow", "jax", "torch")
    suffix: str = ""


FORMATS = {
    "tf_saved_model": Format((3, 10)),  # and before: 3.10 is the oldest Keras this package runs on
    "onnx": Format((3, 10)),
    "openvino": Format((3, 11), suffix=".xml"),
    "litert": Format((3, 13), ("tensorflow", "torch"), ".tflite"),
    "torch": Format((3, 15), ("torch",), ".pt2"),
}


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What an export wrote, and how far the reloaded artifact is from the model before folding.

    Attributes:
        path: The artifact.
        format: Its format.
        size: Its size in bytes, every file of it counted.
        runtimes: What reloaded and ran it; empty where no runtime is installed.
        missing: The packages to install to have it reloaded.
        difference: Largest difference of an output from the original model's, relative to the largest
            number of that output; None where it was not reloaded.
        tolerance: The difference that was allowed; None where it was not reloaded.
        shapes: The shapes of the inputs that were compared on: where they have a batch of 1, a larger one
            was refused by the artifact.
    """

    path: Path
    format: str
    size: int
    runtimes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    difference: float | None = None
    tolerance: float | None = None
    shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def reloaded(self) -> bool:
        """Whether a runtime was there to reload it."""
        return bool(self.runtimes)

    def __str__(self) -> str:
        """One line to read."""
        line = f"Saved {self.format} at '{self.path}' ({self.size / 1e6:.2f} MB)"
        if not self.reloaded:
            packages = " ".join(self.missing)
            return f"{line}; not reloaded: {packages} is not installed (pip install {packages})"
        fed = ", ".join(map(str, self.shapes))
        return (
            f"{line}; reloaded by {' and '.join(self.runtimes)} and fed {fed}: "
            f"largest difference {self.difference:.1e}, {self.tolerance:.1e} allowed"
        )


def export_folded(
    model: keras.Model,
    filepath: str | os.PathLike[str],
    format: str = "tf_saved_model",
    *,
    overwrite: bool = False,
    tolerance: float | None = None,
    verbose: str | int = "auto",
    **kwargs: Any,
) -> ExportResult:
    """Fold a model's BatchNorm, export it, and prove the artifact against the model before folding.

    1. fold and verify, as `fold_batch_norm` does;
    2. export with `model.export` of the installed Keras, to a place beside the destination;
    3. reload in the format's own runtime, where that is installed: SavedModel by `tf.saved_model.load`
       and by `keras.layers.TFSMLayer`, ONNX by ONNX Runtime, LiteRT by ai-edge-litert, OpenVINO by
       openvino, torch by `torch.export.load`;
    4. compare on seeded random inputs: max|artifact - model| / max|model| of each output is at most the
       tolerance of `fold_batch_norm`, which follows the model's own rounding noise;
    5. only now move it to the destination. On failure nothing is left, and what was there stays.

    Where the artifact fails, the model before folding is exported in the same way, so that the error can
    say whether the folding is at fault or Keras's exporter.

    Args:
        model: Any model that `fold_batch_norm` takes. It is not changed.
        filepath: The destination, in a directory that exists: a directory for `"tf_saved_model"`, else a
            file; `"openvino"` wants `.xml` (and writes a `.bin` beside it), `"litert"` wants `.tflite`,
            `"torch"` wants `.pt2`.
        format: `"tf_saved_model"`, `"onnx"`, `"openvino"` (since Keras 3.11), `"litert"` (since Keras 3.13;
            TensorFlow and torch backends) or `"torch"` (since Keras 3.15; torch backend).
        overwrite: Whether a destination that exists is replaced, once all is well.
        tolerance: The largest relative difference to accept; None follows the noise.
        verbose: 0 is silent; otherwise the result is printed, and progress shown as in `fold_batch_norm`.
        **kwargs: For `model.export`: `input_signature`, `opset_version`, ...

    Returns:
        What was written, and the largest difference; where no runtime is installed, what to install.

    Raises:
        ValueError: An unknown format, one that the installed Keras or its backend lacks, a wrong suffix.
        FileExistsError: The destination exists and `overwrite` is false.
        FileNotFoundError: The destination's directory does not exist.
        FoldingError: The model cannot be folded, or the folded model fails its check.
        ExportError: (a `FoldingError`) The exporter fails, or the artifact does, or its outputs differ.

    Example:
    >>> import keras, os, tempfile
    >>> from keras_addons_l6.folding import export_folded
    >>> model = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
    ... )
    >>> on_torch = keras.config.backend() == "torch"
    >>> format, name = ("torch", "model.pt2") if on_torch else ("tf_saved_model", "model")
    >>> result = export_folded(model, os.path.join(tempfile.mkdtemp(), name), format, verbose=0)
    >>> result.difference < 1e-5
    True
    """
    _require_support(format)
    destination = _free(filepath, format, overwrite)
    with Progress(f"Exporting '{getattr(model, 'name', model)}' to {format}", verbose) as progress:
        progress.show("folding")
        plan = make_plan(record(model, kwargs.get("input_signature")))
        folded = build(plan)
        verify_folding(model, folded, plan, tolerance, progress)
        original = _Original(model, folded, plan, kwargs.get("input_signature"), tolerance)
        with written_whole(destination, overwrite) as artifact:
            result = _proven_artifact(original, folded, artifact, format, kwargs, progress)
    result = dataclasses.replace(result, path=destination)
    if verbose:
        print(result)
    return result


def _require_support(format: str) -> None:
    """Raise where the installed Keras, or its backend, lacks a format."""
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(FORMATS)}, but got {format!r}.")
    kind, backend = FORMATS[format], keras.config.backend()
    if tuple(int(part) for part in keras.__version__.split(".")[:2]) < kind.since:
        came = ".".join(map(str, kind.since))
        raise ValueError(f"Format {format!r} came with Keras {came}; this is Keras {keras.__version__}.")
    if backend not in kind.backends:
        raise ValueError(
            f"Keras exports {format!r} on {' and '.join(kind.backends)} only, and the backend is {backend}. "
            f"Save the folded model as .keras and export it under KERAS_BACKEND={kind.backends[0]}."
        )


def _free(filepath: str | os.PathLike[str], format: str, overwrite: bool) -> Path:
    suffix = FORMATS[format].suffix
    if not os.fspath(filepath).endswith(suffix):
        raise ValueError(f"Format {format!r} wants a path that ends with {suffix}, but got '{filepath}'.")
    destination = free_destination(filepath, overwrite, directory=format == "tf_saved_model")
    if format == "openvino":
        free_destination(destination.with_suffix(".bin"), overwrite)
    return destination


class _Original:
    """The model before folding, as what an artifact is held against."""

    def __init__(
        self, model: keras.Model, folded: keras.Model, plan: Plan, signature: Any, tolerance: float | None
    ) -> None:
        self._model = model
        self._plan = plan
        self._tolerance = tolerance
        self.signature = None if signature is None else _packed(plan, signature)
        self.feeds = self._feeds(folded)

    def unfolded(self) -> keras.Model:
        """A copy with every BatchNorm in place, made as the folded model is."""
        return build(dataclasses.replace(self._plan, decisions=[], new_layers={}))

    def _feeds(self, folded: keras.Model) -> list[Feed]:
        """Random inputs of the smallest open size that the model takes."""
        tape = self._plan.tape
        specs = keras.tree.flatten(tape.inputs if self.signature is None else self.signature)

        def run(feeds: list[Feed]) -> Any:
            require_fitting(folded, feeds[0].structure)
            return self._run(feeds[0])

        feeds, _ = first_run(
            lambda size: feeds_for(tape.inputs, specs, size, largest_index(tape)),
            run,
            OPEN_SIZES,
            tape.name,
        )
        return feeds

    def _run(self, feed: Feed) -> Any:
        return run_inference(self._model, feed.structure, self._plan.tape.arguments)

    def compare(self, feed: Feed, outputs: list[Leaf]) -> tuple[float, float]:
        """The relative difference of an artifact's outputs on a feed, and the one that is allowed."""
        expected = self._run(feed)
        pairs = _paired(flat_outputs(expected), outputs)
        error = difference([want for want, _ in pairs], [got for _, got in pairs])
        if self._tolerance is not None:
            return error, self._tolerance
        allowed = rounding_bound(self._plan.tape)
        if not error <= allowed:
            allowed = max(
                allowed, NOISE_MULTIPLE * own_noise(self._model, self._plan, feed.structure, expected)
            )
        return error, allowed


def _packed(plan: Plan, signature: Any) -> list[Any]:
    """A signature as the exporters want the folded model's: one argument, specs with the inputs' names."""
    tensors, specs = keras.tree.flatten(plan.tape.inputs), keras.tree.flatten(signature)
    if len(specs) != len(tensors) or not all(hasattr(spec, "shape") for spec in specs):
        raise ValueError(
            f"`input_signature` must hold {len(tensors)} things with a shape, one for each input, such as "
            f"`keras.InputSpec(shape=(1, 32, 32, 3))`, but got {signature!r}."
        )
    named = [
        keras.InputSpec(
            shape=tuple(spec.shape),
            dtype=keras.backend.standardize_dtype(getattr(spec, "dtype", None) or tensor.dtype),
            name=tensor.name,
        )
        for spec, tensor in zip(specs, tensors, strict=True)
    ]
    return [keras.tree.pack_sequence_as(plan.tape.inputs, named)]


def _paired(expected: list[Leaf], outputs: list[Leaf]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each expected output with the artifact's: by name where each has one, else by position."""
    if len(expected) != len(outputs):
        raise ArtifactError("compare", f"it has {len(outputs)} outputs where the model has {len(expected)}")
    by_name = {name: array for names, array in outputs for name in names}
    named = all(names and names[0] in by_name for names, _ in expected)
    pairs = [
        (want, by_name[names[0]] if named else got)
        for (names, want), (_, got) in zip(expected, outputs, strict=True)
    ]
    # A runtime without bfloat16, say, answers in float32; the numbers are what counts.
    return [(want, got.astype(want.dtype)) for want, got in pairs]


def _proven_artifact(
    original: _Original,
    folded: keras.Model,
    artifact: Path,
    format: str,
    options: dict[str, Any],
    progress: Progress,
) -> ExportResult:
    """Export the folded model and compare; where that fails, see whether the model itself fares better."""
    try:
        return _attempt(original, folded, artifact, format, options, progress)
    except ArtifactError as error:
        fault = error
    progress.show("exporting the model before folding, to see whose fault it is")
    with tempfile.TemporaryDirectory() as elsewhere:
        try:
            _attempt(original, original.unfolded(), Path(elsewhere, artifact.name), format, options, progress)
        except ArtifactError as same:
            raise ExportError(_verdict(fault, same, format, options)) from fault
    raise ExportError(_verdict(fault, None, format, options)) from fault


def _verdict(fault: ArtifactError, same: ArtifactError | None, format: str, options: dict[str, Any]) -> str:
    """One line on what failed and who is at fault."""
    where = f"{format} on the {keras.config.backend()} backend"
    given = f" with {', '.join(options)}" if options else ""
    said = one_line(fault)
    if same is None:
        return f"The folded model's {where}{given} fails where the model before folding does not: {said}"
    if same.stage == fault.stage:
        return (
            f"Keras's exporter is at fault, not the folding: {where}{given} fails before folding too: {said}"
        )
    return f"{where}{given} fails: {said}. The model before folding fails in another way: {one_line(same)}"


def _attempt(
    original: _Original,
    model: keras.Model,
    artifact: Path,
    format: str,
    options: dict[str, Any],
    progress: Progress,
) -> ExportResult:
    """Write an artifact, reload it where its runtime is, and compare."""
    progress.show("exporting")
    _write(original, model, artifact, format, options)
    size = sum(path.stat().st_size for path in artifact.parent.rglob("*") if path.is_file())
    result = ExportResult(artifact, format, size)
    missing = {runtime.package: None for runtime in RUNTIMES[format] if not runtime.installed()}
    if missing:
        return dataclasses.replace(result, missing=tuple(missing))
    progress.show("reloading and comparing")
    runs = run_artifact(format, str(artifact), original.feeds, keras.config.backend())
    error, allowed, feed = _worst(original, runs)
    if not error <= allowed:
        raise ArtifactError(
            "compare", f"its outputs differ by {error:.1e} of the largest, where {allowed:.1e} is allowed"
        )
    return dataclasses.replace(
        result,
        runtimes=tuple(runtime.name for runtime in RUNTIMES[format]),
        difference=error,
        tolerance=allowed,
        shapes=tuple(array.shape for _, array in feed.leaves),
    )


def _worst(original: _Original, runs: list[tuple[int, list[Leaf]]]) -> tuple[float, float, Feed]:
    """The largest difference over the runtimes (no number counts as largest), its allowance, its feed."""
    measured = []
    for index, outputs in runs:
        feed = original.feeds[index]
        measured.append((*original.compare(feed, outputs), feed))
    return max(measured, key=lambda found: (np.isnan(found[0]), found[0]))


def _write(
    original: _Original, model: keras.Model, artifact: Path, format: str, options: dict[str, Any]
) -> None:
    """Let Keras export a model; its warnings are dropped, since the artifact is about to be tried."""
    if original.signature is not None:
        options = options | {"input_signature": original.signature}
    try:
        _require_torch_xla(format)
        model(original.feeds[0].structure, training=False)  # the ONNX exporter wants a model that was called
        export_mended(model, artifact, format, **options)
    except ImportError as error:
        where = f"{format} on the {keras.config.backend()} backend"
        raise ExportError(
            f"Exporting {where} needs a package that is not installed: {one_line(error)}"
        ) from error
    except Exception as error:  # exporters raise their own kinds
        raise ArtifactError("export", f"the exporter says {type(error).__name__}: {error}") from error


def _require_torch_xla(format: str) -> None:
    """Stop before Keras imports TensorFlow beside torch, which can crash, only to miss torch_xla."""
    if format != "tf_saved_model" or keras.config.backend() != "torch":
        return
    if importlib.util.find_spec("torch_xla") is None:
        raise ImportError(
            "torch_xla (pip install torch_xla). Or save the folded model as .keras and export it under "
            "KERAS_BACKEND=tensorflow"
        )
