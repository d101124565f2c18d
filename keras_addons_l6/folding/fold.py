"""The entrances: `inspect_batch_norm` says what would happen, `fold_batch_norm` does it and checks it."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.building.rewrite import build, dropped_settings
from keras_addons_l6.folding.planning.batch_norm import is_batch_norm
from keras_addons_l6.folding.planning.plan import Decision, Plan, make_plan
from keras_addons_l6.folding.progress import Progress
from keras_addons_l6.folding.proving.comparison import Comparison
from keras_addons_l6.folding.proving.verification import Verification
from keras_addons_l6.folding.proving.verify import verify as verify_built
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.recording.trace import record
from keras_addons_l6.folding.report import BatchNormRow, FoldingReport
from keras_addons_l6.folding.tape import Call

__all__ = ["Folding", "fold_batch_norm", "fold_with_report", "inspect_batch_norm", "report_of"]


@dataclasses.dataclass(frozen=True, eq=False)
class Folding:
    """A folded model with what is known about it.

    Attributes:
        model: The folded model.
        report: What was done, the same as `inspect_batch_norm` of the original says.
        verification: The measured errors, None where `verify=False`.
    """

    model: keras.Model
    report: FoldingReport
    verification: Verification | None


def fold_batch_norm(
    model: keras.Model,
    *,
    inputs: Any = None,
    input_signature: Any = None,
    verify: bool = True,
    tolerance: float | None = None,
    verbose: str | int = "auto",
) -> keras.Model:
    """Fold every BatchNorm that can be folded into its neighbour.

    At test time BatchNorm is x -> x * s + t per channel, s = gamma / sqrt(variance + epsilon),
    t = beta - mean * s (Ioffe & Szegedy 2015, Algorithm 2). The layer before it takes both up as
    s K and s b + t, or the layer after it as K s and b + K t; the arithmetic is float64, rounded
    once. What cannot be folded exactly is kept. `inspect_batch_norm(model)` gives the report of what
    this function does; `fold_with_report` returns the report, and the measured error, with the model.

    Args:
        model: A built Sequential, Functional or subclassed model. It is not changed in any way.
        inputs: A batch as `predict` takes it, to compare both models on; None for random numbers.
        input_signature: What a subclassed model takes, where it was never called on data: a
            structure of `keras.KerasTensor` or anything with a `shape` and a `dtype`, or of shapes;
            a list is one entry a positional argument of `call`.
        verify: Whether to run both models and compare, as `verify_folding` does.
        tolerance: The largest allowed error, relative to the spread of the tensor that is compared. None:
            what float rounding explains, or a small multiple of the model's own rounding noise where that
            is larger, and never more than 0.05.
        verbose: 0 is silent, 1 shows progress on the standard error stream, "auto" shows it for what
            takes longer than a second.

    Returns:
        A new Functional model for inference, not compiled, with the names, structure and types of the
        original's inputs and outputs. It shares no variable with the original.

    Raises:
        FoldingError: When the model is not built, cannot be traced or made anew, when an error is past
            the tolerance, or when the inputs let no fold be seen: pass `inputs` then.
        ValueError: When `inputs` are not what the model takes.

    Example:
        >>> import keras
        >>> from keras_addons_l6.folding import fold_batch_norm
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((32, 32, 3)),
        ...         keras.layers.Conv2D(8, 3, use_bias=False),
        ...         keras.layers.BatchNormalization(),
        ...         keras.layers.ReLU(),
        ...     ]
        ... )
        >>> [type(layer).__name__ for layer in fold_batch_norm(model).layers]
        ['InputLayer', 'Conv2D', 'ReLU']
    """
    return fold_with_report(
        model,
        inputs=inputs,
        input_signature=input_signature,
        verify=verify,
        tolerance=tolerance,
        verbose=verbose,
    ).model


def fold_with_report(
    model: keras.Model,
    *,
    inputs: Any = None,
    input_signature: Any = None,
    verify: bool = True,
    tolerance: float | None = None,
    verbose: str | int = "auto",
) -> Folding:
    """Fold a model as `fold_batch_norm` does, and say what was done and how large the error is.

    Args:
        model: See `fold_batch_norm`.
        inputs: See `fold_batch_norm`.
        input_signature: See `fold_batch_norm`.
        verify: See `fold_batch_norm`.
        tolerance: See `fold_batch_norm`.
        verbose: See `fold_batch_norm`.

    Returns:
        The folded model, the report and the measured errors.

    Raises:
        FoldingError: See `fold_batch_norm`.

    Example:
        >>> import keras
        >>> from keras_addons_l6.folding import fold_with_report
        >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="d"), keras.layers.BatchNormalization(name="b")]
        >>> folding = fold_with_report(keras.Sequential(layers), verbose=False)
        >>> len(folding.report.folded)
        1
    """
    with Progress(f"Folding BatchNorm in '{getattr(model, 'name', model)}'", verbose) as progress:
        progress.show("recording its calls")
        tape = record(model, input_signature)
        progress.show("deciding")
        plan = make_plan(tape)
        progress.show("building the folded model")
        folded = build(plan)
        found = verify_built(model, folded, tape, inputs, tolerance, progress) if verify else None
        report = report_of(plan, found)
        progress.show(report.summary())
    return Folding(folded, report, found)


def inspect_batch_norm(model: keras.Model, *, input_signature: Any = None) -> FoldingReport:
    """Say what `fold_batch_norm` would do to each BatchNorm of a model, and why. Nothing is changed.

    Args:
        model: See `fold_batch_norm`.
        input_signature: See `fold_batch_norm`.

    Returns:
        The report; `print(report)` shows a table, `report.to_dict()` is data.

    Raises:
        FoldingError: When the model is not built or cannot be traced.

    Example:
        >>> import keras
        >>> from keras_addons_l6.folding import inspect_batch_norm
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((4,)),
        ...         keras.layers.Dense(3),
        ...         keras.layers.BatchNormalization(name="norm"),
        ...     ]
        ... )
        >>> [(row.layer, row.into) for row in inspect_batch_norm(model).folded]
        [('norm', ('dense',))]
    """
    return report_of(make_plan(record(model, input_signature)))


def report_of(plan: Plan, verification: Verification | None = None) -> FoldingReport:
    """The report of a plan, with what was measured where the fold was checked."""
    decisions = {id(decision.call): decision for decision in plan.decisions}
    folds = iter(() if verification is None else verification.folds)
    rows: list[BatchNormRow] = []
    for call in plan.tape.calls:
        if id(call) in decisions:
            decision = decisions[id(call)]
            rows.append(_row(decision, next(folds, None) if decision.folded else None))
        else:
            rows += _opaque_rows(call)
    return FoldingReport(plan.tape.name, tuple(rows), verification)


def _row(decision: Decision, check: Comparison | None) -> BatchNormRow:
    into = tuple(call.path for call in decision.into)
    return BatchNormRow(decision.call.path, into, decision.reason, tuple(_notes(decision)), check)


def _notes(decision: Decision) -> list[str]:
    notes = []
    for call in decision.into:
        names = dropped_settings(call.original.get_config())
        notes += [f"{name} of '{call.path}' dropped" for name in names]
    return notes


def _opaque_rows(call: Call) -> list[BatchNormRow]:
    """Rows for the BatchNorms inside a layer that is called as a whole."""
    kind = type(call.operation).__name__
    why = f": {call.kept_whole}" if call.kept_whole else ""
    reason = Reason(
        "opaque", f"it is inside '{call.path}' ({kind}), which is not replaced by the calls it makes{why}"
    )
    inside = [layer for layer in keras_private.sublayers(call.operation) if is_batch_norm(layer)]
    return [BatchNormRow(f"{call.path}/{layer.name}", (), reason) for layer in inside]
