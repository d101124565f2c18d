"""What the measured numbers say, as functions of NumPy arrays."""

from __future__ import annotations

import numpy as np

from keras_addons_l6.health.activations import Limits

__all__ = [
    "batch_norm_gap",
    "distance_of_means",
    "noise_of_gap",
    "ratio_of_variances",
    "root_mean_square",
    "silent",
    "update_ratio",
]

Array = np.ndarray


def silent(lowest: Array, highest: Array, limits: Limits) -> Array:
    """Which units were never active, by their smallest and largest values."""
    if not limits.can_die:
        return np.zeros(lowest.shape, bool)
    return (lowest >= limits.silent_from) & (highest <= limits.silent_to)


def root_mean_square(x: Array) -> float:
    """The root mean square of an array; 0 for an empty one."""
    return float(np.sqrt(np.mean(np.square(x, dtype="float64")))) if x.size else 0.0


def update_ratio(change: float, size: float) -> float:
    """A variable's change over its size before it, both as norms, or both as root mean squares; infinite from zero."""
    if change == 0:
        return 0.0
    return float(change / size) if size > 0 else np.inf


def distance_of_means(mean: Array, variance: Array, moving_mean: Array, epsilon: float) -> float:
    """How far the moving means are from a batch's means, in the batch's standard deviations (root mean square)."""
    return root_mean_square((moving_mean - mean) / np.sqrt(variance + epsilon))


def ratio_of_variances(variance: Array, moving_variance: Array, epsilon: float) -> float:
    """The moving variances over a batch's variances (geometric mean over the channels)."""
    return float(np.exp(np.mean(np.log((moving_variance + epsilon) / (variance + epsilon)))))


def batch_norm_gap(
    mean: Array, variance: Array, moving_mean: Array, moving_variance: Array, gamma: Array, epsilon: float
) -> float:
    """What a BatchNorm's output differs by between training and test mode, over its deviation in training.

    With s^2 = variance + epsilon, t^2 = moving_variance + epsilon and z = (x - mean) / s, training gives gamma z + beta and
    testing gamma (s z + mean - moving_mean) / t + beta. Over the batch z has mean 0 and mean square v = variance / s^2, so

        mean square of the difference = gamma^2 ((1 - s/t)^2 v + ((mean - moving_mean) / t)^2)

    and the mean square of training's output about beta is gamma^2 v.
    """
    s, t = np.sqrt(variance + epsilon), np.sqrt(moving_variance + epsilon)
    v = variance / (variance + epsilon)
    apart = np.square(gamma) * (np.square(1 - s / t) * v + np.square((mean - moving_mean) / t))
    size = np.square(gamma) * v
    return float(np.sqrt(np.mean(apart) / np.mean(size))) if np.mean(size) > 0 else 0.0


def noise_of_gap(values: int) -> float:
    """The root mean square of `batch_norm_gap` over batches of so many independent normal values a channel.

    The mean varies by variance / n, and the deviation, to first order, by variance / (2 n).
    """
    return float(np.sqrt(1.5 / values))
