"""Export of a folded model: written beside its destination, reloaded, compared, and only then moved in."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_addons_l6.folding.building.rewrite import build
from keras_addons_l6.folding.errors import FoldingError, one_line
from keras_addons_l6.folding.exporting.destination import as_full_disk, written_whole
from keras_addons_l6.folding.exporting.feeds import feeds_for, feeds_of, flat_outputs
from keras_addons_l6.folding.exporting.formats import checked_destination
from keras_addons_l6.folding.exporting.repair import export_mended
from keras_addons_l6.folding.exporting.runtimes import RUNTIMES, ArtifactError, Feed, Leaf, run_artifact
from keras_addons_l6.folding.planning.plan import Plan, make_plan
from keras_addons_l6.folding.progress import Progress
from keras_addons_l6.folding.proving import outputs as proving
from keras_addons_l6.folding.proving.comparison import Comparison, worst
from keras_addons_l6.folding.proving.trial import (
    first_run,
    given_inputs,
    largest_index,
    require_fitting,
    run_inference,
)
from keras_addons_l6.folding.proving.verify import verify
from keras_addons_l6.folding.recording.random_input import OPEN_SIZES
from keras_addons_l6.folding.recording.trace import record
from keras_addons_l6.folding.tape import as_played

__all__ = ["ExportError", "ExportResult", "export_folded"]


class ExportError(FoldingError):
    """A folded model that could not be exported, or whose artifact does not give the model's outputs.

    The message says whether the folding is at fault, or Keras's exporter: then the model before folding
    fails in the same way.
    """


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What an export wrote, and how far the reloaded artifact is from the model before folding.

    Attributes:
        path: The artifact.
        format: Its format.
        size: Its size in bytes, every file of it counted.
        runtimes: What reloaded and ran it; empty where no runtime is installed.
        missing: The packages to install to have it reloaded.
        difference: Largest difference of an output from the original model's, relative to the spread of
            that output; None where it was not reloaded, or where the comparison saw nothing.
        tolerance: The difference that was allowed; None where `difference` is.
        shapes: The shapes of the inputs that were compared on: where they have a batch of 1, a larger one
            was refused by the artifact.
        warning: What the comparison could not see; empty where it could.
    """

    path: Path
    format: str
    size: int
    runtimes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    difference: float | None = None
    tolerance: float | None = None
    shapes: tuple[tuple[int, ...], ...] = ()
    warning: str = ""

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
        line = f"{line}; reloaded by {' and '.join(self.runtimes)} and fed {fed}"
        if self.difference is not None:
            line += f": largest difference {self.difference:.1e}, {self.tolerance:.1e} allowed"
        return f"{line}. Warning: {self.warning}" if self.warning else line


