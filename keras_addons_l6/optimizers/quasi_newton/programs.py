"""Runs of a quasi-Newton method as programs of the backend: many evaluations a call, in chunks that the host can watch."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_addons_l6.backends import programs
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar
from keras_addons_l6.optimizers.quasi_newton import iteration
from keras_addons_l6.optimizers.quasi_newton.iteration import COUNT_NAMES, REAL_NAMES, Settings, State
from keras_addons_l6.optimizers.quasi_newton.vectors import working_dtype

__all__ = [
    "CHUNK_SECONDS",
    "GROWTH",
    "Carry",
    "Evaluate",
    "Keep",
    "Limits",
    "Standing",
    "chunk_program",
    "compile_program",
    "count_on_device",
    "end_of",
    "first_carry",
    "moved",
    "of_accepted",
    "on_device",
    "outside_compiler",
    "owned",
    "repeat",
    "run_in_chunks",
    "standing_of",
    "value_and_gradient",
]

compile_program, owned = programs.compile_program, programs.owned
value_and_gradient = programs.value_and_gradient
outside_compiler = programs.outside_compiler
repeat = programs.repeat

CHUNK_SECONDS = 0.5  # between two looks of the host at a run
GROWTH = 16  # of the evaluations in a chunk over those in the one before, at most

Evaluate = Callable[..., tuple[Tensor, Sequence[Tensor], Any]]
Keep = Callable[[NumpyArrays, State, State, Any, Any], Any]


class Carry(NamedTuple):
    """What a run hands from one evaluation to the next."""

    state: State
    trial: Sequence[Tensor]
    extra: Any  # what the objective carries along beside its argument: a model's non-trainable variables


class Limits(NamedTuple):
    """What ends a run. Values of a program, not constants in it, so that others need no new program."""

    evaluations: Any  # in total, as the state counts them
    iterations: Any  # likewise
    gradient_tolerance: Any
    change_tolerance: Any


class Standing(NamedTuple):
    """A run's numbers on the host."""

    value: float
    start_value: float
    gradient_norm: float
    iterations: int
    evaluations: int
    status: int


def moved(before: State, after: State) -> Scalar:
    """Whether the trial became the accepted point: it ended its search, or a run could start there."""
    accepted = iteration.read(after, "iterations") > iteration.read(before, "iterations")
    starting = iteration.read(before, "status") == iteration.STARTING
    return accepted | (starting & (iteration.read(after, "status") != iteration.NON_FINITE_START))


def of_accepted(arrays: NumpyArrays, before: State, after: State, held: Any, found: Any) -> Any:
    """The extra values of the accepted point: a rejected or infinite trial leaves nothing behind."""
    is_accepted = moved(before, after)

    def pick(new: Tensor, old: Tensor) -> Tensor:
        return old if new is old else arrays.select(is_accepted, new, old)

    return keras.tree.map_structure(pick, found, held)


def chunk_program(
    evaluate: Evaluate,
    settings: Settings,
    arrays: NumpyArrays,
    keep: Keep = of_accepted,
    donate: bool = False,
) -> Callable[..., Carry]:
    """A compiled function of a carry, the objective's data and limits to the carry at those limits.

    Args:
        evaluate: From a trial, the extra values and the data to the value, its gradient and the new extra
            values.
        settings: The method's arguments; what `Limits` names is taken from there.
        arrays: The operations for the backend's arrays.
        keep: From the states before and after an evaluation, the extra values that were carried and those it
            found, to what is carried on.
        donate: Whether the program may write into the carry that it is given, which is `owned` and then the caller's no more.
    """

    def body(carry: Carry, data: Any, ends: Settings) -> Carry:
        value, gradient, found = evaluate(tuple(map(arrays.tensor, carry.trial)), carry.extra, data)
        gradient = tuple(map(arrays.view, gradient))
        with arrays.scope():
            state, trial = iteration.step_on_views(arrays, ends, carry.state, carry.trial, gradient, value)
            extra = keep(arrays, carry.state, state, carry.extra, found)
        return Carry(state, trial, extra)

    def active(carry: Carry, limits: Limits) -> Any:
        status, evaluations, iterations = (
            iteration.read(carry.state, name) for name in ("status", "evaluations", "iterations")
        )
        goes_on = (status == iteration.STARTING) | (status == iteration.RUNNING)
        return goes_on & (evaluations < limits.evaluations) & (iterations < limits.iterations)

    def program(carry: Carry, data: Any, limits: Limits) -> Carry:
        ends = settings._replace(
            gradient_tolerance=limits.gradient_tolerance, change_tolerance=limits.change_tolerance
        )
        start = Carry(
            iteration.viewed(arrays, settings, carry.state), tuple(map(arrays.view, carry.trial)), carry.extra
        )
        end = repeat(lambda c: active(c, limits), lambda c: body(c, data, ends), start)
        state = iteration.given_back(arrays, settings, carry.state, end.state)
        return Carry(state, tuple(map(arrays.tensor, end.trial)), end.extra)

    return compile_program(program, donate=(0,) if donate else ())


