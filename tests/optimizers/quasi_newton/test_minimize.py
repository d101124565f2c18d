"""`minimize`: SciPy's answers, x0's structures, what ends a run, and what is refused."""

import gc
import itertools
import weakref

import keras
import numpy as np
import pytest
import scipy.optimize
from keras import ops

from keras_addons_l6 import minimize
from keras_addons_l6.optimizers.quasi_newton import programs


def rosenbrock(x):
    return ops.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def quadratic(x):
    return ops.sum((x - 3.0) ** 2)


def host(x):
    return ops.convert_to_numpy(x)


@pytest.mark.usefixtures("float64")
class TestAnswers:
    def test_rosenbrock_as_scipy_finds_it(self):
        x0 = np.tile([-1.2, 1.0], 5)
        result = minimize(rosenbrock, x0, gradient_tolerance=1e-6, change_tolerance=0.0)
        peer = scipy.optimize.minimize(
            scipy.optimize.rosen,
            x0,
            jac=scipy.optimize.rosen_der,
            method="L-BFGS-B",
            options={"gtol": 1e-6, "ftol": 0},
        )
        assert result.converged
        assert result.gradient_norm <= 1e-6
        # Both have gradients below 1e-6, and the smallest curvature at the minimum is 0.4.
        np.testing.assert_allclose(host(result.x), peer.x, atol=5e-6)
        assert result.fun == pytest.approx(peer.fun, abs=1e-11)

    def test_the_result_describes_its_point(self):
        result = minimize(rosenbrock, np.array([-1.2, 1.0]), max_iterations=9)
        x = host(result.x)
        assert result.fun == pytest.approx(scipy.optimize.rosen(x), rel=1e-12)
        assert result.gradient_norm == pytest.approx(np.abs(scipy.optimize.rosen_der(x)).max(), rel=1e-10)
        assert result.iterations == 9
        assert result.evaluations >= 9
        assert not result.converged
        assert result.status == "stopped at max_iterations"

    def test_grad_norm_goes_on_as_gradient_norm(self):
        result = minimize(quadratic, np.zeros(2), max_iterations=1)
        with pytest.warns(DeprecationWarning, match="gradient_norm"):
            assert result.grad_norm == result.gradient_norm

    def test_dtype_and_shape_are_those_of_x0(self):
        for dtype in ("float32", "float64"):
            x = minimize(quadratic, np.zeros((2, 3), dtype)).x
            assert keras.backend.standardize_dtype(x.dtype) == dtype
            assert tuple(x.shape) == (2, 3)

    @pytest.mark.parametrize(
        "x0",
        [
            {"a": np.zeros((2, 3)), "b": np.ones(4, "float32")},
            [np.zeros((2, 3)), np.ones(())],
            {"a": [np.zeros(2), {"c": np.ones((1, 1))}]},
            (np.zeros(2), np.zeros(3)),
        ],
    )
    def test_structures(self, x0):
        def fun(x):
            keras.tree.assert_same_structure(keras.tree.map_structure(lambda _: 0, x), expected)
            return sum(ops.cast(quadratic(leaf), "float64") for leaf in keras.tree.flatten(x))

        expected = keras.tree.map_structure(lambda _: 0, x0 if isinstance(x0, dict) else list(x0))
        result = minimize(fun, x0, gradient_tolerance=1e-3)
        assert result.converged
        for start, leaf in zip(keras.tree.flatten(x0), keras.tree.flatten(result.x), strict=True):
            assert tuple(leaf.shape) == start.shape
            assert keras.backend.standardize_dtype(leaf.dtype) == start.dtype
            np.testing.assert_allclose(host(leaf), 3.0, atol=1e-3)

    def test_half_precision_is_worked_on_in_float32(self):
        result = minimize(quadratic, ops.zeros((2,), "bfloat16"), gradient_tolerance=0.05)
        assert keras.backend.standardize_dtype(result.x.dtype) == "bfloat16"
        np.testing.assert_allclose(host(ops.cast(result.x, "float32")), 3.0, atol=0.05)

    def test_a_list_of_numbers_is_a_vector_and_whole_numbers_are_real(self):
        for x0 in ([0, 0], [0.0, 1.0], np.array([0, 5])):
            result = minimize(quadratic, x0)
            assert tuple(result.x.shape) == (2,)
            assert keras.backend.standardize_dtype(result.x.dtype) == "float64"
            np.testing.assert_allclose(host(result.x), [3.0, 3.0], atol=1e-5)

    def test_a_leaf_that_the_function_ignores_stays(self):
        result = minimize(lambda x: quadratic(x["used"]), {"used": np.zeros(2), "unused": np.ones(2)})
        np.testing.assert_array_equal(host(result.x["unused"]), [1.0, 1.0])
        assert result.converged

    def test_a_constant_is_converged_at_once(self):
        result = minimize(lambda x: ops.sum(x * 0.0) + 2.0, np.ones(3))
        assert (result.converged, result.evaluations, result.fun) == (True, 1, 2.0)


