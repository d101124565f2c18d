"""The fixed sequence of gradients that the parity tests and the scripts making their goldens share."""

import numpy as np

STEPS = 1000
SNAPSHOTS = (1, 2, 3, 10, 100, 500, 501, 502, 1000)
DROP = 500  # where the rate of the cases with a changing rate falls to a tenth


def start():
    """x before the first step."""
    return np.linspace(-1.0, 1.0, 8)


def gradients():
    """(STEPS, 8): noise with a drift, of sizes 1e-9 to 10, exact in float32.

    The sizes straddle every epsilon in use, so that moving one, or its place, shows.
    """
    noise = np.random.default_rng(231).normal(0.3, 1.0, (STEPS, 8))
    return (noise * np.logspace(-9, 1, 8)).astype("float32").astype("float64")


def rates(first, changing):
    """The learning rate of each step."""
    return np.where(changing & (np.arange(STEPS) >= DROP), first / 10, first)
