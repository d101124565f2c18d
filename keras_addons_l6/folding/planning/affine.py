"""The map x -> x * scale + shift along one axis, in float64: what BatchNorm is once it is trained."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

__all__ = ["Affine", "Placed", "batch_norm_affine", "float64_array"]


@dataclasses.dataclass(frozen=True)
class Affine:
    """x -> x * scale + shift, one pair a channel.

    Attributes:
        scale: float64, shape (channels,).
        shift: float64, shape (channels,).
    """

    scale: np.ndarray
    shift: np.ndarray

    def then(self, later: Affine) -> Affine:
        """This map first, `later` after it."""
        return Affine(self.scale * later.scale, self.shift * later.scale + later.shift)

    def plus(self, other: Affine) -> Affine:
        """The sum of what both maps make of one x."""
        return Affine(self.scale + other.scale, self.shift + other.shift)

    def equals(self, other: Affine) -> bool:
        """Whether both maps have the same numbers, to the bit."""
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.shift, other.shift)

    def without_shift(self) -> Affine:
        """The multiplication alone."""
        return Affine(self.scale, np.zeros_like(self.shift))

    def part(self, start: int, stop: int) -> Affine:
        """The map of channels [start, stop)."""
        return Affine(self.scale[start:stop], self.shift[start:stop])


@dataclasses.dataclass(frozen=True)
class Placed:
    """An affine map and the axis, counted from the front, along which it runs."""

    affine: Affine
    axis: int


def float64_array(variable: Any) -> np.ndarray:
    """A variable's or tensor's numbers as a float64 array of its own."""
    return np.asarray(keras.ops.convert_to_numpy(variable)).astype("float64")


def batch_norm_affine(
    gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> Affine:
    """BatchNorm at test time: scale = gamma / sqrt(variance + epsilon), shift = beta - mean * scale.

    Ioffe & Szegedy (2015), Algorithm 2, lines 10 and 11.

    Args:
        gamma: float64, shape (channels,), or () for a layer that has none.
        beta: float64, shape (channels,), or () for a layer that has none.
        mean: Moving mean, float64, shape (channels,).
        variance: Moving variance, float64, shape (channels,).
        epsilon: What is added to the variance.

    Returns:
        The map.
    """
    scale = gamma / np.sqrt(variance + epsilon)
    return Affine(scale, beta - mean * scale)
