"""What a folded model was made from: which of its tensors must hold the numbers of which of the original's.

A fold moves a map along the graph, from a BatchNorm to the calls that take it up. So a tensor holds
another number in the folded model exactly if it lies on a path from one of these calls to another;
every other tensor holds the same. That rule reads nothing of a plan but its decisions, so a new kind of
layer that maps pass, or that takes them up, is checked without a word more. A fold that changes tensors
past the calls in `Decision.into` names the call where they meet again in `Decision.meets`.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterable

import keras

from keras_addons_l6.folding.planning.absorb import Weights
from keras_addons_l6.folding.planning.plan import Decision, Plan
from keras_addons_l6.folding.tape import Call, Played, Tape

__all__ = ["Origin", "Place", "Spot", "describe", "origin_of", "remember", "signature_of"]

# a tensor of a tape: the number of the call that makes it, and its place among the outputs of that call
Spot = tuple[int, int]

_HALF = ("float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the fold of one BatchNorm call shows.

    Attributes:
        batch_norm: The path of the BatchNorm.
        spots: The first tensors at or behind it that hold the same numbers in both models.
    """

    batch_norm: str
    spots: tuple[Spot, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """How a folded model came about.

    Attributes:
        signature: The calls of the tape it was built from, to know that tape again.
        played: The folded model's calls and tensors, along those of the tape.
        moved: The tensors that hold other numbers in the folded model.
        places: One for each BatchNorm call that was folded, in the order of the tape.
        edited: The numbers of the calls whose layers took something up.
        exact: Their weights before they were rounded, by the number of the call, where they are stored in
            half precision.
    """

    signature: tuple[str, ...]
    played: Played
    moved: frozenset[Spot]
    places: tuple[Place, ...]
    edited: frozenset[int]
    exact: dict[int, Weights]


_ORIGINS: weakref.WeakKeyDictionary[keras.Model, Origin] = weakref.WeakKeyDictionary()


def remember(model: keras.Model, origin: Origin) -> None:
    """Note, for as long as the model lives, how it came about."""
    _ORIGINS[model] = origin


def origin_of(model: keras.Model, tape: Tape) -> Origin | None:
    """How a model was made from a tape; None where it was not, or was loaded from a file since."""
    origin = _ORIGINS.get(model)
    return origin if origin is not None and origin.signature == signature_of(tape) else None


def signature_of(tape: Tape) -> tuple[str, ...]:
    """The paths and classes of a tape's calls.

    What a block's `call` makes anew at each recording (an operation, a Resizing) has another name each
    time, so only layers with weights are told by theirs.
    """
    return tuple(_described(call) for call in tape.calls)


def _described(call: Call) -> str:
    named = isinstance(call.original, keras.Layer) and bool(call.original.weights)
    path = call.path if named else call.path.rpartition("/")[0]
    return f"{path} ({type(call.original).__name__})"


def describe(plan: Plan, played: Played) -> Origin:
    """The origin of a model that was built by a plan.

    Args:
        plan: The decisions about a tape.
        played: What the builder called for each call of that tape.

    Returns:
        The origin.
    """
    tape = plan.tape
    folded = [decision for decision in plan.decisions if decision.folded]
    moved = _moved(tape, folded)
    edited = {i for i, call in enumerate(tape.calls) if id(call.operation) in plan.new_layers}
    edited -= {i for i, call in enumerate(tape.calls) if any(each.call is call for each in folded)}
    exact = {
        i: plan.new_layers[id(tape.calls[i].operation)].weights
        for i in edited
        if tape.calls[i].operation.variable_dtype in _HALF
    }
    places = tuple(Place(decision.call.path, _spots(tape, decision.call, moved)) for decision in folded)
    return Origin(signature_of(tape), played, frozenset(moved), places, frozenset(edited), exact)


def _moved(tape: Tape, folded: Iterable[Decision]) -> set[Spot]:
    """The tensors on a path from one call of a fold to another one of it."""
    number = {id(call): i for i, call in enumerate(tape.calls)}
    moved: set[int] = set()
    for decision in folded:
        members = {id(call): call for call in (decision.call, *decision.into, *decision.meets)}
        first, last = min(map(number.__getitem__, members)), max(map(number.__getitem__, members))
        moved |= _between(tape.calls[first : last + 1], members)
    return {
        (i, j)
        for i, call in enumerate(tape.calls)
        for j, tensor in enumerate(call.outputs)
        if id(tensor) in moved
    }


def _between(calls: list[Call], members: Iterable[int]) -> set[int]:
    """The ids of the tensors behind one member and before another, among calls in order of running."""
    behind: set[int] = set()
    for call in calls:
        if id(call) in members or any(id(tensor) in behind for tensor in call.inputs):
            behind |= {id(tensor) for tensor in call.outputs}
    before: set[int] = set()
    for call in reversed(calls):
        if id(call) in members or any(id(tensor) in before for tensor in call.outputs):
            before |= {id(tensor) for tensor in call.inputs}
    return behind & before


def _spots(tape: Tape, batch_norm: Call, moved: set[Spot]) -> tuple[Spot, ...]:
    """The first tensors at or behind a BatchNorm call that did not move."""
    spots: list[Spot] = []
    reached: set[int] = set()
    for i, call in enumerate(tape.calls):
        if call is not batch_norm and not any(id(tensor) in reached for tensor in call.inputs):
            continue
        for j, tensor in enumerate(call.outputs):
            if (i, j) in moved:
                reached.add(id(tensor))
            else:
                spots.append((i, j))
    return tuple(spots)
