"""The saved state of an optimizer: each array under its slot's name and its variable's path.

A Keras weights store takes arrays only, under keys that one of them reads as paths. So the arrays are called
"0", "1", ..., in the order of `optimizer.variables`, and one more, "contents", says in JSON (as bytes) what they
are: the class and format that made them, and each one's `Slot`. Without "contents" a state is that of version
0.1.0 or of one of Keras's own optimizers, whose arrays are known by their order, number and shapes alone.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np

from keras_addons_l6.backends import rules
from keras_addons_l6.keras_private import loading_skips_mismatches
from keras_addons_l6.optimizers.variable_pairing import Owner, pairs, path_of, without_numbers

__all__ = ["LoadsSavedState", "SavedState", "Slot", "read"]

CONTENTS = "contents"
FORMAT = 1
RATE = "learning_rate"  # a variable until a schedule takes its place
BEFORE_BUILD = ("iteration", RATE)  # what Keras makes in the constructor; all else belongs to variables
AVERAGE = "average"  # what Keras calls the slot of `use_ema`


class Slot(NamedTuple):
    """What an array of a state is."""

    name: str
    path: str  # of the variable that it belongs to; "" for the optimizer's own
    shape: tuple[int, ...]  # of that variable


@dataclass
class SavedState:
    """What a store held."""

    arrays: tuple[np.ndarray, ...]
    slots: tuple[Slot, ...] | None = None
    made_by: tuple[str, int] | None = None
    left_out: frozenset[str] = frozenset()

    @property
    def has_slots(self) -> bool:
        """Whether it was saved after `build`."""
        if self.slots is None:
            return any(array.ndim for array in self.arrays) or len(self.arrays) > len(BEFORE_BUILD)
        return any(slot.name not in BEFORE_BUILD for slot in self.slots)


@dataclass
class Bookkeeping:
    """Which variable belongs to which, and what waits; one object, which TensorFlow leaves as it is."""

    owners: list[tuple[Any, str, Any]] = field(default_factory=list)
    waiting: SavedState | None = None
    skips_mismatches: bool = False


class Group(NamedTuple):
    """The slots of one variable (its arrays or its optimizer variables, by name), or the optimizer's own."""

    shape: tuple[int, ...]
    slots: dict[str, Any]


Key = tuple[str, int]  # a path, and which of the variables of that path


@dataclass
class Plan:
    """What loading a state would do."""

    assignments: list[tuple[str, Any, np.ndarray]] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # variables here for which nothing was saved
    unused: list[str] = field(default_factory=list)  # variables for which something was, and are not here
    afresh: list[Key] = field(default_factory=list)  # groups here that were not taken whole

    @property
    def is_complete(self) -> bool:
        """Whether everything saved has its place and every place its array."""
        return not (self.misfits or self.missing or self.unused)


