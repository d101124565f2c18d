"""Two models that were played from one tape, run side by side on arrays and compared where they should agree.

At each tensor that should hold the same numbers in both, the second model goes on with the first one's
number. So each difference is that of one fold, however deep the model: errors neither add up on the way
to the outputs nor vanish there, and a chaotic model is as good to compare as any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import ml_dtypes
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.building.origin import Spot
from keras_addons_l6.folding.proving.comparison import Measured, measure
from keras_addons_l6.folding.proving.float32_copy import HALF, array, linear
from keras_addons_l6.folding.tape import Call, Played, replace_tensors

__all__ = ["Course", "Finding", "differences", "noises", "one_rounding_away", "outputs_of"]

Finding = tuple[Spot, Measured]


class _Run:
    """One model on its way through the tape."""

    def __init__(self, played: Played, arrays: Sequence[Any], wide: bool) -> None:
        self.played = played
        self.values: dict[int, Any] = {
            id(tensor): _given(value, tensor, wide)
            for tensor, value in zip(played.inputs, arrays, strict=True)
        }
        self.expiring = _last_uses(played)

    def step(self, i: int) -> None:
        """Make the calls that stand for call `i` of the tape."""
        for call in self.played.calls[i]:
            outputs = self.call(call)
            self.values.update({id(x): _detached(y) for x, y in zip(call.outputs, outputs, strict=True)})

    def call(self, call: Call) -> list[Any]:
        args, kwargs = replace_tensors((call.args, call.kwargs), self.values)
        if keras_private.takes_training(call.operation):
            kwargs = kwargs | {"training": False}
        return [
            leaf for leaf in keras.tree.flatten(call.operation(*args, **kwargs)) if keras.ops.is_tensor(leaf)
        ]

    def linear(self, i: int) -> list[Any]:
        """The outputs of the last call that stands for call `i`, before its layer's own activation."""
        call = linear(self.played.calls[i][-1])
        return [] if call is None else self.call(call)

    def value(self, spot: Spot) -> Any:
        return self.values[id(self.played.tensors[spot[0]][spot[1]])]

    def set(self, spot: Spot, value: Any) -> None:
        self.values[id(self.played.tensors[spot[0]][spot[1]])] = value

    def forget(self, i: int) -> None:
        """Drop what no later call needs: only so does a large model fit twice."""
        for key in self.expiring.get(i, ()):
            self.values.pop(key, None)


def _detached(value: Any) -> Any:
    """The tensor without what it was made from, which torch would keep for a gradient that nobody takes."""
    keeps = keras.backend.backend() == "torch" and keras_private.mask_of(value) is None
    return keras.ops.stop_gradient(value) if keeps else value


def _last_uses(played: Played) -> dict[int, list[int]]:
    """The ids of the tensors that are done with after each call of the tape."""
    last: dict[int, int] = {}
    for i, (calls, tensors) in enumerate(zip(played.calls, played.tensors, strict=True)):
        for tensor in (*tensors, *(tensor for call in calls for tensor in (*call.inputs, *call.outputs))):
            last[id(tensor)] = i
    kept = {id(tensor) for tensor in played.outputs}
    expiring: dict[int, list[int]] = {}
    for key, i in last.items():
        if key not in kept:
            expiring.setdefault(i, []).append(key)
    return expiring


