"""The iteration: its directions, its statuses, its guards, and that it is a function of its state alone."""

import itertools

import keras
import numpy as np
import pytest

from keras_addons_l6.backends import arrays_for
from keras_addons_l6.optimizers.quasi_newton import iteration, programs
from keras_addons_l6.optimizers.quasi_newton.inverse_hessian import InverseHessian
from keras_addons_l6.optimizers.quasi_newton.iteration import Settings
from keras_addons_l6.optimizers.quasi_newton.pairs import LimitedMemory
from tests.optimizers.quasi_newton.driving import Run, complex_step, to_numpy
from tests.optimizers.quasi_newton.problems import CLASSIC
from tests.reference import lbfgs as reference

PROBLEMS = {problem.name: problem for problem in CLASSIC}
TIGHT = {"gradient_tolerance": 1e-6, "change_tolerance": 0.0}
BOTH = pytest.mark.parametrize("on_backend", [False, True], ids=["numpy", "backend"])
VALUES = pytest.mark.parametrize("with_values", [True, False], ids=["values", "slopes"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
pytestmark = pytest.mark.usefixtures("float64")

CURVATURES = [LimitedMemory(3), InverseHessian("self_scaled_broyden", "float64")]


def classic(name, **kwargs):
    """A run on a classic problem that is analytic."""
    problem = PROBLEMS[name]
    return Run(complex_step(problem), [problem.start], **{**TIGHT, **kwargs})


def quadratic(curvatures, minimum=0.0):
    """Sum of c (x - minimum)^2 / 2, over a list of arrays."""

    def objective(where):
        value = sum(np.sum(c * (x - minimum) ** 2) / 2 for c, x in zip(curvatures, where, strict=True))
        return value, [c * (x - minimum) for c, x in zip(curvatures, where, strict=True)]

    return objective


class TestLayout:
    def test_every_number_has_its_place_for_good(self):
        """Saved states hold the numbers in this order."""
        assert (
            *("step", "value", "slope", "left", "left_value", "left_slope", "right", "right_value"),
            *("right_slope", "width", "gradient_norm", "start_value", "lowest_value", "noise", "gamma"),
        ) == iteration.REAL_NAMES
        assert (
            *("phase", "high", "trials", "status", "collapsed", "iterations", "evaluations", "newest"),
            *("pairs", "slopes_only", "flat"),
        ) == iteration.COUNT_NAMES
        fields = (*iteration.Search._fields, *iteration.Progress._fields)
        assert sorted(fields) == sorted(iteration.REAL_NAMES + iteration.COUNT_NAMES)


class TestDirections:
    @pytest.mark.parametrize(
        ("name", "on_backend"),
        [("chained Rosenbrock 10", False), ("Broyden tridiagonal 100", False), ("Osborne 2", True)],
    )
    def test_they_are_those_of_dense_bfgs(self, name, on_backend):
        """-H g with H built from the accepted points' pairs by Nocedal & Wright's matrices, for 25 iterations."""
        problem = PROBLEMS[name]
        run = classic(name, on_backend=on_backend, curvature=LimitedMemory(5))
        objective, path = complex_step(problem), []
        for _ in range(30):
            before = run.iterations if path else -1
            run.step()
            if run.iterations == before or run.status not in iteration.ACTIVE:
                continue
            x = run.point[0]
            path.append((x, objective([x])[1][0]))
            steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(path)]
            inverse = reference.bfgs_inverse(steps[-5:], x.size)
            expected = -inverse @ path[-1][1]
            if not steps:
                expected /= np.linalg.norm(expected)
            # s and y here are differences of stored iterates, good to u |x| / |s|; H magnifies that by its condition.
            np.testing.assert_allclose(
                to_numpy(run.state.direction[0]), expected, rtol=0, atol=1e-5 * np.linalg.norm(expected)
            )
        assert len(path) > 15

    @BOTH
    def test_a_list_of_tensors_is_one_vector(self, on_backend):
        shapes = [(2, 3), (), (4,)]
        problem = PROBLEMS["Osborne 2"]
        objective, ends = complex_step(problem), [6, 7]

        def split(flat):
            return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]

        def in_parts(where):
            value, gradient = objective([np.concatenate([np.reshape(x, -1) for x in where])])
            return value, split(gradient[0])

        parts = Run(in_parts, split(problem.start), on_backend=on_backend, **TIGHT)
        whole = classic("Osborne 2", on_backend=on_backend)
        for _ in range(12):  # rounding differs, and the path magnifies that
            parts.step(), whole.step()
            np.testing.assert_allclose(
                np.concatenate([x.reshape(-1) for x in parts.point]), whole.point[0], rtol=1e-9
            )

    def test_the_first_step_has_length_one_and_the_next_search_starts_at_the_learning_rate(self):
        run = Run(quadratic([np.array([1.0, 3.0])]), [np.array([30.0, 40.0])], learning_rate=0.5)
        run.step()
        assert np.linalg.norm(run.trial[0] - run.point[0]) == pytest.approx(1.0, rel=1e-15)
        while run.iterations == 0:
            run.step()
        np.testing.assert_allclose(run.trial[0], run.point[0] + 0.5 * run.state.direction[0], rtol=1e-15)


