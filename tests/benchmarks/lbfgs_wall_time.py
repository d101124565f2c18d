"""Times `minimize` beside SciPy, torch.optim and optax to the same gradient, and the direction beside memory.

`python -m tests.benchmarks.lbfgs_wall_time [--quick] [--backends ...]` prints Markdown. One process a
backend; the solvers of a problem take turns in it, warm. SciPy's L-BFGS-B gets the same backend's compiled value and
gradient. The classifiers are solved once from each of many starts, and the mean is shown: one start's count of
evaluations says more of the start than of the solver. The PINN, from one start, is timed several times: the median.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

BACKENDS = ("jax", "tensorflow", "torch")
HISTORY = 10
MOST = 5000  # evaluations, where a solver does not get there
STARTS = 100  # of each classifier


class Problem(NamedTuple):
    """A loss over one float64 vector in the backend's own functions."""

    name: str
    loss: Callable[[Any], Any]
    starts: list[np.ndarray]
    tolerance: float  # on the gradient's largest component
    evaluations: int  # at most, from each start


class Outcome(NamedTuple):
    """What a solver did from one start, or on average from several."""

    seconds: float
    evaluations: float
    gradient: float  # its largest component at the end; of several, the largest


Solver = Callable[[Problem, np.ndarray], Outcome]


class Functions:
    """The operations of the losses: the backend's own, for Keras rounds some to float32."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        if backend == "jax":
            import jax
            import jax.numpy as jnp

            self.tanh, self.sum, self.log_sum_exp = jnp.tanh, jnp.sum, jax.nn.logsumexp
            self.array, self.sin, self.cos = jnp.asarray, jnp.sin, jnp.cos
        elif backend == "tensorflow":
            import tensorflow as tf

            self.tanh, self.sum, self.array = tf.math.tanh, tf.reduce_sum, tf.constant
            self.log_sum_exp, self.sin, self.cos = tf.reduce_logsumexp, tf.math.sin, tf.math.cos
        else:
            import torch

            self.tanh, self.sum, self.array = torch.tanh, torch.sum, torch.as_tensor
            self.log_sum_exp, self.sin, self.cos = torch.logsumexp, torch.sin, torch.cos

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        from keras import ops

        return ops.reshape(x, shape)

    def columns(self, *columns: Any) -> Any:
        from keras import ops

        return ops.concatenate(columns, axis=1)

    def layers(self, vector: Any, sizes: list[int]) -> list[tuple[Any, Any]]:
        """Kernels and biases of a network in one vector."""
        pairs, at = [], 0
        for m, n in itertools.pairwise(sizes):
            kernel, bias = vector[at : at + m * n], vector[at + m * n : at + m * n + n]
            pairs.append((self.reshape(kernel, (m, n)), bias))
            at += m * n + n
        return pairs

    def network(self, layers: list[tuple[Any, Any]], x: Any) -> Any:
        for kernel, bias in layers[:-1]:
            x = self.tanh(x @ kernel + bias)
        kernel, bias = layers[-1]
        return x @ kernel + bias


def glorot(sizes: list[int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    parts = []
    for m, n in itertools.pairwise(sizes):
        parts += [rng.normal(size=m * n) * np.sqrt(2 / (m + n)), np.zeros(n)]
    return np.concatenate(parts)


def classifier(
    functions: Functions, name: str, sizes: list[int], starts: list[np.ndarray], tolerance: float
) -> Problem:
    """Digits with penalty 1e-4 on the kernels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, hits = functions.array(images / 16), functions.array(np.eye(10)[labels])

    def loss(vector: Any) -> Any:
        layers = functions.layers(vector, sizes)
        logits = functions.network(layers, x)
        fit = functions.sum(functions.log_sum_exp(logits, 1)) - functions.sum(logits * hits)
        return fit / len(images) + 1e-4 * sum(functions.sum(kernel**2) for kernel, _ in layers)

    return Problem(name, loss, starts, tolerance, MOST)


