"""Deciding for each BatchNorm call where its affine map goes, before anything is built."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from keras_addons_l6.folding.planning.absorb import Absorber, Weights, absorber_of
from keras_addons_l6.folding.planning.affine import Affine, Placed
from keras_addons_l6.folding.planning.batch_norm import is_batch_norm, placed_map
from keras_addons_l6.folding.planning.joins import (
    concatenation_axis,
    is_plain_sum,
    parts_of,
    share_of,
    spans,
    weights_of,
)
from keras_addons_l6.folding.planning.number_range import out_of_range
from keras_addons_l6.folding.planning.passage import after, before
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.tape import Call, Tape, tensors_in

__all__ = ["Decision", "Edit", "NewLayer", "Plan", "make_plan"]


@dataclasses.dataclass
class Edit:
    """What one call of a layer takes up: a map of its input, a map of its output, and one that is added to that.

    Attributes:
        absorber: How the layer takes it up.
        before: The map of the input, None for none.
        after: The map of the output and its axis, None for none.
        beside: The map of the input that is added to the output, None for none.
        causes: The ids of the BatchNorm calls that asked for it.
    """

    absorber: Absorber
    before: Affine | None = None
    after: Placed | None = None
    beside: Affine | None = None
    causes: set[int] = dataclasses.field(default_factory=set)

    def equals(self, other: Edit) -> bool:
        """Whether both change a layer's weights in the same way."""
        maps = _same_map(self.before, other.before) and _same_map(self.beside, other.beside)
        return maps and (
            (self.after is None) == (other.after is None)
            and (self.after is None or other.after is None or _same_placed(self.after, other.after))
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """What happens to one BatchNorm call.

    Attributes:
        call: The call.
        into: The calls that take it up; empty for a BatchNorm that is kept.
        reason: Why.
        meets: Calls whose outputs are the first to hold the old numbers again, where that is neither the
            BatchNorm nor a call in `into`: the sum, say, of two branches of which one took up the other.
            The check of a fold holds every tensor that is not on a path between `call`, `into` and
            `meets` to its old numbers (see `building.origin`).
    """

    call: Call
    into: tuple[Call, ...]
    reason: Reason
    meets: tuple[Call, ...] = ()

    @property
    def folded(self) -> bool:
        """Whether the BatchNorm call disappears."""
        return bool(self.into)


@dataclasses.dataclass(frozen=True, eq=False)
class NewLayer:
    """The weights, in float64, and the configuration of a layer that took something up."""

    weights: Weights
    config: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """All decisions about a tape.

    Attributes:
        tape: The model.
        decisions: One for each BatchNorm call, in the order of the tape.
        new_layers: What becomes of the layers that take something up, by the id of the shadow.
        without: The ids of the tensors that a sum no longer adds, by the id of its call.
    """

    tape: Tape
    decisions: list[Decision]
    new_layers: dict[int, NewLayer]
    without: dict[int, set[int]]


@dataclasses.dataclass(frozen=True)
class _Step:
    """One call that would take up a map, on one of its sides."""

    call: Call
    absorber: Absorber
    placed: Placed
    forward: bool


def make_plan(tape: Tape) -> Plan:
    """Decide for each BatchNorm call of a tape, and compute the weights that follow.

    A map moves back into what comes before the BatchNorm, else forward into what comes after it. A
    layer that is called several times must take up the same in every call, and no weight may leave
    the range of its type; a BatchNorm that would break either rule is kept, and all is decided anew.
    """
    blocked: _Blocked = {}
    while True:
        attempt = _Attempt(tape, blocked)
        decisions = attempt.decide()
        new_layers, broken = _new_layers(tape, attempt.edits, decisions)
        if not broken:
            return Plan(tape, decisions, new_layers, attempt.without)
        for causes, reason in broken:
            blocked |= _to_block(decisions, causes, reason)


# Ways that have turned out not to be open: a BatchNorm call's id, and "back", "forward" or "beside".
_Blocked = dict[tuple[int, str], Reason]


class _Attempt:
    """One pass over the tape with some ways blocked from the start."""

    def __init__(self, tape: Tape, blocked: _Blocked) -> None:
        self.tape = tape
        self.blocked = blocked
        self.edits: dict[int, tuple[Call, Edit]] = {}
        self.without: dict[int, set[int]] = {}
        self.producer = {id(tensor): call for call in tape.calls for tensor in call.outputs}
        self.same_as: dict[int, keras.KerasTensor] = {}
        self.outputs = {id(tensor) for tensor in tensors_in(tape.outputs)}
        self.users: dict[int, list[Call]] = {}
        for call in tape.calls:
            for tensor in call.inputs:
                self.users.setdefault(id(tensor), []).append(call)

    def decide(self) -> list[Decision]:
        """Backward from the first BatchNorm on, then forward from the last."""
        calls = [call for call in self.tape.calls if is_batch_norm(call.operation)]
        maps = {id(call): placed_map(call) for call in calls}
        decided: dict[int, Decision] = {}
        behind: dict[int, Reason] = {}
        for call in calls:
            placed = maps[id(call)]
            if isinstance(placed, Reason):
                decided[id(call)] = Decision(call, (), placed)
                continue
            found = self.blocked.get((id(call), "back")) or self.back(call.inputs[0], placed)
            if isinstance(found, Reason):
                behind[id(call)] = found
            else:
                decided[id(call)] = self.fold(call, found, "back")
        for call in reversed(calls):
            if id(call) not in decided:
                decided[id(call)] = self.fold_forward(call, maps[id(call)], behind[id(call)])
        return [_to_the_end(decided[id(call)], decided) for call in calls]

    def fold_forward(self, call: Call, placed: Any, behind: Reason) -> Decision:
        """Fold a BatchNorm, to which edits may have been added by now, into what follows it."""
        edit = self.edits.get(id(call), (call, None))[1]
        if edit is not None and edit.after is not None:
            placed = Placed(placed.affine.then(edit.after.affine), placed.axis)
        causes = {id(call)} if edit is None else {id(call)} | edit.causes
        found = self.blocked.get((id(call), "forward")) or self.forward(call.outputs[0], placed)
        if not isinstance(found, Reason):
            self.edits.pop(id(call), None)
            return self.fold(call, found, "forward", causes)
        pair = None if (id(call), "beside") in self.blocked else self.beside(call, placed)
        if pair is None:
            return Decision(call, (), _both(behind, found))
        self.edits.pop(id(call), None)
        return self.fold_beside(call, placed, *pair, causes)

    def beside(self, call: Call, placed: Placed) -> tuple[Call, Absorber, Call] | None:
        """A convolution of a BatchNorm's input, and the sum that adds both: RepVGG's branch that only normalizes."""
        users = self.users.get(id(call.outputs[0]), [])
        if len(users) != 1 or id(call.outputs[0]) in self.outputs or not is_plain_sum(users[0]):
            return None
        total, source = users[0], self.value(call.inputs[0])
        if weights_of(total) is None or any(not spans(t, placed, len(source.shape)) for t in total.inputs):
            return None
        for tensor in map(self.value, total.inputs):
            other, rank = self.producer.get(id(tensor)), len(source.shape)
            absorber = None if other is None else absorber_of(other.operation)
            if (
                other is not None
                and absorber is not None
                and len(other.inputs) == 1
                and self.value(other.inputs[0]) is source
                and self.used_elsewhere(tensor) is None
                and (_unfit(other) or absorber.refuses_beside(other.operation, placed.axis, rank)) is None
            ):
                return other, absorber, total
        return None

    def fold_beside(
        self, call: Call, placed: Placed, other: Call, absorber: Absorber, total: Call, causes: set[int]
    ) -> Decision:
        """Let a convolution add what a BatchNorm of its input adds to its output."""
        edit = self.edits.setdefault(id(other), (other, Edit(absorber)))[1]
        edit.causes |= causes
        edit.beside = placed.affine if edit.beside is None else edit.beside.plus(placed.affine)
        self.without.setdefault(id(total), set()).add(id(call.outputs[0]))
        source = self.value(call.inputs[0])
        self.users[id(source)] = [user for user in self.users[id(source)] if user is not call]
        reason = Reason(
            "beside", f"taken up by '{other.path}', to whose output it was added in '{total.path}'"
        )
        return Decision(call, (other,), reason, meets=(total,))

    def fold(self, call: Call, steps: list[_Step], code: str, causes: set[int] | None = None) -> Decision:
        """Take a BatchNorm call out of the graph and note what the calls around it take up."""
        for step in steps:
            edit = self.edits.setdefault(id(step.call), (step.call, Edit(step.absorber)))[1]
            edit.causes |= causes or {id(call)}
            if step.forward:
                edit.before = (
                    step.placed.affine if edit.before is None else step.placed.affine.then(edit.before)
                )
            else:
                edit.after = _then(edit.after, step.placed)
        self.bypass(call)
        into = tuple(step.call for step in steps)
        names = ", ".join(f"'{step.call.path}'" for step in steps)
        side = "before" if code == "back" else "after"
        return Decision(call, into, Reason(code, f"taken up by {names} {side} it"))

    def bypass(self, call: Call) -> None:
        """Let the users of a call's output use its input."""
        source, result = self.value(call.inputs[0]), call.outputs[0]
        self.same_as[id(result)] = source
        users = [user for user in self.users[id(source)] if user is not call]
        self.users[id(source)] = users + self.users.get(id(result), [])
        if id(result) in self.outputs:
            self.outputs.add(id(source))

    def value(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        """The tensor that holds a value once the folded calls are gone."""
        while id(tensor) in self.same_as:
            tensor = self.same_as[id(tensor)]
        return tensor

    def back(self, tensor: keras.KerasTensor, placed: Placed) -> list[_Step] | Reason:
        """The calls before a tensor that together give it the map, or why there are none."""
        tensor = self.value(tensor)
        refusal = self.used_elsewhere(tensor)
        if refusal is not None:
            return refusal
        call = self.producer.get(id(tensor))
        if call is None:
            return Reason("input", "an input of the model comes before it")
        absorber = absorber_of(call.operation)
        if absorber is not None:
            return self.absorbed_after(call, absorber, placed)
        weights = weights_of(call)
        if weights is not None:
            return self.back_into_sum(call, placed, weights)
        if concatenation_axis(call) is not None:
            return self.back_into_parts(call, placed)
        output = next(i for i, made in enumerate(call.outputs) if made is tensor)
        passage = before(call, output, placed)
        return passage if isinstance(passage, Reason) else self.back(call.inputs[0], passage)

    def used_elsewhere(self, tensor: keras.KerasTensor) -> Reason | None:
        name = self.name(tensor)
        if id(tensor) in self.outputs:
            return Reason("output", f"{name} is an output of the model")
        users = self.users.get(id(tensor), [])
        if len(users) > 1:
            paths = ", ".join(dict.fromkeys(f"'{user.path}'" for user in users))
            return Reason("shared", f"{name} is used {len(users)} times, by {paths}")
        return None

    def name(self, tensor: keras.KerasTensor) -> str:
        call = self.producer.get(id(tensor))
        return f"an input of the model ('{tensor.name}')" if call is None else f"the output of '{call.path}'"

    def absorbed_after(self, call: Call, absorber: Absorber, placed: Placed) -> list[_Step] | Reason:
        layer, rank = call.operation, len(call.outputs[0].shape)
        refusal = _unfit(call) or absorber.refuses_after(layer, placed.axis, rank)
        if refusal is not None:
            return refusal
        edit = self.edits.get(id(call))
        if edit is not None and edit[1].after is not None and edit[1].after.axis != placed.axis:
            return Reason("axis", f"'{layer.name}' has taken up a map of another axis already")
        return [_Step(call, absorber, placed, forward=False)]

    def back_into_sum(self, call: Call, placed: Placed, weights: list[float]) -> list[_Step] | Reason:
        """Every summand is scaled; one of them, the first that can, is shifted."""
        rank = len(call.outputs[0].shape)
        if not all(spans(tensor, placed, rank) for tensor in call.inputs):
            return Reason("axis", f"the channels are stretched (broadcast) in '{call.operation.name}'")
        found: list[_Step] | Reason = []
        for shifted in range(len(call.inputs)):
            shares = [share_of(placed, weight, i == shifted) for i, weight in enumerate(weights)]
            found = self.back_into_each(call, shares)
            if not isinstance(found, Reason):
                break
        return found

    def back_into_each(self, call: Call, parts: list[Placed]) -> list[_Step] | Reason:
        """The steps for all inputs of a call, each with a map of its own."""
        steps: list[_Step] = []
        for tensor, part in zip(call.inputs, parts, strict=True):
            found = self.back(tensor, part)
            if isinstance(found, Reason):
                return found
            steps += found
        return steps

    def back_into_parts(self, call: Call, placed: Placed) -> list[_Step] | Reason:
        parts = parts_of(call, placed)
        return parts if isinstance(parts, Reason) else self.back_into_each(call, parts)

    def forward(self, tensor: keras.KerasTensor, placed: Placed) -> list[_Step] | Reason:
        """The calls after a tensor that all give the map to their input, or why one does not."""
        if id(tensor) in self.outputs:
            return Reason("output", f"{self.name(tensor)} is an output of the model")
        users = list({id(user): user for user in self.users.get(id(tensor), [])}.values())
        steps: list[_Step] = []
        for user in users:
            found = self.forward_into(user, placed)
            if isinstance(found, Reason) and len(users) > 1:
                return Reason(
                    "shared", f"{self.name(tensor)} is used {len(users)} times, and {found.sentence}"
                )
            if isinstance(found, Reason):
                return found
            steps += found
        return steps or Reason("shared", f"{self.name(tensor)} is used by nothing")

    def forward_into(self, call: Call, placed: Placed) -> list[_Step] | Reason:
        """The calls that give a map to one call's input: itself, or all those after it."""
        layer, rank = call.operation, len(call.inputs[0].shape)
        absorber = absorber_of(layer)
        if absorber is not None:
            refusal = _unfit(call) or absorber.refuses_before(layer, placed.affine, placed.axis, rank)
            return refusal or [_Step(call, absorber, placed, forward=True)]
        passages = after(call, placed)
        if isinstance(passages, Reason):
            return passages
        steps: list[_Step] = []
        for output, passage in zip(call.outputs, passages, strict=True):
            found = self.forward(output, passage) if self.is_used(output) else []
            if isinstance(found, Reason):
                return found
            steps += found
        return steps

    def is_used(self, tensor: keras.KerasTensor) -> bool:
        return id(tensor) in self.outputs or bool(self.users.get(id(tensor)))


def _new_layers(
    tape: Tape, edits: dict[int, tuple[Call, Edit]], decisions: list[Decision]
) -> tuple[dict[int, NewLayer], list[tuple[set[int], Reason]]]:
    """The layers with new weights, and the ids of BatchNorm calls that ask for what no layer can have."""
    gone = {id(decision.call) for decision in decisions if decision.folded}
    new_layers: dict[int, NewLayer] = {}
    broken: list[tuple[set[int], Reason]] = []
    for call, edit in edits.values():
        layer = call.operation
        calls = [other for other in tape.calls if other.operation is layer and id(other) not in gone]
        others = [edits.get(id(other), (other, Edit(edit.absorber)))[1] for other in calls]
        if not all(edit.equals(other) for other in others):
            reason = Reason(
                "conflict", f"'{layer.name}' is called {len(calls)} times and would need several weights"
            )
            broken.append((edit.causes, reason))
        elif id(layer) not in new_layers:
            made = _new_layer(call, edit)
            if isinstance(made, Reason):
                broken.append((set().union(*(other.causes for other in others)), made))
            else:
                new_layers[id(layer)] = made
    return new_layers, broken


def _to_block(decisions: list[Decision], causes: set[int], reason: Reason) -> _Blocked:
    """The ways to block, so that a layer is not asked for the same again.

    Where a BatchNorm that took up others moved forward, its way alone; the others stay with it.
    """
    codes = {id(decision.call): decision.reason.code for decision in decisions}
    forward = {cause for cause in causes if codes[cause] == "forward"}
    return {(cause, codes[cause]): reason for cause in forward or causes}


def _new_layer(call: Call, edit: Edit) -> NewLayer | Reason:
    """The layer of a call with the maps before and after it in its weights."""
    layer, rank = call.operation, len(call.outputs[0].shape)
    absorber = edit.absorber
    weights = absorber.weights(layer)
    if edit.before is not None:
        weights = absorber.before(weights, edit.before, layer)
    if edit.after is not None:
        weights = absorber.after(weights, edit.after.affine, layer, edit.after.axis, rank)
    if edit.beside is not None:
        weights = absorber.beside(weights, edit.beside, layer)
    failure = out_of_range(weights, (layer.variable_dtype, layer.compute_dtype))
    if failure is not None:
        return Reason("range", f"in '{layer.name}', {failure}")
    axis = None if edit.after is None else edit.after.axis
    return NewLayer(weights, absorber.config(call.original.get_config(), axis, rank))


def _to_the_end(decision: Decision, decided: dict[int, Decision]) -> Decision:
    """The decision with a BatchNorm that takes up another one replaced by where it goes itself."""
    into: list[Call] = []
    for call in decision.into:
        further = decided.get(id(call))
        into += further.into if further is not None and further.folded else [call]
    return dataclasses.replace(decision, into=tuple(into))


def _unfit(call: Call) -> Reason | None:
    """Why the call of a layer with weights cannot take anything up, whatever the map."""
    layer = call.operation
    if len(call.inputs) != 1 or len(call.outputs) != 1:
        return Reason("layer", f"'{layer.name}' is not called on one tensor")
    if layer.quantization_mode is not None:
        return Reason("quantized", f"'{layer.name}' is quantized ({layer.quantization_mode})")
    if is_batch_norm(layer):
        placed = placed_map(call)
        return placed if isinstance(placed, Reason) else None
    return None


def _then(earlier: Placed | None, later: Placed) -> Placed:
    return later if earlier is None else Placed(earlier.affine.then(later.affine), later.axis)


def _same_map(a: Affine | None, b: Affine | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.equals(b)


def _same_placed(a: Placed, b: Placed) -> bool:
    return a.axis == b.axis and a.affine.equals(b.affine)


def _both(behind: Reason, ahead: Reason) -> Reason:
    return Reason(
        behind.code if behind.code != "input" else ahead.code, f"{behind.sentence}; {ahead.sentence}"
    )
