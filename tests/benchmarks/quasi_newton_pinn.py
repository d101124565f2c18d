"""How low each quasi-Newton method takes the losses of two physics-informed networks, and the error of the solutions.

`KERAS_BACKEND=jax python -m tests.benchmarks.quasi_newton_pinn [helmholtz burgers resampling]` prints Markdown, in float64.

* helmholtz: u_xx + u_yy + u = q on (-1, 1)^2 with the solution sin(pi x) sin(4 pi y); a network 2-20-20-1 times
  (1 - x^2)(1 - y^2), which is 0 on the boundary; 1,000 points; 2,000 evaluations.
* burgers: u_t + u u_x = (0.01 / pi) u_xx for 0 < t < 1 with u(x, 0) = -sin(pi x), periodic; -sin(pi x) + t N(cos(pi x),
  sin(pi x), t), N a network 3-20-20-20-1; 2,000 points; 3,000 evaluations.
* resampling: the same with 5,000 points, drawn anew every 500 evaluations; 6,000 evaluations.

All methods go on from the same point, where Adam has been for 1,000 steps (resampling: 1,500). Points and first weights are
NumPy's, the same on every backend.
"""

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_addons_l6 import enable_float64, minimize
from keras_addons_l6.optimizers import BFGS, LBFGS, fit_full_batch
from tests.benchmarks.lbfgs_wall_time import Functions, compiled_for_host, derivatives

METHODS: dict[str, dict[str, Any]] = {
    "L-BFGS, m = 10": {"method": "lbfgs", "history_size": 10},
    "L-BFGS, m = 50": {"method": "lbfgs", "history_size": 50},
    "BFGS": {"method": "bfgs"},
    "self-scaled BFGS": {"method": "self_scaled_bfgs"},
    "self-scaled Broyden": {"method": "self_scaled_broyden"},
}
VISCOSITY = 0.01 / math.pi
R2 = (0.7548776662466927, 0.5698402909980532)  # Roberts's sequence (2018): 1/p, 1/p^2; p^3 = p + 1
NODES = 100  # of the quadrature: twice as many change no value by more than 2e-15

Columns = tuple[Any, Any]  # a point's two coordinates, each (points, 1)


class Equation(NamedTuple):
    """A differential equation, the network that solves it, and the solution."""

    sizes: list[int]
    u: Callable[[Any, Any], Any]  # from the weights, one vector, and points, (n, 2)
    residual: Callable[[Any, Any], Any]  # likewise
    solution: Callable[[np.ndarray], np.ndarray]
    corners: tuple[tuple[float, float], tuple[float, float]]  # of the domain, the lowest and the highest


class Effort(NamedTuple):
    """How much a run may cost."""

    points: int
    adam_steps: int
    evaluations: int
    draws: int = 1  # of points, over which the evaluations are divided


class End(NamedTuple):
    """Where a method has come to."""

    loss: float
    error: float  # of the solution, relative, in the L2 norm
    evaluations: int
    seconds: float


def helmholtz(functions: Functions) -> Equation:
    """u_xx + u_yy + u = q, u = 0 on the boundary."""
    sizes = [2, 20, 20, 1]

    def u(weights: Any, points: Any) -> Any:
        x, y = points[:, :1], points[:, 1:]
        return functions.network(functions.layers(weights, sizes), points) * (1 - x**2) * (1 - y**2)

    def solution(points: Any, sin: Callable[[Any], Any] = np.sin) -> Any:
        return sin(math.pi * points[:, :1]) * sin(4 * math.pi * points[:, 1:])

    def residual(weights: Any, points: Any) -> Any:
        def swapped(p: Any) -> Any:
            return u(weights, functions.columns(p[:, 1:], p[:, :1]))

        value, _, _, u_xx = derivatives(functions.backend, lambda p: u(weights, p), points)
        there = functions.columns(points[:, 1:], points[:, :1])
        u_yy = derivatives(functions.backend, swapped, there)[3]
        return u_xx + u_yy + value - (1 - 17 * math.pi**2) * solution(points, functions.sin)

    return Equation(sizes, u, residual, solution, ((-1.0, -1.0), (1.0, 1.0)))


