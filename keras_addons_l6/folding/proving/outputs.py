"""The outputs of two models, from end to end: all there is to compare of an artifact or a model from a file.

A network may amplify rounding by any factor: some differ from themselves by more than one, eager to
compiled. So past the bound that rounding explains in a well-behaved network, the model's own noise is
measured and is the yardstick; past the limit that would let a fault through, outputs decide nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import ml_dtypes
import numpy as np

from keras_addons_l6.folding.building.origin import Spot
from keras_addons_l6.folding.planning.batch_norm import is_batch_norm
from keras_addons_l6.folding.proving.comparison import LIMIT, Comparison, Measured, judge, measure
from keras_addons_l6.folding.proving.float32_copy import HALF
from keras_addons_l6.folding.proving.side_by_side import one_rounding_away, outputs_of
from keras_addons_l6.folding.tape import Played, Tape

__all__ = ["ROUNDINGS", "compared", "epsilon", "with_power"]

# A fold rounds each weight once and each output of a layer anew; errors of independent layers add up
# as the root of their number. 32 leaves room for sums over a kernel's window, as measured over
# keras.applications (largest: 6 eps sqrt(calls)). In half precision sums are kept in float32.
ROUNDINGS = 32.0
_ROUNDINGS_IN_HALF = 4.0


def compared(
    tape: Tape,
    played: Played,
    arrays: Sequence[Any],
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    tolerance: float | None,
    wide: bool = False,
) -> list[Comparison]:
    """One comparison for each output: by rounding or, where that does not do, by the model's own noise.

    Args:
        tape: The original, which names its outputs.
        played: The original, or its float32 copy.
        arrays: The inputs.
        pairs: Expected and found, in the order of the outputs; several rounds of them may follow each other.
        tolerance: See `judge`.
        wide: Whether `played` is a float32 copy.

    Returns:
        The comparisons.
    """
    bound = _rounding_bound(tape, wide)
    rows = _judged(tape, pairs, bound, None, tolerance)
    if not any(row.refused for row in rows):
        return rows
    return _judged(tape, pairs, bound, _own_noise(played, arrays, wide), tolerance)


def with_power(
    rows: Sequence[Comparison], played: Played, arrays: Sequence[Any], wide: bool = False
) -> list[Comparison]:
    """Mark as not seen the outputs at which a planted fault does not show.

    The fault is a BatchNorm's output, that of the first in the model, off by `LIMIT`.

    Args:
        rows: Comparisons of the outputs.
        played: The original.
        arrays: The inputs they were compared on.
        wide: Whether `played` is a float32 copy.

    Returns:
        The comparisons.
    """
    norms = [
        i for i, calls in enumerate(played.calls) if any(is_batch_norm(call.operation) for call in calls)
    ]
    if not norms or not any(row.seen for row in rows):
        return list(rows)

    def planted(spot: Spot, value: Any) -> Any:
        return value * (1 + LIMIT) if spot[0] == norms[0] else value

    plain, faulty = (outputs_of(played, arrays, wide, change) for change in (None, planted))
    effects = [measure(a, b) for a, b in zip(plain, faulty, strict=True)]
    return [
        row if row.seen and _shows(effect, row) else dataclasses.replace(row, unseen=row.channels)
        for row, effect in zip(rows, (effects * len(rows))[: len(rows)], strict=True)
    ]


def _shows(effect: Measured, row: Comparison) -> bool:
    return bool(effect.difference[0] > row.tolerance * effect.spread[0])


def _judged(
    tape: Tape,
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    rounding: float,
    noise: Sequence[np.ndarray] | None,
    tolerance: float | None,
) -> list[Comparison]:
    rows = []
    for i, (expected, found) in enumerate(pairs):
        place = i % len(tape.output_names)
        name = tape.output_names[place]
        own = None if noise is None else noise[place]
        rows.append(judge(f"output '{name}'", name, measure(expected, found), rounding, own, tolerance))
    return rows


def _own_noise(played: Played, arrays: Sequence[Any], wide: bool = False) -> list[np.ndarray]:
    """How far each output of a model is from itself, when every value on the way is one rounding away."""
    generator = np.random.default_rng(1)

    def nudged(spot: Spot, value: Any) -> Any:
        return one_rounding_away(value, generator)

    plain, moved = (outputs_of(played, arrays, wide, change) for change in (None, nudged))
    return [measure(a, b).difference for a, b in zip(plain, moved, strict=True)]


def _rounding_bound(tape: Tape, wide: bool) -> float:
    """So many roundings a call, added up as independent ones, in the coarsest type the model computes in."""
    unit = epsilon(tape, wide)
    roundings = ROUNDINGS if unit < 1e-6 else _ROUNDINGS_IN_HALF
    return roundings * unit * max(len(tape.calls), 1) ** 0.5


def epsilon(tape: Tape, wide: bool) -> float:
    """The distance from one to the next number, in the coarsest type that a model computes in.

    Args:
        tape: The model.
        wide: Whether its float32 copy is meant.

    Returns:
        The distance.
    """
    dtypes = {tensor.dtype for call in tape.calls for tensor in call.outputs}
    if wide:
        dtypes = {"float32" if dtype in HALF else dtype for dtype in dtypes}
    # `result_type`: on JAX and torch, Keras's own layers compute float64 in float32 here and there
    floats = [keras.backend.result_type(dtype) for dtype in dtypes if keras.backend.is_float_dtype(dtype)]
    return max(float(ml_dtypes.finfo(dtype).eps) for dtype in floats or ["float32"])
