"""The line search on functions of one variable, of which Moré & Thuente (1994) give six that are hard."""

import numpy as np
import pytest

from keras_addons_l6.backends.portable.arrays import NumpyArrays
from keras_addons_l6.optimizers.quasi_newton import line_search
from keras_addons_l6.optimizers.quasi_newton.line_search import DELTA, SIGMA, Point, Tolerance


def more_thuente_1(a, b=2.0):  # equation 5.1
    return -a / (a**2 + b), (a**2 - b) / (a**2 + b) ** 2


def more_thuente_2(a, b=0.004):  # equation 5.2
    return (a + b) ** 5 - 2 * (a + b) ** 4, 5 * (a + b) ** 4 - 8 * (a + b) ** 3


def more_thuente_3(a, b=0.01, waves=39):  # equation 5.3
    rounded = 1 - a if a <= 1 - b else a - 1 if a >= 1 + b else (a - 1) ** 2 / (2 * b) + b / 2
    slope = -1 if a <= 1 - b else 1 if a >= 1 + b else (a - 1) / b
    inner = waves * np.pi / 2 * a
    return rounded + 2 * (1 - b) / (waves * np.pi) * np.sin(inner), slope + (1 - b) * np.cos(inner)


def yanai(b1, b2):  # equation 5.4
    def gamma(b):
        return (1 + b**2) ** 0.5 - b

    def phi(a):
        near, far = ((1 - a) ** 2 + b2**2) ** 0.5, (a**2 + b1**2) ** 0.5
        value = gamma(b1) * near + gamma(b2) * far
        return value, -gamma(b1) * (1 - a) / near + gamma(b2) * a / far

    return phi


HARD = [
    more_thuente_1,
    more_thuente_2,
    more_thuente_3,
    yanai(1e-3, 1e-3),
    yanai(1e-2, 1e-3),
    yanai(1e-3, 1e-2),
]
NAMES = ["mt1", "mt2", "mt3", "mt4", "mt5", "mt6"]


class Searched:
    """A search run to its end, with the values or on slopes alone: its trials, and whether one was accepted."""

    def __init__(self, phi, first, with_values=True, noise=0.0, most=30, dtype="float64"):
        arrays, real = NumpyArrays(dtype), np.dtype(dtype).type
        value, slope = map(real, phi(real(0)))
        value = value if with_values else real(0)
        tolerance = Tolerance(value + real(noise if with_values else np.inf), real(noise))
        search = line_search.begin(real(first), value, slope)
        self.steps, self.accepted, self.searches = [], False, []
        with arrays.scope():
            for _ in range(most):
                found, found_slope = map(real, phi(search.step))
                trial = Point(search.step, found if with_values else real(0), found_slope)
                finite = np.isfinite(found) & np.isfinite(found_slope)
                self.steps.append(float(search.step))
                self.accepted = bool(line_search.accepts(search, trial, finite, tolerance))
                if self.accepted:
                    break
                search = line_search.advance(arrays, search, trial, finite, tolerance)
                self.searches.append(search)


