"""Peak memory of `minimize` over many parameters, in units of what L-BFGS keeps, in a process of its own.

`python -m tests.benchmarks.minimize_memory [n]` prints how far the process grows over the state: ten pairs, the accepted
point, its gradient, the direction and the trial, of n float32 numbers each. A small minimization before it is not counted.
"""

import sys

import numpy as np
from keras import ops

from keras_addons_l6 import minimize
from tests.benchmarks.memory import process_bytes, start_peak_afresh

VECTORS = 2 * 10 + 4


def growth(n: int) -> float:
    """How far the process grows while n numbers are minimized over, in units of the state."""

    def fun(x):
        return ops.mean(ops.square(x - 2.0) * (1.0 + ops.abs(x)))

    endless = {"max_iterations": 12, "gradient_tolerance": 0.0, "change_tolerance": 0.0}
    minimize(fun, ops.zeros((1000,)), **endless)
    start = ops.convert_to_tensor(np.linspace(0, 1, n, dtype="float32"))
    before = process_bytes("VmRSS")
    start_peak_afresh()
    minimize(fun, start, **endless)
    return (process_bytes("VmHWM") - before) / (4 * n * VECTORS)


if __name__ == "__main__":
    print(f"{growth(int(float(sys.argv[1])) if len(sys.argv) > 1 else 10_000_000):.2f}")
