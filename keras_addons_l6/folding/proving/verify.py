"""Checking a folded model against the original, tensor by tensor, so that nothing downstream hides a fault.

1. Where a BatchNorm went, the tensor behind it is compared with the one that now takes its place, on the
   scale of its own spread, each fold by itself (`side_by_side`). Nothing there is chaotic or saturated.
2. Layers that no fold touched must have the same weights, to the bit.
3. The outputs are compared from end to end. A network may amplify rounding by any factor, so past what
   rounding explains in a well-behaved one, the model's own noise is the yardstick, and past the limit
   that would let a fault through, the outputs decide nothing.

Half precision is too coarse for any of this: such models are compared through float32 copies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import ml_dtypes
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.building.origin import Origin, Spot, origin_of
from keras_addons_l6.folding.building.rewrite import own_state
from keras_addons_l6.folding.errors import FoldingError, one_line
from keras_addons_l6.folding.planning.affine import Placed, float64_array
from keras_addons_l6.folding.planning.batch_norm import is_batch_norm, placed_map
from keras_addons_l6.folding.progress import Progress
from keras_addons_l6.folding.proving.comparison import LIMIT, Comparison, Measured, judge, worst
from keras_addons_l6.folding.proving.float32_copy import HALF, computes_in_half, in_float32
from keras_addons_l6.folding.proving.outputs import ROUNDINGS, compared, epsilon, with_power
from keras_addons_l6.folding.proving.side_by_side import Course, differences, noises, outputs_of
from keras_addons_l6.folding.proving.trial import left_out, run_flat, run_inference, trial
from keras_addons_l6.folding.proving.verification import Verification
from keras_addons_l6.folding.recording.signature import data_arguments
from keras_addons_l6.folding.recording.trace import record
from keras_addons_l6.folding.tape import Call, Played, Tape, as_played

__all__ = ["verify", "verify_folding"]

# From one tensor that is compared to the next there are a BatchNorm, what takes it up, and little else.
_CALLS_OF_A_FOLD = 4


def verify_folding(
    original: keras.Model, folded: keras.Model, inputs: Any = None, tolerance: float | None = None
) -> Verification:
    """Check that a folded model computes what the original computes.

    Wherever a BatchNorm went, the tensor behind it in the original is compared with the one that takes
    its place in the folded model, on the scale of that tensor's own spread over the inputs; layers that
    no fold touched must have the same weights; and the outputs are compared. Models that compute in half
    precision are compared through copies that compute in float32. Of a folded model that was loaded from
    a file, only the outputs can be compared; the result then says so.

    Args:
        original: The model before folding. It is not changed.
        folded: What `fold_batch_norm` made of it, in this process or before it was saved.
        inputs: A batch as `predict` takes it; None for random numbers.
        tolerance: The largest error to accept, relative to the spread. None: what rounding explains, or
            a small multiple of the model's own noise where that is larger, and never more than 0.05.

    Returns:
        The measured numbers.

    Raises:
        FoldingError: When an error is past the tolerance, when a layer that no fold touched has other
            weights, or when nothing could be seen on these inputs.
        ValueError: When `inputs` are not what the model takes.

    Example:
        >>> import keras
        >>> from keras_addons_l6.folding import fold_batch_norm, verify_folding
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
        ... )
        >>> verify_folding(model, fold_batch_norm(model)).error < 1e-5
        True
    """
    for model in (original, folded):
        if not isinstance(model, keras.Model):
            raise FoldingError(f"Expected a `keras.Model`, but got {model!r} of type {type(model).__name__}.")
    tape = _recorded(original, folded)
    _require_same_ends(tape, folded)
    return verify(original, folded, tape, inputs, tolerance, Progress("", 0))


def _recorded(original: keras.Model, folded: keras.Model) -> Tape:
    """The original's tape; what shapes a subclassed model takes, the folded one knows."""
    try:
        return record(original)
    except FoldingError:
        if not (original.built and keras_private.is_functional(folded)):
            raise
    several = len(data_arguments(original)) > 1 and isinstance(folded.input, dict)
    return record(original, list(folded.input.values()) if several else [folded.input])