class LoadsSavedState:
    """An optimizer whose saved state is found by name, before or after its slots are made.

    Its constructor calls `_await_slots` once Keras's part is done, and `build` calls `_slots_are_made` last.
    Slots that are not made by Keras's `add_optimizer_variables` are told of by `_belongs`.
    """

    state_format: ClassVar[int] = FORMAT
    """Of this class: to be raised when what a slot of the same name and shape holds means something else."""
    state_is_whole: ClassVar[bool] = False
    """Whether slots mean something only all together, so that part of a state is worth nothing."""

    variables: list[Any]
    built: bool
    name: str

    def slots_left_out(self) -> frozenset[str]:
        """Names of slots that saving leaves out. Who loads such a state does not miss them."""
        return frozenset()

    def _state_is_loaded(self, left_out: frozenset[str]) -> None:
        """What a class does once its slots have taken a saved state, from which slots of these names were left out."""

    def _await_slots(self) -> None:
        self._book = Bookkeeping()

    def _belongs(self, variable: Any, slot: str, owner: Any) -> None:
        """Keep in mind that `variable` is the slot of that name of the variable `owner`."""
        self._book.owners.append((variable, slot, owner))

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        """Create a slot of the variable `reference_variable`."""
        variable = super().add_variable_from_reference(  # type: ignore[misc]  # Keras's, beside this class
            reference_variable, name=name, initializer=initializer
        )
        self._belongs(variable, name or "var", reference_variable)
        return variable

    def save_own_variables(self, store: Any) -> None:
        """Write the state into a Keras weights store."""
        left_out = self.slots_left_out()
        kept = [(slot, variable) for slot, variable in self._own_slots() if slot.name not in left_out]
        for i, (_, variable) in enumerate(kept):
            store[str(i)] = _array(variable)
        name, version = self._made_by()
        contents = {
            "class": name,
            "format": version,
            "left_out": sorted(left_out),
            "slots": [s for s, _ in kept],
        }
        store[CONTENTS] = np.frombuffer(json.dumps(contents).encode(), np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Set the state. What belongs to slots that `build` has yet to create waits for it.

        A state saved before there were slots (a model compiled but not trained) leaves them as they are. Of
        variables that were frozen, thawed, added or removed since, a warning tells.

        Raises:
            ValueError: for the state of another class or format, and naming the first slot that does not fit;
                nothing is changed then.
        """
        state = read(store)
        self._check_made_alike(state)
        quiet = loading_skips_mismatches()
        if self.built and state.has_slots:
            self._load(state, quiet)
        else:
            self._load_before_build(state)
        waits = state.has_slots and not self.built
        self._book.waiting, self._book.skips_mismatches = (state if waits else None), quiet

    def _slots_are_made(self) -> None:
        """Give the slots the state that was loaded before they were there, as far as it fits."""
        state, self._book.waiting = self._book.waiting, None
        if state is None:
            return
        plan = self._plan(state)
        if self.state_is_whole and not plan.is_complete:
            plan.assignments = []
        with rules.outside_graph():
            # The counter and the rate were loaded at once, and may have been set since.
            _assign([a for a in plan.assignments if a[0] not in BEFORE_BUILD])
            self._start_averages(plan)
            if plan.is_complete:
                self._state_is_loaded(state.left_out)
        if not (plan.is_complete or self._book.skips_mismatches):
            warnings.warn(self._told(plan, "start afresh"), stacklevel=3)

    def _made_by(self) -> tuple[str, int]:
        return keras.saving.get_registered_name(type(self)), self.state_format

    def _check_made_alike(self, state: SavedState) -> None:
        if state.made_by is None or state.made_by == self._made_by():
            return
        saved, here = (f"'{name}' (format {version})" for name, version in (state.made_by, self._made_by()))
        raise ValueError(
            f"The saved state is that of {saved}, and optimizer '{self.name}' is of {here}. Load it into an "
            "optimizer of that class, or load the weights alone and start afresh: "
            "`model.load_weights(path, skip_mismatch=True)`, or `load_model(path, compile=False)`."
        )

    def _load_before_build(self, state: SavedState) -> None:
        names = BEFORE_BUILD if state.slots is None else [slot.name for slot in state.slots]
        here = {slot.name: variable for slot, variable in self._own_slots()}
        _assign(
            (name, here[name], array)
            for name, array in zip(names, state.arrays, strict=False)
            if name in BEFORE_BUILD and name in here and array.shape == ()
        )

    def _load(self, state: SavedState, quiet: bool) -> None:
        plan = self._plan(state)
        if plan.misfits:
            raise ValueError(_refusal(self.name, plan.misfits))
        if self.state_is_whole and not plan.is_complete:
            plan.assignments = [a for a in plan.assignments if a[0] in BEFORE_BUILD]
        if not int(_array(self.variables[0])):
            self._start_averages(plan)
        _assign(plan.assignments)
        if plan.is_complete:
            self._state_is_loaded(state.left_out)
        if not (plan.is_complete or quiet):
            warnings.warn(self._told(plan, "stay as they are"), stacklevel=3)

    def _plan(self, state: SavedState) -> Plan:
        own = self._own_slots()
        entries = _named(state, own)
        if entries is None:
            return Plan(misfits=[_first_misfit(state.arrays, self.variables)], afresh=list(_grouped(own)))
        found = plan_for(_grouped(entries), _grouped(own), state.left_out | self.slots_left_out() | {RATE})
        if self.state_is_whole and (found.missing or found.unused):
            found.misfits = []  # what is kept for all variables together has another size, then
        return found

    def _own_slots(self) -> list[tuple[Slot, Any]]:
        """What each of `variables` is."""
        owners = {id(variable): (name, owner) for variable, name, owner in self._book.owners}
        return [
            (_slot(variable, *owners.get(id(variable), (None, None))), variable)
            for variable in self.variables
        ]

    def _start_averages(self, plan: Plan) -> None:
        """Let averages of which nothing was saved start at their variables: at 0 they would pull them there."""
        ours = _grouped(self._own_slots())
        wanted = {id(ours[key].slots[AVERAGE]) for key in plan.afresh if AVERAGE in ours[key].slots}
        for variable, _, owner in self._book.owners:
            if id(variable) in wanted:
                variable.assign(_array(owner))

    def _told(self, plan: Plan, afresh: str) -> str:
        """Say what of a state was not taken."""
        parts = [f"Optimizer '{self.name}' takes the saved state in part."]
        if plan.misfits:
            parts.append(f"What does not fit is left out: {_listed(plan.misfits)}.")
        if plan.missing:
            parts.append(f"Nothing was saved for {_listed(map(repr, plan.missing))}, whose slots {afresh}.")
        if plan.unused:
            parts.append(
                f"What was saved for {_listed(map(repr, plan.unused))} belongs to no variable trained here."
            )
        if self.state_is_whole:
            parts.append(f"Its slots mean something only all together, so all of them {afresh}.")
        return " ".join(parts)


def read(store: Mapping[str, Any]) -> SavedState:
    """What a Keras weights store holds, copied: the file behind it may be closed before it is used."""
    keys = set(store.keys())
    arrays = tuple(np.array(store[str(i)]) for i in range(len(keys - {CONTENTS})))
    if CONTENTS not in keys:
        return SavedState(arrays)
    contents = json.loads(np.asarray(store[CONTENTS]).tobytes())
    slots = tuple(Slot(name, path, tuple(shape)) for name, path, shape in contents["slots"])
    made_by = (contents["class"], contents["format"])
    return SavedState(arrays, slots, made_by, frozenset(contents["left_out"]))


def plan_for(saved: Mapping[Key, Group], own: Mapping[Key, Group], may_lack: frozenset[str]) -> Plan:
    """What loading the groups `saved` into the groups `own` does; slots of `may_lack` need no counterpart."""
    result = Plan()
    partner = _partners(saved, own)
    for key, group in own.items():
        if key in partner:
            _compare(saved[partner[key]].slots, group.slots, key, may_lack, result)
        else:
            result.missing.append(key[0])
            result.afresh.append(key)
    result.unused = [path for path, nth in saved if (path, nth) not in set(partner.values())]
    return result


def _partners(saved: Mapping[Key, Group], own: Mapping[Key, Group]) -> dict[Key, Key]:
    """For each group here that was saved, the key it was saved under."""
    theirs, ours = ([key for key in groups if key[0]] for groups in (saved, own))
    found = pairs(
        [Owner(*key, saved[key].shape) for key in theirs], [Owner(*key, own[key].shape) for key in ours]
    )
    of_optimizer = {key: key for key in own if not key[0] and key in saved}
    return of_optimizer | {ours[i]: theirs[j] for i, j in found.items()}


def _compare(
    saved: Mapping[str, np.ndarray], own: Mapping[str, Any], key: Key, may_lack: frozenset[str], result: Plan
) -> None:
    """Add to `result` what becomes of one group."""
    misfits = []
    for name, variable in own.items():
        if name not in saved:
            misfits += [] if name in may_lack else [f"nothing was saved for '{variable.path}'"]
        elif saved[name].shape != tuple(variable.shape):
            misfits.append(_shapes(variable, saved[name]))
        else:
            result.assignments.append((name, variable, saved[name]))
    misfits += [
        f"'{name}' was saved for '{key[0]}', and here are only {', '.join(own)}"
        for name in saved
        if name not in own and name not in may_lack
    ]
    result.misfits += misfits
    result.afresh += [key] if misfits else []


def _slot(variable: Any, name: str | None, owner: Any) -> Slot:
    if name is None:
        # Variables without a name get a numbered one, another in each process; order tells them apart.
        return Slot(without_numbers(variable.name), "", ())
    return Slot(name, path_of(owner), tuple(owner.shape))


def _grouped(entries: Iterable[tuple[Slot, Any]]) -> dict[Key, Group]:
    """Slots by the variable they belong to; of several variables with one path each has its own group."""
    groups: dict[Key, Group] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for slot, value in entries:
        key = (slot.path, seen[slot.name, slot.path])
        seen[slot.name, slot.path] += 1
        groups.setdefault(key, Group(slot.shape, {})).slots[slot.name] = value
    return groups


def _named(state: SavedState, own: Sequence[tuple[Slot, Any]]) -> list[tuple[Slot, np.ndarray]] | None:
    """The arrays with what they are; by order, number and shape where the state has no names, None if they differ.

    There may be a learning rate on one side and not on the other, where a schedule is.
    """
    if state.slots is not None:
        return list(zip(state.slots, state.arrays, strict=True))
    rate = (Slot(RATE, "", ()), np.float32(0))
    without = [entry for entry in own if entry[0].name != RATE]
    for expected in (own, without, [*without[:1], rate, *without[1:]]):
        if [tuple(value.shape) for _, value in expected] == [array.shape for array in state.arrays]:
            return [(slot, array) for (slot, _), array in zip(expected, state.arrays, strict=True)]
    return None


def _first_misfit(arrays: Sequence[np.ndarray], variables: Sequence[Any]) -> str:
    """Where arrays without names first differ from the variables."""
    for variable, array in zip(variables, arrays, strict=False):
        if array.shape != tuple(variable.shape):
            return _shapes(variable, array)
    if len(arrays) < len(variables):
        return f"nothing was saved for '{variables[len(arrays)].path}'"
    extra = f"an array of shape {arrays[len(variables)].shape}"
    return f"the last slot here is '{variables[-1].path}', and {extra} was saved after it"


def _shapes(variable: Any, array: np.ndarray) -> str:
    return f"'{variable.path}' has shape {tuple(variable.shape)}, what was saved for it {array.shape}"


def _array(variable: Any) -> np.ndarray:
    # Of its tensor: NumPy 2 warns about how a Keras variable turns into an array on JAX.
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable))


def _assign(assignments: Iterable[tuple[str, Any, np.ndarray]]) -> None:
    for _, variable, array in assignments:
        variable.assign(array)


def _refusal(name: str, misfits: Sequence[str]) -> str:
    return (
        f"The saved state does not fit optimizer '{name}': {_listed(misfits)}. Load it into an optimizer of the "
        "same class and arguments, built on variables of the same shapes, or compile the model anew to start "
        "afresh."
    )


def _listed(items: Iterable[str], most: int = 8) -> str:
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