def burgers(functions: Functions, points: int, evaluations: int) -> Problem:
    """u_t + u u_x = 0.01/pi u_xx, u(x, 0) = -sin(pi x), u(-1, t) = u(1, t) = 0; a network 2-20-20-20-20-1."""
    rng = np.random.default_rng(0)
    sizes = [2, 20, 20, 20, 20, 1]
    inside = functions.array(np.c_[rng.uniform(-1, 1, points), rng.uniform(0, 1, points)])
    line, times = np.linspace(-1, 1, 100), np.linspace(0, 1, 50)
    start_at = functions.array(np.c_[line, np.zeros(100)])
    wave = functions.array(-np.sin(np.pi * line)[:, None])
    walls = functions.array(np.c_[np.repeat([-1.0, 1.0], 50), np.tile(times, 2)])

    def loss(vector: Any) -> Any:
        layers = functions.layers(vector, sizes)
        value, u_t, u_x, u_xx = derivatives(functions.backend, lambda p: functions.network(layers, p), inside)
        residual = u_t + value * u_x - 0.01 / np.pi * u_xx
        errors = functions.network(layers, start_at) - wave, functions.network(layers, walls)
        return functions.sum(residual**2) / points + sum(functions.sum(e**2) / 100 for e in errors)

    return Problem("Burgers PINN", loss, [glorot(sizes, 0)], 0.0, evaluations)


def derivatives(backend: str, u: Callable[[Any], Any], points: Any) -> tuple[Any, Any, Any, Any]:
    """u, u_t, u_x and u_xx at each point."""
    ways = {"jax": _derivatives_jax, "tensorflow": _derivatives_tensorflow, "torch": _derivatives_torch}
    return ways[backend](u, points)


def _derivatives_jax(u: Callable[[Any], Any], points: Any) -> tuple[Any, Any, Any, Any]:
    import jax
    import jax.numpy as jnp

    along_x, along_t = (jnp.broadcast_to(jnp.array(d), points.shape) for d in ([1.0, 0.0], [0.0, 1.0]))
    value, u_t = jax.jvp(u, (points,), (along_t,))
    u_x, u_xx = jax.jvp(lambda p: jax.jvp(u, (p,), (along_x,))[1], (points,), (along_x,))
    return value, u_t, u_x, u_xx


def _derivatives_tensorflow(u: Callable[[Any], Any], points: Any) -> tuple[Any, Any, Any, Any]:
    import tensorflow as tf

    with tf.GradientTape() as outer:
        outer.watch(points)
        with tf.GradientTape() as inner:
            inner.watch(points)
            value = u(points)
        first = inner.gradient(value, points)
        u_x = first[:, :1]
    return value, first[:, 1:], u_x, outer.gradient(u_x, points)[:, :1]


def _derivatives_torch(u: Callable[[Any], Any], points: Any) -> tuple[Any, Any, Any, Any]:
    import torch

    points = points.detach().requires_grad_()
    value = u(points)
    (first,) = torch.autograd.grad(value.sum(), points, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), points, create_graph=True)
    return value, first[:, 1:], first[:, :1], second[:, :1]


def ours(problem: Problem, x: np.ndarray) -> Outcome:
    from keras import ops

    from keras_addons_l6 import minimize

    start = time.perf_counter()
    result = minimize(
        problem.loss,
        ops.convert_to_tensor(x),
        history_size=HISTORY,
        gradient_tolerance=problem.tolerance,
        change_tolerance=0.0,
        max_iterations=MOST,
        max_evaluations=problem.evaluations,
    )
    return Outcome(time.perf_counter() - start, result.evaluations, result.gradient_norm)


def scipy_with(value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]]) -> Solver:
    """SciPy's L-BFGS-B with a compiled value and gradient."""
    import scipy.optimize

    def solve(problem: Problem, x: np.ndarray) -> Outcome:
        options = {"maxcor": HISTORY, "gtol": problem.tolerance, "ftol": 0.0, "maxls": 50}
        options |= {"maxfun": problem.evaluations, "maxiter": MOST}
        start = time.perf_counter()
        found = scipy.optimize.minimize(value_and_gradient, x, jac=True, method="L-BFGS-B", options=options)
        return Outcome(time.perf_counter() - start, found.nfev, float(np.abs(found.jac).max()))

    return solve


