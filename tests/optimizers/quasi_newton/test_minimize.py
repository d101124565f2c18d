"""`minimize`: SciPy's answers, x0's structures, what ends a run, and what is refused."""

import collections
import functools
import gc
import importlib
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


Pair = collections.namedtuple("Pair", ["first", "second"])


def shown(x):
    """A structure in words, the order of keys included."""
    if type(x) is dict:  # of no order, as JAX has it
        x = dict(sorted(x.items()))
    if isinstance(x, dict):
        return f"{type(x).__name__}({', '.join(f'{key}={shown(value)}' for key, value in x.items())})"
    if isinstance(x, list | tuple):
        return f"{type(x).__name__}({', '.join(map(shown, x))})"
    return "None" if x is None else "tensor"


def tensors(x):
    return [leaf for leaf in keras.tree.flatten(x) if leaf is not None]


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
            Pair(np.zeros(2), [np.ones(1), None]),
            collections.OrderedDict(z=np.zeros(2), a=(np.ones(3),)),
            {"b": Pair(np.zeros(1), collections.OrderedDict(y=np.zeros(2))), "a": None},
        ],
    )
    def test_structures(self, x0):
        def fun(x):
            seen.append(shown(x))
            return sum(ops.cast(quadratic(leaf), "float64") for leaf in tensors(x))

        seen = []
        result = minimize(fun, x0, gradient_tolerance=1e-3)
        assert result.converged
        assert {*seen, shown(result.x)} == {shown(x0)}
        for start, leaf in zip(tensors(x0), tensors(result.x), strict=True):
            assert tuple(leaf.shape) == start.shape
            assert keras.backend.standardize_dtype(leaf.dtype) == start.dtype
            np.testing.assert_allclose(host(leaf), 3.0, atol=1e-3)

    def test_numbers_in_structures(self):
        result = minimize(lambda p: (p.first - 1) ** 2 + ops.sum(p.second**2), Pair(0.0, [0.5, 1]))
        assert isinstance(result.x, Pair)
        assert float(result.x.first) == pytest.approx(1.0, abs=1e-4)
        assert tuple(result.x.second.shape) == (2,)

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

    @pytest.mark.parametrize(
        "fun",
        [
            lambda x: ops.sum(x),
            lambda x: -ops.sum(x**2),
            lambda x: -ops.sum(x**3),
            lambda x: -ops.sum(ops.exp(x)),
        ],
        ids=["line", "parabola", "cubic", "exponential"],
    )
    def test_an_objective_that_falls_for_ever(self, fun):
        result = minimize(fun, [1.0, 2.0], max_evaluations=2000)
        assert result.status.startswith("unbounded")
        assert not result.converged

    def test_a_wrong_gradient_is_no_fall(self):
        result = minimize(lambda x: ops.sum(x - ops.stop_gradient(x)), [1.0, 2.0])
        assert "unbounded" not in result.status

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
    def test_a_second_call_starts_at_its_programs_pace(self, monkeypatch, compiled):
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
        assert len({tuple(host(r.x)) for r in seen}) > 1  # each its own, though the program writes in place

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

    @pytest.mark.parametrize(
        "fun",
        [
            lambda x: ops.sum(ops.stop_gradient(x) ** 2),
            lambda x: ops.sum(ops.ones((2,), "float32")),
            lambda x: 2.0,
        ],
        ids=["stop_gradient", "another tensor", "a number"],
    )
    def test_a_loss_without_gradient(self, fun):
        with pytest.raises(ValueError, match="does not depend"):
            minimize(fun, [1.0, 2.0])

    def test_ways_in_which_torch_loses_a_gradient(self, backend):
        if backend != "torch":
            return
        import torch

        weight = torch.ones(2, requires_grad=True)  # has a gradient, x has none

        @torch.inference_mode()
        def inferred(x):
            return (x**2).sum()

        for fun in (
            lambda x: (x.detach() ** 2).sum(),
            lambda x: (x**2).sum().item(),
            lambda x: (weight * x.detach()).sum(),
            inferred,
        ):
            with pytest.raises(ValueError, match="does not depend"):
                minimize(fun, [1.0, 2.0])

    @pytest.mark.parametrize("x0", [[], {}, (), np.zeros((0, 3), "float32"), None, [None]], ids=repr)
    def test_nothing_to_minimize_over(self, x0):
        with pytest.raises(ValueError, match="component"):
            minimize(quadratic, x0)

    def test_aux_that_is_not_there(self):
        with pytest.raises(ValueError, match=r"\(value, aux\)"):
            minimize(quadratic, [1.0], has_aux=True)


