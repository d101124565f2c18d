"""
What Newton's method costs, and what L-BFGS keeps
=================================================

A Newton step solves a linear system with the Hessian: n^2 numbers to hold and of the order of n^3
operations. L-BFGS keeps the last ten pairs of steps and gradient differences, 20 n numbers, and takes about
80 n operations. Here is one step of each for a quadratic function of growing size, and what each would take
for a network of 100 million parameters.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

HISTORY = 10
rng = np.random.default_rng(0)


def newton_step(hessian, gradient):
    return np.linalg.solve(hessian, -gradient)


def lbfgs_step(steps, differences, gradient):
    """The two-loop recursion (Nocedal & Wright 2006, Algorithm 7.4) over the pairs, newest last."""
    direction = -gradient
    products = []
    for s, y in zip(reversed(steps), reversed(differences), strict=True):
        alpha = (s @ direction) / (s @ y)
        direction = direction - alpha * y
        products.append(alpha)
    s, y = steps[-1], differences[-1]
    direction = direction * (s @ y) / (y @ y)
    for s, y, alpha in zip(steps, differences, reversed(products), strict=True):
        direction = direction + (alpha - (y @ direction) / (s @ y)) * s
    return direction


def seconds(function, *arguments):
    """Return the least of three timings or more, after one that warms up; half a second of them."""
    function(*arguments)
    times, end = [], time.perf_counter() + 0.5
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


# %%
# Time of one step, and memory, by the number of parameters.

newton_sizes = [100, 200, 400, 800, 1600, 3200]
lbfgs_sizes = [100, 1_000, 10_000, 100_000, 1_000_000]
newton_seconds, lbfgs_seconds = [], []
for n in newton_sizes:
    matrix = rng.normal(size=(n, n))
    newton_seconds.append(seconds(newton_step, matrix @ matrix.T + n * np.eye(n), rng.normal(size=n)))
for n in lbfgs_sizes:
    diagonal = rng.uniform(1, 100, size=n)
    steps = [rng.normal(size=n) for _ in range(HISTORY)]
    lbfgs_seconds.append(seconds(lbfgs_step, steps, [diagonal * s for s in steps], rng.normal(size=n)))

large = 1e8
newton_large = newton_seconds[-1] * (large / newton_sizes[-1]) ** 3
lbfgs_large = lbfgs_seconds[-1] * large / lbfgs_sizes[-1]
print(
    f"Newton:  {newton_seconds[-1]:.2f} s at n = {newton_sizes[-1]}; by n^3, {newton_large / 3.15e7:.0e} years at 1e8"
)
print(f"         its Hessian at 1e8: {8 * large**2 / 1e15:.0f} PB")
print(f"L-BFGS:  {lbfgs_seconds[-1]:.3f} s at n = {lbfgs_sizes[-1]:,}; by n, {lbfgs_large:.0f} s at 1e8")
print(f"         its {HISTORY} pairs at 1e8: {8 * 2 * HISTORY * large / 1e9:.0f} GB")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.loglog(newton_sizes, newton_seconds, "o-", label="Newton, measured")
left.loglog(lbfgs_sizes, lbfgs_seconds, "o-", label="L-BFGS, measured")
left.set(xlabel="parameters n", ylabel="time of one step (s)", title="Time")
n = np.logspace(2, 8, 50)
right.loglog(n, 8 * n**2 / 1e9, label="Hessian, 8 n² bytes")
right.loglog(n, 8 * 2 * HISTORY * n / 1e9, label="ten pairs, 160 n bytes")
right.set(xlabel="parameters n", ylabel="memory (GB)", title="Memory in float64")
for panel in (left, right):
    panel.grid(alpha=0.3)
    panel.legend()
plt.show()