class TestWhatEndsARun:
    def test_evaluations(self):
        for most in (1, 7):
            result = minimize(rosenbrock, [-1.2, 1.0], max_evaluations=most)
            assert result.evaluations == most
            assert result.status == "stopped at max_evaluations"
            assert result.fun <= 24.2 * (1 + 1e-6)  # the value at x0, in float32

    def test_gradient_tolerance(self):
        loose = minimize(rosenbrock, [-1.2, 1.0], gradient_tolerance=1.0)
        assert loose.converged
        assert loose.gradient_norm <= 1.0
        assert loose.evaluations < minimize(rosenbrock, [-1.2, 1.0], gradient_tolerance=1e-3).evaluations

    def test_change_tolerance_is_not_convergence(self):
        stalled = minimize(rosenbrock, [-1.2, 1.0], change_tolerance=10.0, gradient_tolerance=0.0)
        assert stalled.status.startswith("stalled")
        assert not stalled.converged

    @pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled, so nothing is kept")
    def test_a_second_call_starts_at_its_programs_pace(self, monkeypatch):
        monkeypatch.setattr(programs, "CHUNK_SECONDS", 60.0)

        def fun(x):
            return rosenbrock(x)

        def chunks():
            seen = []
            result = minimize(fun, [-1.2, 1.0], callback=lambda r: bool(seen.append(r)))
            return len(seen), result.evaluations

        first, second = chunks(), chunks()
        assert first[0] > 0  # one evaluation, then sixteen times as many
        assert second == (0, first[1])  # all in one, which ends the run

    def test_callback_sees_results_and_stops(self, monkeypatch):
        monkeypatch.setattr(programs, "CHUNK_SECONDS", 0.0)  # one evaluation a chunk
        seen = []

        def callback(result):
            seen.append(result)
            return len(seen) == 5

        result = minimize(rosenbrock, [-1.2, 1.0], callback=callback)
        assert len(seen) == 5
        assert result.status == "stopped by a callback"
        assert [r.evaluations for r in seen] == sorted({r.evaluations for r in seen})
        assert all(r.status == "running" for r in seen)
        assert all(b.fun <= a.fun * (1 + 1e-6) for a, b in itertools.pairwise(seen))

    def test_an_exception_of_the_callback_passes(self, monkeypatch):
        monkeypatch.setattr(programs, "CHUNK_SECONDS", 0.0)

        def interrupt(result):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            minimize(rosenbrock, [-1.2, 1.0], callback=interrupt)

    def test_chunks_do_not_change_the_path(self, monkeypatch):
        whole = minimize(rosenbrock, [-1.2, 1.0])
        monkeypatch.setattr(programs, "CHUNK_SECONDS", 0.0)
        pieces = minimize(rosenbrock, [-1.2, 1.0])
        assert (whole.evaluations, whole.fun) == (pieces.evaluations, pieces.fun)
        np.testing.assert_array_equal(host(whole.x), host(pieces.x))


class TestRefused:
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_a_start_without_a_value(self, bad):
        with pytest.raises(ValueError, match=r"infinite or NaN at `x0`.*fun\(x0\) = (nan|inf)"):
            minimize(lambda x: ops.sum(x) + bad, [1.0])

    def test_a_start_without_a_gradient(self):
        with pytest.raises(ValueError, match="gradient"):
            minimize(lambda x: ops.sum(ops.sqrt(x)), [0.0])

    def test_a_function_of_many_values(self):
        with pytest.raises(ValueError, match=r"one real number.*\(2,\)"):
            minimize(lambda x: x**2, [1.0, 2.0])

    def test_complex_x0(self):
        with pytest.raises(ValueError, match="real"):
            minimize(quadratic, np.array([1j]))

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("history_size", 0),
            ("gradient_tolerance", -1.0),
            ("change_tolerance", float("inf")),
            ("max_iterations", 0),
            ("max_evaluations", 0),
            ("max_iterations", 1.5),
        ],
    )
    def test_out_of_range(self, argument, value):
        with pytest.raises(ValueError, match=f"{argument}.*{value}"):
            minimize(quadratic, [1.0], **{argument: value})

    def test_errors_of_the_function_pass(self):
        def fun(x):
            raise RuntimeError("mine")

        with pytest.raises(RuntimeError, match="mine"):
            minimize(fun, [1.0])

    def test_float64_that_is_float32_in_truth(self, backend):
        """Only JAX without x64 gives less than what was asked for."""
        if backend != "jax":
            return
        with pytest.warns(UserWarning, match="jax_enable_x64"):
            minimize(quadratic, np.zeros(2))


class TestProgramsAreKept:
    def test_a_second_call_does_not_trace_again(self, backend):
        calls = []

        def fun(x):
            calls.append(1)
            return quadratic(x)

        first = minimize(fun, [0.0, 1.0])
        traced = len(calls)
        second = minimize(fun, [5.0, 1.0], gradient_tolerance=1e-4, max_iterations=50)
        # Uncompiled on torch: each evaluation calls it. Elsewhere one call checks that the function is still
        # the same.
        assert len(calls) - traced == (second.evaluations if backend == "torch" else 1)
        assert first.converged
        assert second.converged

    def test_what_a_function_captured_may_change(self):
        target = [1.0]

        def fun(x):
            return ops.sum((x - target[0]) ** 2)

        for value in (1.0, 2.0, -7.0):
            target[0] = value
            np.testing.assert_allclose(host(minimize(fun, [0.0]).x), [value], atol=1e-5)

    def test_other_shapes_need_other_programs(self):
        assert tuple(minimize(quadratic, np.zeros(3, "float32")).x.shape) == (3,)
        assert tuple(minimize(quadratic, np.zeros((2, 2), "float32")).x.shape) == (2, 2)

    def test_a_function_is_let_go(self):
        class Target:
            pass

        target = Target()
        target.value = 2.0

        def fun(x, target=target):
            return ops.sum((x - target.value) ** 2)

        minimize(fun, [0.0])
        alive = weakref.ref(target)
        del fun, target
        gc.collect()
        assert alive() is None

    def test_methods_and_objects(self):
        class Fit:
            __hash__ = None  # such an object cannot be a key

            def __call__(self, x):
                return quadratic(x)

            def loss(self, x):
                return quadratic(x)

        for fun in (Fit(), Fit().loss):
            np.testing.assert_allclose(host(minimize(fun, [0.0]).x), [3.0], atol=1e-5)
