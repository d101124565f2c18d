"""`fit_full_batch`: trains a Keras model with its `LBFGS` or `BFGS` on all data at once, as one compiled program."""

import dataclasses
import functools
import itertools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import keras
from keras import ops

from keras_addons_l6.argument_checks import count, knows_its_arguments, optional_count, refuse
from keras_addons_l6.keras_private import compiled_as, replica_count
from keras_addons_l6.optimizers.quasi_newton import iteration, iteration_history, pieces, programs
from keras_addons_l6.optimizers.quasi_newton.full_batch_data import Data, common_length, prepared, signature
from keras_addons_l6.optimizers.quasi_newton.full_batch_loss import FullBatch
from keras_addons_l6.optimizers.quasi_newton.interrupts import DeferredInterrupt
from keras_addons_l6.optimizers.quasi_newton.iteration import MESSAGES, STOPPED_BY_CALLBACK
from keras_addons_l6.optimizers.quasi_newton.iteration_history import Held, IterationHistory
from keras_addons_l6.optimizers.quasi_newton.optimizer import NOT_FINITE, QuasiNewton
from keras_addons_l6.optimizers.quasi_newton.programs import Carry, Limits, Standing
from keras_addons_l6.optimizers.quasi_newton.progress_line import ProgressLine, described

__all__ = ["fit_full_batch"]

KEPT = 8  # programs of one compiled model, for as many shapes of data