def burgers(functions: Functions) -> Equation:
    """u_t + u u_x = nu u_xx, periodic, with u(x, 0) = -sin(pi x)."""
    sizes = [3, 20, 20, 20, 1]

    def u(weights: Any, points: Any) -> Any:
        angle, t = math.pi * points[:, :1], points[:, 1:]
        sine = functions.sin(angle)
        features = functions.columns(functions.cos(angle), sine, t)
        return t * functions.network(functions.layers(weights, sizes), features) - sine

    def residual(weights: Any, points: Any) -> Any:
        value, u_t, u_x, u_xx = derivatives(functions.backend, lambda p: u(weights, p), points)
        return u_t + value * u_x - VISCOSITY * u_xx

    return Equation(sizes, u, residual, cole_hopf, ((-1.0, 0.0), (1.0, 1.0)))


def cole_hopf(points: np.ndarray, nodes: int = NODES) -> np.ndarray:
    """Burgers' solution (Cole 1951, Hopf 1950) by Gauss-Hermite quadrature; with f(y) = exp(-cos(pi y) / 2 pi nu)

    u(x, t) = -E[sin(pi y) f(y)] / E[f(y)],      y = x - z sqrt(4 nu t), z of the density exp(-z^2) / sqrt(pi).
    """
    z, weights = np.polynomial.hermite.hermgauss(nodes)
    y = points[:, :1] - z * np.sqrt(4 * VISCOSITY * points[:, 1:])
    exponents = -np.cos(np.pi * y) / (2 * np.pi * VISCOSITY)
    f = weights * np.exp(exponents - exponents.max(axis=1, keepdims=True))
    return -(f * np.sin(np.pi * y)).sum(axis=1, keepdims=True) / f.sum(axis=1, keepdims=True)


def first_weights(sizes: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Glorot & Bengio's uniform kernels (2010), and biases of 0."""
    parts = []
    for m, n in itertools.pairwise(sizes):
        parts += [rng.uniform(-1, 1, m * n) * np.sqrt(6 / (m + n)), np.zeros(n)]
    return np.concatenate(parts)


def adam(evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]], x: np.ndarray, steps: int) -> np.ndarray:
    """Kingma & Ba (2015), at their rate of 0.001."""
    mean, square = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, steps + 1):
        _, g = evaluate(x)
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g**2
        x = x - 0.001 * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    return x


class Start(NamedTuple):
    """What every method is given."""

    points: np.ndarray
    weights: np.ndarray
    seed: int


def start_of(functions: Functions, equation: Equation, effort: Effort, seed: int) -> Start:
    """Points and weights after Adam."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(*equation.corners, (effort.points, 2))
    weights = first_weights(equation.sizes, rng)
    loss = mean_square(functions, equation)
    on_host = compiled_for_host(functions.backend, lambda w: loss(w, functions.array(points)))
    return Start(points, adam(on_host, weights, effort.adam_steps), seed)


def mean_square(functions: Functions, equation: Equation) -> Callable[[Any, Any], Any]:
    """The loss: of weights and points."""
    return lambda weights, points: functions.sum(equation.residual(weights, points) ** 2) / points.shape[0]


def error_of(functions: Functions, equation: Equation, weights: Any) -> float:
    """The relative L2 error on a grid of 201 by 101 points."""
    axes = [
        np.linspace(*ends, n) for ends, n in zip(zip(*equation.corners, strict=True), (201, 101), strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    exact = equation.solution(grid)
    found = keras.ops.convert_to_numpy(equation.u(weights, functions.array(grid)))
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def minimized(
    functions: Functions, equation: Equation, effort: Effort, start: Start, method: dict[str, Any]
) -> End:
    """One method on points that stay."""
    began = time.perf_counter()
    result = minimize(
        mean_square(functions, equation),
        functions.array(start.weights),
        (functions.array(start.points),),
        gradient_tolerance=0.0,
        change_tolerance=0.0,
        max_iterations=effort.evaluations,
        max_evaluations=effort.evaluations,
        **method,
    )
    seconds = time.perf_counter() - began
    return End(result.fun, error_of(functions, equation, result.x), result.evaluations, seconds)


class Solution(keras.Model):
    """The network as a model from points to residuals, whose loss is their mean square."""

    def __init__(self, equation: Equation, weights: np.ndarray) -> None:
        super().__init__()
        self.residual = equation.residual
        self.vector = self.add_weight(shape=weights.shape, name="vector")
        self.vector.assign(weights)

    def call(self, points: Any) -> Any:
        """The residuals."""
        return self.residual(self.vector.value, points)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, **ignored: Any) -> Any:
        """The mean square."""
        return keras.ops.mean(y_pred**2)


def resampled(
    functions: Functions, equation: Equation, effort: Effort, start: Start, method: dict[str, Any]
) -> list[End]:
    """One method on points drawn anew, its curvature kept; after each draw where it has come to."""
    kind = dict(method)
    update = kind.pop("method")
    tolerances = {"gradient_tolerance": 0.0, "change_tolerance": 0.0}
    optimizer = LBFGS(**kind, **tolerances) if update == "lbfgs" else BFGS(update, **kind, **tolerances)
    model = Solution(equation, start.weights)
    model.compile(optimizer=optimizer)
    rng = np.random.default_rng([start.seed, 1])
    ends, began, done = [], time.perf_counter(), 0
    for _ in range(effort.draws):
        points = drawn(functions, equation, model.vector.value, effort.points, rng)
        most = effort.evaluations // effort.draws
        history = fit_full_batch(model, points, max_iterations=most, max_evaluations=most, verbose=0).history
        error, done = error_of(functions, equation, model.vector.value), history["evaluations"][-1]
        ends.append(End(history["loss"][-1], error, done, time.perf_counter() - began))
        print(f"  {ends[-1]}", file=sys.stderr, flush=True)
    return ends


def drawn(
    functions: Functions, equation: Equation, weights: Any, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Points out of four times as many, likelier where the residual is large (Wu et al. 2023, equation 2, k = c = 1).

    The candidates are a sequence of low discrepancy, shifted at random, and points are taken at equal steps of the summed
    density: both spread them more evenly than chance does, so that the error scatters less from draw to draw.
    """
    unit = (rng.random(2) + np.outer(np.arange(4 * count), R2)) % 1
    lowest, highest = map(np.array, equation.corners)
    candidates = lowest + (highest - lowest) * unit
    residual = np.abs(keras.ops.convert_to_numpy(equation.residual(weights, functions.array(candidates))))
    density = residual[:, 0] / residual.mean() + 1
    summed = np.cumsum(density) / density.sum()
    steps = (np.arange(count) + rng.random()) / count
    return candidates[np.minimum(np.searchsorted(summed, steps), len(candidates) - 1)]


