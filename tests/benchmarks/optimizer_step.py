"""One optimizer step beside the backend's own, over networks' variables and over growing sizes."""

from collections.abc import Iterator, Sequence

import numpy as np

from tests.benchmarks import methods, shapes, timing
from tests.benchmarks.engines import engine
from tests.benchmarks.rows import Row
from tests.benchmarks.timing import Effort

TRIAD = "triad"


def network_rows(networks: dict[str, Sequence[shapes.Shape]], effort: Effort) -> Iterator[Row]:
    """Every rule over every network's variables, with the floor by the bandwidth measured meanwhile."""
    for network, variables in networks.items():
        gradients = _gradients(variables)
        for name in methods.OPTIMIZERS:
            for mode in engine().MODES:
                size = f"{network}, {_millions(shapes.count(variables))} M in {len(variables)}"
                yield _row(f"{name}, {size}", name, gradients, mode, effort)


def growth_rows(sizes: Sequence[tuple[int, int]], effort: Effort, name: str = "Adam") -> Iterator[Row]:
    """One rule over (parameters, variables) of each pair."""
    for parameters, variables in sizes:
        gradients = _gradients(shapes.even(parameters, variables))
        for mode in engine().MODES:
            yield _row(f"{name}, {parameters:.0e} in {variables}", name, gradients, mode, effort)


def _row(subject: str, name: str, gradients: list, mode: str, effort: Effort) -> Row:
    parameters = sum(int(np.prod(g.shape)) for g in gradients)
    moves, moved = engine().triad(parameters)
    contenders = engine().optimizer_steps(name, gradients, mode)
    seconds = timing.medians({**contenders, TRIAD: moves}, effort)
    bandwidth = moved / seconds.pop(TRIAD)
    return Row(subject, mode, seconds, floor=methods.floor_bytes(name, parameters) / bandwidth)


def _gradients(variables: Sequence[shapes.Shape]) -> list:
    """Gradients as a network's are: small, of both signs."""
    random = np.random.default_rng(0)
    return [engine().array(0.01 * random.standard_normal(shape, np.float32)) for shape in variables]


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.3g}"