OWN_TRAIN_STEP = (
    "{model} has its own `train_step`, which `fit_full_batch` does not call: it minimizes the compiled loss, or "
    "the model's `compute_loss`. Put the loss there, or use `fit`."
)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _data_alone_by_position(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, which says what is wrong where more than model, x and y come by position."""

    @functools.wraps(function)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if len(args) > 3:
            raise TypeError(
                "`fit_full_batch(model, x, y)` takes everything after `y` by keyword, such as `sample_weight=...` or "
                f"`batch_size=...`. Received {len(args)} positional arguments; the fourth is of {type(args[3])}."
            )
        return function(*args, **kwargs)

    return checked


class _Plan(NamedTuple):
    """What one call asks for."""

    max_iterations: int
    max_evaluations: int | None
    callback_every: int
    batch_size: int | None
    validation_data: Any
    verbose: int


@knows_its_arguments
@_data_alone_by_position
def fit_full_batch(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    batch_size: int | None = None,
    validation_data: Any = None,
    max_iterations: int = 1000,
    max_evaluations: int | None = None,
    callbacks: Sequence[Any] | Any | None = None,
    callback_every: int = 10,
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Train a compiled model on the whole data set with its `LBFGS` or `BFGS`.

    Loss, gradient, line search and convergence tests are one compiled program on JAX and TensorFlow (XLA
    where the model's operations have it) and a loop on torch. Every `callback_every` iterations the accepted
    point is put into the weights and callbacks run: these iterations are an epoch to them. In between the
    host looks in each half second to show progress and to hear Ctrl-C.

    The objective is the compiled loss in training mode, with penalties, masks and sample weights, or the
    model's own `compute_loss`; its own `train_step` is not used. What layers update by themselves
    (BatchNormalization's averages) is kept from accepted evaluations only; recurrent layers with
    `stateful=True` begin each evaluation in the states in which they were.

    A later call with data of the same shapes uses the same program. As in `fit`, `compile` fixes what is
    Python's in the model: after changing it, compile again.

    Args:
        model: A model compiled with `LBFGS` or `BFGS`; what an earlier `fit` or `fit_full_batch` left in its history is
            used.
        x: Inputs: an array, or a list or dict of arrays; without `batch_size` they may differ in length
            (points inside and on a boundary).
        y: Targets, likewise, or None.
        sample_weight: Weights as in `fit`, or None.
        class_weight: A weight for each class, as in `fit`, instead of `sample_weight`.
        batch_size: Samples that go through the model at once, None for all. It changes memory and time (one
            forward pass more), not the result, beyond rounding; what cannot be cut is refused.
        validation_data: As in `fit`: evaluated whenever callbacks run, and logged as `val_...`.
        max_iterations: >= 1; accepted steps of this call.
        max_evaluations: >= 1, or None for no limit; evaluations of loss and gradient of this call.
        callbacks: As in `fit`.
        callback_every: >= 1; iterations between two calls of the callbacks.
        verbose: 0 silent, 1 or "auto" a progress bar, 2 one line whenever callbacks run.

    Returns:
        The history, with one entry an iteration of `loss`, `gradient_norm`, `step` (along the search
        direction; 1 is the whole quasi-Newton step), `evaluations` and `iterations_accepted`, the last two
        over all runs of the optimizer; and one entry each time that callbacks ran of the compiled metrics and
        of validation. A run that ends before its first iteration has one entry, for its start. The attribute
        `status` says why the run ended.

    Raises:
        ValueError: if the model's optimizer is neither `LBFGS` nor `BFGS`; for arrays of different lengths; if the loss or
            its gradient is infinite or NaN at the start, or an argument out of range; with `batch_size`, if
            the loss in pieces is another function.
        TypeError: if more than model, x and y are given by position.
        KeyboardInterrupt: on Ctrl-C, after the running chunk, with the best accepted point in the weights.

    Example:
        >>> import keras, numpy as np
        >>> from keras_addons_l6.optimizers import LBFGS, fit_full_batch
        >>> x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=LBFGS(gradient_tolerance=1e-4), loss="mse")
        >>> history = fit_full_batch(model, x, 3 * x + 1, verbose=0)
        >>> history.status
        'converged: no component of the gradient exceeds gradient_tolerance'
    """
    optimizer = _checked_optimizer(model)
    plan = _Plan(
        max_iterations=count("fit_full_batch", "max_iterations", max_iterations),
        max_evaluations=optional_count("fit_full_batch", "max_evaluations", max_evaluations),
        callback_every=count("fit_full_batch", "callback_every", callback_every),
        batch_size=optional_count("fit_full_batch", "batch_size", batch_size),
        validation_data=validation_data,
        verbose=_verbosity(verbose),
    )
    data = prepared(x, y, sample_weight, class_weight)
    if type(model).train_step is not keras.Model.train_step:
        warnings.warn(OWN_TRAIN_STEP.format(model=type(model).__name__), stacklevel=3)
    run = _Training(model, optimizer, data, plan, callbacks)
    with DeferredInterrupt() as interrupt:
        run.train(interrupt)
    return run.history


@dataclasses.dataclass
class _Program:
    """What is compiled for a model and data of some shapes."""

    objective: FullBatch
    chunk: Callable[..., Carry]
    pace: float | None = None  # seconds an evaluation took last; None before the first run


@dataclasses.dataclass
class _Kept:
    """A model's programs since it was compiled; on the model, as Keras keeps its train function, and gone with it."""

    compiled_as: Any
    programs: dict[Any, _Program]


def _program(model: Any, optimizer: QuasiNewton, data: Data, batch_size: int | None) -> _Program:
    """The program for a model and data of these shapes, kept from an earlier call or new.

    As for Keras's own `fit`, only `compile` renews what is Python's in a model; which variables are trained
    and the data's shapes are looked at here.
    """
    samples = common_length(data, batch_size)
    compiled = compiled_as(model)
    kept = getattr(model, "_full_batch_programs", None)
    if kept is None or kept.compiled_as is not compiled:
        kept = model._full_batch_programs = _Kept(compiled, {})
    key = (
        signature(data),
        batch_size,
        id(optimizer),
        optimizer.max_line_search_steps,  # tolerances are not in the program
        tuple(map(id, model.trainable_variables)),
    )
    if key not in kept.programs:
        if len(kept.programs) >= KEPT:
            kept.programs.pop(next(iter(kept.programs)))
        kept.programs[key] = _new_program(model, optimizer, data, samples, batch_size)
    return kept.programs[key]


def _new_program(
    model: Any, optimizer: QuasiNewton, data: Data, samples: int | None, batch_size: int | None
) -> _Program:
    in_pieces = None
    if samples is not None and batch_size is not None and batch_size < samples:
        cut = pieces.Cut(samples, batch_size)
        in_pieces = lambda stateless: pieces.evaluation_in_pieces(stateless, data, cut)  # noqa: E731
    objective = FullBatch(model, data, samples, batch_size, in_pieces)
    arrays = optimizer.arrays_for_run(objective.trainable)
    chunk = programs.chunk_program(objective.evaluate, optimizer.settings, arrays, iteration_history.keep)
    return _Program(objective, chunk)


class _Training:
    """One call of `fit_full_batch`.

    Args:
        model: The model.
        optimizer: Its optimizer.
        data: What it is trained on.
        plan: What the call asks for.
        callbacks: The caller's.
    """

    def __init__(self, model: Any, optimizer: QuasiNewton, data: Data, plan: _Plan, callbacks: Any) -> None:
        self._model, self._optimizer, self._data, self._plan = model, optimizer, data, plan
        self.history = IterationHistory()
        self._callbacks = keras.callbacks.CallbackList(
            [*keras.tree.flatten(callbacks or []), self.history],
            model=model,
            verbose=plan.verbose,
            epochs=-(-plan.max_iterations // plan.callback_every),
            steps=None,
        )
        self._line = ProgressLine(plan.max_iterations, plan.verbose == 1)

    def train(self, interrupt: DeferredInterrupt) -> None:
        """Run to the end; after an exception the weights are the last accepted point that the host has seen."""
        self._program = _program(self._model, self._optimizer, self._data, self._plan.batch_size)
        self._model.stop_training = False
        self._callbacks.on_train_begin()
        self._begin()
        try:
            for epoch in itertools.count():
                self._callbacks.on_epoch_begin(epoch)
                self._advance(interrupt)
                logs = self._published()
                self._callbacks.on_epoch_end(epoch, logs)
                if self._ended or self._model.stop_training or interrupt.requested:
                    break
        except BaseException:
            self._line.close()
            self._write()
            raise
        self._end(logs, interrupt.requested)

    def _begin(self) -> None:
        """Take up the run from the weights and the history as they are."""
        objective, plan = self._program.objective, self._plan
        state, self._arrays = self._optimizer.begin_run(objective.trainable)
        trainable, carried = objective.values()
        held = Held(carried, iteration_history.no_records(self._arrays))
        self._carry = Carry(state._replace(point=tuple(map(ops.copy, trainable))), trainable, held)
        self._start = self._now = programs.standing_of(state)
        most = iteration.NO_LIMIT
        if plan.max_evaluations is not None:
            most = self._start.evaluations + plan.max_evaluations
        self._limits = Limits(
            evaluations=most,
            iterations=self._start.iterations + plan.max_iterations,
            gradient_tolerance=self._optimizer.gradient_tolerance,
            change_tolerance=self._optimizer.change_tolerance,
        )

    @property
    def _ended(self) -> bool:
        return programs.end_of(self._now, self._limits) not in iteration.ACTIVE

    def _advance(self, interrupt: DeferredInterrupt) -> None:
        """Run to the next iteration at which callbacks look, or to the end."""
        self._let_torch_train(True)  # validation let it infer
        goal = min(self._now.iterations + self._plan.callback_every, self._limits.iterations)
        while self._now.iterations < goal and not self._ended and not interrupt.requested:
            pause = min(goal, self._now.iterations + iteration_history.ROWS)
            self._run_until(self._limits._replace(iterations=pause), interrupt)

    def _run_until(self, limits: Limits, interrupt: DeferredInterrupt) -> None:
        """Run to the limits in chunks, taking over what each of them recorded."""
        if self._program.pace is None and keras.backend.backend() != "torch":
            self._line.say("compiling")
        start = time.perf_counter()
        chunks = programs.run_in_chunks(
            self._program.chunk,
            self._carry,
            self._data,
            programs.on_device(limits, self._arrays),
            self._program.pace,
        )
        for carry, now in chunks:
            done = max(now.evaluations - self._now.evaluations, 1)
            self._program.pace = (time.perf_counter() - start) / done
            self._take(carry, now)
            if interrupt.requested:
                break
            start = time.perf_counter()

    def _take(self, carry: Carry, now: Standing) -> None:
        """Take over where a chunk has ended."""
        if now.status == iteration.NON_FINITE_START:
            raise ValueError(NOT_FINITE.format(loss=now.start_value))
        found = iteration_history.entries(carry.extra.records, self._now.iterations, now.iterations)
        self.history.record(found)
        self._carry, self._now = carry, now
        self._line.update(self._done, self._numbers())

    @property
    def _done(self) -> int:
        return self._now.iterations - self._start.iterations

    def _numbers(self) -> dict[str, Any]:
        """What is logged of the last iteration."""
        found = self.history.history
        if not found:
            return iteration_history.entry_of_start(self._now)
        return {name: found[name][-1] for name in iteration_history.entry_of_start(self._now)}

    def _write(self) -> None:
        """Put the accepted point into the weights, and the state into the optimizer."""
        self._program.objective.publish(self._carry.state.point, self._carry.extra.carried)
        if self._now is not self._start:
            self._optimizer.end_run(self._carry.state)

    def _published(self) -> dict[str, Any]:
        """What callbacks are told, once the weights are what it is about."""
        self._write()
        if not self.history.history and self._ended:
            self.history.record([iteration_history.entry_of_start(self._now)])
        metrics = self._program.objective.metrics(self._data)
        numbers = self._numbers()
        logs = numbers | {name: value for name, value in metrics.items() if name != "loss"}
        logs |= self._validation()
        if self._plan.verbose == 2:
            print(f"iteration {self._done}/{self._plan.max_iterations} - {described(logs)}")
        self._line.update(self._done, logs)
        return logs

    def _validation(self) -> dict[str, float]:
        """Loss and metrics on the validation data."""
        if self._plan.validation_data is None:
            return {}
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self._plan.validation_data)
        found = self._model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            batch_size=self._plan.batch_size,
            callbacks=self._callbacks,
            verbose=0,
            return_dict=True,
        )
        return {f"val_{name}": value for name, value in found.items()}

    def _end(self, logs: dict[str, Any], interrupted: bool) -> None:
        """Say why the run ended."""
        status = programs.end_of(self._now, self._limits)
        self.history.status = MESSAGES[status]
        if status in iteration.ACTIVE:
            self.history.status = "interrupted" if interrupted else STOPPED_BY_CALLBACK
        self._line.update(self._done, logs, final=True)
        self._line.close()
        if self._plan.verbose:
            print(self.history.status)
        self._let_torch_train(False)
        self._callbacks.on_train_end(logs)

    def _let_torch_train(self, training: bool) -> None:
        """Put torch's own modules inside the model into training or inference, as `fit` does."""
        if keras.backend.backend() == "torch":
            self._model.train(training)


def _verbosity(verbose: int | str) -> int:
    """`verbose` as `fit` takes it."""
    if verbose not in ("auto", 0, 1, 2):
        refuse("fit_full_batch", "verbose", verbose, "'auto', 0, 1 or 2")
    return 1 if verbose == "auto" else int(verbose)


def _checked_optimizer(model: Any) -> QuasiNewton:
    """The model's optimizer, where it can run the training by itself."""
    optimizer = getattr(model, "optimizer", None)
    if not isinstance(optimizer, QuasiNewton):
        raise ValueError(
            "`fit_full_batch` needs a model compiled with `optimizer=LBFGS()` or `BFGS()` (under mixed_float16 Keras "
            "wraps it, and float16 has too few digits for its line search: use float32). Received: "
            f"optimizer={optimizer!r}."
        )
    if replica_count(model) > 1:
        raise ValueError(
            "`fit_full_batch` runs on one TensorFlow device; under `tf.distribute` use `model.fit`."
        )
    return optimizer
