"""Hager and Zhang's line search as a state machine: one trial in, the next trial step out.

What is not theirs, each for fewer evaluations (docs/lbfgs_tuning.md has the figures):
1. Where two values differ by more than their noise, the minimizer of the cubic through both values and slopes takes
   the place of the zero of the secant through the slopes. It cuts brackets with a high right end, too.
2. An open bracket grows to where the secant of its last two slopes points, not always fivefold.
3. sigma is 0.7, not 0.9: a step that leaves most of the slope is lengthened. (delta is 0.001, not 0.1: no difference.)
   Self-scaled Broyden, which corrects H's scale by itself, has 0.9.
4. A trial that is not finite becomes a right end without data, and the next trial is ten times nearer the left end.
"""

from typing import NamedTuple

from keras_addons_l6.backends.portable.arrays import Count, NumpyArrays, Real, Scalar

__all__ = [
    "ABOUT",
    "BISECTION",
    "BRACKETING",
    "CONTRACTION",
    "DELTA",
    "GAMMA",
    "RHO_MAX",
    "RHO_MIN",
    "SAFEGUARD",
    "SECANT",
    "SECOND_SECANT",
    "SIGMA",
    "THETA",
    "Point",
    "Search",
    "Tolerance",
    "accepts",
    "advance",
    "begin",
    "expected_step",
]

BRACKETING, SECANT, SECOND_SECANT, BISECTION = range(4)

# Constants of Hager & Zhang (2005) under their names.
DELTA = 0.001  # sufficient decrease (T1, T2)
SIGMA = 0.7  # curvature (T1, T2)
THETA = 0.5  # where a bracket is cut when nothing better is known (U3)
GAMMA = 0.66  # a bracket that shrinks less than this in a cycle is bisected (L2)
RHO_MIN, RHO_MAX = 2.0, 10.0  # growth of an open bracket (B3)

SAFEGUARD = 0.01  # no interpolation comes closer to an end of its bracket, as a part of its width
ABOUT = 1.01  # Nocedal & Wright's factor on the step that is expected to do as well as the last
CONTRACTION = 0.1  # towards the left end after a trial whose value or slope is not finite


class Search(NamedTuple):
    """A search on phi(a) = f(x + a d) between a descending left end and a right end."""

    step: Real  # a, the trial under evaluation
    value: Real  # phi(0)
    slope: Real  # phi'(0) < 0
    left: Real
    left_value: Real
    left_slope: Real  # negative
    right: Real  # infinite until some step proved too long
    right_value: Real  # NaN where not finite
    right_slope: Real
    width: Real  # right - left at the start of the present cycle of secants
    phase: Count  # BRACKETING, SECANT, SECOND_SECANT or BISECTION
    high: Count  # 1 while the right end has too high a value, or none, instead of a slope >= 0
    trials: Count  # evaluated so far


class Point(NamedTuple):
    """A step with what is known there."""

    step: Scalar
    value: Scalar  # 0 when only slopes are known
    slope: Scalar


class Tolerance(NamedTuple):
    """What the search may make of values."""

    limit: Scalar  # the highest value of an accepted point: phi(0) + epsilon_k in the paper; infinite without values
    noise: Scalar  # differences of values up to this mean nothing


def begin(step: Scalar, value: Scalar, slope: Scalar) -> Search:
    """A search from phi(0) = `value` and phi'(0) = `slope` whose first trial is `step`."""
    zero = 0 * step
    none = zero + float("inf")
    return Search(
        step, value, slope, zero, value, slope, none, zero, zero, zero, phase=BRACKETING, high=0, trials=0
    )  # fmt: skip


def expected_step(arrays: NumpyArrays, decrease: Scalar, slope: Scalar) -> Scalar:
    """Where a parabola with this slope at 0 has fallen as far as the last search did, at most the whole step.

    a = min(1, 1.01 * 2 (phi_k - phi_k-1) / phi'(0)) (Nocedal & Wright 2006, equation 3.60).

    Args:
        arrays: The operations.
        decrease: phi_k - phi_k-1, negative.
        slope: phi'(0), negative.
    """
    step = ABOUT * 2 * decrease / slope
    return arrays.smaller(0 * step + 1, step)


def accepts(
    search: Search, trial: Point, finite: Scalar, tolerance: Tolerance, sigma: float = SIGMA
) -> Scalar:
    """Whether the trial ends the search (Hager & Zhang 2005, section 2.1).

    T1, the Wolfe conditions: phi(a) - phi(0) <= delta a phi'(0) and phi'(a) >= sigma phi'(0);
    T2, the approximate ones: (2 delta - 1) phi'(0) >= phi'(a) >= sigma phi'(0) and phi(a) <= phi(0) + epsilon_k.
    """
    curvature = trial.slope >= sigma * search.slope
    decrease = trial.value - search.value <= DELTA * search.step * search.slope
    nearly_flat = trial.slope <= (2 * DELTA - 1) * search.slope
    return finite & (trial.value <= tolerance.limit) & curvature & (decrease | nearly_flat)