def _require_same_ends(tape: Tape, folded: keras.Model) -> None:
    ends = ((tape.inputs, folded.inputs, "inputs"), (tape.outputs, folded.outputs, "outputs"))
    for expected, found, what in ends:
        if len(keras.tree.flatten(expected)) != len(found or ()):
            raise FoldingError(
                f"'{folded.name}' was not folded from '{tape.name}': it has {len(found or ())} {what}, "
                f"and '{tape.name}' has {len(keras.tree.flatten(expected))}."
            )


def verify(
    model: keras.Model,
    folded: keras.Model,
    tape: Tape,
    inputs: Any,
    tolerance: float | None,
    progress: Progress,
) -> Verification:
    """Check a folded model as `verify_folding` does, with the original recorded already.

    Args:
        model: The original.
        folded: The folded model.
        tape: The original's tape.
        inputs: See `verify_folding`.
        tolerance: See `verify_folding`.
        progress: Where to say what is going on.

    Returns:
        The measured numbers.

    Raises:
        FoldingError: See `verify_folding`.
    """
    origin = origin_of(folded, tape)
    if origin is not None:
        progress.show("comparing weights")
        _require_same_weights(model, tape, origin)
    progress.show("running the original")
    arguments, expected = trial(model, folded, tape, inputs)
    progress.show("running the folded model")
    run = _Trial(model, folded, tape, origin, arguments, tolerance)
    direct = run.direct(expected)
    progress.show("comparing fold by fold" if origin is not None else "comparing outputs")
    verification = run.verification(direct)
    _require_accepted(model, verification)
    return verification


