"""The dense inverse Hessian against the papers' matrices, SciPy's BFGS, and what every update must keep."""

import re

import keras
import numpy as np
import pytest
from scipy import optimize

from keras_addons_l6.backends import arrays_for
from keras_addons_l6.backends.portable import arrays as portable
from keras_addons_l6.backends.portable.arrays import NumpyArrays
from keras_addons_l6.optimizers.quasi_newton import iteration, programs, updates
from keras_addons_l6.optimizers.quasi_newton.curvature import Pair, Tally
from keras_addons_l6.optimizers.quasi_newton.inverse_hessian import InverseHessian
from tests.optimizers.quasi_newton.driving import Run, complex_step, to_numpy
from tests.optimizers.quasi_newton.problems import CLASSIC
from tests.reference import quasi_newton as reference

UPDATES = tuple(updates.UPDATES)
PROBLEMS = {
    p.name: p
    for p in CLASSIC
    if p.name in ("Wood", "Powell singular", "Extended Rosenbrock", "Trigonometric")
}


def quadratic(n, seed=0):
    """Points and gradients of a quadratic with condition 1e3, by steps that are not exact."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return q @ np.diag(np.geomspace(1, 1e3, n)) @ q.T, rng


def matrix_of(memory, tally):
    """H of a memory, the update that waits applied."""
    scale, identity, *signs = to_numpy(memory.pending_weights)
    vectors, n = to_numpy(memory.pending_vectors), memory.inverse_hessian.shape[0]
    stored = to_numpy(memory.inverse_hessian) if scale else np.zeros((n, n))
    h = scale * stored + identity * np.eye(n)
    return float(tally.gamma) * (
        h + sum(sign * np.outer(x, x) for sign, x in zip(signs, vectors, strict=True))
    )


class Drive:
    """Feeds an `InverseHessian` with pairs along its own directions, of steps 0.7 on a quadratic.

    Args:
        update: Its update.
        n: The number of components, in two parameters.
        on_backend: Whether in the backend's arrays.
    """

    def __init__(self, update, n, on_backend):
        self.hessian, rng = quadratic(n)
        self.curvature = InverseHessian(update, "float64")
        self.convert = keras.ops.convert_to_tensor if on_backend else np.array
        self.x = rng.normal(size=n)
        parts = self.parts(self.x)
        self.arrays = arrays_for(parts) if on_backend else NumpyArrays("float64")
        self.memory = self.curvature.init(self.arrays, parts)
        self.tally = Tally(self.real(1.0), self.whole(0), self.whole(0))
        self.gradient = self.hessian @ self.x
        self.direction = -self.gradient / np.linalg.norm(self.gradient)
        # JAX would compile the loop of a pass anew each time.
        compiles = on_backend and keras.config.backend() == "jax"
        self.move_compiled = programs.compile_program(self.move) if compiles else self.move

    def parts(self, x):
        cut = len(x) // 3
        return [self.convert(x[:cut]), self.convert(x[cut:].reshape(1, -1))]

    def real(self, x):
        return self.arrays.scalars([self.convert(np.float64(x))])[0]

    def whole(self, x):
        return np.int32(x) if self.arrays.small is np else self.convert(np.int32(x))

    def move(self, memory, tally, pair, gradient, yes):
        """What an accepted pair makes of a memory and a tally, and the direction."""
        arrays = self.arrays

        def views(parts):
            return [arrays.view(x) for x in parts]

        with arrays.scope():
            pair = pair._replace(s=views(pair.s), y=views(pair.y))
            memory, given = self.curvature.viewed(arrays, memory), views(gradient)
            memory, tally, found = self.curvature.store(arrays, memory, tally, pair, given, yes, yes)
            changed, direction = self.curvature.redirect(arrays, memory, tally, found, pair, given)
        return memory._replace(**changed), tally, direction

    def step(self, stiffness=1.0):
        """One accepted pair, of the quadratic times `stiffness`; gives s and y."""
        s = 0.7 * self.direction
        y = stiffness * self.hessian @ s
        sbs = -0.7 * 0.7 * self.gradient @ self.direction
        self.gradient = self.gradient + y
        pair = Pair(self.parts(s), self.parts(y), self.real(sbs))
        yes = True if self.arrays.small is np else self.convert(True)
        self.memory, self.tally, direction = self.move_compiled(
            self.memory, self.tally, pair, self.parts(self.gradient), yes
        )
        self.direction = np.concatenate([to_numpy(d).reshape(-1) for d in direction])
        return s, y


@pytest.fixture(params=[False, True], ids=["numpy", "backend"])
def on_backend(request):
    return request.param


@pytest.mark.usefixtures("float64")
class TestUpdates:
    @pytest.mark.parametrize("update", UPDATES)
    def test_as_the_papers_have_it(self, update, on_backend):
        """Matrix and direction; rounding grows with the condition, 1e3, over a dozen updates.

        Curvature that turns out larger and smaller than H has it leads to each branch of the self-scaled updates.
        """
        drive, h = Drive(update, 7, on_backend), None
        for i in range(12):
            s, y = drive.step(stiffness=(1.0, 8.0, 0.2)[i % 3])
            h = reference.update(update, h, s, y, first=i == 0)
            np.testing.assert_allclose(
                matrix_of(drive.memory, drive.tally), h, rtol=1e-8, atol=1e-10 * abs(h).max()
            )
            np.testing.assert_allclose(
                drive.direction, -h @ drive.gradient, rtol=1e-7, atol=1e-9 * abs(drive.direction).max()
            )

    @pytest.mark.parametrize(("tau", "phi"), [(1.0, -0.2), (0.7, 0.0), (1.5, 2.0)])
    def test_any_member_of_the_family(self, tau, phi, on_backend, monkeypatch):
        """The rules above stay at phi >= 0; someone else's, as that of a symmetric update of rank one, need not."""
        monkeypatch.setitem(
            updates.UPDATES, "other", lambda arrays, h, b, n, first: updates.Update(0 * b + tau, 0 * b + phi)
        )
        monkeypatch.setitem(reference.RULES, "other", lambda h, b, n, first: (tau, phi))
        drive, h = Drive("other", 7, on_backend), None
        for i in range(6):
            s, y = drive.step()
            h = reference.update("other", h, s, y, first=i == 0)
            np.testing.assert_allclose(
                matrix_of(drive.memory, drive.tally), h, rtol=1e-8, atol=1e-10 * abs(h).max()
            )

    def test_bfgs_is_scipys(self, on_backend):
        peer = optimize.BFGS(exception_strategy="skip_update", init_scale="auto")
        peer.initialize(7, "inv_hess")
        drive = Drive("bfgs", 7, on_backend)
        for _ in range(12):
            peer.update(*drive.step())
            h = peer.get_matrix()
            np.testing.assert_allclose(
                matrix_of(drive.memory, drive.tally), h, rtol=1e-8, atol=1e-10 * abs(h).max()
            )

    @pytest.mark.parametrize("update", UPDATES)
    def test_secant_equation_symmetry_and_positive_definiteness(self, update, on_backend):
        drive = Drive(update, 6, on_backend)
        for _ in range(15):
            s, y = drive.step()
            h = matrix_of(drive.memory, drive.tally)
            np.testing.assert_allclose(h @ y, s, rtol=1e-9, atol=1e-10 * abs(s).max())
            assert np.linalg.eigvalsh(h)[0] > 0
            stored = to_numpy(drive.memory.inverse_hessian)
            np.testing.assert_array_equal(
                stored, stored.T
            )  # to the last bit: else rounding would grow with 1 / tau

    @pytest.mark.parametrize("update", UPDATES)
    def test_one_component(self, update, on_backend):
        """n = 1: the exponent 1 / (1 - n) of the self-scaled update has no value."""
        drive = Drive(update, 1, on_backend)
        for _ in range(3):
            s, y = drive.step()
            np.testing.assert_allclose(matrix_of(drive.memory, drive.tally), [[s[0] / y[0]]], rtol=1e-12)

    def test_an_update_scales_where_the_papers_say(self):
        """tau is 1 for BFGS; min(1, 1 / b) for the self-scaled one; below 1 for Broyden's where b > 1."""
        arrays = NumpyArrays("float64")
        for b in (0.2, 1.0, 5.0):
            h = np.float64(3.0 / b)
            assert updates.bfgs(arrays, h, np.float64(b), 4, False) == (1, 1)
            assert updates.self_scaled_bfgs(arrays, h, np.float64(b), 4, False) == (min(1, 1 / b), 1)
            expected = reference.self_scaled_broyden(h, b, 4, False)
            np.testing.assert_allclose(
                updates.self_scaled_broyden(arrays, h, np.float64(b), 4, False), expected
            )