def centre(x, at):
    return ops.sum((x - at) ** 2)


@pytest.fixture
def compiled(monkeypatch):
    """The programs made so far, where programs are kept."""
    module = importlib.import_module("keras_addons_l6.optimizers.quasi_newton.minimize")
    made, new = [], module._new
    monkeypatch.setattr(module, "_new", lambda *arguments: made.append(1) or new(*arguments))
    monkeypatch.setattr(module, "_programs", collections.OrderedDict())
    return made


def ends_at(fun, expected, *args):
    """Minimize from zero, and check where that ends."""
    result = minimize(fun, np.zeros(3, "float32"), *args)
    assert result.converged
    np.testing.assert_allclose(host(result.x), expected, atol=1e-4)


TARGET, SHIFT = 0.0, np.zeros(3, "float32")
KEPT = keras.backend.backend() != "torch"


class TestData:
    """The minimum is that of the data as they are at the call, whatever was compiled before."""

    def test_args_of_one_shape_compile_once(self, compiled):
        for at in (1.0, 2.0, -3.0):
            ends_at(centre, at, (np.full(3, at, "float32"),))
        assert len(compiled) == (1 if KEPT else 3)

    def test_args_as_scipy_takes_them(self):
        ends_at(centre, 2.0, ops.full((3,), 2.0))
        ends_at(lambda x, at: centre(x, at[0] + at[1]), 3.0, [np.ones(3, "float32"), 2.0])

    def test_args_reach_the_function_as_given(self):
        def fun(x, data, scale, name, power):
            assert (name, type(power), type(data)) == ("name", int, Pair)
            return scale * ops.sum((x - data.first["y"]) ** power)

        args = (Pair({"y": np.ones(3, "float32")}, None), 0.5, "name", 2)
        ends_at(fun, 1.0, args)

    def test_args_of_another_shape(self):
        for n in (1, 3):
            ends_at(centre, 1.0, np.ones(n, "float32"))

    def test_a_global(self, monkeypatch):
        def fun(x):
            return centre(x, TARGET)

        for at in (1.0, 2.0):
            monkeypatch.setitem(globals(), "TARGET", at)
            ends_at(fun, at)

    def test_where_the_start_does_not_tell(self):
        """f(0) is the same for both slopes."""
        slope = 1.0

        def fun(x):
            return ops.sum((slope * x - 1) ** 2)

        for slope in (1.0, 2.0, 4.0):
            ends_at(fun, 1 / slope)

    def test_an_array_written_in_place(self):
        slopes = np.ones(3, "float32")
        for slope in (1.0, 2.0, 4.0):
            slopes[:] = slope
            ends_at(lambda x: ops.sum((ops.convert_to_tensor(slopes) * x - 1) ** 2), 1 / slope)

    @pytest.mark.parametrize("size", [3, 400], ids=["few", "many"])
    def test_a_captured_tensor(self, size):
        """TensorFlow writes a small one into the graph, and hands a large one over."""

        def fun(x):
            return ops.mean((tensor * x[0] - 1) ** 2) + ops.sum((x[1:] - 1) ** 2)

        for slope in (1.0, 2.0, 4.0):
            tensor = slope * ops.ones((size,))
            ends_at(fun, [1 / slope, 1.0, 1.0])

    def test_a_default_argument_and_an_attribute(self, monkeypatch):
        class Fit:
            at = 1.0

            def loss(self, x, shift=SHIFT):
                return centre(x, ops.convert_to_tensor(self.at + shift))

        fit = Fit()
        for at in (1.0, 2.0):
            fit.at = at
            ends_at(fit.loss, at)
        monkeypatch.setattr(Fit.loss, "__defaults__", (SHIFT + 5,))
        ends_at(fit.loss, 7.0)

    def test_keras_variables(self, compiled):
        slope, number = keras.Variable(np.ones(3, "float32")), keras.Variable(1.0)

        def fun(x):
            return ops.sum((slope * number * x - 1) ** 2)

        for value in (1.0, 2.0, 4.0):
            slope.assign(np.full(3, value, "float32"))
            ends_at(fun, 1 / value)
        assert len(compiled) == (1 if KEPT else 3)
        number.assign(0.5)
        ends_at(fun, 0.5)

    def test_a_layer_with_a_derivative_of_its_own(self, compiled):
        for at in (1.0, 2.0):
            ends_at(
                lambda x, at: centre(ops.relu(x + 5) + ops.softplus(x) * 0, at + 5),
                at,
                np.full(3, at, "float32"),
            )
        assert len(compiled) == (1 if KEPT else 2)

    def test_a_function_that_is_compiled_itself(self, compiled, backend):
        if backend == "torch":
            return
        if backend == "jax":
            import jax

            fun = jax.jit(centre)
        else:
            import tensorflow as tf

            fun = tf.function(centre)
        for at in (1.0, 2.0):
            ends_at(fun, at, np.full(3, at, "float32"))
        assert len(compiled) == 1

    def test_a_loop_inside(self, compiled):
        def fun(x, at):
            return centre(ops.fori_loop(0, 2, lambda i, z: 0.5 * z + x, x) / 1.75, at)

        if keras.backend.backend() == "jax":  # whose loops of this kind have no gradient
            return
        for at in (1.0, 2.0):
            ends_at(fun, at, np.full(3, at, "float32"))
        assert len(compiled) == (1 if KEPT else 2)

    def test_methods_partials_and_new_functions_share_a_program(self, compiled):
        class Fit:
            def loss(self, x, at=2.0):
                return centre(x, at)

        fit = Fit()
        for _ in range(2):
            for fun in (fit.loss, functools.partial(centre, at=2.0), lambda x: centre(x, 2.0)):
                ends_at(fun, 2.0)
        assert len(compiled) == (1 if KEPT else 6)

    def test_a_program_holds_no_data(self, compiled):
        def run():
            start, given, captured = (i * ops.ones((400,)) for i in range(1, 4))
            minimize(lambda x, at: centre(x, at) + ops.sum(x * captured), start, given)
            return [weakref.ref(tensor) for tensor in (start, given, captured)]

        held = run()
        gc.collect()
        assert [tensor() for tensor in held] == [None, None, None]

    def test_few_programs_are_kept(self, compiled, monkeypatch):
        module = importlib.import_module("keras_addons_l6.optimizers.quasi_newton.minimize")
        monkeypatch.setattr(module, "KEPT", 1)
        for n in (1, 2):
            minimize(quadratic, np.zeros(n, "float32"))
        assert len(module._programs) == (1 if KEPT else 0)