class _Trial:
    """One comparison of two models on one batch."""

    def __init__(
        self,
        model: keras.Model,
        folded: keras.Model,
        tape: Tape,
        origin: Origin | None,
        arguments: Any,
        tolerance: float | None,
    ) -> None:
        self.model, self.folded, self.tape, self.origin = model, folded, tape, origin
        self.arguments, self.tolerance = arguments, tolerance
        self.arrays = keras.tree.flatten(arguments)
        self.first = as_played(tape)
        self.second, self.why = self.folded_calls()
        # weights that were rounded to half precision to be stored, and whose exact values are not known
        self.rounded = self.second is None or (
            origin is None and any(keras.backend.standardize_dtype(w.dtype) in HALF for w in folded.weights)
        )
        self.half = computes_in_half(self.first)
        self.wide = self.half and not self.rounded
        if self.wide and self.second is not None:
            self.first = in_float32(self.first, {})
            self.second = in_float32(self.second, origin.exact if origin else {})

    def folded_calls(self) -> tuple[Played | None, str]:
        """The folded model, call by call, and why it cannot be laid along the original."""
        if self.origin is not None:
            return self.origin.played, ""
        why = "the folded model was not made from this one in this process"
        try:
            return as_played(record(self.folded)), why
        except FoldingError as error:
            return None, f"{why} ({one_line(error)})"

    def direct(self, expected: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """The outputs of both models as they are, and again without the inputs that may be left out."""
        pairs = _paired(expected, run_flat(self.folded, self.arrays))
        for places in left_out(self.tape):
            partial = [None if i in places else array for i, array in enumerate(self.arrays)]
            packed = keras.tree.pack_sequence_as(self.arguments, partial)
            outputs = run_inference(self.model, packed, self.tape.arguments)
            pairs += _paired(outputs, run_flat(self.folded, partial))
        return pairs

    def verification(self, direct: list[tuple[np.ndarray, np.ndarray]]) -> Verification:
        """All comparisons: of the models as they are, and of the float32 copies where there are any."""
        folds, why = self.folds()
        if not self.wide or self.second is None:
            return Verification(folds, self.outputs(direct, folds), (), why)
        ends = [outputs_of(played, self.arrays, wide=True) for played in (self.first, self.second)]
        outputs = self.outputs(list(zip(*ends, strict=True)), folds)
        return Verification(folds, outputs, tuple(self.in_half(direct)), why)

    def folds(self) -> tuple[tuple[Comparison, ...], str]:
        """One comparison for each fold, and why there are none."""
        if self.origin is None or self.second is None:
            return (), self.why
        try:
            return tuple(_folds(self, self.origin, self.second)), ""
        except FoldingError:
            raise
        except Exception as error:  # a call that runs as a part of its model only: any backend's own error
            return (), f"the calls of the model do not run one by one ({one_line(error)})"

    def outputs(
        self, pairs: list[tuple[np.ndarray, np.ndarray]], folds: Sequence[Comparison]
    ) -> tuple[Comparison, ...]:
        """One comparison for each output; where they alone decide, those that show no fault are marked."""
        rows = compared(self.tape, self.first, self.arrays, pairs, self.tolerance, self.wide)
        if folds or (self.origin is not None and not self.origin.places):
            return tuple(rows)
        return tuple(with_power(rows, self.first, self.arrays, self.wide))

    def in_half(self, pairs: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[Comparison]:
        """The outputs of the models as they are: no number among them is refused, but one that is none."""
        first = as_played(self.tape)
        rows = compared(self.tape, first, self.arrays, pairs, tolerance=np.inf)
        for row, (expected, found) in zip(rows, pairs, strict=True):
            yield dataclasses.replace(row, tolerance=LIMIT, refused=not _same_kind(expected, found))


def _folds(run: _Trial, origin: Origin, second: Played) -> Iterator[Comparison]:
    """One comparison for each fold; one more for whatever else differs is an error at once."""
    tape = run.tape
    axes = {spot: _channel_axis(tape, spot) for place in origin.places for spot in place.spots}
    course = Course(run.arrays, origin.moved, axes, origin.edited, run.wide)
    measured = dict(differences(run.first, second, course))
    noise: Mapping[Spot, Measured] = {}
    rounding = ROUNDINGS * epsilon(tape, run.wide) * _CALLS_OF_A_FOLD**0.5

    def judged(spot: Spot, name: str) -> Comparison:
        own = noise[spot].difference if spot in noise else None
        sized = _with_terms(measured[spot], tape.calls[spot[0]])
        return judge(name, tape.calls[spot[0]].path, sized, rounding, own, run.tolerance)

    if any(judged(spot, "").refused for spot in measured):
        noise = dict(noises(run.first, course))
    elsewhere = [judged(spot, f"'{tape.calls[spot[0]].path}'") for spot in measured if spot not in axes]
    for row in elsewhere:
        if row.refused:
            raise FoldingError(_message(run.model, row))
    for place in origin.places:
        found = [judged(spot, place.batch_norm) for spot in place.spots if spot in measured]
        if found:
            yield _together(found)


def _with_terms(measured: Measured, call: Call) -> Measured:
    """The size of a BatchNorm's output x s + (beta - mean s) with the terms that are added in it.

    They may cancel, and are rounded even where a dead x makes the output a small constant.
    """
    placed = placed_map(call) if is_batch_norm(call.operation) else None
    if not isinstance(placed, Placed):
        return measured
    layer: Any = call.operation
    beta = 0.0 if layer.beta is None else float64_array(layer.beta)
    terms = np.maximum(np.abs(beta - placed.affine.shift), np.abs(beta))
    if len(terms) != len(measured.size):
        terms = terms.max(keepdims=True)
    return dataclasses.replace(measured, size=np.maximum(measured.size, terms))


def _together(found: Sequence[Comparison]) -> Comparison:
    """The comparisons of several tensors behind one BatchNorm as one."""
    counts = {name: sum(getattr(each, name) for each in found) for name in ("channels", "unseen")}
    return dataclasses.replace(worst(found), **counts)


def _channel_axis(tape: Tape, spot: Spot) -> int:
    call = tape.calls[spot[0]]
    rank = len(call.outputs[spot[1]].shape)
    if is_batch_norm(call.operation):
        return call.operation.axis % rank
    first = getattr(call.operation, "data_format", "channels_last") == "channels_first"
    return 1 if first and rank > 2 else rank - 1


def _require_same_weights(model: keras.Model, tape: Tape, origin: Origin) -> None:
    """Raise where a layer that no fold touched has other weights, or a rounded weight is no rounding."""
    seen: set[int] = set()
    for i, (call, made) in enumerate(zip(tape.calls, origin.played.calls, strict=True)):
        if not made or not isinstance(call.original, keras.Layer) or id(call.operation) in seen:
            continue
        seen.add(id(call.operation))
        new = made[-1].operation
        if i in origin.edited:
            same = _are_roundings(new, origin.exact.get(i, {}))
        elif type(new) is type(call.original):
            same = _same_state(call.original, new)
        else:
            continue  # a folded BatchNorm's place is taken by a cast
        if not same:
            raise FoldingError(
                f"The folded model's layer '{new.name}' has other weights than '{call.path}' of '{model.name}' "
                "asks for. Fold again, or leave the folded model's weights as they are."
            )


def _same_state(old: Any, new: Any) -> bool:
    a, b = own_state(old), own_state(new)
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(np.array_equal(x[key], y[key], equal_nan=_has_nan(x[key])) for key in x)
        for x, y in zip(a, b, strict=True)
    )


def _has_nan(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


def _are_roundings(layer: Any, exact: Mapping[str, np.ndarray]) -> bool:
    """Whether a layer's weights are these, each rounded once to the type it is stored in."""
    for name, values in exact.items():
        stored = np.asarray(keras.ops.convert_to_numpy(getattr(layer, name)))
        wide = values.astype("float32") if stored.dtype == ml_dtypes.bfloat16 else values
        if not np.array_equal(stored.astype("float64"), wide.astype(stored.dtype).astype("float64")):
            return False
    return True


def _paired(expected: Any, found: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True))


def _same_kind(expected: np.ndarray, found: np.ndarray) -> bool:
    """Whether two outputs have one shape and type, and numbers in the same places."""
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    if expected.dtype.kind not in "fV" and expected.dtype != ml_dtypes.bfloat16:
        return True
    return np.array_equal(*(np.isfinite(array.astype("float32")) for array in (expected, found)))


def _require_accepted(model: keras.Model, verification: Verification) -> None:
    rows = (*verification.folds, *verification.half, *verification.outputs)
    for row in rows:
        if row.refused:
            raise FoldingError(_message(model, row))
    if not verification.sighted:
        what = "output" if verification.outputs_only else "fold"
        raise FoldingError(
            f"The check of '{model.name}' saw nothing: on these inputs no {what} would show a fault, because "
            "what is compared is constant, saturated or no larger than rounding. Pass `inputs=`, a batch of "
            "data as `predict` takes it, on which the model's values differ, or `verify=False`."
            + (f" (Only outputs were compared: {verification.outputs_only}.)" if what == "output" else "")
        )


def _message(model: keras.Model, row: Comparison) -> str:
    noise = (
        f"the model's own noise there (with every value one rounding away) is {row.noise:.2e}"
        if row.noise is not None
        else "its noise was not measured"
    )
    return (
        f"Folding '{model.name}' changed its numbers: for {row.name}, at '{row.at}', the largest difference "
        f"relative to the spread is {row.error:.2e}, past the tolerance of {row.tolerance:.2e}; {noise}. It may "
        "do more than its calls show, or its numbers may lie at the edge of their type. "
        "`inspect_batch_norm(model)` lists what was folded; a larger `tolerance` accepts the difference."
    )
