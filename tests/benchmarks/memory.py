"""Peak memory of one optimizer step, beyond parameters, gradients and slots, in a process of its own.

`python -m tests.benchmarks.memory ours|Keras [--quick]` prints the bytes that a step takes while it runs.
"""

import argparse
import gc
import re
from pathlib import Path

import numpy as np

from tests.benchmarks import methods, shapes
from tests.benchmarks.engines import engine
from tests.benchmarks.rows import OURS

MEBIBYTE = 2**20


def allowed_bytes(variables: list[shapes.Shape]) -> int:
    """DESIGN: the largest variable or 64 MiB, whichever is more."""
    return max(64 * MEBIBYTE, max(4 * int(np.prod(shape)) for shape in variables))


def extra_bytes(who: str, variables: list[shapes.Shape], rule: str = "Adam") -> int:
    """How far the process grows while a step runs; a first step, which compiles, is not counted."""
    optimizer = methods.our_optimizer(rule) if who == OURS else methods.keras_optimizer(rule)
    gradients = [engine().array(np.full(shape, 0.01, np.float32)) for shape in variables]
    step = engine().keras_step(optimizer, gradients, engine().MODES[0])
    step()
    step()
    gc.collect()
    before = process_bytes("VmRSS")
    start_peak_afresh()
    step()
    return process_bytes("VmHWM") - before


def start_peak_afresh() -> None:
    """Forget the peak so far (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def process_bytes(field: str) -> int:
    """A number of this process from Linux, `VmRSS` now or `VmHWM` at its peak."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status).group(1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=["ours", "Keras"])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    print(extra_bytes(arguments.who, shapes.even(1000, 4) if arguments.quick else shapes.resnet50()))
