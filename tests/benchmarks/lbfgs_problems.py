"""Counts evaluations on the classic and the learning problems: our L-BFGS beside SciPy's, torch's and optax's.

`python -m tests.benchmarks.lbfgs_problems [--dtypes float64 float32] [--only NAME ...]` prints Markdown. The problems are
differentiated by JAX, for torch.optim by torch, in a process of its own. Everybody has a history of ten and at most
2,000 evaluations of value and gradient, and stops where no component of the gradient exceeds 1e-6, and for no other reason.

In float64 a problem is solved where that gradient is reached. In float32 many sums cannot be that exact, so the end point is
judged in float64: its gradient must be at most 2e-6 of the starting one (or 2e-6), and its value within 1e-4 of a local
minimum's (or 1e-8) where the paper knows them. A run that reached this point, but not the gradient at which it would have
stopped, went on to the limit: its count stands in brackets.
"""

import argparse
import functools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HISTORY, TOLERANCE, MOST = 10, 1e-6, 2000
PEERS = ("SciPy", "torch", "optax", "ours", "slopes only")

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


class End(NamedTuple):
    """Where a solver stopped."""

    point: np.ndarray
    gradient: float  # largest component, in the dtype of the run
    evaluations: int


def scipy_run(objective: Objective, start: np.ndarray, dtype: str) -> End:
    """SciPy's L-BFGS-B, which works in float64 whatever the objective does."""
    from scipy.optimize import minimize

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(x.astype(dtype))
        return float(value), gradient.astype("float64")

    options = {"maxcor": HISTORY, "gtol": TOLERANCE, "ftol": 0, "maxfun": MOST, "maxiter": 10 * MOST}
    result = minimize(fun, start, jac=True, method="L-BFGS-B", options=options)
    return End(result.x, float(np.abs(result.jac).max()), result.nfev)


def our_run(objective: Objective, start: np.ndarray, dtype: str, with_values: bool = True) -> End:
    """The method of this package, driven by hand."""
    from keras_addons_l6.backends.portable.arrays import NumpyArrays
    from keras_addons_l6.optimizers.quasi_newton import iteration
    from keras_addons_l6.optimizers.quasi_newton.pairs import LimitedMemory

    arrays, trial = NumpyArrays(dtype), (start.astype(dtype),)
    settings = iteration.Settings(
        LimitedMemory(HISTORY), TOLERANCE, change_tolerance=0.0, max_evaluations=MOST
    )
    state = iteration.init(arrays, settings, trial)
    while iteration.read(state, "status") in iteration.ACTIVE:
        value, gradient = objective(trial[0])
        with arrays.scope():
            state, trial = iteration.step(
                arrays, settings, state, trial, (gradient,), value if with_values else None
            )
    numbers = (iteration.read(state, name) for name in ("gradient_norm", "evaluations"))
    gradient_norm, evaluations = numbers
    return End(state.point[0], float(gradient_norm), int(evaluations))


def optax_run(value: Callable[[Any], Any], start: np.ndarray, dtype: str) -> End:
    """optax.lbfgs with its zoom line search, the whole loop compiled."""
    import jax
    import jax.numpy as jnp
    import optax

    solver = optax.lbfgs(memory_size=HISTORY)
    evaluate = optax.value_and_grad_from_state(value)

    def searches(state: Any) -> Any:
        return optax.tree.get(state, "info").num_linesearch_steps

    def body(carry: Any) -> Any:
        x, state, count = carry
        found, gradient = evaluate(x, state=state)
        step, state = solver.update(gradient, state, x, value=found, grad=gradient, value_fn=value)
        return optax.apply_updates(x, step), state, count + searches(state)

    def goes_on(carry: Any) -> Any:
        _, state, count = carry
        gradient = optax.tree.get(state, "grad")
        return (count < MOST) & ((count == 1) | ~(jnp.max(jnp.abs(gradient)) <= TOLERANCE))

    with jax.enable_x64(dtype == "float64"):  # optax makes some of its numbers in the widest type there is
        x = jnp.asarray(start, dtype)
        loop = jax.jit(lambda x, state: jax.lax.while_loop(goes_on, body, (x, state, 1)))
        x, state, count = loop(x, solver.init(x))
    return End(np.asarray(x), float(np.abs(optax.tree.get(state, "grad")).max()), int(count))