class TestStatuses:
    def test_every_status_has_its_words(self):
        assert sorted(iteration.MESSAGES) == list(range(10))

    @BOTH
    def test_a_stationary_start_is_converged_after_one_evaluation(self, on_backend):
        run = Run(quadratic([np.ones(3)]), [np.zeros(3)], on_backend=on_backend).advance()
        assert (run.status, run.evaluations, run.iterations) == (iteration.CONVERGED, 1, 0)

    @BOTH
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("where", ["value", "gradient"])
    def test_a_start_that_is_not_finite(self, bad, where, on_backend):
        def objective(x):
            found = (bad if where == "value" else 1.0), np.array([1.0, bad if where == "gradient" else 1.0])
            return found[0], [found[1]]

        run = Run(objective, [np.array([1.0, 2.0])], on_backend=on_backend).advance()
        assert (run.status, run.evaluations) == (iteration.NON_FINITE_START, 1)
        np.testing.assert_array_equal(to_numpy(run.trial[0]), [1.0, 2.0])

    @BOTH
    @pytest.mark.parametrize(
        ("limit", "status"),
        [
            ({"max_iterations": 3}, iteration.MAX_ITERATIONS),
            ({"max_evaluations": 5}, iteration.MAX_EVALUATIONS),
        ],
    )
    def test_limits(self, limit, status, on_backend):
        run = classic("chained Rosenbrock 10", on_backend=on_backend, **limit).advance()
        assert run.status == status
        assert getattr(run, next(iter(limit)).removeprefix("max_")) == next(iter(limit.values()))
        np.testing.assert_array_equal(to_numpy(run.trial[0]), run.point[0])

    def test_stalled_after_ten_small_decreases_in_a_row(self):
        run = classic("chained Rosenbrock 100", change_tolerance=0.5).advance()
        assert run.status == iteration.STALLED
        changes = -np.diff(run.values) / run.values[1:]
        assert np.all(changes[-10:] <= 0.5)
        assert not any(np.all(changes[i : i + 10] <= 0.5) for i in range(len(changes) - 10))
        assert classic("chained Rosenbrock 100", change_tolerance=0.0).advance().status == iteration.CONVERGED

    @BOTH
    def test_a_gradient_of_the_wrong_sign_fails(self, on_backend):
        def objective(where):
            value, gradient = quadratic([np.ones(4)])(where)
            return value, [-g for g in gradient]

        run = Run(objective, [np.ones(4)], on_backend=on_backend, max_line_search_steps=8).advance(200)
        assert run.status in (iteration.LINE_SEARCH_FAILED, iteration.ROUNDING)
        np.testing.assert_array_equal(run.point[0], np.ones(4))

    @BOTH
    def test_float32_ends_by_rounding_not_by_a_false_convergence(self, on_backend):
        """No float32 gradient of this sum reaches 1e-30, so the run must say that rounding stopped it."""
        rng = np.random.default_rng(0)
        a, b = rng.standard_normal((30, 8)).astype("float32"), rng.standard_normal(30).astype("float32")

        def objective(where):
            residuals = a @ where[0] - b
            return residuals @ residuals, [2 * a.T @ residuals]

        run = Run(
            objective,
            [np.ones(8)],
            "float32",
            on_backend=on_backend,
            change_tolerance=0.0,
            gradient_tolerance=1e-30,
        )
        run.advance(150)
        assert run.status in (iteration.ROUNDING, iteration.RUNNING)
        exact = np.linalg.lstsq(a.astype("float64"), b.astype("float64"), rcond=None)[0]
        np.testing.assert_allclose(run.point[0], exact, atol=1e-5)

    @BOTH
    def test_steps_after_the_end_change_nothing(self, on_backend):
        run = classic("Beale", on_backend=on_backend).advance()
        assert run.status == iteration.CONVERGED
        before = [to_numpy(x) for x in flat(run.state)]
        run.step()
        for old, new in zip(before, flat(run.state), strict=True):
            np.testing.assert_array_equal(old, to_numpy(new))
        np.testing.assert_array_equal(to_numpy(run.trial[0]), run.point[0])