def advance(
    arrays: NumpyArrays, search: Search, trial: Point, finite: Scalar, tolerance: Tolerance
) -> Search:
    """The search after a trial that was not accepted: one evaluation's worth of B0 to B3, U0 to U3, S1 to S4, L2."""
    select = arrays.select
    low = trial.value <= tolerance.limit
    is_left = finite & (trial.slope < 0) & low
    trial = Point(trial.step, *(select(finite, found, float("nan")) for found in trial[1:]))
    left = Point(search.left, search.left_value, search.left_slope)
    right = Point(search.right, search.right_value, search.right_slope)
    replaced = _choose(arrays, is_left, left, right)
    left, right = _choose(arrays, is_left, trial, left), _choose(arrays, is_left, right, trial)
    high = select(is_left, search.high, select(finite & (trial.slope >= 0), 0, 1))

    bracketing = (high == 1) | (right.step == float("inf"))
    cycle = search._replace(phase=select(bracketing, BRACKETING, search.phase))
    step, phase = _interpolate(arrays, cycle, left, right, trial, replaced, tolerance.noise)
    step = select(right.step == float("inf"), _expand(arrays, replaced, trial), step)
    step = select(finite, step, left.step + CONTRACTION * (trial.step - left.step))
    phase = select(bracketing, BRACKETING, phase)
    width = select(phase == SECANT, right.step - left.step, search.width)
    return Search(step, search.value, search.slope, *left, *right, width, phase, high, search.trials + 1)


def _interpolate(
    arrays: NumpyArrays,
    search: Search,
    left: Point,
    right: Point,
    trial: Point,
    replaced: Point,
    noise: Scalar,
) -> tuple[Scalar, Scalar]:
    """The next step inside a closed bracket, and its phase.

    A cycle is an interpolation between the ends (S1), a second one between the end just found and the one it replaced
    (S2, S3), and a bisection where both together left more than gamma of the width (L2).
    """
    select = arrays.select
    width = right.step - left.step
    middle = left.step + THETA * width
    nearest, farthest = left.step + SAFEGUARD * width, right.step - SAFEGUARD * width
    first = _minimizer(arrays, left, right, noise)
    first = arrays.small.minimum(arrays.small.maximum(first, nearest), farthest)
    first = select((first > left.step) & (first < right.step), first, middle)
    second = _minimizer(arrays, trial, replaced, noise)
    again = (search.phase == SECANT) & (second > left.step) & (second < right.step)
    cycle_ends = (search.phase == SECANT) | (search.phase == SECOND_SECANT)
    slow = cycle_ends & (width > GAMMA * search.width)
    step = select(again, second, select(slow, middle, first))
    return step, select(again, SECOND_SECANT, select(slow, BISECTION, SECANT))


def _expand(arrays: NumpyArrays, before: Point, trial: Point) -> Scalar:
    """A longer step for an open bracket: where the secant of its last two slopes is zero, within bounds (B3)."""
    ahead = _secant(before, trial)
    least, most = RHO_MIN * trial.step, RHO_MAX * trial.step
    bounded = arrays.small.minimum(arrays.small.maximum(ahead, least), most)
    return arrays.select(trial.slope > before.slope, bounded, most)


def _minimizer(arrays: NumpyArrays, a: Point, b: Point, noise: Scalar) -> Scalar:
    """The minimizer of the cubic through two points (Nocedal & Wright 2006, equation 3.59).

    Where the values differ by no more than their noise, or no such cubic exists, the zero of the secant through the slopes.
    """
    d1 = a.slope + b.slope - 3 * ((a.value - b.value) / (a.step - b.step))
    scale = arrays.small.maximum(arrays.small.maximum(abs(a.slope), abs(b.slope)), abs(d1))
    square = (d1 / scale) * (d1 / scale) - (a.slope / scale) * (b.slope / scale)
    d2 = scale * arrays.small.sqrt(square) * arrays.select(b.step > a.step, 1.0, -1.0)
    cubic = b.step - (b.step - a.step) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    trusted = (abs(a.value - b.value) > noise) & arrays.isfinite(cubic)
    return arrays.select(trusted, cubic, _secant(a, b))


def _secant(a: Point, b: Point) -> Scalar:
    """Where the line through two slopes is zero: (a phi'(b) - b phi'(a)) / (phi'(b) - phi'(a))."""
    return a.step + (b.step - a.step) * (a.slope / (a.slope - b.slope))


def _choose(arrays: NumpyArrays, condition: Scalar, yes: Point, no: Point) -> Point:
    """One of two points."""
    return Point(*arrays.either(condition, lambda: yes, lambda: no))
