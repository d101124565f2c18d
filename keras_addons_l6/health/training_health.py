"""The callback that watches a training for what no progress bar shows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_addons_l6.argument_checks import count, number, refuse
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.health.batch import as_batch, checked_batch
from keras_addons_l6.health.findings import Finding, Frozen, Thresholds, findings
from keras_addons_l6.health.looking import Looker
from keras_addons_l6.health.plot import draw
from keras_addons_l6.health.records import Look
from keras_addons_l6.health.report import HealthReport
from keras_addons_l6.keras_private import direct_sublayers, optimizers_inside
from keras_addons_l6.optimizers.quasi_newton.optimizer import QuasiNewton

__all__ = ["TrainingHealth"]

_TOTALS = ("health/dead", "health/saturated", "health/update_ratio", "health/batch_norm_gap")


class TrainingHealth(keras.callbacks.Callback):
    """Watches `fit` for dead and saturated units, updates too large or small, BatchNorms that test differently.

    Before the first epoch and at the end of each epoch that it looks at, it runs the model once on a small batch as in
    training, with Dropout off and the loss's gradient, and where there is BatchNorm once more as in testing. Nothing of it
    stays: weights, averages, seeds, metrics and the optimizer are bit for bit those of a training without it.

    Each look is kept in `history`. The logs get four totals, for callbacks that stand after this one in the list:
    `health/dead` (share of all units that can die and were not active), `health/saturated` (the worst hidden layer's share of
    saturated values), `health/update_ratio` (the median kernel's change over the epoch, over its size) and
    `health/batch_norm_gap` (the worst BatchNorm's difference between training and test mode, over its deviation). What has
    held long enough to be sure of is warned of, once each.

    Args:
        batch: A small batch as `fit` takes it: inputs, (inputs, targets) or (inputs, targets, sample_weight). Without targets
            that the loss needs there are no gradients. It should be like training's batches, of all classes; 32 samples are
            enough for most models.
        every: >= 1; looks at the first epoch and every so many after it. In between the totals are repeated.
        layers: Layers, or names of layers, models or blocks inside the model, to look at; None: all.
        dead: Share of a layer's units not active on all of the last looks from which on it is a finding. 0.4: the "40% of your
            network" of the lecture's notes (CS231n).
        saturated: Share of a hidden layer's values that are saturated, on all of the last looks.
        saturated_slope: A value is saturated where the activation's slope is at most this share of its largest: for tanh beyond
            ±3, for sigmoid beyond ±6 (at ±10, the lecture's example, slopes are 8e-9 and 5e-5).
        update_ratio: Lowest and highest change of the median kernel over its own size. The lecture's rule is about 1e-3 a step.
            The lowest is for steps that all go the same way, change/steps, the highest for steps in random directions,
            change/√steps.
        batch_norm_gap: Largest difference of a BatchNorm's outputs between training and test mode, over their deviation, beyond
            what chance gives on a batch of this size. 0.3: what chance gives on 16 samples, below which BatchNorm's error
            rises (Wu & He 2018).
        patience: Looks in a row on which a finding has to hold before it is sure.

    Attributes:
        history: The looks, the one before the first epoch first.

    Raises:
        ValueError: for an argument out of range; in `fit`, where the model can't be run on `batch` or has no layer of a name.

    Example:
        >>> import keras, numpy as np
        >>> from keras_addons_l6 import TrainingHealth
        >>> keras.utils.set_random_seed(0)
        >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> y = x[:, :1] * x[:, 1:2]
        >>> hidden = keras.layers.Dense(16, "relu", bias_initializer=keras.initializers.Constant(-10.0), name="hidden")
        >>> model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> health = TrainingHealth((x[:32], y[:32]))
        >>> history = model.fit(x, y, epochs=1, verbose=0, callbacks=[health])
        >>> worst = health.report().findings[0]
        >>> worst.kind, worst.name
        ('dead', 'hidden')
    """

    def __init__(
        self,
        batch: Any,
        every: int = 1,
        layers: Sequence[Any] | None = None,
        *,
        dead: float = 0.4,
        saturated: float = 0.5,
        saturated_slope: float = 0.01,
        update_ratio: tuple[float, float] = (5e-5, 0.3),
        batch_norm_gap: float = 0.3,
        patience: int = 3,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self._batch = checked_batch(batch)
        self.every = count(name, "every", every)
        self.layers = _names(layers)
        self._slope = number(name, "saturated_slope", saturated_slope, low=0, high=1, bounds="()")
        self._thresholds = Thresholds(
            dead=number(name, "dead", dead, low=0, high=1, bounds="(]"),
            saturated=number(name, "saturated", saturated, low=0, high=1, bounds="(]"),
            update_ratio=_range(update_ratio),
            batch_norm_gap=number(name, "batch_norm_gap", batch_norm_gap, low=0, bounds="()"),
            patience=count(name, "patience", patience),
        )
        self._before: tuple[Tensor, ...] | None = None
        self._forget()

    def report(self) -> HealthReport:
        """What was found so far, worst first; printed, a table with a sentence for each finding."""
        name = "" if self.model is None else self.model.name
        notes = () if self._looker is None else tuple(self._looker.not_watched())
        return HealthReport(name, len(self.history), tuple(self._found()), notes)

    def plot(self) -> Any:
        """Draw the numbers over epochs; returns matplotlib's figure.

        Raises:
            ImportError: where matplotlib is not installed.
            ValueError: before the first look.
        """
        if not self.history:
            raise ValueError("TrainingHealth has not looked yet: call `plot` after `fit`.")
        return draw(self.history, self._thresholds)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Look at the model as it is; a model that its first batch builds, only after the first epoch."""
        self._forget()
        if all(layer.built for layer in (self.model, *direct_sublayers(self.model))):
            self._look(epoch=0)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep what the epoch's change is measured on."""
        if epoch % self.every == 0 and self._looker is not None:
            self._before = self._looker.sample()
            self._steps_before = self._steps()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look, warn of what is sure by now, and log the totals."""
        if epoch % self.every == 0:
            self._look(epoch + 1)
            self._totals = self.history[-1].totals()
        if logs is not None:
            logs.update(self._totals)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Warn of what more steps would have mended."""
        self._ended = True
        self._before = None
        self._warn()

    def _forget(self) -> None:
        """Begin anew, as `fit` does."""
        self.history: list[Look] = []
        self._totals = dict.fromkeys(_TOTALS, math.nan)
        self._warned: set[tuple[str, str]] = set()
        self._before = None
        self._steps_before = 0
        self._ended = False
        self._looker: Looker | None = None

    def _look(self, epoch: int) -> None:
        if (
            self._looker is None or not self._looker.is_current()
        ):  # another callback may freeze or thaw layers
            self._before = None
            self._looker = Looker(self.model, as_batch(self._batch), self.layers, self._slope)
        now = self._steps()
        steps = max(now - self._steps_before, 1)
        self.history.append(self._looker.look(self._before, epoch, steps, now))
        self._warn()

    def _steps(self) -> int:
        """How many steps the optimizer has taken."""
        iterations = getattr(getattr(self.model, "optimizer", None), "iterations", None)
        return 0 if iterations is None else int(ops.convert_to_numpy(ops.convert_to_tensor(iterations)))

    def _found(self) -> list[Finding]:
        has_rate = not any(
            isinstance(o, QuasiNewton) for o in optimizers_inside(getattr(self.model, "optimizer", None))
        )
        frozen = () if self._looker is None else self._looker.frozen()
        return findings(
            self.history,
            self._thresholds,
            [Frozen(*each) for each in frozen],
            has_rate=has_rate,
            ended=self._ended,
        )

    def _warn(self) -> None:
        for finding in self._found():
            if finding.sure and (finding.kind, finding.name) not in self._warned:
                self._warned.add((finding.kind, finding.name))
                warnings.warn(f"TrainingHealth: {finding.name}: {finding.sentence}", stacklevel=3)


def _names(layers: Any) -> list[str] | None:
    if layers is None:
        return None
    given = [layers] if isinstance(layers, str | keras.Operation) else list(layers)
    if not given or not all(isinstance(each, str | keras.Operation) for each in given):
        refuse("TrainingHealth", "layers", layers, "layers, or names of layers, at least one; or None")
    return [each if isinstance(each, str) else each.name for each in given]


def _range(pair: Any) -> tuple[float, float]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        refuse("TrainingHealth", "update_ratio", pair, "two numbers, the lowest and the highest")
    low, high = (number("TrainingHealth", "update_ratio", each, low=0) for each in pair)
    return (
        (low, high)
        if low < high
        else refuse("TrainingHealth", "update_ratio", pair, "a lower and a higher number")
    )