@pytest.mark.parametrize("first", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize("phi", HARD, ids=NAMES)
def test_accepted_steps_satisfy_the_wolfe_conditions(phi, first):
    """T1 or T2 of Hager & Zhang (2005), checked from the function itself, and within a default search's 20 trials."""
    searched = Searched(phi, first)
    assert searched.accepted
    assert len(searched.steps) <= 20
    step = searched.steps[-1]
    (value_0, slope_0), (value, slope) = phi(0.0), phi(step)
    assert slope >= SIGMA * slope_0
    assert value <= value_0
    assert value - value_0 <= DELTA * step * slope_0 or slope <= (2 * DELTA - 1) * slope_0


@pytest.mark.parametrize("first", [1e-3, 1e-1, 1e1, 1e3])
@pytest.mark.parametrize("phi", HARD, ids=NAMES)
def test_slopes_alone_end_between_their_bounds(phi, first):
    searched = Searched(phi, first, with_values=False)
    assert searched.accepted
    slope_0, slope = phi(0.0)[1], phi(searched.steps[-1])[1]
    assert SIGMA * slope_0 <= slope <= (2 * DELTA - 1) * slope_0


@pytest.mark.parametrize("with_values", [True, False])
@pytest.mark.parametrize("phi", HARD, ids=NAMES)
def test_brackets_shrink_around_a_descending_left_end(phi, with_values):
    """Hager & Zhang's (4.4): phi(left) <= phi(0), phi'(left) < 0; each trial lies inside, so no bracket grows."""
    searched = Searched(phi, 10.0, with_values)
    for before, now in zip(searched.searches, searched.searches[1:], strict=False):
        assert before.left <= now.left < now.right <= before.right
        assert now.left < now.step or now.right == np.inf
        assert now.step < now.right
        assert phi(now.left)[1] < 0
        assert not with_values or phi(now.left)[0] <= phi(0.0)[0]


@pytest.mark.parametrize("power", [-20, 3, 20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("phi", HARD, ids=NAMES)
def test_steps_do_not_depend_on_the_scale_of_values(phi, dtype, power):
    def scaled(a):
        return tuple(np.dtype(dtype).type(found) * np.dtype(dtype).type(2.0**power) for found in phi(a))

    def rounded(a):
        return tuple(np.dtype(dtype).type(found) for found in phi(a))

    assert Searched(scaled, 10.0, dtype=dtype).steps == Searched(rounded, 10.0, dtype=dtype).steps


def test_quadratics_need_two_trials():
    """The first trial anywhere; the second is the minimizer, which the cubic and the secant both give exactly."""
    for first in (0.01, 0.3, 4.0, 50.0):
        for with_values in (True, False):
            searched = Searched(lambda a: ((a - 2) ** 2, 2 * (a - 2)), first, with_values)
            bounded = np.clip(2.0, line_search.RHO_MIN * first, line_search.RHO_MAX * first)
            expected = bounded if first < 2 else max(2.0, line_search.SAFEGUARD * first)
            assert searched.steps[1] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["value", "slope"])
def test_a_trial_that_is_not_finite_contracts_tenfold(bad, where):
    def phi(a):
        found = (a - 0.02) ** 2, 2 * (a - 0.02)
        if a < 0.05:
            return found
        return (bad, found[1]) if where == "value" else (found[0], bad)

    searched = Searched(phi, 1.0)
    assert searched.accepted
    np.testing.assert_allclose(searched.steps[:3], [1.0, 0.1, 0.01], rtol=1e-15)


def test_after_a_wall_the_search_stays_before_it():
    """A left end found after an infinite trial is bisected towards it: nothing is known of the wall but its place."""
    searched = Searched(lambda a: (-a, -1.0) if a < 0.5 else (np.inf, np.nan), 1.0, most=6)
    np.testing.assert_allclose(searched.steps, [1.0, 0.1, 0.55, 0.145, 0.3475, 0.44875], rtol=1e-14)


def test_noise_in_values_does_not_prevent_acceptance():
    """Values that differ by less than their noise neither rule a trial out nor enter an interpolation."""

    def phi(a):
        return 1.0 + 1e-9 * (a > 0), a - 0.3  # phi(a) > phi(0) everywhere, by noise

    assert not Searched(phi, 1.0).accepted
    searched = Searched(phi, 1.0, noise=1e-8)
    assert searched.accepted
    assert searched.steps[-1] == pytest.approx(0.3, rel=1e-12)  # the secant's zero


def test_a_function_without_a_minimum_is_followed_tenfold():
    searched = Searched(lambda a: (-a, -1.0), 1.0, most=5)
    assert searched.steps == [1.0, 10.0, 100.0, 1e3, 1e4]


@pytest.mark.parametrize(("decrease", "slope", "expected"), [(-0.1, -1.0, 0.202), (-3.0, -1.0, 1.0)])
def test_the_step_that_is_expected_to_do_as_well_as_the_last(decrease, slope, expected):
    """Nocedal & Wright's equation 3.60: the parabola through 0 with this slope and its minimum at a falls by -a slope / 2."""
    step = line_search.expected_step(NumpyArrays("float64"), np.float64(decrease), np.float64(slope))
    assert step == pytest.approx(expected, rel=1e-15)


def test_sigma_is_the_part_of_the_slope_that_an_accepted_step_may_leave():
    search = line_search.begin(np.float64(1.0), np.float64(0.0), np.float64(-1.0))
    trial, tolerance = Point(1.0, -0.9, -0.8), Tolerance(0.0, 0.0)
    assert line_search.accepts(search, trial, True, tolerance, sigma=0.9)
    assert not line_search.accepts(search, trial, True, tolerance)
