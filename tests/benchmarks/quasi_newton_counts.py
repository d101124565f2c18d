"""Evaluations of the methods with a dense inverse Hessian, over SciPy's BFGS, on the classic and the learning problems.

`KERAS_BACKEND=torch python -m tests.benchmarks.quasi_newton_counts` prints Markdown. All start where the problems say and end when
no component of the gradient exceeds 1e-6, in float64, after at most 3,000 evaluations. The mean is geometric, over the problems
that both solve.
"""

import statistics
import sys

import numpy as np
import scipy.optimize

from keras_addons_l6.optimizers.quasi_newton.inverse_hessian import InverseHessian
from keras_addons_l6.optimizers.quasi_newton.updates import UPDATES
from tests.optimizers.quasi_newton.driving import Run, objective_of
from tests.optimizers.quasi_newton.problems import CLASSIC, learning

TOLERANCE = 1e-6
MOST = 3000


def ours(update, objective, start):
    """Evaluations to the tolerance; None where they do not get there."""
    run = Run(
        objective,
        [start],
        curvature=InverseHessian(update, "float64"),
        gradient_tolerance=TOLERANCE,
        change_tolerance=0.0,
    ).advance(MOST)
    return int(run.evaluations) if run.gradient_norm <= TOLERANCE else None


def scipys(objective, start):
    """The same for SciPy's BFGS."""
    shape = np.shape(start)

    def evaluate(x):
        value, gradient = objective([x.reshape(shape)])
        return float(value), np.asarray(gradient[0], "float64").ravel()

    options = {"gtol": TOLERANCE, "maxiter": MOST}
    with np.errstate(all="ignore"):
        found = scipy.optimize.minimize(
            evaluate, np.ravel(start).astype("float64"), jac=True, method="BFGS", options=options
        )
    return found.nfev if np.abs(found.jac).max() <= TOLERANCE and found.nfev <= MOST else None


def main():
    """Run the command."""
    problems = [*CLASSIC, *learning()]
    names = ("SciPy's BFGS", *UPDATES)
    counts = {name: [] for name in names}
    for problem in problems:
        objective = objective_of(problem)
        counts[names[0]].append(scipys(objective, problem.start))
        for update in UPDATES:
            counts[update].append(ours(update, objective, problem.start))
        print(problem.name, *(counts[name][-1] for name in names), file=sys.stderr, flush=True)
    print("| method | solved | evaluations over SciPy's BFGS |")
    print("|---|---|---|")
    for name in names:
        both = [(a, b) for a, b in zip(counts[name], counts[names[0]], strict=True) if a and b]
        mean = statistics.geometric_mean(a / b for a, b in both)
        print(f"| {name} | {sum(map(bool, counts[name]))} of {len(problems)} | {mean:.2f} |")


if __name__ == "__main__":
    main()
