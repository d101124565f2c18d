"""What one look at a model found, as numbers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

__all__ = ["BatchNormHealth", "LayerHealth", "Look", "VariableHealth"]


@dataclasses.dataclass(frozen=True)
class LayerHealth:
    """The values that one call of a layer gave over the batch.

    Attributes:
        name: The layer's name, behind those of the models and blocks it is in; a shared layer's later calls are numbered.
        activation: The activation that it ends in, or None: then only `not_finite` is measured.
        not_finite: Share of values that are infinite or NaN.
        saturated: Share of values at which the activation has lost its slope.
        silent: For each unit, whether it was never active over the batch; empty for an activation that keeps a slope.
        mean: Mean of the values.
        deviation: Their standard deviation.
        is_output: Whether these are the model's output.
    """

    name: str
    activation: str | None
    not_finite: float
    saturated: float = 0.0
    silent: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    mean: float = math.nan
    deviation: float = math.nan
    is_output: bool = False

    @property
    def dead(self) -> float:
        """Share of units that were never active over the batch."""
        return float(self.silent.mean()) if self.silent.size else 0.0


@dataclasses.dataclass(frozen=True)
class VariableHealth:
    """A trainable variable.

    Attributes:
        name: Its path.
        layer: The path of its layer.
        size: How many numbers it holds.
        rank: How many axes it has.
        weight_norm: Euclidean norm.
        gradient_norm: Euclidean norm of the loss's gradient on the batch; NaN without a loss.
        update_ratio: Root mean square of the last epoch's change over that of the variable before it; NaN before the
            first epoch.
    """

    name: str
    layer: str
    size: int
    rank: int
    weight_norm: float
    gradient_norm: float
    update_ratio: float


@dataclasses.dataclass(frozen=True)
class BatchNormHealth:
    """One call of a BatchNorm.

    Attributes:
        name: Its name, as in `LayerHealth`.
        momentum: Its momentum.
        mean_distance: How far the moving means are from the batch's, in the batch's standard deviations.
        variance_ratio: The moving variances over the batch's, as a geometric mean over the channels.
        output_gap: What its output differs by between training and test mode, over its deviation in training.
        noise: What of `output_gap` chance alone gives on a batch of this size.
    """

    name: str
    momentum: float
    mean_distance: float
    variance_ratio: float
    output_gap: float
    noise: float


@dataclasses.dataclass(frozen=True)
class Look:
    """What was found after an epoch.

    Attributes:
        epoch: The epoch, counted from 1 as the progress bar does; 0 is before the first.
        steps: Optimizer steps of that epoch.
        total_steps: Optimizer steps since `fit` began.
        samples: Samples in the batch.
        layers: In the order in which they were called.
        variables: The trainable ones.
        batch_norms: In the order in which they were called.
        output_gap: What the model's output differs by between training and test mode, Dropout off, over its size.
    """

    epoch: int
    steps: int
    total_steps: int
    samples: int
    layers: tuple[LayerHealth, ...]
    variables: tuple[VariableHealth, ...]
    batch_norms: tuple[BatchNormHealth, ...]
    output_gap: float

    def totals(self) -> dict[str, float]:
        """The few numbers that go into the logs."""
        units = np.concatenate([np.zeros(0, bool), *(layer.silent for layer in self.layers)])
        shares = [x.saturated for x in self.layers if x.activation is not None and not x.is_output]
        ratios = [v.update_ratio for v in self.kernels() if math.isfinite(v.update_ratio)]
        gaps = [norm.output_gap for norm in self.batch_norms]
        return {
            "health/dead": float(units.mean()) if units.size else 0.0,
            "health/saturated": max(shares, default=0.0),
            "health/update_ratio": float(np.median(ratios)) if ratios else math.nan,
            "health/batch_norm_gap": max(gaps, default=0.0),
        }

    def kernels(self) -> list[VariableHealth]:
        """The variables whose size is a scale: kernels and embeddings; biases and shifts begin at 0. All, if none is."""
        return [v for v in self.variables if v.rank >= 2] or list(self.variables)
