"""Hager and Zhang's line search as a state machine: one trial in, the next trial step out."""

from typing import NamedTuple

from keras_addons_l6.optimizers.lbfgs.arrays import NumpyArrays, Scalar

BRACKETING, SECANT, SECOND_SECANT, BISECTION = range(4)

# The constants of Hager & Zhang (2005), section 5, under their names.
DELTA = 0.1  # sufficient decrease (T1, T2)
SIGMA = 0.9  # curvature (T1, T2)
THETA = 0.5  # where a bracket is cut whose right end is high (U3)
GAMMA = 0.66  # a bracket that shrinks less than this in a cycle is bisected (L2)
RHO = 5.0  # expansion while the slope stays negative (B3)
NOISE = 1e-6
CONTRACTION = 0.1  # towards the left end after a trial whose value or slope is not finite


class Search(NamedTuple):
    """A search on phi(a) = f(x + a d) between a descending left end and a right end.

    The real numbers come first, the whole numbers last.
    """

    step: Scalar  # a, the trial under evaluation
    value: Scalar  # phi(0)
    slope: Scalar  # phi'(0) < 0
    left: Scalar
    left_value: Scalar
    left_slope: Scalar  # negative
    right: Scalar  # infinite until some step proved too long
    right_value: Scalar
    right_slope: Scalar
    width: Scalar  # right - left at the start of the present cycle of secants
    phase: Scalar  # BRACKETING, SECANT, SECOND_SECANT or BISECTION
    high: Scalar  # 1 while the right end has too high a value, or none, instead of a slope >= 0
    trials: Scalar  # evaluated so far


REALS = 10  # of Search's fields


class Trial(NamedTuple):
    """What was found at the step under evaluation."""

    value: Scalar  # phi(a), or 0 when only slopes are known
    slope: Scalar  # phi'(a)
    finite: Scalar  # whether both are


def begin(step: Scalar, value: Scalar, slope: Scalar) -> Search:
    """A search from phi(0) = `value` and phi'(0) = `slope` whose first trial is `step`."""
    zero = 0 * step
    none = zero + float("inf")
    return Search(step, value, slope, zero, value, slope, none, zero, zero, zero, phase=BRACKETING, high=0, trials=0)


def accepts(search: Search, trial: Trial, limit: Scalar) -> Scalar:
    """Whether the trial ends the search (Hager & Zhang 2005, section 2.1).

    T1, the Wolfe conditions: phi(a) - phi(0) <= delta a phi'(0) and phi'(a) >= sigma phi'(0);
    T2, the approximate ones: (2 delta - 1) phi'(0) >= phi'(a) >= sigma phi'(0) and phi(a) <= limit,
    where limit is phi(0) + epsilon_k in the paper, and infinite when only slopes are known.
    """
    curvature = trial.slope >= SIGMA * search.slope
    decrease = trial.value - search.value <= DELTA * search.step * search.slope
    nearly_flat = trial.slope <= (2 * DELTA - 1) * search.slope
    return trial.finite & (trial.value <= limit) & curvature & (decrease | nearly_flat)


def advance(arrays: NumpyArrays, search: Search, trial: Trial, limit: Scalar) -> Search:
    """The search after a trial that was not accepted: B1 to B3, U0 to U3, S1 to S4 and L2, one step of them."""
    narrowed = _narrow(arrays, search, trial, limit)
    step, phase = _next_trial(arrays, search, narrowed, trial, NOISE*abs(search.value))
    cycle = (phase == SECANT) & (narrowed.right < float("inf"))
    width = arrays.select(cycle, narrowed.right - narrowed.left, search.width)
    return narrowed._replace(step=step, phase=phase, width=width, trials=search.trials + 1)


def _narrow(arrays: NumpyArrays, search: Search, trial: Trial, limit: Scalar) -> Search:
    """The bracket with the trial as one of its ends (U1, U2; U3 is entered by setting `high`)."""
    select = arrays.select
    is_left = trial.finite & (trial.slope < 0) & (trial.value <= limit)
    is_opposite = trial.finite & (trial.slope >= 0)
    return search._replace(
        left=select(is_left, search.step, search.left),
        left_value=select(is_left, trial.value, search.left_value),
        left_slope=select(is_left, trial.slope, search.left_slope),
        right=select(is_left, search.right, search.step),
        right_value=select(is_left, search.right_value, trial.value),
        right_slope=select(is_left, search.right_slope, trial.slope),
        high=select(is_left, search.high, select(is_opposite, 0, 1)),
    )