def export_folded(
    model: keras.Model,
    filepath: str | os.PathLike[str],
    format: str | None = None,
    *,
    inputs: Any = None,
    input_signature: Any = None,
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
    4. compare the outputs, which is all that an artifact shows: the largest difference of each, relative to
       its spread, is at most what rounding or the model's own noise explains. Where outputs could not show
       a fault (they are constant, or saturated), the artifact is written with a warning that says so;
    5. only now move it to the destination. On failure nothing is left, and what was there stays.

    Where the artifact fails, the model before folding is exported in the same way, so that the error can
    say whether the folding is at fault or Keras's exporter.

    Args:
        model: Any model that `fold_batch_norm` takes. It is not changed.
        filepath: The destination, in a directory that exists: a directory for `"tf_saved_model"`, else a
            file; `"openvino"` wants `.xml` (and writes a `.bin` beside it), `"litert"` wants `.tflite`,
            `"torch"` wants `.pt2`.
        format: `"tf_saved_model"`, `"onnx"`, `"openvino"` (since Keras 3.11), `"litert"` (since Keras 3.13;
            TensorFlow and torch backends) or `"torch"` (since Keras 3.15; torch backend). None: the one that
            the path's suffix says; without a suffix, `"tf_saved_model"`.
        inputs: A batch as `predict` takes it, to compare on; None for random numbers.
        input_signature: Things with a shape, one for each input: what the artifact takes, and what a
            subclassed model takes whose shapes are not known.
        overwrite: Whether a destination that exists is replaced, once all is well.
        tolerance: The largest relative difference to accept; None follows the noise.
        verbose: 0 is silent; otherwise the result is printed, and progress shown as in `fold_batch_norm`.
        **kwargs: For `model.export`: `opset_version`, ...

    Returns:
        What was written, and the largest difference; where no runtime is installed, what to install.

    Raises:
        ValueError: An unknown format, one that the installed Keras or its backend lacks, a suffix that says
            another format, or `inputs` that the model does not take.
        OSError: The destination exists and `overwrite` is false, its directory does not exist or cannot be
            written, or the disk is full.
        FoldingError: The model cannot be folded, or the folded model fails its check.
        ExportError: (a `FoldingError`) The exporter fails, or the artifact does, or its outputs differ.

    Example:
        >>> import keras, os, tempfile
        >>> from keras_addons_l6.folding import export_folded
        >>> model = keras.Sequential(
        ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()]
        ... )
        >>> on_torch = keras.config.backend() == "torch"
        >>> name = "model.pt2" if on_torch else "model"
        >>> result = export_folded(model, os.path.join(tempfile.mkdtemp(), name), verbose=0)
        >>> result.difference < 1e-5
        True
    """
    destination, format = checked_destination(filepath, format, overwrite)
    options = kwargs | ({} if input_signature is None else {"input_signature": input_signature})
    with Progress(f"Exporting '{getattr(model, 'name', model)}' to {format}", verbose) as progress:
        progress.show("folding")
        plan = make_plan(record(model, input_signature))
        folded = build(plan)
        verify(model, folded, plan.tape, inputs, tolerance, progress)
        original = _Original(model, folded, plan, inputs, input_signature, tolerance)
        with written_whole(destination, overwrite) as artifact:
            result = _proven_artifact(original, folded, artifact, format, options, progress)
    result = dataclasses.replace(result, path=destination)
    if result.warning:
        warnings.warn(f"'{destination}': {result.warning}", stacklevel=2)
    if verbose:
        print(result)
    return result


class _Original:
    """The model before folding, as what an artifact is held against."""

    def __init__(
        self,
        model: keras.Model,
        folded: keras.Model,
        plan: Plan,
        inputs: Any,
        signature: Any,
        tolerance: float | None,
    ) -> None:
        self._model = model
        self._plan = plan
        self._tolerance = tolerance
        self.signature = None if signature is None else _packed(plan, signature)
        given = None if inputs is None else given_inputs(plan.tape, inputs)
        self.feeds = self._feeds(folded) if given is None else feeds_of(plan.tape.inputs, given)

    def unfolded(self) -> keras.Model:
        """A copy with every BatchNorm in place, made as the folded model is."""
        return build(dataclasses.replace(self._plan, decisions=[], new_layers={}, without={}))

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

    def compare(self, feed: Feed, outputs: list[Leaf]) -> list[Comparison]:
        """An artifact's outputs on a feed against the model's, and whether they could show a fault."""
        tape = self._plan.tape
        pairs = _paired(flat_outputs(self._run(feed)), outputs)
        arrays = keras.tree.flatten(feed.structure)
        rows = proving.compared(tape, as_played(tape), arrays, pairs, self._tolerance)
        if not any(decision.folded for decision in self._plan.decisions):
            return rows
        return proving.with_power(rows, as_played(tape), arrays)


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
    row, feed = _worst(original, runs)
    if row.refused:
        raise ArtifactError(
            "compare",
            f"its outputs differ by {row.error:.1e} of their spread, where {row.tolerance:.1e} is allowed",
        )
    return dataclasses.replace(
        result,
        runtimes=tuple(runtime.name for runtime in RUNTIMES[format]),
        shapes=tuple(array.shape for _, array in feed.leaves),
        **_said_of(row),
    )


def _said_of(row: Comparison) -> dict[str, Any]:
    """The fields of a result that say what a comparison found, or that it saw nothing."""
    if row.seen:
        return {"difference": row.error, "tolerance": row.tolerance}
    return {
        "warning": f"the comparison of this artifact saw nothing: on these inputs {row.name} would not show a "
        "fault of 5%, because it is constant, saturated or no finer than rounding. The fold itself was "
        "checked, before the export. `inputs=` takes a batch on which the outputs differ"
    }


def _worst(original: _Original, runs: list[tuple[int, list[Leaf]]]) -> tuple[Comparison, Feed]:
    """What to report over the outputs and runtimes, with its feed."""
    found: list[tuple[Comparison, Feed]] = []
    for index, outputs in runs:
        feed = original.feeds[index]
        found.append((worst(original.compare(feed, outputs)), feed))
    row = worst([row for row, _ in found])
    return next(pair for pair in found if pair[0] is row)


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
        as_full_disk(error, artifact)
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
