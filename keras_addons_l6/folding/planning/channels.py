"""Where a call takes the channels of its input, read off by running it on the channels' own numbers.

A call that moves values, or averages values of one channel with weights that sum to one, does to the number of a channel
what it does to its values. So no rule is written down for any of them: a transposition, a crop, a reshape, a pooling.

A call that mixes channels may make of their numbers the number of another: the average of 1, 2 and 3 is 2, their maximum
is 3. So it runs on two more values for each channel, which no mixture turns into those of one channel, both times.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_addons_l6.folding.planning.affine import Affine, Placed
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.tape import Call

__all__ = ["carried_back", "carried_forward"]

_SIZES = (
    4,
    12,
    7,
)  # what stands for an axis of open size, in turn: some calls need a multiple of two, three or four
_BATCH = 2
_WHOLE = (
    0.01  # an average of equal numbers is off by roundings of float32, 1e-7 of numbers up to some thousands
)
_MIXED = 1e-4  # beyond roundings of values up to one; a mixture of random ones lies nearer by chance, twice, in 1e-8


@dataclasses.dataclass(frozen=True)
class _Content:
    """What one output of a call holds, place by place.

    Attributes:
        channels: The channel of the input axis that is found at each place; -1 where none is.
        constants: What is found there instead, such as a padded zero; 0 where a channel is.
    """

    channels: np.ndarray
    constants: np.ndarray

    @property
    def is_constant(self) -> np.ndarray:
        return self.channels < 0


def carried_forward(call: Call, placed: Placed) -> list[Placed] | Reason:
    """A map of a call's input as maps of its outputs, one each."""
    found: list[Placed] = []
    for content in _contents(call, placed.axis, len(placed.affine.scale)):
        output = _read_along_one_axis(content, placed, len(call.inputs[0].shape))
        if output is None:
            break
        if not _keeps_constants(content, output):
            return _moves_constants(call)
        found.append(output)
    return found if len(found) == len(call.outputs) else _blurred(call, placed.axis)


def carried_back(call: Call, output: int, placed: Placed) -> Placed | Reason:
    """A map of one of a call's outputs as a map of its input; channels that do not reach that output stay as they are."""
    shape = call.inputs[0].shape
    for axis in _preferred(placed.axis, len(call.outputs[output].shape), len(shape)):
        contents = [] if shape[axis] is None else _contents(call, axis, shape[axis])
        affine = _inverted(contents[output], placed, shape[axis]) if contents else None
        if affine is None:
            continue
        if not _keeps_constants(contents[output], placed):
            return _moves_constants(call)
        changed = np.flatnonzero((affine.scale != 1) | (affine.shift != 0))
        others = (content.channels for i, content in enumerate(contents) if i != output)
        if any(np.isin(changed, channels).any() for channels in others):
            return Reason("shared", f"'{call.operation.name}' hands the same channels to other outputs, too")
        return Placed(affine, axis)
    return _blurred(call, placed.axis)


def _inverted(content: _Content, placed: Placed, size: int) -> Affine | None:
    """The map of the input that gives an output its map; None where one channel would need several."""
    if content.channels.shape[placed.axis] != len(placed.affine.scale):
        return None
    inside = ~content.is_constant
    channels = content.channels[inside]
    lines = []
    for start, values in ((1.0, placed.affine.scale), (0.0, placed.affine.shift)):
        wanted = np.broadcast_to(_on_axis(values, placed.axis, inside.ndim), inside.shape)[inside]
        line = np.full(size, start)
        line[channels] = wanted
        if not np.array_equal(line[channels], wanted):
            return None
        lines.append(line)
    return Affine(*lines)


def _read_along_one_axis(content: _Content, placed: Placed, rank: int) -> Placed | None:
    """The map of the channels at each place as a map along one axis; None where it varies along several."""
    inside = ~content.is_constant
    scale, shift = (
        np.where(inside, values[content.channels], missing)
        for values, missing in ((placed.affine.scale, 1.0), (placed.affine.shift, 0.0))
    )
    for axis in _preferred(placed.axis, rank, inside.ndim):
        lines = [_line(values, inside, axis, missing) for values, missing in ((scale, 1.0), (shift, 0.0))]
        on_axis = (_on_axis(line, axis, inside.ndim) for line in lines)
        if all((values == line)[inside].all() for values, line in zip((scale, shift), on_axis, strict=True)):
            return Placed(Affine(*lines), axis)
    return None