EXPAND_MIN, EXPAND_MAX = 2.0, 10.0
SAFE = 0.01
CUBIC = True
HIGH_CUBIC = True


def _next_trial(arrays: NumpyArrays, before: Search, now: Search, trial: Trial, noise) -> tuple[Scalar, Scalar]:
    """The next step and its phase; `before` and `now` are the bracket without and with the trial."""
    select = arrays.select
    is_left = now.left == before.step
    replaced = select(is_left, before.left, before.right)
    replaced_value = select(is_left, before.left_value, before.right_value)
    replaced_slope = select(is_left, before.left_slope, before.right_slope)
    middle = now.left + THETA * (now.right - now.left)
    least, most = now.left + SAFE * (now.right - now.left), now.left + (1-SAFE) * (now.right - now.left)
    first = _minimizer(arrays, now.left, now.left_value, now.left_slope, now.right, now.right_value, now.right_slope, noise)
    second = _minimizer(arrays, before.step, trial.value, trial.slope, replaced, replaced_value, replaced_slope, noise)

    ends_cycle = (before.phase == SECANT) | (before.phase == SECOND_SECANT)
    slow = ends_cycle & (now.right - now.left > GAMMA * before.width)
    step, phase = select(_inside(first, now), arrays.small.minimum(arrays.small.maximum(first,least),most), middle), SECANT
    step, phase = select(slow, middle, step), select(slow, BISECTION, phase)
    again = (before.phase == SECANT) & _inside(second, now)
    step, phase = select(again, second, step), select(again, SECOND_SECANT, phase)
    high, unbounded = now.high == 1, now.right == float("inf")
    cut = select(HIGH_CUBIC & _inside(first, now) & arrays.isfinite(now.right_value), arrays.small.minimum(arrays.small.maximum(first,least),most), middle)
    step, phase = select(high, cut, step), select(high | unbounded, BRACKETING, phase)
    further = _secant(replaced, replaced_slope, before.step, trial.slope)
    lo, hi = EXPAND_MIN * before.step, EXPAND_MAX * before.step
    further = select(further >= lo, arrays.small.minimum(further, hi), select(trial.slope<replaced_slope, RHO*before.step, lo))
    step = select(unbounded, further, step)
    return select(trial.finite, step, now.left + CONTRACTION * (before.step - now.left)), phase


def _minimizer(arrays, a, value_a, slope_a, b, value_b, slope_b, noise):
    """Minimizer of the cubic through two values and slopes (Nocedal & Wright 2006, equation 3.59), or of the secant."""
    secant = _secant(a, slope_a, b, slope_b)
    d1 = slope_a + slope_b - 3 * ((value_a - value_b) / (a - b))
    scale = arrays.small.maximum(arrays.small.maximum(abs(slope_a), abs(slope_b)), abs(d1))
    root = (d1 / scale) * (d1 / scale) - (slope_a / scale) * (slope_b / scale)
    d2 = scale * arrays.small.sqrt(arrays.small.maximum(root, 0 * root))
    d2 = arrays.select(b > a, d2, -d2)
    cubic = b - (b - a) * ((slope_b + d2 - d1) / (slope_b - slope_a + 2 * d2))
    trusted = CUBIC & (abs(value_a - value_b) > noise) & arrays.isfinite(cubic)
    return arrays.select(trusted, cubic, secant)


def _secant(a: Scalar, slope_a: Scalar, b: Scalar, slope_b: Scalar) -> Scalar:
    """Where the line through two slopes is zero: (a phi'(b) - b phi'(a)) / (phi'(b) - phi'(a))."""
    return a + (b - a) * (slope_a / (slope_a - slope_b))


def _inside(step: Scalar, search: Search) -> Scalar:
    """Whether a step is strictly between the ends; not so for NaN."""
    return (step > search.left) & (step < search.right)