def torch_runs(dtype: str, names: list[str]) -> dict[str, End]:
    """torch.optim.LBFGS with its strong Wolfe search on all problems, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.lbfgs_problems", "--torch", dtype, *names]
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    root = Path(__file__).parents[2]
    output = subprocess.run(command, env=environment, cwd=root, check=True, stdout=subprocess.PIPE).stdout
    return {name: End(np.array(point), *rest) for name, (point, *rest) in json.loads(output).items()}


def torch_process(dtype: str, names: list[str]) -> None:
    """The other side of `torch_runs`."""
    from tests.optimizers.quasi_newton import problems

    chosen = [p for p in (*problems.CLASSIC, *problems.learning()) if p.name in names]
    ends = {problem.name: _torch_run(problem, dtype) for problem in chosen}
    print(json.dumps({name: (end.point.tolist(), *end[1:]) for name, end in ends.items()}))


def _torch_run(problem: Any, dtype: str) -> End:
    import keras
    import torch

    keras.config.set_floatx(dtype)
    x = torch.tensor(problem.start.astype(dtype), requires_grad=True)
    count = 0

    def closure() -> Any:
        nonlocal count
        count += 1
        solver.zero_grad()
        value = problem.value(keras.ops, x)
        value.backward()
        return value

    solver = torch.optim.LBFGS(
        [x],
        max_iter=MOST,
        max_eval=MOST,
        history_size=HISTORY,
        tolerance_grad=TOLERANCE,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    solver.step(closure)
    evaluations = count
    closure()
    gradient = x.grad.detach().numpy()
    return End(x.detach().numpy(), float(np.abs(gradient).max()), evaluations)


def count(dtype: str, problems: list[Any]) -> dict[str, dict[str, tuple[int, bool]]]:
    """For each problem, of each solver, the evaluations and whether it solved the problem."""
    import jax.numpy as jnp

    ends_of_torch = torch_runs(dtype, [p.name for p in problems])
    counts = {}
    for problem in problems:
        print(dtype, problem.name, file=sys.stderr, flush=True)

        objective = compiled(problem)
        ends = {
            "SciPy": scipy_run(objective, problem.start, dtype),
            "torch": ends_of_torch[problem.name],
            "optax": optax_run(functools.partial(problem.value, jnp), problem.start, dtype),
            "ours": our_run(objective, problem.start, dtype),
            "slopes only": our_run(objective, problem.start, dtype, with_values=False),
        }
        solved = is_solved if dtype == "float64" else is_solved_within_rounding
        counts[problem.name] = {
            name: (end.evaluations, solved(objective, problem, end)) for name, end in ends.items()
        }
    return counts


def compiled(problem: Any) -> Objective:
    """Value and gradient of a problem, compiled by JAX."""
    import jax
    import jax.numpy as jnp

    program = jax.jit(jax.value_and_grad(functools.partial(problem.value, jnp)))

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = program(jnp.asarray(x))
        return np.asarray(value)[()], np.array(gradient)

    return objective


def is_solved(objective: Objective, problem: Any, end: End) -> bool:
    """Whether the gradient is small."""
    return bool(end.gradient <= TOLERANCE)


def is_solved_within_rounding(objective: Objective, problem: Any, end: End) -> bool:
    """Whether, in float64, the gradient has shrunk half a millionfold and the value is a known local minimum's."""
    start = np.abs(objective(problem.start)[1]).max()
    value, gradient = objective(end.point.astype("float64"))
    near = any(value - minimum <= max(1e-4 * abs(minimum), 1e-8) for minimum in problem.minima)
    return bool(np.abs(gradient).max() <= 2 * TOLERANCE * max(1.0, start)) and (near or not problem.minima)


def table(counts: dict[str, dict[str, tuple[int, bool]]]) -> str:
    """Markdown: a row a problem, and below how many each solver solved, how many of these runs went on to the limit,
    and its evaluations over SciPy's."""
    lines = [f"| problem | {' | '.join(PEERS)} |", "|---|" + "---|" * len(PEERS)]
    for name, row in counts.items():
        lines.append(f"| {name} | {' | '.join(cell(*row[peer]) for peer in PEERS)} |")
    solved = {
        peer: [n for n, is_solved in (row[peer] for row in counts.values()) if is_solved] for peer in PEERS
    }
    lines.append(f"| **solved of {len(counts)}** | {' | '.join(str(len(solved[peer])) for peer in PEERS)} |")
    to_limit = (str(sum(n >= MOST for n in solved[peer])) for peer in PEERS)
    lines.append(f"| **of these, runs that went on to the limit** | {' | '.join(to_limit)} |")
    ratios = (f"{mean_ratio(counts, peer):.3f}" for peer in PEERS)
    lines.append(f"| **evaluations over SciPy's, geometric mean where both solve** | {' | '.join(ratios)} |")
    return "\n".join(lines)


def cell(evaluations: int, solved: bool) -> str:
    """An entry of the table: the count, in brackets where the run did not stop by itself, or x."""
    if not solved:
        return "x"
    return f"({evaluations})" if evaluations >= MOST else str(evaluations)


def mean_ratio(counts: dict[str, dict[str, tuple[int, bool]]], peer: str) -> float:
    """The geometric mean of evaluations over SciPy's where both solve."""
    both = [(row[peer][0], row["SciPy"][0]) for row in counts.values() if row[peer][1] and row["SciPy"][1]]
    return math.exp(sum(math.log(a / b) for a, b in both) / len(both)) if both else math.nan


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lbfgs_problems", description=__doc__)
    parser.add_argument("--dtypes", nargs="+", choices=["float64", "float32"], default=["float64", "float32"])
    parser.add_argument("--only", nargs="+", help="names of problems")
    parser.add_argument("--torch", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch:
        torch_process(options.torch[0], options.torch[1:])
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    from tests.optimizers.quasi_newton import problems

    every = [*problems.CLASSIC, *problems.learning()]
    chosen = [p for p in every if not options.only or p.name in options.only]
    for dtype in options.dtypes:
        print(f"\n{dtype}\n\n{table(count(dtype, chosen))}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    main()