class TestGuards:
    @DTYPES
    @pytest.mark.parametrize("name", ["Jennrich-Sampson", "Wood"])
    def test_where_others_end_falsely(self, name, dtype):
        """SciPy reports convergence at |g| = 3.7e3 on Jennrich-Sampson; Wood has a saddle at a value of 7.877."""
        run = classic(name, dtype=dtype, change_tolerance=1e-9).advance()
        value = complex_step(PROBLEMS[name])([run.point[0].astype("float64")])[0]
        assert value == pytest.approx(PROBLEMS[name].minima[0], rel=1e-6, abs=1e-9)
        assert run.status == iteration.CONVERGED or dtype == "float32"

    @DTYPES
    @VALUES
    @pytest.mark.parametrize(
        "name", ["Jennrich-Sampson", "Osborne 1", "Meyer", "Brown badly scaled", "Biggs EXP6"]
    )
    def test_converged_only_where_the_gradient_says_so(self, name, dtype, with_values):
        run = classic(name, dtype=dtype, with_values=with_values).advance(400)
        gradient = complex_step(PROBLEMS[name])([run.point[0]])[1][0].astype(dtype)
        assert np.abs(gradient).max() == run.gradient_norm
        assert (run.status == iteration.CONVERGED) == (run.gradient_norm <= 1e-6)

    @DTYPES
    @pytest.mark.parametrize(
        "name", [p.name for p in CLASSIC if p.start.size <= 12 and p.name not in ("Gulf", "helical valley")]
    )
    def test_no_run_ends_worse_than_it_began(self, name, dtype):
        """And accepted values rise by no more than their rounding, 1000 u |f|, unless a search failed on values."""
        run = classic(name, dtype=dtype).advance(300)
        assert np.all(np.array(run.values) <= run.values[0])
        rises = np.diff(run.values) / np.abs(run.values[:-1])
        assert run.without_values or np.all(rises <= 1000 * np.finfo(dtype).eps / 2 * (1 + 1e-6))

    @BOTH
    def test_an_infinite_region_is_backed_out_of(self, on_backend):
        """A logarithmic barrier: most first trials leave the domain, where the value is NaN."""

        def barrier(where):
            (x,) = where
            with np.errstate(all="ignore"):
                return np.sum(x - 1e-2 * np.log(x)), [1 - 1e-2 / x]

        run = Run(barrier, [np.array([1.0, 0.5, 3.0])], on_backend=on_backend, **TIGHT).advance()
        assert run.status == iteration.CONVERGED
        assert any(np.any(t[0] < 0) for t in run.tried)
        np.testing.assert_allclose(run.point[0], 1e-2, rtol=1e-4)

    @BOTH
    @pytest.mark.parametrize("power", [100, -100])
    def test_float32_gradients_whose_squares_leave_the_range(self, power, on_backend):
        """|g|^2 is 2^200 or 2^-200 in float32: the first direction is a unit vector all the same."""
        scale = np.float32(2.0**power)
        run = Run(
            lambda where: (np.float32(0.0), [scale * np.array([3.0, 4.0], "float32")]),
            [np.zeros(2)],
            "float32",
            on_backend=on_backend,
            gradient_tolerance=0.0,
        )
        run.step()
        np.testing.assert_allclose(to_numpy(run.state.direction[0]), [-0.6, -0.8], rtol=1e-6)

    def test_noise_in_values_costs_no_convergence(self):
        """Values rounded to 1e-6 of the start's, gradients exact; and the noise is measured, not assumed."""
        problem, step = PROBLEMS["Bard"], 4e-5
        exact = complex_step(problem)

        def rounded(where):
            value, gradient = exact(where)
            return np.round(value / step) * step, gradient

        run = Run(rounded, [problem.start], **TIGHT).advance(300)
        assert run.status == iteration.CONVERGED