def _line(values: np.ndarray, inside: np.ndarray, axis: int, missing: float) -> np.ndarray:
    """The first value that belongs to a channel at each place of an axis."""
    values, inside = (np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (values, inside))
    first = np.take_along_axis(values, inside.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(inside.any(axis=1), first, missing)


def _keeps_constants(content: _Content, placed: Placed) -> bool:
    """Whether a map of an output leaves the constants in it as they are, where a channel lies beside them."""
    rank = content.channels.ndim
    scale, shift = (_on_axis(v, placed.axis, rank) for v in (placed.affine.scale, placed.affine.shift))
    c = content.constants
    with np.errstate(invalid="ignore"):  # a padding of minus infinity stays under no scale of zero
        return bool((c * scale + shift == c)[content.is_constant].all())


def _contents(call: Call, axis: int, size: int) -> list[_Content]:
    """What each output of a call holds of the channels of an input axis; nothing where the call mixes them."""
    shape = call.inputs[0].shape
    for open_size in _SIZES:
        sizes = [open_size if n is None else n for n in shape]
        sizes[0] = shape[0] or _BATCH
        values = [np.arange(1, size + 1), np.zeros(size), *_telling_values(size)]
        try:
            outputs = [_run(call, np.broadcast_to(_on_axis(v, axis, len(sizes)), sizes)) for v in values]
        except Exception:  # whatever a backend raises for sizes that do not fit
            continue
        contents = [_content(values[2:], *found) for found in zip(*outputs, strict=True)]
        return [content for content in contents if content is not None] if all(contents) else []
    return []


def _telling_values(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two values for each channel, which tell it from any mixture of channels.

    They are random, so that an average is neither; and they lie in opposite orders, so that the largest is not the
    same channel's.
    """
    r = np.random.default_rng(0).uniform(-1.0, 1.0, size)
    return r, -(r**3)


def _content(
    telling: list[np.ndarray], numbered: np.ndarray, empty: np.ndarray, *told: np.ndarray
) -> _Content | None:
    """What a call put where, from its results on the channels' numbers from 1, on zeros, and on telling values.

    None where it mixed channels.
    """
    constant = numbered == empty
    found, whole = numbered[~constant], np.rint(numbered)
    with np.errstate(invalid="ignore"):  # infinity less infinity is no whole number either
        is_number = (np.abs(found - whole[~constant]) <= _WHOLE) & (found >= 1 - _WHOLE)
    if numbered.ndim < 2 or not is_number.all() or empty[~constant].any():
        return None
    channels = np.where(constant, 0, whole).astype(int) - 1
    for values, result in zip(telling, told, strict=True):
        if channels.max(initial=-1) >= len(values):
            return None
        expected = np.where(constant, empty, values[channels])
        with np.errstate(invalid="ignore"):  # a padding of infinity is equal, though not near
            if not ((result == expected) | (np.abs(result - expected) <= _MIXED)).all():
                return None
    return _Content(channels, np.where(constant, empty, 0.0))


def _run(call: Call, x: np.ndarray) -> list[np.ndarray]:
    """What a call makes of an array, past the casts that a layer's `__call__` would make."""
    tensor = keras.ops.convert_to_tensor(np.ascontiguousarray(x, "float32"))

    def given(leaf: Any) -> Any:
        return tensor if isinstance(leaf, keras.KerasTensor) else leaf

    args, kwargs = keras.tree.map_structure(given, (call.args, call.kwargs))
    kwargs = {name: value for name, value in kwargs.items() if name != "training"}
    outputs = keras.tree.flatten(call.operation.call(*args, **kwargs))
    return [np.asarray(keras.ops.convert_to_numpy(y), "float64") for y in outputs]


def _preferred(axis: int, rank: int, other_rank: int) -> list[int]:
    """The axes of another tensor but its batch's, the ones where one would look for an axis first."""
    same = [axis] if rank == other_rank else [axis + other_rank - rank, axis]
    likely = [place for place in same if 0 < place < other_rank]
    return list(dict.fromkeys([*likely, *range(other_rank - 1, 0, -1)]))


def _on_axis(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return values.reshape([-1 if place == axis else 1 for place in range(rank)])


def _blurred(call: Call, axis: int) -> Reason:
    return Reason(
        "axis", f"across '{call.operation.name}' the channels of axis {axis} are not found on one axis"
    )


def _moves_constants(call: Call) -> Reason:
    return Reason("padding", f"'{call.operation.name}' pads constants that the scale and shift would change")
