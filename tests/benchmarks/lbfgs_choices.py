"""What each departure of our line search from Hager & Zhang's is worth, on the problems of `lbfgs_problems`.

`python -m tests.benchmarks.lbfgs_choices` prints Markdown: a row a choice, and what taking it back gives.
"""

import contextlib
import math
import os
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

from keras_addons_l6.optimizers.quasi_newton import line_search
from keras_addons_l6.optimizers.quasi_newton.pairs import LimitedMemory
from tests.benchmarks import lbfgs_problems as benchmark


def secant(arrays: Any, a: line_search.Point, b: line_search.Point, noise: Any) -> Any:
    """In place of the cubic's minimizer."""
    del arrays, noise
    return line_search._secant(a, b)


TAKEN_BACK: dict[str, dict[str, Any]] = {
    "as it is": {},
    "1: secants only": {"_minimizer": secant},
    "2: an open bracket grows fivefold": {"RHO_MIN": 5.0, "RHO_MAX": 5.0},
    "3: sigma = 0.9": {"sigma": 0.9},
    "3: delta = 0.1": {"DELTA": 0.1},
    "all of these": {"_minimizer": secant, "RHO_MIN": 5.0, "RHO_MAX": 5.0, "sigma": 0.9, "DELTA": 0.1},
}

Solved = Callable[[benchmark.Objective, Any, benchmark.End], bool]


def runs(problems: list[Any], dtype: str, solved: Solved) -> dict[str, int]:
    """Evaluations of each problem that is solved."""
    counts = {}
    for problem in problems:
        objective = benchmark.compiled(problem)
        end = benchmark.our_run(objective, problem.start, dtype)
        if solved(objective, problem, end):
            counts[problem.name] = end.evaluations
    return counts


def main() -> None:
    """Run the command."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from tests.optimizers.quasi_newton import problems

    every = [*problems.CLASSIC, *problems.learning()]
    print("| taken back | evaluations, geometric mean over ours | solved | solved in float32 |")
    print("|---|---|---|---|")
    ours: dict[str, int] = {}
    for name, constants in TAKEN_BACK.items():
        print(name, file=sys.stderr, flush=True)
        sigma = constants.pop("sigma", line_search.SIGMA)
        with (
            mock.patch.multiple(line_search, **constants) if constants else contextlib.nullcontext(),
            mock.patch.object(LimitedMemory, "sigma", sigma),
        ):
            exact = runs(every, "float64", benchmark.is_solved)
            single = runs(every, "float32", benchmark.is_solved_within_rounding)
        ours = ours or exact
        ratios = [math.log(count / ours[problem]) for problem, count in exact.items() if problem in ours]
        mean = math.exp(sum(ratios) / len(ratios))
        print(f"| {name} | {mean:.3f} | {len(exact)} of {len(every)} | {len(single)} |", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    main()
