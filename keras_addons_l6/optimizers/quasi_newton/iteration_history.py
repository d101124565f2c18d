"""What a run of `fit_full_batch` records of each iteration, inside its compiled program."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays, Small
from keras_addons_l6.optimizers.quasi_newton import iteration, programs
from keras_addons_l6.optimizers.quasi_newton.iteration import State
from keras_addons_l6.optimizers.quasi_newton.programs import Standing

__all__ = ["ROWS", "Held", "IterationHistory", "entries", "entry_of_start", "keep", "no_records"]

ROWS = 128  # iterations that a program may take before the host reads what it recorded
RECORDED = ("loss", "gradient_norm", "step", "evaluations")


class Held(NamedTuple):
    """What a run carries along beside the method's state."""

    carried: Sequence[
        Tensor
    ]  # the model's variables that are not trained, as the accepted evaluation left them
    records: Small  # (ROWS, 4), a ring: iteration i, counted from 1, is in row (i - 1) % ROWS


def no_records(arrays: NumpyArrays) -> Small:
    """An empty ring."""
    return arrays.small.zeros((ROWS, len(RECORDED)), arrays.real)


def keep(arrays: NumpyArrays, before: State, after: State, held: Held, found: Sequence[Tensor]) -> Held:
    """The untrained variables of the accepted evaluation, and one row more where it ended an iteration."""
    carried = programs.of_accepted(arrays, before, after, held.carried, found)
    iterations = iteration.read(after, "iterations")
    numbers = [iteration.read(after, name) for name in ("value", "gradient_norm")]
    numbers += [iteration.read(before, "step"), iteration.read(after, "evaluations")]
    is_new = iterations > iteration.read(before, "iterations")
    row = arrays.pack(numbers, arrays.real)
    return Held(carried, arrays.put(held.records, (iterations - 1) % ROWS, row, is_new))


def entries(records: Small, first: int, last: int) -> list[dict[str, Any]]:
    """The entries of the iterations after number `first` up to number `last`, at most `ROWS` of them."""
    table = np.asarray(ops.convert_to_numpy(records))
    return [_entry(i, *map(float, table[(i - 1) % ROWS])) for i in range(first + 1, last + 1)]


def entry_of_start(now: Standing) -> dict[str, Any]:
    """The entry of a run that ended before its first iteration did."""
    return _entry(now.iterations, now.value, now.gradient_norm, 0.0, now.evaluations)


def _entry(number: int, loss: float, norm: float, step: float, evaluations: float) -> dict[str, Any]:
    return {
        "loss": loss,
        "gradient_norm": norm,
        "step": step,
        "evaluations": int(evaluations),
        "iterations_accepted": number,
    }


class IterationHistory(keras.callbacks.History):
    """A history with one entry an iteration; of metrics and validation, one each time that callbacks run.

    Attributes:
        status: why the run ended, in words.
    """

    def __init__(self) -> None:
        super().__init__()
        self.status: str | None = None

    def record(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Add entries."""
        for entry in found:
            self.epoch.append(len(self.epoch))
            for name, value in entry.items():
                self.history.setdefault(name, []).append(value)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add what is not recorded at each iteration."""
        for name, value in (logs or {}).items():
            if name not in (*RECORDED, "iterations_accepted"):
                self.history.setdefault(name, []).append(value)
        self.model.history = self
