"""What an iteration of BFGS costs beside its evaluations, against reading H once and reading and writing it once.

    KERAS_BACKEND=jax python -m tests.benchmarks.quasi_newton_iteration [n ...]

The objective is a chained Rosenbrock function of n variables: its evaluation takes O(n), so that an iteration's time is H's.
An iteration's time is the difference of two runs of different length over the difference of their accepted steps, so that
compiling, allocating and fetching count for nothing. Everything alternates in one process; medians of the repetitions.
SciPy's BFGS has the same function, in NumPy.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

REPEATS = 3
SHORT, LONG = 12, 36  # accepted steps


def rosenbrock(x: Any) -> Any:
    """Coupled in pairs of neighbours; the factor keeps values moderate for any n."""
    return keras.ops.sum(10.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def numpy_rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient in NumPy."""
    d, e = x[1:] - x[:-1] ** 2, 1.0 - x[:-1]
    gradient = np.zeros_like(x)
    gradient[1:] += 20.0 * d
    gradient[:-1] -= 40.0 * x[:-1] * d + 2.0 * e
    return float(np.sum(10.0 * d**2 + e**2)), gradient


def start(n: int) -> np.ndarray:
    """Another number in each component, so that H fills."""
    return -1.0 + 0.5 * np.random.default_rng(0).normal(size=n)


def seconds(run: Callable[[], Any]) -> float:
    """How long a run takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def our_iteration(n: int, update: str) -> float:
    """Seconds an accepted step takes more in a long run than in a short one."""
    from keras_addons_l6 import minimize

    x0 = keras.ops.convert_to_tensor(start(n), "float64")

    def run(steps: int) -> tuple[float, int]:
        begin = time.perf_counter()
        result = minimize(
            rosenbrock, x0, method=update, max_iterations=steps, gradient_tolerance=0.0, change_tolerance=0.0
        )
        return time.perf_counter() - begin, result.iterations

    run(1)
    (short, few), (long, many) = run(SHORT), run(LONG)
    return (long - short) / (many - few)


def scipy_iteration(n: int) -> float:
    """The same for SciPy's BFGS."""
    from scipy.optimize import minimize

    def run(steps: int) -> tuple[float, int]:
        begin = time.perf_counter()
        result = minimize(
            numpy_rosenbrock, start(n), jac=True, method="BFGS", options={"maxiter": steps, "gtol": 0.0}
        )
        return time.perf_counter() - begin, result.nit

    (short, few), (long, many) = run(4), run(12)
    return (long - short) / (many - few)


def torch_passes(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A product with a matrix of n rows, and its scaling in place."""
    import torch

    h, x = torch.ones((n, n), dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    return lambda: h @ x, lambda: h.mul_(1.0)


def jax_passes(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same on JAX, which writes into what it is given for good."""
    import jax

    held, x = [jax.numpy.ones((n, n))], jax.numpy.ones(n)
    multiply = jax.jit(lambda h, x: h @ x)
    scale = jax.jit(lambda h: h * 1.0000001, donate_argnums=0)

    def scaling() -> None:
        held[0] = scale(held[0]).block_until_ready()

    return lambda: multiply(held[0], x).block_until_ready(), scaling


def tensorflow_passes(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same on TensorFlow, by XLA."""
    import tensorflow as tf

    h, x = tf.Variable(tf.ones((n, n), tf.float64)), tf.ones(n, tf.float64)
    multiply = tf.function(lambda: tf.linalg.matvec(h, x), jit_compile=True)
    return lambda: multiply().numpy(), tf.function(lambda: h.assign(h * 1.0000001), jit_compile=True)


PASSES = {"torch": torch_passes, "jax": jax_passes, "tensorflow": tensorflow_passes}


def memory_passes(n: int) -> float:
    """Seconds for the two, in the backend's own way."""
    both = PASSES[keras.config.backend()](n)
    for run in both:
        run()  # compiles
    return sum(statistics.median(seconds(run) for _ in range(5)) for run in both)


def main(sizes: list[int]) -> None:
    """Print a row for each size."""
    if keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    print(
        "| n | iteration, ms | one product and one scaling, ms | ratio | SciPy's BFGS, ms | SciPy's over ours |"
    )
    print("|---|---|---|---|---|---|")
    for n in sizes:
        ours, passes, peers = [], [], []
        for repeat in range(REPEATS):
            passes.append(memory_passes(n))
            ours.append(our_iteration(n, "self_scaled_broyden"))
            if n <= 2000 and repeat < 2:
                peers.append(scipy_iteration(n))
        a, b = statistics.median(ours), statistics.median(passes)
        c = statistics.median(peers) if peers else float("nan")
        print(
            f"| {n} | {1e3 * a:.1f} | {1e3 * b:.1f} | {a / b:.2f} | {1e3 * c:.0f} | {c / a:.1f} |", flush=True
        )


if __name__ == "__main__":
    main([int(n) for n in sys.argv[1:]] or [1000, 2000, 5000, 10_000])