class TestScale:
    @VALUES
    @DTYPES
    @pytest.mark.parametrize("name", ["Rosenbrock", "Wood", "Brown badly scaled", "Osborne 2"])
    def test_powers_of_two_change_no_bit_of_any_trial(self, name, dtype, with_values):
        plain = self.trials(name, dtype, with_values, 0)
        for power in range(-20, 21, 4):
            assert self.trials(name, dtype, with_values, power) == plain

    @BOTH
    def test_nor_on_the_backend(self, on_backend):
        plain = self.trials("Beale", "float32", True, 0, on_backend)
        for power in (-20, -7, 20):
            assert self.trials("Beale", "float32", True, power, on_backend) == plain

    def trials(self, name, dtype, with_values, power, on_backend=False):
        objective, scale = complex_step(PROBLEMS[name]), np.dtype(dtype).type(2.0**power)

        def scaled(where):
            value, gradient = objective(where)
            return np.asarray(value, dtype) * scale, [np.asarray(gradient[0], dtype) * scale]

        tolerances = {"gradient_tolerance": 1e-6 * 2.0**power, "change_tolerance": 0.0}
        run = Run(scaled, [PROBLEMS[name].start], dtype, with_values, on_backend, **tolerances).advance(60)
        return [trial[0].tobytes() for trial in run.tried]


