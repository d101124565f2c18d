"""Times contenders beside each other in one process, alternating and warm; and the triad's bandwidth."""

import gc
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

Run = Callable[[], object]  # does the work once and returns when it is done

THREADS = 2
SHORTEST = 2e-3  # s: calls are repeated until one reading lasts as long, far above the clock's resolution


class Effort(NamedTuple):
    """How long one comparison may take: rounds within bounds, stopped by the clock in between."""

    least: int = 9
    most: int = 60
    seconds: float = 3.0


QUICK = Effort(least=1, most=1, seconds=0.0)


def medians(contenders: Mapping[str, Run], effort: Effort) -> dict[str, float]:
    """Median seconds of one call of each contender."""
    return {name: statistics.median(values) for name, values in readings(contenders, effort).items()}


def median_error(values: Sequence[float]) -> float:
    """Standard error of a median: sqrt(pi / 2 / n) sigma, sigma from the quartiles (a normal's are 1.35 sigma apart).

    One reading alone shows no scatter: its error is taken to be the whole of it.
    """
    if len(values) < 2:
        return values[0]
    lower, _, upper = statistics.quantiles(values, n=4)
    return math.sqrt(math.pi / 2 / len(values)) * (upper - lower) / 1.35


def readings(contenders: Mapping[str, Run], effort: Effort) -> dict[str, list[float]]:
    """Seconds of one call of each contender, once a round.

    Every round times each contender once, in an order that turns round with each round, so that a slow spell
    of the machine falls on all of them alike.
    """
    repeats = {name: _repeats(run) for name, run in contenders.items()}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    end = time.perf_counter() + effort.seconds
    for done in range(effort.most):
        if done >= effort.least and time.perf_counter() > end:
            break
        for name in order:
            taken[name].append(_seconds(contenders[name], repeats[name]))
        order.reverse()
    return taken


def _repeats(run: Run) -> int:
    """Warm up, and return how many calls fill the shortest reading."""
    run()
    run()
    gc.collect()
    return max(1, math.ceil(SHORTEST / max(_seconds(run, 1), 1e-7)))


def _seconds(run: Run, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def triad(elements: int) -> tuple[Run, int]:
    """The triad a = b + c over float32 arrays, in `THREADS` threads, and the bytes one call moves.

    The factor of McCalpin's a = b + q c is left out: NumPy has no operation for it in one pass, and it moves
    nothing.
    """
    a, b, c = (np.ones(elements, np.float32) for _ in range(3))
    cuts = np.linspace(0, elements, THREADS + 1).astype(int)
    parts = [slice(low, high) for low, high in itertools.pairwise(cuts)]
    pool = ThreadPoolExecutor(THREADS)
    return lambda: list(pool.map(lambda s: np.add(b[s], c[s], out=a[s]), parts)), 3 * a.nbytes
