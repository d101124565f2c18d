"""Two arrays that should be equal, compared channel by channel on their own scale: NumPy alone.

What a fold may change is rounding, and one rounding is a part of the *size* of a number; what a fault
changes shows against the *spread* of the numbers, how much they vary over the inputs. A channel in which
roundings are no longer small beside the spread cannot show a fault: it was not seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import ml_dtypes
import numpy as np

__all__ = ["LIMIT", "NOISE_MULTIPLE", "Comparison", "Measured", "judge", "measure", "worst"]

# Of the spread. A tolerance past it would let a kernel pass that is 5% off, so it is never taken unasked.
LIMIT = 0.05
# The folded model is one more sample of the noise that one or two measurements estimate. In docs/folding_measured.md's table
# of backbones a right fold came to 10.6 times (BASNet on TensorFlow), the others' largest errors to 2.3 times at most.
NOISE_MULTIPLE = 20.0
# numbers in a channel: with fewer their standard deviation may be small by chance
_FEW = 16


@dataclasses.dataclass(frozen=True)
class Measured:
    """Two arrays, channel by channel.

    Attributes:
        difference: The largest difference; infinite where one has a number and the other has none.
        spread: The standard deviation of the expected numbers.
        size: The largest expected number.
        few: Whether a channel has too few numbers to tell its spread, size or noise from chance. All channels
            then share their root mean square.
    """

    difference: np.ndarray
    spread: np.ndarray
    size: np.ndarray
    few: bool = False

    @property
    def scale(self) -> float:
        """The standard deviation of the whole, each channel about its own mean."""
        return float(np.sqrt(np.mean(self.spread**2)))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One tensor of two models, or several that belong together, compared.

    Attributes:
        name: What it is about: a BatchNorm that was folded, or an output of the model.
        at: The layer whose output was compared.
        error: The largest difference relative to the spread of the tensor, over the channels that were
            seen; where none was, relative to the largest number.
        tolerance: The error that was allowed there.
        noise: How far the original is from itself there, computed with every value one rounding away, on
            the same scale; None where the error did not ask for it.
        channels: How many channels it has; an output counts as one.
        unseen: How many of them are constant on these inputs, but for rounding, so that nothing shows.
        refused: Whether an error, in any channel, was past the tolerance.
    """

    name: str
    at: str
    error: float
    tolerance: float
    noise: float | None
    channels: int
    unseen: int
    refused: bool

    @property
    def seen(self) -> bool:
        """Whether a fault would have shown in any channel."""
        return self.unseen < self.channels

    def __str__(self) -> str:
        """The finding in a few words: an error, or what was not seen."""
        if self.refused:
            return f"{self.error:.1e}, too large"
        if not self.seen:
            return "not seen on these inputs"
        unseen = f", {self.unseen} of {self.channels} channels not seen"
        return f"{self.error:.1e}{unseen if self.unseen else ''}"


def measure(expected: np.ndarray, found: np.ndarray, axis: int | None = None) -> Measured:
    """Compare two arrays.

    Args:
        expected: The numbers to reach.
        found: The numbers that came.
        axis: The axis of the channels; None takes the whole array as one, as it is where a channel has a
            single number.

    Returns:
        The difference, spread and size of each channel.
    """
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return _whole(np.inf, 1.0)
    if not _is_float(expected):
        varies = float(expected.size > 0 and (expected != expected.flat[0]).any())
        return _whole(0.0 if np.array_equal(expected, found) else np.inf, varies)
    a, b = _by_channel(expected, axis), _by_channel(found, axis)
    finite = np.isfinite(a)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
    difference[~same & ~(finite & np.isfinite(b))] = np.inf
    a = np.where(finite, a, 0.0)
    spread, size, few = a.std(0) if len(a) else a.sum(0), np.abs(a).max(0, initial=0), len(a) < _FEW
    if few:
        spread, size = _shared(spread, 0.0), _shared(size, size)
    return Measured(difference.max(0, initial=0), spread, size, few)


def _whole(difference: float, spread: float) -> Measured:
    """What there is to say of arrays that are no numbers, or not alike."""
    return Measured(np.array([difference]), np.array([spread]), np.array([1.0]))


def _shared(values: np.ndarray, least: np.ndarray | float) -> np.ndarray:
    """The root mean square of all channels for each, or more."""
    return np.maximum(np.full_like(values, np.sqrt(np.mean(values**2))), least)


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16


def _by_channel(array: np.ndarray, axis: int | None) -> np.ndarray:
    """float64 numbers as (places, channels)."""
    array = array.astype("float64")
    if axis is None or array.ndim == 0 or array.size == array.shape[axis]:
        return array.reshape(-1, 1)
    return np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])


def judge(
    name: str,
    at: str,
    measured: Measured,
    rounding: float,
    noise: np.ndarray | None = None,
    tolerance: float | None = None,
) -> Comparison:
    """Hold the differences against what rounding, or the noise that was measured, explains.

    Args:
        name: See `Comparison`.
        at: See `Comparison`.
        measured: The numbers.
        rounding: The largest error of a well-behaved computation, relative to the size of its numbers.
        noise: How far the original is from itself, a number a channel, in units of the numbers.
        tolerance: The largest error, relative to the spread, to accept instead.

    Returns:
        The finding.
    """
    bound = min(rounding, LIMIT) * measured.size
    if noise is not None:
        noise = _shared(noise, noise) if measured.few else noise
        bound = np.maximum(bound, NOISE_MULTIPLE * np.nan_to_num(noise, nan=0.0, posinf=np.inf))
    unseen = ~(bound < LIMIT * measured.spread)
    scale = measured.size.max(initial=0) if unseen.all() else measured.scale
    scale = max(float(scale), float(np.finfo("float64").tiny))
    errors, allowed = measured.difference / scale, bound / scale
    if tolerance is not None:
        allowed = np.full_like(errors, tolerance)
    refused = ~(errors <= allowed) | np.isinf(errors)
    # of the channels that count, the one with the largest error
    counted = refused if refused.any() else ~unseen if not unseen.all() else unseen
    place = int(np.argmax(np.where(counted, np.nan_to_num(errors, nan=np.inf, posinf=np.inf), -1.0)))
    return Comparison(
        name,
        at,
        float(errors[place]),
        float(allowed[place]),
        None if noise is None else float(noise[place] / scale),
        len(unseen),
        int(unseen.sum()),
        bool(refused.any()),
    )


def worst(comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison to report of several: one that is refused, else the largest error that was seen."""
    return max(comparisons, key=lambda each: (each.refused, each.seen, each.error))
