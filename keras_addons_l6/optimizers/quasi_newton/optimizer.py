"""Quasi-Newton methods as Keras optimizers: one evaluation of the objective each train step, by reverse communication."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_addons_l6.argument_checks import optional_count, optional_number, refuse
from keras_addons_l6.backends import rules
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar
from keras_addons_l6.keras_private import gradient_accumulators, step_count
from keras_addons_l6.optimizers.quasi_newton import consistency, iteration, programs, replicas
from keras_addons_l6.optimizers.quasi_newton.arguments import check_base, check_parameters, settings_from
from keras_addons_l6.optimizers.quasi_newton.curvature import Curvature
from keras_addons_l6.optimizers.quasi_newton.iteration import (
    CONVERGED,
    MESSAGES,
    NON_FINITE_START,
    STARTING,
    Settings,
    State,
)
from keras_addons_l6.optimizers.quasi_newton.slots import (
    Marks,
    Slots,
    assign,
    numpy_of,
    path_of,
    restarted,
    without_history,
    zeros_beside,
)
from keras_addons_l6.optimizers.quasi_newton.traced import known_now, usable
from keras_addons_l6.optimizers.quasi_newton.vectors import dot
from keras_addons_l6.optimizers.saved_state import LoadsSavedState

__all__ = ["BATCHES_DIFFER", "NOTHING", "NOT_FINITE", "NO_LOSS", "SLOPES", "VALUES", "QuasiNewton"]

NOTHING, VALUES, SLOPES = range(3)  # what trials are accepted on

NO_LOSS = (
    "{name} received gradients but no loss, so it accepts steps on slopes alone, which takes more evaluations "
    "and may go uphill. In a custom loop call `loss = optimizer.scale_loss(loss)` before differentiating it, "
    "in the same step as `apply`. LossScaleOptimizer (automatic under mixed_float16) and MultiOptimizer "
    "never pass the loss on; train in float32, or use `fit_full_batch`."
)
BATCHES_DIFFER = (
    "The loss changes in ways that its gradients contradict: {name} needs the same full batch at every step, "
    "without dropout or other randomness. Use `fit(batch_size=len(x), shuffle=False)`; or "
    "`{name}(gradient_accumulation_steps=k)` where an epoch has k batches; or `fit_full_batch(model, x, y, "
    "batch_size=...)`, which goes through the data in pieces."
)
NOT_FINITE = (
    "The loss or its gradient is infinite or NaN at the weights that the run was started from (loss: {loss}). "
    "Check the data for NaN, scale the inputs, start from other weights, or train with Adam first. The "
    "weights were not changed."
)


class QuasiNewton(LoadsSavedState, keras.optimizers.Optimizer):
    """A quasi-Newton method with Hager & Zhang's line search, whatever its curvature.

    A subclass says in `_curvature_for` how it keeps curvature, and adds its arguments to `get_config`.

    Args:
        learning_rate: > 0, fixed: the first trial step of every search but the first, whose length is `1/|g|`.
        gradient_tolerance: >= 0; converged when no component of the gradient exceeds it.
        change_tolerance: >= 0; stalled when the loss decreases by less than this, relatively; 0 switches it
            off.
        max_line_search_steps: >= 1; trials of one search.
        loss_scale_factor: > 0; the loss is multiplied by it and the gradients divided.
        gradient_accumulation_steps: k >= 2; k batches of equal size make one full batch, value and gradient.
        verbose: 1 prints, when `fit` ends, why the run did, or that it has not; 0 nothing.
        name: The optimizer's name.
        **refused: Keras's other optimizer arguments; they are accepted at their defaults only.
    """

    state_is_whole = True  # curvature is of all variables together

    def __init__(
        self,
        learning_rate: float = 1.0,
        gradient_tolerance: float = 1e-5,
        change_tolerance: float = 1e-9,
        max_line_search_steps: int = 20,
        *,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        verbose: int = 0,
        name: str | None = None,
        **refused: Any,
    ) -> None:
        """Check the arguments before Keras sees them."""
        owner = type(self).__name__
        settings = settings_from(
            owner,
            learning_rate=learning_rate,
            gradient_tolerance=gradient_tolerance,
            change_tolerance=change_tolerance,
            max_line_search_steps=max_line_search_steps,
        )
        check_base(type(self), refused)
        loss_scale_factor = optional_number(
            owner, "loss_scale_factor", loss_scale_factor, low=0.0, bounds="(]"
        )
        batches = optional_count(owner, "gradient_accumulation_steps", gradient_accumulation_steps, low=2)
        if not isinstance(verbose, int) or verbose not in (0, 1):
            refuse(owner, "verbose", verbose, "0 or 1")
        super().__init__(
            learning_rate=settings.learning_rate,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=batches,
            name=name,
        )
        # One attribute each: TensorFlow wraps a tuple that is assigned to an optimizer.
        self.gradient_tolerance = settings.gradient_tolerance
        self.change_tolerance = settings.change_tolerance
        self.max_line_search_steps = settings.max_line_search_steps
        self._first_step = settings.learning_rate
        self.verbose = int(verbose)
        self._await_slots()
        self._loss: Tensor | None = None
        self._warned: set[str] = set()

    def _curvature_for(self, variables: Sequence[Any]) -> Curvature:
        """What the method keeps of curvature for these variables."""
        raise NotImplementedError

    @property
    def settings(self) -> Settings:
        """The method's arguments, once it is built."""
        return Settings(
            curvature=self._curvature,
            learning_rate=self._first_step,
            gradient_tolerance=self.gradient_tolerance,
            change_tolerance=self.change_tolerance,
            max_line_search_steps=self.max_line_search_steps,
        )

    @property
    def learning_rate(self) -> Any:
        """The first trial step of every search but the first; fixed."""
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        raise ValueError(
            f"The learning rate of {type(self).__name__} is fixed: its line search finds the step. Remove callbacks that "
            f"schedule it. Received: learning_rate={value!r}"
        )

    def build(self, variables: Sequence[Any]) -> None:
        """Create the variables that hold the method's state.

        Raises:
            ValueError: for variables with constraints, or not of floating point.
        """
        if self.built:
            return
        check_parameters(type(self).__name__, variables)
        curvature = self._curvature_for(variables)
        super().build(list(variables))
        self._accumulators = gradient_accumulators(self)
        self._curvature = curvature
        self._slots = Slots(self, variables, curvature)
        self._slots_are_made()

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Keep the loss for this step's `apply`, and return it times `loss_scale_factor`."""
        self._loss = ops.stop_gradient(loss)
        return super().scale_loss(loss)

    @programs.outside_compiler
    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take one step with the gradients, and with the loss if `scale_loss` was given it.

        Raises:
            ValueError: if no variable has a gradient, or one is unknown; if the first loss or gradient is not
                finite, where values can be read at once (torch, eager TensorFlow and JAX).
        """
        loss, self._loss = self._loss, None
        if len(grads) == 0:
            return
        if not self.built:
            with keras.name_scope(self.name):
                self.build(self._known(grads, trainable_variables))
        gradients, trained = self._complete(grads, self._known(grads, trainable_variables))
        value = None if loss is None else usable(loss, gradients)
        if value is None:
            self._warn_once(NO_LOSS)
        replicas.run_once(lambda g, f: self._update(g, f, trained), gradients, value)
        step_count(self).assign_add(1)

    def stateless_apply(
        self,
        optimizer_variables: Sequence[Tensor],
        grads: Sequence[Any],
        trainable_variables: Sequence[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the values that `apply` would give to the trained variables and to the optimizer's.

        Raises:
            ValueError: if the model trains other variables than the optimizer was built for.
        """
        if self.built and len(trainable_variables) != len(self._slots.parameters):
            raise ValueError(
                f"{type(self).__name__} was built for {len(self._slots.parameters)} trainable variables and now gets "
                f"{len(trainable_variables)}. After changing `trainable`, compile the model again with a new "
                f"{type(self).__name__}()."
            )
        return super().stateless_apply(optimizer_variables, grads, trainable_variables)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Put the last accepted point into the variables; the next step begins a search there, history kept.

        `fit` calls it at its end (on JAX after an exception too).

        Raises:
            ValueError: if the run ended at its start because the loss or its gradient was not finite.
        """
        try:
            in_search = self.built and self._slots.number("in_search")
        except TypeError:
            # JAX's trainer emptied the variables for a first step that then failed: let its error pass.
            return
        if in_search:
            self._settle(var_list)
            self.check_progress()
            if self.verbose:
                print(f"\n{type(self).__name__}: {self.status}")

    def arrays_for_run(self, variables: Sequence[Any]) -> NumpyArrays:
        """The operations on the state of a run by `fit_full_batch`; builds the optimizer where that is to be done.

        Raises:
            ValueError: if the model trains other variables than the optimizer was built for.
        """
        if not self.built:
            self.build(variables)
        if [id(v) for v in variables] != [id(v) for v in self._slots.parameters]:
            raise ValueError(
                f"The model trains other variables than its {type(self).__name__} was built for. After changing "
                f"`trainable`, compile the model again with a new {type(self).__name__}()."
            )
        return self._slots.arrays

    def begin_run(self, variables: Sequence[Any]) -> tuple[State, NumpyArrays]:
        """The state for a run by `fit_full_batch` from the variables' values, and the operations on it."""
        arrays = self.arrays_for_run(variables)
        self._settle(variables)
        return iteration.restart(arrays, self._slots.read()), arrays

    def end_run(self, state: State) -> None:
        """Keep the state that such a run has reached."""
        slots = self._slots
        slots.write(state)
        slots.write_marks(Marks(in_search=0, evidence=VALUES, batches=0, doubt=0, differs=0))
        slots.trained.assign(np.ones(len(slots.parameters), "int32"))

    def reset_curvature(self) -> None:
        """Forget all pairs: curvature starts afresh from the next one."""
        if self.built:
            self._slots.write(iteration.forgotten(self._slots.arrays, self._slots.read()))

    def _settle(self, var_list: Sequence[Any]) -> None:
        """Put the accepted point into the variables, if there is one since the last start."""
        if not self._slots.number("in_search"):
            return
        points = {id(v): point for v, point in zip(self._slots.parameters, self._slots.points, strict=True)}
        for variable in var_list:
            if id(variable) in points:
                # A copy, since JAX's trainers delete the arrays of variables.
                variable.assign(ops.copy(points[id(variable)]))
        marks = Marks(*numpy_of(self._slots.marks))
        self._slots.write_marks(marks._replace(in_search=0, batches=0))
        for accumulator in self._accumulators:
            accumulator.assign(zeros_beside(accumulator))

    def check_progress(self) -> None:
        """Raise where the run could not start, and warn, once, where its batches differ.

        Raises:
            ValueError: if the loss or its gradient was not finite at the start.
        """
        if self.built and self._slots.number("differs"):
            self._warn_once(BATCHES_DIFFER)
        if self.built and self._slots.number("status") == NON_FINITE_START:
            raise ValueError(NOT_FINITE.format(loss=self._slots.number("start_value")))

    @contextlib.contextmanager
    def accepted_values(self) -> Iterator[None]:
        """Within this context the trained variables hold the last accepted point instead of a trial.

        What is saved inside goes on from that point with its history, by a new search. On JAX, inside a
        callback of `fit`, call `model.jax_state_sync()` first where the hook is not one of an epoch.

        Example:
            class SaveAccepted(keras.callbacks.Callback):
                def on_epoch_end(self, epoch, logs=None):
                    with self.model.optimizer.accepted_values():
                        self.model.save(f"accepted_{epoch}.keras")
        """
        if not self.built or not self._slots.number("in_search"):
            yield
            return
        slots = self._slots
        trials = [ops.copy(v) for v in slots.parameters]
        marks = Marks(*numpy_of(slots.marks))
        try:
            for variable, point in zip(slots.parameters, slots.points, strict=True):
                variable.assign(ops.copy(point))
            slots.write_marks(marks._replace(in_search=0, batches=0))
            yield
        finally:
            for variable, trial in zip(slots.parameters, trials, strict=True):
                variable.assign(trial)
            slots.write_marks(marks)

    @property
    def status(self) -> str:
        """Where the run stands, in words."""
        return MESSAGES[int(self._slots.number("status"))] if self.built else MESSAGES[STARTING]

    @property
    def converged(self) -> bool:
        """Whether no component of the gradient at the accepted point exceeds `gradient_tolerance`."""
        return self.built and int(self._slots.number("status")) == CONVERGED

    @property
    def running(self) -> bool:
        """Whether further steps may still change the weights."""
        return not self.built or int(self._slots.number("status")) in iteration.ACTIVE

    @property
    def iterations_accepted(self) -> int:
        """Searches that ended at an accepted point, over all runs."""
        return int(self._slots.number("iterations")) if self.built else 0

    @property
    def evaluations(self) -> int:
        """Evaluations of loss and gradient over all runs; a full batch in pieces counts once."""
        return int(self._slots.number("evaluations")) if self.built else 0

    @property
    def gradient_norm(self) -> float:
        """Largest component of the gradient at the accepted point; NaN before the first evaluation."""
        return float(self._slots.number("gradient_norm")) if self.evaluations else float("nan")

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            "name": self.name,
            "learning_rate": self._first_step,
            "gradient_tolerance": self.gradient_tolerance,
            "change_tolerance": self.change_tolerance,
            "max_line_search_steps": self.max_line_search_steps,
            "loss_scale_factor": self.loss_scale_factor,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "verbose": self.verbose,
        }

    def __repr__(self) -> str:
        """Show the arguments."""
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.get_config().items())})"

    def _known(self, grads: Sequence[Any], variables: Sequence[Any] | None) -> list[Any]:
        """The variables that the gradients belong to."""
        if variables is None and not self.built:
            raise ValueError("`apply` needs `trainable_variables` before the optimizer is built.")
        found = self._slots.parameters if variables is None else list(variables)
        if len(grads) != len(found):
            raise ValueError(f"{type(self).__name__} got {len(grads)} gradients for {len(found)} variables.")
        unknown = (
            [path_of(v) for v in found if id(v) not in {id(p) for p in self._slots.parameters}]
            if self.built
            else []
        )
        if unknown:
            raise ValueError(
                f"{type(self).__name__} was not built for these variables: {unknown}. Compile the model again "
                f"with a new {type(self).__name__}()."
            )
        return found

    def _complete(self, grads: Sequence[Any], variables: Sequence[Any]) -> tuple[list[Tensor], np.ndarray]:
        """A dense gradient for each variable of the optimizer, zero where none came, and 1 where one did."""
        given = {id(v): g for v, g in zip(variables, grads, strict=True) if g is not None}
        missing = [path_of(v) for v in variables if id(v) not in given]
        if not given:
            raise ValueError(
                "No gradients provided for any variable: does the loss depend on the model's weights?"
            )
        if missing:
            self._warn_once(f"{type(self).__name__} leaves variables alone that have no gradient: {missing}.")
        parameters = self._slots.parameters
        gradients = [self._dense(given[id(v)], v) if id(v) in given else zeros_beside(v) for v in parameters]
        return gradients, np.array([id(v) in given for v in parameters], "int32")

    def _dense(self, gradient: Any, variable: Any) -> Tensor:
        dense = rules.dense(gradient, variable)
        return dense if self.loss_scale_factor is None else dense / self.loss_scale_factor

    def _update(self, gradients: Sequence[Tensor], value: Tensor | None, trained: np.ndarray) -> None:
        """One train step: reads all, computes, writes all, so that nothing is read after it changed."""
        slots = self._slots
        weights = slots.weights()
        value = None if value is None else ops.cast(value, slots.arrays.real)
        state, packed_marks = slots.read(), ops.convert_to_tensor(slots.marks)
        with slots.arrays.scope():
            if self.gradient_accumulation_steps:
                state, packed_marks, trial = self._accumulate(
                    state, packed_marks, weights, gradients, value, trained
                )
            else:
                state, packed_marks, trial = self._step(
                    state, packed_marks, weights, gradients, value, trained
                )
        if known_now(state.counts) and int(iteration.read(state, "status")) == NON_FINITE_START:
            raise ValueError(NOT_FINITE.format(loss=iteration.read(state, "start_value")))
        slots.write(state)
        assign(slots.marks, packed_marks)
        assign(slots.trained, trained)
        for variable, new in zip(slots.parameters, trial, strict=True):
            assign(variable, new)

    def _accumulate(
        self,
        state: State,
        packed_marks: Tensor,
        weights: Sequence[Tensor],
        gradients: Sequence[Tensor],
        value: Tensor | None,
        trained: np.ndarray,
    ) -> tuple[State, Tensor, Sequence[Tensor]]:
        """A step with the means over the last batches once there are enough, and nothing before."""
        arrays, batches = self._slots.arrays, self.gradient_accumulation_steps
        sums = [
            ops.convert_to_tensor(a) + ops.cast(g, a.dtype)
            for a, g in zip(self._accumulators, gradients, strict=True)
        ]
        total = None if value is None else ops.convert_to_tensor(self._slots.value_accumulator) + value
        marks = Marks(*arrays.unpack(packed_marks, len(Marks._fields)))
        counted = arrays.pack(marks._replace(batches=marks.batches + 1), "int32")
        complete = marks.batches + 1 >= batches
        means = [s / batches for s in sums]
        mean = None if total is None else total / batches
        result = arrays.cond(
            complete,
            lambda: self._step(state, counted, weights, means, mean, trained),
            lambda: (state, counted, weights),
        )
        for accumulator, s in zip(self._accumulators, sums, strict=True):
            assign(accumulator, arrays.select(complete, ops.zeros_like(s), s))
        if total is not None:
            assign(self._slots.value_accumulator, arrays.select(complete, ops.zeros_like(total), total))
        return result

    def _step(
        self,
        state: State,
        packed_marks: Tensor,
        weights: Sequence[Tensor],
        gradients: Sequence[Tensor],
        value: Tensor | None,
        trained: np.ndarray,
    ) -> tuple[State, Tensor, Sequence[Tensor]]:
        """The state, marks and trial after one evaluation; assigns nothing."""
        arrays = self._slots.arrays
        marks = Marks(*arrays.unpack(packed_marks, len(Marks._fields)))
        evidence = SLOPES if value is None else VALUES
        others = arrays.small.any(
            arrays.small.not_equal(arrays.local(ops.convert_to_tensor(self._slots.trained)), trained)
        )
        fresh = (marks.in_search == 0) | (marks.evidence != evidence) | others
        before = restarted(arrays, without_history(arrays, state, others), fresh)
        # A run that cannot start leaves the weights as they are.
        before = before._replace(
            point=tuple(arrays.select(fresh, w, x) for w, x in zip(weights, state.point, strict=True))
        )
        after, trial = iteration.step(arrays, self.settings, before, weights, gradients, value)
        doubt, differs = self._doubt(marks, before, gradients, value)
        marks = Marks(in_search=1, evidence=evidence, batches=0, doubt=doubt, differs=differs)
        return after, arrays.pack(marks, "int32"), trial

    def _doubt(
        self, marks: Marks, before: State, gradients: Sequence[Tensor], value: Tensor | None
    ) -> tuple[Scalar, Scalar]:
        """The marks `doubt` and `differs` after an evaluation; without values there is nothing to compare."""
        if value is None:
            return marks.doubt, marks.differs
        arrays = self._slots.arrays
        direction = tuple(map(arrays.view, before.direction))
        gradient = tuple(map(arrays.cast_like, map(arrays.view, gradients), direction))
        numbers = arrays.scalars([value, dot(arrays, gradient, direction)])
        contradiction = consistency.contradicts(arrays, before, *numbers)
        doubt = consistency.doubt_after(arrays, marks.doubt, contradiction)
        return doubt, arrays.select(doubt >= consistency.LONG, 1, marks.differs)

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message.replace("{name}", type(self).__name__), stacklevel=3)