class TestState:
    @BOTH
    @VALUES
    @pytest.mark.parametrize("curvature", CURVATURES)
    def test_it_resumes_bit_for_bit_from_a_copy_at_any_evaluation(self, on_backend, with_values, curvature):
        """The copy goes through NumPy, as a checkpoint does, in the middle of searches too."""
        through, kept = (
            classic("Rosenbrock", on_backend=on_backend, with_values=with_values, curvature=curvature)
            for _ in range(2)
        )
        in_search = 0
        for _ in range(40):
            kept.state = keras.tree.map_structure(lambda x: kept.convert(to_numpy(x)), kept.state)
            kept.trial = tuple(kept.convert(to_numpy(x)) for x in kept.trial)
            through.step(), kept.step()
            in_search += int(kept.trials > 0)
            for a, b in zip(flat(through.state), flat(kept.state), strict=True):
                np.testing.assert_array_equal(to_numpy(a), to_numpy(b))
        assert in_search >= 3

    @BOTH
    @DTYPES
    @pytest.mark.parametrize("curvature", CURVATURES)
    def test_shapes_and_dtypes_never_change(self, on_backend, dtype, curvature):
        run = classic("Wood", on_backend=on_backend, dtype=dtype, curvature=curvature)
        before = [(to_numpy(x).shape, to_numpy(x).dtype) for x in flat(run.state)]
        for _ in range(12):
            run.step()
            assert [(to_numpy(x).shape, to_numpy(x).dtype) for x in flat(run.state)] == before

    @BOTH
    def test_restart_keeps_the_pairs_and_costs_one_evaluation(self, on_backend):
        run = classic("chained Rosenbrock 10", on_backend=on_backend).advance(30)
        pairs, point = int(run.pairs), run.point[0]
        run.state = iteration.restart(run.arrays, run.state)
        run.trial = tuple(run.convert(point) for _ in run.trial)
        run.step()
        assert run.status == iteration.RUNNING
        assert int(run.pairs) == pairs
        np.testing.assert_array_equal(run.point[0], point)
        direction = to_numpy(run.state.direction[0])
        assert np.linalg.norm(direction) != pytest.approx(1.0)  # not the first step's unit vector
        assert run.advance().status == iteration.CONVERGED

    @pytest.mark.parametrize(("dtype", "kept_in"), [("float16", "float32"), ("bfloat16", "float32")])
    def test_half_precision_keeps_gradients_and_pairs_in_float32(self, dtype, kept_in):
        x = (keras.ops.ones((3,), dtype), keras.ops.ones((2, 2), "float32"))
        arrays = arrays_for(x)
        state, trial = iteration.init(arrays, Settings(), x), x
        for _ in range(4):
            gradient = tuple(2 * keras.ops.cast(t, "float32") for t in trial)
            value = sum(keras.ops.sum(keras.ops.square(keras.ops.cast(t, "float32"))) for t in trial)
            with arrays.scope():
                state, trial = iteration.step(arrays, Settings(), state, trial, gradient, value)
        name = keras.backend.standardize_dtype
        assert [name(t.dtype) for t in trial] == [name(t.dtype) for t in state.point] == [dtype, "float32"]
        lists = (state.gradient, state.direction, state.memory.rings, [state.memory.products])
        assert {name(t.dtype) for part in lists for t in part} == {kept_in}

    def test_mixed_precision_decides_in_the_widest(self):
        x = (keras.ops.ones((3,), "float32"), keras.ops.ones((2,), "float64"))
        arrays = arrays_for(x)
        assert arrays.real == "float64"
        state, trial = iteration.init(arrays, Settings(), x), x
        for _ in range(6):
            gradient = tuple(2 * (t - 0.25) for t in trial)
            value = sum(keras.ops.cast(keras.ops.sum((t - 0.25) ** 2), "float64") for t in trial)
            with arrays.scope():
                state, trial = iteration.step(arrays, Settings(), state, trial, gradient, value)
        assert int(to_numpy(iteration.read(state, "status"))) == iteration.CONVERGED
        assert [keras.backend.standardize_dtype(t.dtype) for t in state.point] == ["float32", "float64"]

    def test_a_compiled_loop_takes_the_same_steps(self):
        """The whole run as one program, against the same steps called one by one."""
        scales = keras.ops.convert_to_tensor(np.geomspace(1, 100, 6))
        settings = Settings(change_tolerance=0.0, gradient_tolerance=1e-8)
        x = (keras.ops.ones((6,), "float64"),)
        arrays = arrays_for(x)

        def step(carry):
            state, trial = carry
            value = keras.ops.sum(scales * trial[0] ** 2) / 2 + keras.ops.sum(trial[0] ** 4)
            gradient = (scales * trial[0] + 4 * trial[0] ** 3,)
            with arrays.scope():
                return iteration.step(arrays, settings, state, trial, gradient, value)

        def active(carry):
            return iteration.read(carry[0], "status") <= iteration.RUNNING

        loop = programs.compile_program(lambda carry: programs.repeat(active, step, carry))
        state, trial = loop((iteration.init(arrays, settings, x), x))
        alone, compiled = (iteration.init(arrays, settings, x), x), programs.compile_program(step)
        for _ in range(int(to_numpy(iteration.read(state, "evaluations")))):
            alone = compiled(alone)
        assert int(to_numpy(iteration.read(state, "status"))) == iteration.CONVERGED
        assert int(to_numpy(iteration.read(alone[0], "status"))) == iteration.CONVERGED
        np.testing.assert_allclose(to_numpy(trial[0]), to_numpy(alone[1][0]), atol=1e-9)

    def test_tensorflow_finds_no_slice_to_compile_anew(self, backend):
        """XLA takes the start of TensorFlow's `slice` for a constant: each new value of it would compile the step again."""
        if backend != "tensorflow":
            return
        import tensorflow as tf

        run = classic("Beale", on_backend=True)
        step = tf.function(run.take_step, autograph=False)
        graph = step.get_concrete_function(run.state, run.trial, run.trial, run.trial[0][0]).graph
        slices = [op for op in graph.get_operations() if op.type in ("Slice", "StridedSlice")]
        assert slices
        assert all(source.op.type == "Const" for op in slices for source in op.inputs[1:])


def flat(state):
    """A state's arrays in a row."""
    return keras.tree.flatten(state)