def compiled_for_host(
    backend: str, loss: Callable[[Any], Any]
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """The backend's compiled value and gradient, from and to NumPy."""
    if backend == "jax":
        import jax

        both = jax.jit(jax.value_and_grad(loss))

        def evaluate(x: np.ndarray) -> tuple[Any, Any]:
            return both(x)
    elif backend == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=True)
        def evaluate(x: Any) -> tuple[Any, Any]:
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(x)
            return value, tape.gradient(value, x)
    else:
        import torch

        def evaluate(x: Any) -> tuple[Any, Any]:
            x = torch.from_numpy(np.array(x)).requires_grad_()
            value = loss(x)
            value.backward()
            return value.detach(), x.grad

    def on_host(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = evaluate(x if backend != "tensorflow" else tf.constant(x))
        return float(value), np.asarray(gradient, np.float64)

    return on_host


def torch_optim(problem: Problem, x: np.ndarray) -> Outcome:
    """torch.optim.LBFGS with its strong Wolfe search."""
    import torch

    start = time.perf_counter()
    point = torch.from_numpy(x.copy()).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [point],
        max_iter=MOST,
        max_eval=problem.evaluations,
        history_size=HISTORY,
        tolerance_grad=problem.tolerance,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    calls = []

    def closure() -> Any:
        calls.append(1)
        optimizer.zero_grad()
        value = problem.loss(point)
        value.backward()
        return value

    optimizer.step(closure)
    return Outcome(time.perf_counter() - start, len(calls), float(point.grad.abs().max()))


def optax_lbfgs(problem: Problem) -> Solver:
    """optax.lbfgs with the whole loop compiled, the way its documentation runs it."""
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.lbfgs(memory_size=HISTORY)
    both = optax.value_and_grad_from_state(problem.loss)

    def body(carry: Any) -> Any:
        x, state, evaluations, _ = carry
        value, gradient = both(x, state=state)
        update, state = optimizer.update(
            gradient, state, x, value=value, grad=gradient, value_fn=problem.loss
        )
        evaluations += jnp.int32(optax.tree_utils.tree_get(state, "num_linesearch_steps"))
        norm = jnp.max(jnp.abs(optax.tree_utils.tree_get(state, "grad")))
        return optax.apply_updates(x, update), state, evaluations, norm

    @jax.jit
    def run(x: Any) -> Any:
        def goes_on(carry: Any) -> Any:
            return (carry[3] > problem.tolerance) & (carry[2] < problem.evaluations)

        return jax.lax.while_loop(goes_on, body, (x, optimizer.init(x), jnp.int32(1), jnp.inf))

    def solve(problem: Problem, x: np.ndarray) -> Outcome:
        del problem
        start = time.perf_counter()
        _, _, evaluations, norm = jax.block_until_ready(run(jnp.asarray(x)))
        return Outcome(time.perf_counter() - start, int(evaluations), float(norm))

    return solve


def problems(functions: Functions, quick: bool) -> list[Problem]:
    wide = [64, 10] if quick else [64, 32, 10]
    seeds = range(2 if quick else STARTS)
    flat, deep = ([glorot(sizes, seed) for seed in seeds] for sizes in ([64, 10], wide))
    return [
        classifier(functions, "softmax regression, digits", [64, 10], flat, 1e-2 if quick else 1e-6),
        classifier(functions, f"MLP {'-'.join(map(str, wide))}, digits", wide, deep, 1e-2 if quick else 1e-5),
        burgers(functions, 20 if quick else 2000, 10 if quick else 500),
    ]


def solvers(backend: str, problem: Problem) -> dict[str, Solver]:
    contenders = {"minimize": ours, "SciPy": scipy_with(compiled_for_host(backend, problem.loss))}
    if backend == "torch":
        contenders["torch.optim.LBFGS"] = torch_optim
    if backend == "jax":
        contenders["optax.lbfgs"] = optax_lbfgs(problem)
    return contenders


def measure(problem: Problem, contenders: dict[str, Solver], turns: int) -> dict[str, Outcome]:
    """Each solver's mean over the starts of its median times; solvers take turns at each start.

    The first two turns of the first start compile what is still to be compiled.
    """
    means: dict[str, list[Outcome]] = {name: [] for name in contenders}
    for x in problem.starts:
        cold = 0 if any(means.values()) else 2
        runs: dict[str, list[Outcome]] = {name: [] for name in contenders}
        for _ in range(turns + cold):
            for name, solver in contenders.items():
                runs[name].append(solver(problem, x))
        for name, done in runs.items():
            seconds = statistics.median(run.seconds for run in done[cold:])
            means[name].append(done[-1]._replace(seconds=seconds))
    return {
        name: Outcome(
            statistics.mean(o.seconds for o in done),
            statistics.mean(o.evaluations for o in done),
            max(o.gradient for o in done),
        )
        for name, done in means.items()
    }


def table(backend: str, quick: bool) -> str:
    """A backend's solvers and problems in Markdown."""
    import keras

    keras.config.set_floatx("float64")
    if backend == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    lines = [
        f"### {backend}",
        "",
        "| problem | solver | ms | ours / it | evaluations | largest gradient component |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for problem in problems(Functions(backend), quick):
        turns = 1 if quick or len(problem.starts) > 1 else 5
        outcomes = measure(problem, solvers(backend, problem), turns)
        for name, outcome in outcomes.items():
            ratio = outcomes["minimize"].seconds / outcome.seconds
            lines.append(
                f"| {problem.name} | {name} | {1e3 * outcome.seconds:.1f} | {ratio:.2f} | "
                f"{outcome.evaluations:.0f} | {outcome.gradient:.1e} |"
            )
    return "\n".join(lines)


def direction_row(parameters: int, turns: int) -> str:
    """The direction's time beside that of its memory traffic at a triad's speed, on JAX in float32."""
    import jax
    import jax.numpy as jnp

    from keras_addons_l6.backends import arrays_for
    from keras_addons_l6.optimizers.quasi_newton import iteration
    from keras_addons_l6.optimizers.quasi_newton import pairs as pairs_of

    rng = np.random.default_rng(0)
    gradient = (jnp.asarray(rng.normal(size=parameters).astype("float32")),)
    arrays = arrays_for(gradient)
    state = iteration.init(arrays, iteration.Settings(curvature=pairs_of.LimitedMemory(HISTORY)), gradient)
    products = jnp.stack([jnp.eye(HISTORY), jnp.eye(HISTORY)])
    ring = jnp.asarray(rng.normal(size=state.memory.rings[0].shape).astype("float32"))
    history = pairs_of.History((ring,), products, jnp.float32(1.0), jnp.int32(3), jnp.int32(HISTORY))
    direction = jax.jit(lambda h, g: pairs_of.direction(arrays, h, g, pairs_of.measure(arrays, h, g)[0]))
    triad = jax.jit(lambda a, b: a + 2.0 * b)
    times: dict[str, list[float]] = {"direction": [], "triad": []}
    for _ in range(turns + 1):
        for name, program, inputs in (
            ("direction", direction, (history, gradient)),
            ("triad", triad, (ring[:HISTORY], ring[HISTORY:])),
        ):
            start = time.perf_counter()
            jax.block_until_ready(program(*inputs))
            times[name].append(time.perf_counter() - start)
    seconds, copy = (statistics.median(times[name][1:]) for name in ("direction", "triad"))
    speed = 3 * HISTORY * parameters * 4 / copy
    # Both rings once for the products and once for the combination, the gradient twice, the direction once.
    floor = (4 * HISTORY + 3) * parameters * 4 / speed
    return (
        f"| {parameters:,} | {1e3 * seconds:.1f} | {1e3 * floor:.1f} | {seconds / floor:.2f} | "
        f"{speed / 1e9:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny problems")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--here", choices=BACKENDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(table(options.here, options.quick))
        if options.here == "jax":
            print("\n| parameters | direction, ms | floor, ms | direction / floor | triad, GB/s |")
            print("|---:|---:|---:|---:|---:|")
            print(direction_row(1000, 1) if options.quick else direction_row(10_000_000, 9))
        return
    for backend in options.backends:
        command = [sys.executable, "-m", "tests.benchmarks.lbfgs_wall_time", "--here", backend]
        environment = {"JAX_PLATFORMS": "cpu", **os.environ, "KERAS_BACKEND": backend}
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
        environment["OPENBLAS_NUM_THREADS"] = "1"  # SciPy's threads and torch's would wait for each other
        done = subprocess.run(
            command + ["--quick"] * options.quick,
            env=environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{backend} failed:\n{done.stderr}")
        print(done.stdout, flush=True)


if __name__ == "__main__":
    main()