def _given(value: Any, tensor: keras.KerasTensor, wide: bool) -> Any:
    if value is None:
        return None
    dtype = "float32" if wide and tensor.dtype in HALF else tensor.dtype
    return keras.ops.convert_to_tensor(value, dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Course:
    """What there is to compare along a tape.

    Attributes:
        arrays: Inputs, flat.
        moved: The tensors that hold other numbers in the second model.
        axes: The axis of the channels of the tensors that are measured in any case; others only where they
            differ.
        edited: The calls whose layers took something up: compared before the activation.
        wide: Whether inputs in half precision are given in float32.
    """

    arrays: Sequence[Any]
    moved: frozenset[Spot]
    axes: Mapping[Spot, int]
    edited: frozenset[int]
    wide: bool

    def spots(self, i: int, tensors: Sequence[Any]) -> list[Spot]:
        """The outputs of call `i` that should be equal."""
        return [(i, j) for j in range(len(tensors)) if (i, j) not in self.moved]


def differences(first: Played, second: Played, course: Course) -> Iterator[Finding]:
    """Run two models side by side and measure every tensor that should be equal.

    Args:
        first: The original.
        second: The folded model, played from the same tape.
        course: What to compare.

    Yields:
        What was measured at each tensor.
    """
    with keras.StatelessScope():
        a, b = (_Run(played, course.arrays, course.wide) for played in (first, second))
        for i, tensors in enumerate(first.tensors):
            a.step(i)
            b.step(i)
            for spot, x, y in _pairs(a, b, i, course.spots(i, tensors), course):
                if spot in course.axes or not _same(x, y):
                    yield spot, measure(x, y, course.axes.get(spot))
            for spot in course.spots(i, tensors):
                b.set(spot, a.value(spot))
            a.forget(i)
            b.forget(i)


def noises(played: Played, course: Course) -> Iterator[Finding]:
    """How far a model is from itself, between the same tensors, with every value one rounding away.

    Args:
        played: The original.
        course: What to compare.

    Yields:
        What was measured at each tensor.
    """
    generator = np.random.default_rng(1)
    with keras.StatelessScope():
        a, b = (_Run(played, course.arrays, course.wide) for _ in range(2))
        b.values = {key: one_rounding_away(value, generator) for key, value in b.values.items()}
        for i, tensors in enumerate(played.tensors):
            a.step(i)
            b.step(i)
            spots = course.spots(i, tensors)
            for spot, x, y in _pairs(a, b, i, spots, course):
                yield spot, measure(x, y, course.axes.get(spot))
            for spot in ((i, j) for j in range(len(tensors))):
                b.set(spot, one_rounding_away((a if spot in spots else b).value(spot), generator))
            a.forget(i)
            b.forget(i)


def _pairs(
    a: _Run, b: _Run, i: int, spots: list[Spot], course: Course
) -> Iterator[tuple[Spot, np.ndarray, np.ndarray]]:
    """The numbers of both models at the outputs of call `i`, before the activation where it matters."""
    if i in course.edited and spots and (before := a.linear(i)):
        for spot, x, y in zip(spots, before, b.linear(i), strict=True):
            yield spot, array(x), array(y)
        return
    for spot in spots:
        if spot in course.axes or a.value(spot) is not b.value(spot):
            yield spot, array(a.value(spot)), array(b.value(spot))


def outputs_of(
    played: Played,
    arrays: Sequence[Any],
    wide: bool = False,
    change: Callable[[Spot, Any], Any] | None = None,
) -> list[np.ndarray]:
    """The outputs of a model, played on its own.

    Args:
        played: The model.
        arrays: Inputs, flat.
        wide: See `Course`.
        change: What becomes of each tensor on the way; None leaves them.

    Returns:
        The outputs, flat.
    """
    with keras.StatelessScope():
        run = _Run(played, arrays, wide)
        for i, tensors in enumerate(played.tensors):
            run.step(i)
            for spot in ((i, j) for j in range(len(tensors))):
                if change is not None:
                    run.set(spot, change(spot, run.value(spot)))
            run.forget(i)
        return [array(run.values[id(tensor)]) for tensor in played.outputs]


def one_rounding_away(value: Any, generator: np.random.Generator) -> Any:
    """A tensor with each number one rounding up or down; what is no number, or carries a mask, stays."""
    if value is None or keras_private.mask_of(value) is not None:
        return value
    dtype = keras.backend.standardize_dtype(value.dtype)
    if not keras.backend.is_float_dtype(dtype):
        return value
    numbers = array(value)
    step = float(ml_dtypes.finfo(dtype).eps) * generator.choice((-1, 1), numbers.shape)
    return keras.ops.convert_to_tensor((numbers.astype("float64") * (1 + step)).astype(numbers.dtype), dtype)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b)
