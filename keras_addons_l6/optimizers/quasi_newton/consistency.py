"""Tells whether values and slopes along a search can belong to one function, or come from several batches.

With h the distance of a trial b from the left end a of its bracket, the trapezoid h (phi'(a) + phi'(b)) / 2 misses the
change of a smooth function by at most h^3 max|phi'''| / 12. It may be far off while h is large, and shrinks faster
than h as the bracket does. The losses of different batches differ by amounts that do not shrink.
"""

from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar
from keras_addons_l6.optimizers.quasi_newton import iteration
from keras_addons_l6.optimizers.quasi_newton.iteration import State

__all__ = ["LONG", "contradicts", "doubt_after"]

FAR = 3.0  # how many times h times the steeper slope the miss must be to count; half of it is what convexity allows
NOISE = 1e-3  # of the value: what rounding in float32 never does to a mean over samples that is not near zero
RESIDUAL = 10.0  # roundings of a residual, of the size of the first ones: what is left of a value near zero
# Doubt grows by CONTRADICTION at one and falls by 1 elsewhere; LONG doubt is reported.
CONTRADICTION, LONG = 4, 16


def contradicts(arrays: NumpyArrays, before: State, value: Scalar, slope: Scalar) -> Scalar:
    """Whether a trial's value misses what the slopes say by much, and by no less than a longer step's did."""

    def was(name: str) -> Scalar:
        return iteration.read(before, name)

    def miss(step: Scalar, value: Scalar, slope: Scalar) -> Scalar:
        return abs(value - was("left_value") - (step - was("left")) * (was("left_slope") + slope) / 2)

    length, width = was("step") - was("left"), was("right") - was("left")
    missed = miss(was("step"), value, slope)
    steepest = arrays.small.maximum(abs(slope), abs(was("left_slope")))
    is_far = missed > FAR * length * steepest + _noise(arrays, value, was("left_value"), was("start_value"))
    # Half the exponent that the least smooth function would have. Without a right end, or data there, this is false.
    at_right = miss(was("right"), was("right_value"), was("right_slope"))
    shrinks_not = missed > at_right * arrays.small.sqrt(length / width)
    running = (was("status") == iteration.RUNNING) & arrays.isfinite(value) & arrays.isfinite(slope)
    return running & is_far & ((was("trials") == 0) | shrinks_not)


def _noise(arrays: NumpyArrays, value: Scalar, other: Scalar, start: Scalar) -> Scalar:
    """What rounding may do to a value.

    A mean of squares r^2 whose residuals r are off by d is off by 2 r d + d^2, d being roundings of the first residuals.
    """
    largest = arrays.small.maximum(abs(value), abs(other))
    error = RESIDUAL * arrays.unit_roundoff * arrays.small.sqrt(abs(start))
    return arrays.small.maximum(NOISE * largest, (2 * arrays.small.sqrt(largest) + error) * error)


def doubt_after(arrays: NumpyArrays, doubt: Scalar, contradiction: Scalar) -> Scalar:
    """The doubt after one more trial."""
    return arrays.small.maximum(doubt + arrays.select(contradiction, CONTRADICTION, -1), 0)
