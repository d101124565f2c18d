"""The saved state of an optimizer: one array a variable, in the order of `optimizer.variables`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_addons_l6.backends import rules


@dataclass
class WaitingState:
    """Arrays that were loaded before the variables they belong to existed."""

    arrays: tuple[np.ndarray, ...] = ()


class LoadsSavedState:
    """An optimizer that takes a saved state which fits it, before or after its slots are made, and no other.

    Its constructor calls `_await_slots` once Keras's part is done, and `build` calls `_slots_are_made` last.
    """

    variables: list[Any]
    built: bool
    name: str

    def _await_slots(self) -> None:
        self._waiting = WaitingState()
        self._count_before_slots = len(self.variables)

    def _slots_are_made(self) -> None:
        """Give the slots the state that was loaded before they were there."""
        if self._waiting.arrays:
            with rules.outside_graph():
                self._load(self._waiting.arrays, first=self._count_before_slots)
            self._waiting = WaitingState()

    def load_own_variables(self, store: Any) -> None:
        """Set the state. What belongs to slots that `build` has yet to create waits for it.

        A state saved before there were slots (a model compiled but not trained) leaves them as they are.

        Raises:
            ValueError: naming the first slot that the state does not fit; nothing is changed then.
        """
        arrays = read(store)
        waiting = not self.built and len(arrays) > len(self.variables)
        if self.built and len(arrays) == self._count_before_slots:
            arrays += tuple(v.numpy() for v in self.variables[len(arrays) :])
        self._load(arrays[: len(self.variables)] if waiting else arrays)
        self._waiting = WaitingState(arrays if waiting else ())

    def _load(self, arrays: Sequence[np.ndarray], first: int = 0) -> None:
        check_fits(arrays, self.variables, self.name)
        for variable, array in list(zip(self.variables, arrays, strict=True))[first:]:
            variable.assign(array)


def read(store: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """The arrays of a Keras weights store, copied: the file behind it may be closed before they are used."""
    return tuple(np.array(store[str(i)]) for i in range(len(store.keys())))


def check_fits(arrays: Sequence[np.ndarray], variables: Sequence[Any], name: str) -> None:
    """Raise unless the arrays fit the variables one to one.

    Raises:
        ValueError: naming optimizer `name` and the first variable without an array of its shape.
    """
    for variable, array in zip(variables, arrays, strict=False):
        expected = tuple(variable.shape)
        if array.shape != expected:
            _refuse(name, f"'{variable.path}' has shape {expected}, what was saved for it {array.shape}")
    if len(arrays) < len(variables):
        _refuse(name, f"nothing was saved for '{variables[len(arrays)].path}'")
    if len(arrays) > len(variables):
        extra = f"an array of shape {arrays[len(variables)].shape}"
        _refuse(name, f"the last slot here is '{variables[-1].path}', and {extra} was saved after it")


def _refuse(name: str, reason: str) -> None:
    raise ValueError(
        f"The saved state does not fit optimizer '{name}': {reason}. Load it into an optimizer of the same "
        "class and arguments, built on the same variables, or compile the model anew to start afresh."
    )
