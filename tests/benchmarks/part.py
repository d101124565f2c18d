"""Measures one part on the active backend and writes its rows as JSON.

`python -m tests.benchmarks.part NAME FILE [--quick]`
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.benchmarks import layers, methods, optimizer_step, results, shapes, train_step
from tests.benchmarks.rows import Row
from tests.benchmarks.timing import QUICK, Effort

GROWTH = [(10**4, 10), (10**5, 10), (10**6, 10), (10**7, 10), (10**8, 10)]
VARIABLES = [(10**6, 10), (10**6, 100), (10**6, 1000)]
BATCHES = [(batch, 56, 56, 64) for batch in (1, 4, 64)]  # 16 is among the layers'
SMALL = [(2, 4, 4, 8)]
EFFORT_OF_LAYERS = Effort(least=5, seconds=0.4)
TINY = {"small": train_step.Training("Adam", train_step.small, train_step.small)}

FULL_PARTS: dict[str, Callable[[], Iterable[Row]]] = {
    "optimizers": lambda: optimizer_step.network_rows(
        {"ResNet-50": shapes.resnet50(), "transformer": shapes.transformer()}, Effort(least=5, seconds=0.6)
    ),
    "growth": lambda: optimizer_step.growth_rows(GROWTH, Effort(least=5, seconds=0.5)),
    "variables": lambda: optimizer_step.growth_rows(VARIABLES, Effort(least=5, seconds=0.6)),
    "layers": lambda: itertools.chain(
        layers.rows(layers.SHAPES, EFFORT_OF_LAYERS),
        layers.rows([layers.TRANSFORMER], EFFORT_OF_LAYERS, ["LayerNorm"]),
        layers.rows(layers.SHAPES[:1], EFFORT_OF_LAYERS, ["Swish, beta trained"]),
    ),
    "large_layers": lambda: itertools.chain(
        layers.rows([layers.LARGE_IMAGES], EFFORT_OF_LAYERS),
        layers.rows([layers.TRANSFORMER], EFFORT_OF_LAYERS, layers.BUT_LAYER_NORM),
        layers.mixed_rows(EFFORT_OF_LAYERS),
    ),
    "batches": lambda: layers.rows(BATCHES, EFFORT_OF_LAYERS, ["BatchNorm"]),
    "train_steps": lambda: train_step.rows(train_step.TRAININGS, Effort(least=5, seconds=2.5)),
}
QUICK_PARTS: dict[str, Callable[[], Iterable[Row]]] = {
    "optimizers": lambda: optimizer_step.network_rows({"small": [(3, 4), (4,)]}, QUICK),
    "growth": lambda: optimizer_step.growth_rows([(10, 2), (100, 2)], QUICK),
    "variables": lambda: optimizer_step.growth_rows([(100, 2), (100, 10)], QUICK),
    "layers": lambda: layers.rows(SMALL, QUICK, list(methods.OUR_LAYERS)),
    "large_layers": lambda: layers.rows(SMALL, QUICK, ["SELU", "LayerNorm"], layers.MIXED[1]),
    "batches": lambda: layers.rows([(1, 4, 4, 8), (2, 4, 4, 8)], QUICK, ["BatchNorm"]),
    "train_steps": lambda: train_step.rows(TINY, QUICK),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(FULL_PARTS))
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rows = (QUICK_PARTS if arguments.quick else FULL_PARTS)[arguments.name]()
    arguments.file.write_text(json.dumps([results.as_dict(row) for row in rows]))