def first_carry(arrays: NumpyArrays, settings: Settings, start: Sequence[Tensor]) -> Carry:
    """Where a run begins, in the working dtypes of Keras's names for the dtypes; point and trial share no memory."""
    state = iteration.init(arrays, settings, tuple(map(ops.copy, start)))
    dtypes = [working_dtype(keras.backend.standardize_dtype(x.dtype)) for x in start]

    def typed(record: Any, names: Sequence[str]) -> Any:
        columns = {name: zip(getattr(record, name), dtypes, strict=True) for name in names}
        return record._replace(**{n: tuple(ops.cast(x, d) for x, d in c) for n, c in columns.items()})

    state = typed(state, ("gradient", "direction"))._replace(
        memory=typed(state.memory, settings.curvature.columns)
    )
    return Carry(state, tuple(map(ops.copy, start)), ())


def standing_of(state: State) -> Standing:
    """The state's numbers, fetched from the device."""
    reals, counts = ops.convert_to_numpy(state.reals), ops.convert_to_numpy(state.counts)
    numbers = dict(zip(REAL_NAMES, reals, strict=True)) | dict(zip(COUNT_NAMES, counts, strict=True))
    return Standing(
        value=float(numbers["value"]),
        start_value=float(numbers["start_value"]),
        gradient_norm=float(numbers["gradient_norm"]),
        iterations=int(numbers["iterations"]),
        evaluations=int(numbers["evaluations"]),
        status=int(numbers["status"]),
    )


def run_in_chunks(
    chunk: Callable[..., Carry],
    carry: Carry,
    data: Any,
    limits: Limits,
    pace: float | None = None,
) -> Iterator[tuple[Carry, Standing]]:
    """Run until the method ends or a limit is reached; each half second or so, yield where it stands.

    Args:
        chunk: From `chunk_program`.
        carry: Where to begin.
        data: The objective's.
        limits: What ends the run.
        pace: Seconds an evaluation takes; None where the program has yet to be compiled.
    """
    before = standing_of(carry.state)
    evaluations = 1 if pace is None else max(int(CHUNK_SECONDS / pace), 1)
    compiled, most, last = pace is not None, int(limits.evaluations), False
    while not last:
        start = time.perf_counter()
        pause = min(before.evaluations + evaluations, most)
        carry = chunk(carry, data, limits._replace(evaluations=count_on_device(pause)))
        now = standing_of(carry.state)
        last = end_of(now, limits) not in iteration.ACTIVE
        yield carry, now
        if compiled:  # the first chunk's time is the compiler's
            seconds = (time.perf_counter() - start) / max(now.evaluations - before.evaluations, 1)
            evaluations = int(np.clip(CHUNK_SECONDS / seconds, 1, GROWTH * evaluations))
        before, compiled = now, True


def end_of(progress: Standing, limits: Limits) -> int:
    """The run's status, the limit it has reached included."""
    if progress.status in iteration.ACTIVE and progress.iterations >= int(limits.iterations):
        return iteration.MAX_ITERATIONS
    if progress.status in iteration.ACTIVE and progress.evaluations >= int(limits.evaluations):
        return iteration.MAX_EVALUATIONS
    return progress.status


def on_device(limits: Limits, arrays: NumpyArrays) -> Limits:
    """Limits as a program takes them."""
    real = (programs.argument(x, arrays.real) for x in (limits.gradient_tolerance, limits.change_tolerance))
    return Limits(count_on_device(limits.evaluations), count_on_device(limits.iterations), *real)


def count_on_device(n: int) -> Any:
    """A whole number as a program takes it."""
    return programs.argument(n, "int32")
