"""`fit_full_batch`: trains a Keras model with its `LBFGS` on all data at once, as one compiled program."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_addons_l6.argument_checks import count, knows_its_arguments
from keras_addons_l6.optimizers.quasi_newton import iteration, programs
from keras_addons_l6.optimizers.quasi_newton.full_batch_loss import FullBatch
from keras_addons_l6.optimizers.quasi_newton.interrupts import DeferredInterrupt
from keras_addons_l6.optimizers.quasi_newton.iteration import MESSAGES, STOPPED_BY_CALLBACK
from keras_addons_l6.optimizers.quasi_newton.lbfgs import LBFGS, NOT_FINITE
from keras_addons_l6.optimizers.quasi_newton.programs import Carry, Limits, Standing
from keras_addons_l6.optimizers.quasi_newton.randomness import RandomStates


@knows_its_arguments
def fit_full_batch(
    model: Any,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    batch_size: int | None = None,
    max_iterations: int = 1000,
    callbacks: Sequence[Any] | Any | None = None,
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Train a compiled model on the whole data set with its `LBFGS`.

    Loss, gradient, line search and convergence tests are one compiled program on JAX and TensorFlow (XLA
    where the model's operations have it) and a loop on torch. It runs for about half a second at a time;
    between two such chunks the weights are the accepted point, callbacks run (a chunk is an epoch to them)
    and progress is shown. The objective is the compiled loss in training mode, with penalties, masks and
    sample weights; layers that update themselves (BatchNormalization) do so at each evaluation. A model's own
    `compute_loss` is used, its own `train_step` is not.

    Args:
        model: A model compiled with `LBFGS`; what an earlier `fit` or `fit_full_batch` left in its history is
            used.
        x: Inputs: an array, or a list or dict of arrays.
        y: Targets, likewise, or None.
        sample_weight: Weights as in `fit`, or None.
        batch_size: Samples that go through the model at once, None for all; value and gradient are added up,
            weighted by the batches' samples. It changes memory and time, not the result, beyond rounding.
        max_iterations: >= 1; accepted steps of this call.
        callbacks: As in `fit`.
        verbose: 0 silent, 1 or "auto" a progress bar, 2 one line a chunk.

    Returns:
        The history, one entry a chunk: `loss`, `gradient_norm`, `iterations_accepted`, `evaluations`, and the
        compiled metrics; its attribute `status` says why the run ended.

    Raises:
        ValueError: if the model's optimizer is no `LBFGS`; for arrays of different lengths; if the loss or
            its gradient is infinite or NaN at the start, or an argument out of range.
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
    limit = count("fit_full_batch", "max_iterations", max_iterations)
    batch_size = None if batch_size is None else count("fit_full_batch", "batch_size", batch_size)
    objective = FullBatch(model, (x, y, sample_weight), batch_size)
    run = _Training(model, optimizer, objective, limit, callbacks, 1 if verbose == "auto" else int(verbose))
    with DeferredInterrupt() as interrupt:
        run.train(interrupt)
    return run.history


class _Training:
    """One call of `fit_full_batch`.

    Args:
        model: The model.
        optimizer: Its optimizer.
        objective: Its loss.
        max_iterations: Of this call.
        callbacks: The caller's.
        verbose: 0, 1 or 2.
    """

    def __init__(
        self,
        model: Any,
        optimizer: LBFGS,
        objective: FullBatch,
        max_iterations: int,
        callbacks: Any,
        verbose: int,
    ) -> None:
        self._model, self._optimizer, self._objective = model, optimizer, objective
        self._max_iterations, self._verbose = max_iterations, verbose
        self.history = keras.callbacks.History()
        self._callbacks = keras.callbacks.CallbackList(
            [*keras.tree.flatten(callbacks or []), self.history],
            model=model,
            verbose=verbose,
            epochs=max_iterations,
            steps=None,
        )
        self._random_states: RandomStates | None = RandomStates(model)
        self._bar: keras.utils.Progbar | None = None

    def train(self, interrupt: DeferredInterrupt) -> None:
        """Run to the end, chunk by chunk; after an exception the weights are the last chunk's."""
        safe = self._objective.values_of_all()
        self._model.stop_training = False
        self._callbacks.on_train_begin()
        try:
            for epoch, (carry, progress) in enumerate(self._chunks()):
                self._publish(carry, progress)
                safe = self._objective.values_of_all()
                self._end_chunk(epoch, progress)
                if self._model.stop_training or interrupt.requested:
                    break
        except BaseException:
            self._objective.publish(*safe)
            raise
        self._end(progress, interrupt.requested)

    def _chunks(self) -> Iterator[tuple[Carry, Standing]]:
        """The run from the weights and the history as they are."""
        state, arrays = self._optimizer.begin_run(self._objective.trainable)
        self._start = programs.standing_of(state)
        self._limits = Limits(
            evaluations=iteration.NO_LIMIT,
            iterations=self._start.iterations + self._max_iterations,
            gradient_tolerance=self._optimizer.gradient_tolerance,
            change_tolerance=self._optimizer.change_tolerance,
        )
        chunk = programs.chunk_program(self._objective.evaluate, self._optimizer.settings, arrays)
        carry = Carry(state, *self._objective.values())
        return programs.run_in_chunks(
            chunk, carry, self._objective.data, programs.on_device(self._limits, arrays)
        )

    def _publish(self, carry: Carry, progress: Standing) -> None:
        """Put the accepted point into the weights, and the state into the optimizer."""
        if progress.status == iteration.NON_FINITE_START:
            raise ValueError(NOT_FINITE.format(loss=progress.start_value))
        self._objective.publish(carry.state.point, carry.extra)
        self._optimizer.end_run(carry.state)
        if self._random_states is not None and self._random_states.changed_with_warning():
            self._random_states = None

    def _end_chunk(self, epoch: int, progress: Standing) -> None:
        """Show where the run stands, and let callbacks see it."""
        self._callbacks.on_epoch_begin(epoch)
        logs = {
            "loss": progress.value,
            **{name: value for name, value in self._objective.metrics().items() if name != "loss"},
            "gradient_norm": progress.gradient_norm,
            "iterations_accepted": progress.iterations,
            "evaluations": progress.evaluations,
        }
        self._show(progress.iterations - self._start.iterations, logs)
        self._callbacks.on_epoch_end(epoch, logs)
        self._logs = logs

    def _show(self, done: int, logs: dict[str, float]) -> None:
        """The progress bar, or a line."""
        if self._verbose == 2:
            print(
                "  ".join(
                    [f"iteration {done}/{self._max_iterations}", *(f"{k}: {v:.6g}" for k, v in logs.items())]
                )
            )
        if self._verbose != 1:
            return
        if self._bar is None:
            self._bar = keras.utils.Progbar(
                self._max_iterations, stateful_metrics=list(logs), unit_name="iteration"
            )
        self._bar.update(done, list(logs.items()), finalize=False)

    def _end(self, progress: Standing, interrupted: bool) -> None:
        """Say why the run ended."""
        status = programs.end_of(progress, self._limits)
        self.history.status = MESSAGES[status]
        if status in iteration.ACTIVE:
            self.history.status = "interrupted" if interrupted else STOPPED_BY_CALLBACK
        if self._verbose:
            print(f"\n{self.history.status}")
        self._callbacks.on_train_end(self._logs)


def _checked_optimizer(model: Any) -> LBFGS:
    """The model's optimizer, where it can run the training by itself."""
    optimizer = getattr(model, "optimizer", None)
    if not isinstance(optimizer, LBFGS):
        raise ValueError(
            "`fit_full_batch` needs a model compiled with `optimizer=LBFGS()` (under mixed_float16 Keras "
            "wraps it, and float16 has too few digits for its line search: use float32). Received: "
            f"optimizer={optimizer!r}."
        )
    if keras.backend.backend() == "tensorflow" and model.distribute_strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "`fit_full_batch` runs on one TensorFlow device; under `tf.distribute` use `model.fit`."
        )
    return optimizer