@pytest.mark.usefixtures("float64")
class TestPass:
    """`updated_product`, in blocks with a remainder and in one."""

    @pytest.mark.parametrize("block", [30, 10**6])
    def test_as_whole_matrices(self, block, monkeypatch, on_backend):
        monkeypatch.setattr(portable, "BLOCK", block)
        rng = np.random.default_rng(0)
        n = 10
        convert = keras.ops.convert_to_tensor if on_backend else np.array
        arrays = arrays_for([convert(np.zeros(n))]) if on_backend else NumpyArrays("float64")
        a = rng.normal(size=(n, n))
        a, v, f = a + a.T, rng.normal(size=(3, n)), rng.normal(size=n)
        for scale, identity, signs in [(0.0, 2.0, (-1, 1, 1)), (1.7, 0.0, (-1, -1, 1))]:
            expected = scale * a + identity * np.eye(n) + (v.T * signs) @ v
            given = np.full((n, n), np.nan) if scale == 0 else a  # what is there does not count
            with arrays.scope():
                matrix, product = arrays.updated_product(
                    arrays.view(convert(np.array(given))),
                    arrays.view(convert(v)),
                    arrays.unpack(arrays.local(convert(np.array([scale, identity, *signs], "float64"))), 5),
                    arrays.view(convert(f)),
                    arrays.small is np or convert(True),
                )
            np.testing.assert_allclose(to_numpy(matrix), expected, rtol=1e-13, atol=1e-13)
            np.testing.assert_allclose(to_numpy(product), expected @ f, rtol=1e-12, atol=1e-12)

    def test_xla_writes_the_matrix_in_place(self, monkeypatch, backend):
        """In a loop of passes, blocks and all, it is copied at most once, where the program begins."""
        if backend == "torch":
            return  # nothing is compiled
        monkeypatch.setattr(portable, "BLOCK", 100)
        n = 40
        convert = keras.ops.convert_to_tensor
        arrays = arrays_for([convert(np.zeros(n))])

        def passes(matrix, vectors, weights, x, count):
            def body(i, carried):
                weighed = arrays.unpack(weights, 5)
                return arrays.updated_product(carried[0], vectors, weighed, carried[1], i % 2 == 0)

            return keras.ops.fori_loop(0, count, body, (matrix, x))

        given = [convert(np.ones(shape)) for shape in ((n, n), (3, n), (5,), (n,))] + [convert(np.int32(4))]
        program = programs.compile_program(passes)
        if backend == "jax":
            text = program.lower(*given).compile().as_text()
        else:
            import tensorflow as tf

            text = tf.function(passes, jit_compile=True, autograph=False).experimental_get_compiler_ir(
                *given
            )(stage="optimized_hlo")
        assert re.search(rf"= f64\[{n},{n}\]\S* (fusion|dynamic-update-slice)\(", text), (
            "nothing was looked at"
        )
        assert len(re.findall(rf"= f64\[{n},{n}\]\S* copy\(", text)) <= 1

    def test_unwanted_it_leaves_the_matrix(self, on_backend):
        convert = keras.ops.convert_to_tensor if on_backend else np.array
        arrays = arrays_for([convert(np.zeros(3))]) if on_backend else NumpyArrays("float64")
        matrix, _ = arrays.updated_product(
            arrays.view(convert(np.eye(3))),
            arrays.view(convert(np.ones((3, 3)))),
            arrays.unpack(arrays.local(convert(np.ones(5))), 5),
            arrays.view(convert(np.ones(3))),
            False if arrays.small is np else convert(False),
        )
        np.testing.assert_array_equal(to_numpy(matrix), np.eye(3))


