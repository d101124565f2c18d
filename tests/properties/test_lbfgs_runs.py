"""What holds at every evaluation of an L-BFGS run, checked from outside against the papers' conditions."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_addons_l6.backends.portable.arrays import NumpyArrays
from keras_addons_l6.optimizers.quasi_newton import iteration, line_search
from keras_addons_l6.optimizers.quasi_newton.iteration import Settings
from keras_addons_l6.optimizers.quasi_newton.pairs import History, LimitedMemory, store
from tests.reference import lbfgs as reference

ARRAYS = NumpyArrays("float64")
# The package's delta (Hager & Zhang, 2005, have 0.1: this accepts a smaller decrease), and their sigma, which the
# package's own, 0.7, is stricter than.
DELTA, SIGMA = 0.001, 0.9


def rosenbrock(x):
    a, b = 1 - x[:-1], x[1:] - x[:-1] ** 2
    gradient = np.zeros_like(x)
    gradient[:-1] += -2 * a - 400 * b * x[:-1]
    gradient[1:] += 200 * b
    return np.sum(a**2 + 100 * b**2), gradient


def quartic(x):
    return np.sum(x**4 + 0.5 * x**2), 4 * x**3 + x


def log_sum_exp(x):
    """Flat far out; its minimum is at 0."""
    e = np.exp(np.concatenate([x, -x]))
    return np.log(e.sum()), (e[: len(x)] - e[len(x) :]) / e.sum()


def barrier(x):
    """Infinite outside the unit box, so that long steps have no value."""
    with np.errstate(all="ignore"):
        inside = 1 - x**2
        value = -0.1 * np.sum(np.log(inside)) + np.sum((x - 0.7) ** 2)
        return value, 0.2 * x / inside + 2 * (x - 0.7)


FUNCTIONS = {f.__name__: f for f in (rosenbrock, quartic, log_sum_exp, barrier)}


class Evaluation(NamedTuple):
    """One step of a run: where it evaluated, what it found, and the state after it."""

    x: np.ndarray
    value: float
    gradient: np.ndarray
    state: iteration.State

    def read(self, name):
        return iteration.read(self.state, name)


DEFAULTS = Settings()


def run(function, start, settings=DEFAULTS, scale=1.0, with_values=True):
    """All evaluations until the end of the run."""
    state, trial, evaluations = iteration.init(ARRAYS, settings, [start]), (start,), []
    while iteration.read(state, "status") in iteration.ACTIVE:
        value, gradient = (scale * part for part in function(trial[0]))
        found = value if with_values else None
        with ARRAYS.scope():
            state, following = iteration.step(ARRAYS, settings, state, trial, [gradient], found)
        evaluations.append(Evaluation(trial[0].copy(), value, gradient, state))
        trial = following
        assert len(evaluations) < 3000
    return evaluations


def accepted(evaluations):
    """The evaluations that became the accepted point, the start among them."""
    counts = [e.read("iterations") for e in evaluations]
    return [e for e, before, now in zip(evaluations, [-1, *counts], counts, strict=False) if now > before]


starts = st.tuples(st.sampled_from(list(FUNCTIONS)), st.integers(0, 9999))


def start_of(name, seed):
    x = np.random.default_rng(seed).normal(size=4)
    return 0.9 * np.tanh(x) if name == "barrier" else x


@given(starts)
def test_every_run_converges_to_a_point_of_zero_gradient(drawn):
    name, seed = drawn
    last = run(FUNCTIONS[name], start_of(name, seed))[-1]
    assert last.read("status") == iteration.CONVERGED
    assert np.abs(FUNCTIONS[name](last.state.point[0])[1]).max() <= Settings().gradient_tolerance


@given(starts)
def test_every_accepted_step_meets_the_conditions_of_hager_and_zhang(drawn):
    """T1, or T2 with a value no higher than rounding explains."""
    name, seed = drawn
    points = accepted(run(FUNCTIONS[name], start_of(name, seed)))
    for old, new in itertools.pairwise(points):
        step = new.x - old.x
        slope, slope_after = old.gradient @ step, new.gradient @ step
        assert slope < 0
        wolfe = new.value - old.value <= DELTA * slope
        approximate = (2 * DELTA - 1) * slope >= slope_after
        assert slope_after >= SIGMA * slope, "the curvature condition"
        # The step is a rounded difference of points, and the values carry a rounding each.
        assert wolfe or approximate or abs(slope) < 1e-12 * abs(old.value)
        assert new.value <= old.value + 1e-12 * abs(old.value)


@given(starts)
def test_every_direction_is_that_of_the_two_loop_recursion(drawn):
    """Over the pairs of accepted points; directions agree to the digits that the last pair's angle leaves."""
    name, seed = drawn
    points = accepted(run(FUNCTIONS[name], start_of(name, seed)))
    pairs = []
    for old, new in itertools.pairwise(points):
        s, y = new.x - old.x, new.gradient - old.gradient
        if s @ y > 1e-12 * np.linalg.norm(s) * np.linalg.norm(y):
            pairs = [*pairs, (s, y)][-10:]
        expected = -reference.two_loop(pairs, new.gradient)
        direction = new.state.direction[0]
        cosine = direction @ expected / np.linalg.norm(direction) / np.linalg.norm(expected)
        assert cosine > 1 - 1e-4
        np.testing.assert_allclose(np.linalg.norm(direction), np.linalg.norm(expected), rtol=1e-2)


