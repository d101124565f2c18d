"""Tells whether values and slopes along a search can belong to one function, or come from several batches.

On a convex function the change phi(a) - phi(0) lies between a phi'(0) and a phi'(a); on any smooth one it
tends to a (phi'(0) + phi'(a)) / 2 as a tends to 0. The losses of different batches differ by amounts that do
not shrink with a.
"""

from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar
from keras_addons_l6.optimizers.quasi_newton import iteration
from keras_addons_l6.optimizers.quasi_newton.iteration import State

CURVED = 3.0  # how far outside the convex bounds a change must lie to count; no convex function gets there
NOISE = 1e-3  # of the value: what rounding in float32 never does to a mean over samples
CONTRADICTION, LONG = (
    4,
    16,
)  # doubt grows by 4 at a contradiction and falls by 1 elsewhere; LONG doubt is reported


def contradicts(arrays: NumpyArrays, before: State, after: State, value: Scalar) -> Scalar:
    """Whether a trial's value is out of all proportion to the slopes at both ends of its step."""

    def was(name: str) -> Scalar:
        return iteration.read(before, name)

    def became(name: str) -> Scalar:
        return iteration.read(after, name)

    step, change = was("step"), value - was("value")
    noise = NOISE * arrays.small.maximum(abs(value), abs(was("value")))
    is_right = became("right") == step
    slope = arrays.select(is_right, became("right_slope"), became("left_slope"))
    steepest = arrays.small.maximum(slope, -was("slope"))
    rejected = became("iterations") == was("iterations")
    too_low = change < CURVED * step * was("slope") - noise
    too_high = rejected & (change > CURVED * step * steepest + noise)
    running = was("status") == iteration.RUNNING
    return running & arrays.isfinite(value) & (too_low | too_high)


def doubt_after(arrays: NumpyArrays, doubt: Scalar, contradiction: Scalar) -> Scalar:
    """The doubt after one more trial."""
    return arrays.small.maximum(doubt + arrays.select(contradiction, CONTRADICTION, -1), 0)
