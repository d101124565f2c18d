"""The callback that ends `fit` when L-BFGS has come to its end, and shows how far it is until then."""

import warnings
from types import FrameType
from typing import Any

import keras
from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.keras_private import optimizers_inside
from keras_addons_l6.optimizers.quasi_newton.interrupts import DeferredInterrupt
from keras_addons_l6.optimizers.quasi_newton.optimizer import QuasiNewton
from keras_addons_l6.optimizers.quasi_newton.randomness import RandomStates

__all__ = ["FiniteValues", "StopWhenConverged", "quasi_newton_of"]


class StopWhenConverged(keras.callbacks.Callback):
    """Ends `fit` when the model's `LBFGS` or `BFGS` has converged, stalled or failed, and says which.

    After each epoch it adds to the logs, so that the progress bar and the history show them:
    `iterations_accepted`, `evaluations` and `gradient_norm`, the largest component at the accepted point.
    During `fit` the weights are trial points; validation within `fit` sees the accepted point instead. Where a
    trial left something that is not finite in the model's other variables (in BatchNormalization's averages,
    say, outside the loss's domain), they get their last finite values back. The first Ctrl-C ends `fit` after
    the running step: the accepted point is put into the weights and `KeyboardInterrupt` raised (without this
    callback Keras does so on JAX only).

    Args:
        repeats_full_batch: whether each batch of an epoch is the whole data set again, as in
            `fit(dataset.repeat(100), steps_per_epoch=100)`; otherwise an epoch of more batches than make one
            evaluation is warned about.
        validate_accepted: whether validation within `fit` sees the accepted point; False: the trial, as other
            callbacks do.
        verbose: 1 prints a line on why `fit` ended; 0 nothing; "auto" does what `fit` was told.

    Raises:
        ValueError: in `fit`, where the model's optimizer is neither `LBFGS` nor `BFGS`, or the loss or gradient at the start
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
        self,
        *,
        repeats_full_batch: bool = False,
        validate_accepted: bool = True,
        verbose: int | str = "auto",
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
        self._optimizer = quasi_newton_of(self.model)
        self._check_batches(self._optimizer.gradient_accumulation_steps or 1)
        self.status, self._in_fit, self._epoch = None, True, 0
        self._random_states: RandomStates | None = RandomStates(self.model)
        self._untrained = FiniteValues(self.model)
        self._interrupt = DeferredInterrupt(self._fit_is_running, self._stop)
        self._interrupt.install()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Watch the random numbers that the batch draws."""
        if self._random_states is not None:
            self._random_states.begin_batch()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Watch the random numbers that the batch drew."""
        if self._random_states is not None:
            self._random_states.end_batch()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report, warn where the loss is random, and stop where nothing will change any more."""
        optimizer = self._optimizer
        self._untrained.keep_or_put_back()
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
        self._epoch = epoch + 1

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Say why `fit` ended; raise a deferred `KeyboardInterrupt`: the accepted point is in the weights by now."""
        self._in_fit = False
        verbose = (self.params or {}).get("verbose", 1) if self.verbose == "auto" else self.verbose
        if verbose:
            why = self.status or f"{self._optimizer.status} when `fit` ended"
            print(f"\nEpoch {self._epoch}: {why}")
        self._interrupt.remove()
        if self._interrupt.requested:
            raise KeyboardInterrupt

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Show validation the accepted point."""
        if self._in_fit:
            self._untrained.keep_or_put_back()
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
        name = type(self._optimizer).__name__
        warnings.warn(
            f"An epoch has {steps} batches, but {name} takes {batches} for the whole data set: its steps "
            "would see different losses. Pass `batch_size=len(x)`, or "
            f"`{name}(gradient_accumulation_steps={steps})`; if each batch is the whole data set again, "
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


class FiniteValues:
    """The last finite values of a model's variables that are not trained by their gradients.

    An average that has met a NaN once is NaN for good.

    Args:
        model: A built model.
    """

    def __init__(self, model: Any) -> None:
        self._variables = [v for v in model.non_trainable_variables if "float" in v.dtype]
        self._values = self._copies()

    def keep_or_put_back(self) -> None:
        """Keep the values if all are finite, else put the kept ones back."""
        finite = [ops.all(ops.isfinite(ops.convert_to_tensor(v))) for v in self._variables]
        if all(map(bool, finite)):
            self._values = self._copies()
            return
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(ops.copy(value))  # JAX's trainers delete the arrays that they take from variables

    def _copies(self) -> list[Tensor]:
        return [ops.copy(ops.convert_to_tensor(v)) for v in self._variables]


def quasi_newton_of(model: Any) -> QuasiNewton:
    """The model's `LBFGS` or `BFGS`, unwrapped.

    Raises:
        ValueError: if it has none.
    """
    optimizer = getattr(model, "optimizer", None)
    for candidate in optimizers_inside(optimizer):
        if isinstance(candidate, QuasiNewton):
            return candidate
    raise ValueError(
        f"The model's optimizer must be LBFGS or BFGS. Received: {optimizer!r}. Compile it with "
        "`model.compile(optimizer=LBFGS(), loss=...)`."
    )