@pytest.mark.usefixtures("float64")
class TestRuns:
    @pytest.mark.parametrize("update", UPDATES)
    @pytest.mark.parametrize("name", PROBLEMS)
    def test_it_reaches_known_minima(self, name, update, on_backend):
        problem = PROBLEMS[name]
        run = Run(
            complex_step(problem),
            [problem.start],
            on_backend=on_backend,
            curvature=InverseHessian(update, "float64"),
            gradient_tolerance=1e-6,
            change_tolerance=0.0,
        ).advance(2000)
        assert run.gradient_norm <= 1e-6
        assert int(to_numpy(run.state.memory.resets)[0]) == 0

    @pytest.mark.parametrize("update", UPDATES)
    @pytest.mark.parametrize("power", [-31, 20])
    def test_a_power_of_two_times_the_objective_changes_nothing(self, update, power, on_backend):
        problem = PROBLEMS["Wood"]
        objective = complex_step(problem)

        def scaled(where):
            value, gradient = objective(where)
            return value * 2.0**power, [g * 2.0**power for g in gradient]

        def tried(objective, tolerance):
            run = Run(
                objective,
                [problem.start],
                on_backend=on_backend,
                curvature=InverseHessian(update, "float64"),
                gradient_tolerance=tolerance,
                change_tolerance=0.0,
            )
            return run.advance(40).tried

        np.testing.assert_array_equal(tried(objective, 1e-6), tried(scaled, 1e-6 * 2.0**power))

    def test_a_direction_that_does_not_descend_starts_h_afresh(self, on_backend):
        """H is spoilt in the middle of a run: the run gives it up, counts that, and ends at the minimum."""
        problem = PROBLEMS["Wood"]
        run = Run(
            complex_step(problem),
            [problem.start],
            on_backend=on_backend,
            curvature=InverseHessian("self_scaled_broyden", "float64"),
            gradient_tolerance=1e-6,
            change_tolerance=0.0,
        ).advance(15)
        memory = run.state.memory
        spoilt = run.convert(-10.0 * np.abs(to_numpy(memory.inverse_hessian)) - np.eye(4))
        run.state = run.state._replace(memory=memory._replace(inverse_hessian=spoilt))
        run.advance(500)
        assert run.gradient_norm <= 1e-6
        assert int(to_numpy(run.state.memory.resets)[0]) >= 1

    @pytest.mark.parametrize("update", UPDATES)
    def test_float32_parameters_with_h_in_float64(self, update, on_backend, backend):
        problem = PROBLEMS["Wood"]
        run = Run(
            complex_step(problem),
            [problem.start],
            "float32",
            on_backend=on_backend,
            curvature=InverseHessian(update, "float64"),
            gradient_tolerance=2e-3,
        ).advance(500)
        assert str(to_numpy(run.state.memory.inverse_hessian).dtype) == "float64"
        assert run.gradient_norm <= 2e-3

    @pytest.mark.parametrize("update", UPDATES)
    def test_where_a_search_begins(self, update, on_backend):
        """Self-scaled updates make the whole step mostly too long: they begin where the last decrease is expected again."""
        problem = PROBLEMS["Wood"]
        run = Run(
            complex_step(problem),
            [problem.start],
            on_backend=on_backend,
            curvature=InverseHessian(update, "float64"),
        )
        shortened = 0
        for _ in range(25):
            run.step()
            amid, first = run.trials > 0, len(run.values) < 2  # the first direction has length one
            if amid or first:
                continue
            found = to_numpy(iteration.read(run.state, "step"))
            whole = update == "bfgs"
            expected = 1.0 if whole else min(1.0, 1.01 * 2 * (run.values[-1] - run.values[-2]) / run.slope)
            assert found == pytest.approx(expected, rel=1e-12)
            shortened += expected < 1
        assert (shortened > 0) == (update != "bfgs")