EQUATIONS = {"helmholtz": helmholtz, "burgers": burgers, "resampling": burgers}
EFFORTS = {
    "helmholtz": Effort(1000, 1000, 2000),
    "burgers": Effort(2000, 1000, 3000),
    "resampling": Effort(5000, 1500, 6000, draws=12),
}
SEEDS = {"helmholtz": (1, 2, 3), "burgers": (1,), "resampling": (1, 2, 3)}


def table(
    functions: Functions, problem: str, effort: Effort, seeds: Sequence[int], methods: Sequence[str]
) -> str:
    """Loss, and the error in brackets, of each method from each start; below, the mean or the median over starts."""
    equation = EQUATIONS[problem](functions)
    lines = [f"| {problem} | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    rows = []
    for seed in seeds:
        start = start_of(functions, equation, effort, seed)
        rows.append([run(functions, equation, effort, start, METHODS[name]) for name in methods])
        cells = [f"{end.loss:.1e} ({end.error:.1e}; {end.seconds:.0f} s)" for end in rows[-1]]
        lines.append(f"| start {seed} | {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    if len(seeds) > 1:
        columns = list(zip(*rows, strict=True))
        losses = [statistics.geometric_mean(end.loss for end in ends) for ends in columns]
        errors = [statistics.median(end.error for end in ends) for ends in columns]
        cells = [f"{loss:.1e} ({error:.1e})" for loss, error in zip(losses, errors, strict=True)]
        lines.append(f"| geometric mean of losses (median of errors) | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(
    functions: Functions, equation: Equation, effort: Effort, start: Start, method: dict[str, Any]
) -> End:
    """Where one method comes to from one start."""
    if effort.draws > 1:
        return resampled(functions, equation, effort, start, method)[-1]
    return minimized(functions, equation, effort, start, method)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quasi_newton_pinn", description=__doc__)
    parser.add_argument("problems", nargs="*", default=list(EQUATIONS), help=", ".join(EQUATIONS))
    parser.add_argument("--quick", action="store_true", help="tiny")
    parser.add_argument("--starts", nargs="+", type=int, help="else all")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    options = parser.parse_args(arguments)
    enable_float64()
    for problem in options.problems:
        effort = (
            Effort(20, 5, 20, draws=min(2, EFFORTS[problem].draws)) if options.quick else EFFORTS[problem]
        )
        seeds = options.starts or SEEDS[problem]
        print(
            table(Functions(keras.backend.backend()), problem, effort, seeds, options.methods),
            end="\n\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
