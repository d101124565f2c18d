"""The callback that ends `fit` when L-BFGS has come to its end, and shows how far it is until then."""

import warnings
from types import FrameType
from typing import Any

import keras

from keras_addons_l6.optimizers.quasi_newton.interrupts import DeferredInterrupt
from keras_addons_l6.optimizers.quasi_newton.lbfgs import LBFGS
from keras_addons_l6.optimizers.quasi_newton.randomness import RandomStates


class StopWhenConverged(keras.callbacks.Callback):
    """Ends `fit` when the model's `LBFGS` has converged, stalled or failed, and says which.

    After each epoch it adds to the logs, so that the progress bar and the history show them:
    `iterations_accepted`, `evaluations` and `gradient_norm`, the largest component at the accepted point.
    During `fit` the weights are trial points; validation within `fit` sees the accepted point instead. The
    first Ctrl-C ends `fit` after the running step: the accepted point is put into the weights and
    `KeyboardInterrupt` raised (without this callback Keras does so on JAX only).

    Args:
        repeats_full_batch: whether each batch of an epoch is the whole data set again, as in
            `fit(dataset.repeat(100), steps_per_epoch=100)`; otherwise an epoch of more batches than make one
            evaluation is warned about.
        validate_accepted: whether validation within `fit` sees the accepted point; False: the trial, as other
            callbacks do.
        verbose: 1 prints a line on why `fit` ended; 0 nothing.

    Raises:
        ValueError: in `fit`, where the model's optimizer is no `LBFGS`, or the loss or gradient at the start
            is not finite.

    Example:
        >>> import keras, numpy as np
        >>> from keras_addons_l6.optimizers import LBFGS, StopWhenConverged
        >>> x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=LBFGS(gradient_tolerance=1e-4), loss="mse")
        >>> stop = StopWhenConverged(verbose=0)
        >>> full = dict(batch_size=32, shuffle=False)
        >>> history = model.fit(x, 3 * x + 1, epochs=50, verbose=0, callbacks=[stop], **full)
        >>> stop.status
        'converged: no component of the gradient exceeds gradient_tolerance'
        >>> len(history.epoch) < 50
        True
    """

    def __init__(
        self, *, repeats_full_batch: bool = False, validate_accepted: bool = True, verbose: int = 1
    ) -> None:
        """Keep the arguments."""
        super().__init__()
        self.repeats_full_batch = repeats_full_batch
        self.validate_accepted = validate_accepted
        self.verbose = verbose
        self.status: str | None = None
        self._in_fit = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Find the optimizer, and check what an epoch is made of."""
        self._optimizer = lbfgs_of(self.model)
        self._check_batches(self._optimizer.gradient_accumulation_steps or 1)
        self.status, self._in_fit = None, True
        self._random_states: RandomStates | None = RandomStates(self.model)
        self._interrupt = DeferredInterrupt(self._fit_is_running, self._stop)
        self._interrupt.install()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report, warn where the loss is random, and stop where nothing will change any more."""
        optimizer = self._optimizer
        optimizer.check_progress()
        if self._random_states is not None and self._random_states.changed_with_warning():
            self._random_states = None
        if logs is not None:
            logs["iterations_accepted"] = optimizer.iterations_accepted
            logs["evaluations"] = optimizer.evaluations
            logs["gradient_norm"] = optimizer.gradient_norm
        if not optimizer.running:
            self.status = optimizer.status
            self.model.stop_training = True
            if self.verbose:
                print(f"\nEpoch {epoch + 1}: {self.status}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Raise a deferred `KeyboardInterrupt`: the accepted point is in the weights by now."""
        self._in_fit = False
        self._interrupt.remove()
        if self._interrupt.requested:
            raise KeyboardInterrupt

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Show validation the accepted point."""
        if self._in_fit and self.validate_accepted:
            self._accepted = self._optimizer.accepted_values()
            self._accepted.__enter__()

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the trial back."""
        if self._in_fit and self.validate_accepted:
            self._accepted.__exit__(None, None, None)

    def _check_batches(self, batches: int) -> None:
        """Warn where the batches of an epoch cannot be one full batch."""
        steps = (self.params or {}).get("steps")
        if steps is None or steps == batches or (self.repeats_full_batch and steps % batches == 0):
            return
        warnings.warn(
            f"An epoch has {steps} batches, but LBFGS takes {batches} for the whole data set: its steps "
            "would see different losses. Pass `batch_size=len(x)`, or "
            f"`LBFGS(gradient_accumulation_steps={steps})`; if each batch is the whole data set again, "
            "`StopWhenConverged(repeats_full_batch=True)`.",
            stacklevel=2,
        )

    def _stop(self) -> None:
        self.model.stop_training = True

    def _fit_is_running(self, frame: FrameType | None) -> bool:
        """Whether a frame is inside `fit` of this model: an exception ends `fit` without telling its callbacks."""
        while frame is not None:
            if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is self.model:
                return True
            frame = frame.f_back
        return False


def lbfgs_of(model: Any) -> LBFGS:
    """The model's `LBFGS`, unwrapped.

    Raises:
        ValueError: if it has none.
    """
    optimizer = getattr(model, "optimizer", None)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    for candidate in (inner, *getattr(inner, "optimizers", ())):
        if isinstance(candidate, LBFGS):
            return candidate
    raise ValueError(
        f"The model's optimizer must be LBFGS. Received: {optimizer!r}. Compile it with "
        "`model.compile(optimizer=LBFGS(), loss=...)`."
    )
