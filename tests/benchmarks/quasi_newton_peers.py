"""Self-scaled Broyden beside the published codes of it: the loss after equal evaluations, and the time to the same loss.

    KERAS_BACKEND=jax PYTHONPATH=FOLDER:. python -m tests.benchmarks.quasi_newton_peers [helmholtz burgers] [--starts 1 2 3]

FOLDER holds what is compared, each from its own repository; nothing of them is part of this one:

* modified_optimize.py, SciPy's BFGS with "SSBroyden2" (jorgeurban/self_scaled_algorithms_pinns, Urban et al. 2025), used as its
  examples do: whenever its line search gives up, it starts again from where it is, with H made symmetric, or with the
  identity where H is not positive definite or nothing has moved;
* ssbrodyen_family.py and optimistix with a zoom search (IvanBioli/ssbroyden_optimistix, Bioli & Mendibe 2026), with the settings of
  its example, but tolerances that end no run.

The problems, points, weights and starts are those of `quasi_newton_pinn`; loss and gradient are one program compiled by JAX for
all three. Contenders alternate, each after a short run that compiles. A contender's loss is the lowest it has accepted. The time
to the same loss is that of the evaluations which ours needs to get below the other's last loss, at ours' time an evaluation.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import scipy.linalg
import scipy.optimize

from keras_addons_l6 import enable_float64, minimize
from keras_addons_l6.optimizers import BFGS, fit_full_batch
from tests.benchmarks.lbfgs_wall_time import Functions, compiled_for_host
from tests.benchmarks.quasi_newton_pinn import (
    EFFORTS,
    EQUATIONS,
    SEEDS,
    Effort,
    Equation,
    Solution,
    Start,
    mean_square,
    start_of,
)

WARM_UP = 5  # evaluations, which compile
OURS = "ours"


class Outcome(NamedTuple):
    """What a contender has come to."""

    loss: float
    evaluations: int
    seconds: float


# From a loss of weights, the first weights, and a number of evaluations.
Contender = Callable[[Any, np.ndarray, int], Outcome]


class _Spent(Exception):
    """All evaluations are used up."""


def ours(loss: Any, weights: np.ndarray, evaluations: int) -> Outcome:
    """`minimize`, until the evaluations end."""
    began = time.perf_counter()
    result = minimize(
        loss,
        keras.ops.convert_to_tensor(weights),
        method="self_scaled_broyden",
        gradient_tolerance=0.0,
        change_tolerance=0.0,
        max_iterations=evaluations,
        max_evaluations=evaluations,
    )
    return Outcome(result.fun, result.evaluations, time.perf_counter() - began)


def modified_scipy() -> Contender:
    """The published modification of SciPy, loaded as a module of the installed SciPy."""
    found = importlib.util.find_spec("modified_optimize")
    spec = importlib.util.spec_from_file_location("scipy.optimize._modified", found.origin)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def solve(loss: Any, weights: np.ndarray, evaluations: int) -> Outcome:
        both = compiled_for_host("jax", loss)
        both(weights)
        accepted = [np.inf]
        used = 0

        def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal used
            if used == evaluations:
                raise _Spent
            used += 1
            return both(x)

        memoized = scipy.optimize._optimize.MemoizeJac(evaluate)
        x, h = weights, np.eye(len(weights))
        began = time.perf_counter()
        try:
            while True:
                result = module._minimize_bfgs(
                    memoized,
                    x,
                    jac=memoized.derivative,
                    callback=lambda intermediate_result: accepted.append(intermediate_result.fun),
                    gtol=0,
                    maxiter=evaluations,
                    hess_inv0=h,
                    method_bfgs="SSBroyden2",
                )
                stuck = np.array_equal(result.x, x)
                x, h = result.x, (result.hess_inv + result.hess_inv.T) / 2
                h = h if _positive_definite(h) and not stuck else np.eye(len(x))
        except _Spent:
            pass
        return Outcome(min(accepted), used, time.perf_counter() - began)

    return solve


def _positive_definite(h: np.ndarray) -> bool:
    try:
        scipy.linalg.cholesky(h)
    except (np.linalg.LinAlgError, ValueError):
        return False
    return True


def optimistix() -> Contender:
    """The published extension of optimistix; each step is an evaluation."""
    import equinox
    import jax
    from ssbrodyen_family import SSBroyden, Zoom

    def solve(loss: Any, weights: np.ndarray, evaluations: int) -> Outcome:
        def function(x: Any, args: Any) -> tuple[Any, None]:
            return loss(x), None

        solver = SSBroyden(rtol=1e-300, atol=1e-300, search=Zoom(initial_guess_strategy="increase"))
        given = {"fn": function, "args": None, "options": {}, "tags": frozenset()}
        step = equinox.filter_jit(equinox.Partial(solver.step, **given))
        x = jax.numpy.asarray(weights)
        state = solver.init(function, x, None, {}, jax.ShapeDtypeStruct((), x.dtype), None, given["tags"])
        once = step(y=x, state=state)
        step(y=once[0], state=once[1])
        began = time.perf_counter()
        best = np.inf
        for used in range(1, evaluations + 1):
            x, state, _ = step(y=x, state=state)
            if used % 100 == 0 or used == evaluations:
                best = min(best, float(state.f_info.f))
        return Outcome(best, evaluations, time.perf_counter() - began)

    return solve


def evaluations_to(
    equation: Equation, start: Start, evaluations: int, losses: Sequence[float]
) -> list[int | None]:
    """After how many evaluations ours, with the history of `fit_full_batch`, is below each loss; None: never."""
    model = Solution(equation, start.weights)
    model.compile(optimizer=BFGS("self_scaled_broyden", gradient_tolerance=0.0, change_tolerance=0.0))
    history = fit_full_batch(
        model, start.points, max_iterations=evaluations, max_evaluations=evaluations, verbose=0
    ).history
    pairs = list(zip(history["loss"], history["evaluations"], strict=True))
    return [next((int(count) for value, count in pairs if value <= loss), None) for loss in losses]


def compared(problem: str, effort: Effort, seeds: Sequence[int]) -> str:
    """The table of one problem."""
    functions = Functions("jax")
    equation = EQUATIONS[problem](functions)
    contenders = {
        OURS: ours,
        "SciPy modified, SSBroyden2": modified_scipy(),
        "optimistix, SSBroyden": optimistix(),
    }
    lines = [
        f"| {problem}, {effort.evaluations} evaluations | {' | '.join(contenders)} | ours to their losses |",
        "|---" * (len(contenders) + 2) + "|",
    ]
    outcomes: list[list[Outcome]] = []
    for seed in seeds:
        start = start_of(functions, equation, effort, seed)
        points = functions.array(start.points)
        loss_of = mean_square(functions, equation)

        def loss(weights: Any, loss_of: Any = loss_of, points: Any = points) -> Any:
            return loss_of(weights, points)

        row = []
        for solve in contenders.values():
            solve(loss, start.weights, WARM_UP)
            row.append(solve(loss, start.weights, effort.evaluations))
        outcomes.append(row)
        most = effort.evaluations * 2  # past the others' count too
        counts = evaluations_to(equation, start, most, [other.loss for other in row[1:]])
        pace = row[0].seconds / row[0].evaluations
        to_same = ["never" if count is None else f"{count * pace:.1f} s" for count in counts]
        cells = [f"{each.loss:.1e} ({each.seconds:.1f} s)" for each in row]
        lines.append(f"| start {seed} | {' | '.join(cells)} | {', '.join(to_same)} |")
        print(lines[-1], flush=True)
    means = [
        statistics.geometric_mean(each.loss for each in column) for column in zip(*outcomes, strict=True)
    ]
    lines.append(f"| geometric mean | {' | '.join(f'{mean:.1e}' for mean in means)} | |")
    return "\n".join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problems", nargs="*", default=["helmholtz", "burgers"])
    parser.add_argument("--starts", nargs="+", type=int)
    parser.add_argument("--quick", action="store_true", help="tiny")
    options = parser.parse_args()
    enable_float64()
    for problem in options.problems:
        effort = Effort(20, 5, 20) if options.quick else EFFORTS[problem]
        print(compared(problem, effort, options.starts or SEEDS[problem]), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