@given(starts)
def test_the_first_direction_has_length_one_and_the_first_step_is_it(drawn):
    name, seed = drawn
    first, second = run(FUNCTIONS[name], start_of(name, seed))[:2]
    np.testing.assert_allclose(
        second.x, first.x - first.gradient / np.linalg.norm(first.gradient), rtol=1e-14, atol=1e-15
    )


@given(starts, st.integers(-40, 40))
def test_the_losss_unit_changes_no_bit(drawn, power):
    name, seed = drawn
    tolerance = Settings()._replace(gradient_tolerance=1e-6 * 2.0**power)
    plain = run(FUNCTIONS[name], start_of(name, seed), Settings()._replace(gradient_tolerance=1e-6))
    scaled = run(FUNCTIONS[name], start_of(name, seed), tolerance, scale=2.0**power)
    np.testing.assert_array_equal([e.x for e in scaled], [e.x for e in plain])


@given(st.floats(0.01, 0.6))
def test_a_trial_without_a_value_is_cut_to_a_tenth(start):
    """The first trial is one away, outside the box: the next comes a tenth as far."""
    first, outside, following = run(barrier, np.array([start]))[:3]
    assert not np.isfinite(outside.value)
    np.testing.assert_allclose(following.x - first.x, 0.1 * (outside.x - first.x), rtol=1e-12)


@given(starts)
def test_slopes_alone_converge_too(drawn):
    name, seed = drawn
    assert (
        run(FUNCTIONS[name], start_of(name, seed), with_values=False)[-1].read("status")
        == iteration.CONVERGED
    )


@pytest.mark.parametrize(
    ("start", "evaluations"), [([-1.2, 1.0], 60), ([-1.2, 1.0] * 5, 130), ([3.0, -3.0], 60)]
)
def test_rosenbrock_in_about_as_many_evaluations_as_scipy(start, evaluations):
    """SciPy's L-BFGS-B needs 45 and 93 to |g| <= 1e-6 from the first two starts; a third more is the limit here."""
    settings = Settings()._replace(gradient_tolerance=1e-6)
    assert len(run(rosenbrock, np.array(start), settings)) <= evaluations


def test_history_holds_no_more_than_its_size_and_forgets_the_oldest():
    evaluations = run(rosenbrock, np.array([-1.2, 1.0] * 3), Settings(curvature=LimitedMemory(4)))
    assert max(e.read("pairs") for e in evaluations) == 4
    last, *before = reversed(accepted(evaluations)[-6:])
    newest = last.x - before[0].x
    held = [np.linalg.norm(row - newest) for row in last.state.memory.rings[0][:4]]
    assert min(held) <= 1e-12 * max(1.0, np.linalg.norm(last.x))


@pytest.mark.parametrize("limit", [1, 7])
def test_limits_end_the_run(limit):
    start = np.array([-1.2, 1.0])
    assert len(run(rosenbrock, start, Settings()._replace(max_evaluations=limit))) == limit
    last = run(rosenbrock, start, Settings()._replace(max_iterations=limit))[-1]
    assert (last.read("status"), last.read("iterations")) == (iteration.MAX_ITERATIONS, limit)


def test_a_step_whose_value_rose_is_refused_however_flat_its_end():
    """Slopes that meet T2 with a value above the limit: a hill lies between, or another valley begins."""
    search = line_search.begin(1.0, 5.0, -1.0)
    tolerance = line_search.Tolerance(limit=5.0 + 1e-9, noise=1e-9)
    assert line_search.accepts(search, line_search.Point(1.0, 4.9, -0.1), True, tolerance)
    assert not line_search.accepts(search, line_search.Point(1.0, 5.1, -0.1), True, tolerance)


@pytest.mark.parametrize(("curvature", "kept"), [(1.0, True), (1e-3, True), (0.0, False), (-1.0, False)])
def test_only_pairs_of_positive_curvature_are_kept(curvature, kept):
    state = iteration.init(ARRAYS, Settings(), [np.zeros(3)])
    history = History(*state.memory, 1.0, 0, 0)
    s = np.array([1.0, 0.0, 0.0])
    history, stored = store(ARRAYS, history, [s], [curvature * s + [0.0, 1.0, 0.0]], np.bool_(True))
    assert (bool(stored), int(history.pairs)) == (kept, int(kept))