class TestAux:
    def test_it_is_that_of_the_returned_point(self):
        def fun(x, at):
            return ops.sum((x - at) ** 4), {"twice": 2 * x, "nested": (x + at,)}

        result = minimize(fun, [0.0, 0.0], np.ones(2, "float32"), has_aux=True, max_iterations=4)
        np.testing.assert_allclose(host(result.aux["twice"]), 2 * host(result.x), rtol=1e-6)
        np.testing.assert_allclose(host(result.aux["nested"][0]), 1 + host(result.x), rtol=1e-6)

    def test_none_without(self):
        assert minimize(quadratic, [0.0]).aux is None


class TestPoint:
    def test_it_has_no_gradient_and_is_not_x0(self, backend):
        if backend != "torch":
            return
        import torch

        x0 = torch.zeros(2, requires_grad=True)
        for most in (1, 100):
            for start in (x0, {"a": x0, "b": [x0]}):
                result = minimize(
                    lambda x: sum(map(quadratic, keras.tree.flatten(x))), start, max_evaluations=most
                )
                for leaf in keras.tree.flatten(result.x):
                    assert not leaf.requires_grad
                    assert leaf.data_ptr() != x0.data_ptr()

    def test_x0_is_left_as_it_is(self):
        x0 = ops.zeros((2,))
        result = minimize(quadratic, x0)
        np.testing.assert_array_equal(host(x0), 0.0)
        np.testing.assert_allclose(host(result.x), 3.0, atol=1e-4)


class TestProgramsAreKept:
    def test_a_second_call_does_not_trace_again(self, backend):
        calls = []

        def fun(x):
            calls.append(1)
            return quadratic(x)

        first = minimize(fun, [0.0, 1.0])
        traced = len(calls)
        second = minimize(fun, [5.0, 1.0], gradient_tolerance=1e-4, max_iterations=50)
        # Uncompiled on torch: each evaluation calls it. Elsewhere one call traces it.
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
