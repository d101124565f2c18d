"""Runs the layers' and optimizers' tests and the benchmarks on a CUDA device, for JAX and torch.

`python -m tests.benchmarks.gpu [--quick]` puts the tables, with the chip's name and the day, into
docs/benchmarks_tables.md; with `--quick` it prints tables of tiny sizes. Where a backend sees no device it says so,
leaves the page alone and, with `--quick`, tries the way on the CPU.
"""

import argparse
import datetime
import os
import subprocess
import sys

from tests.benchmarks import report
from tests.benchmarks.__main__ import DOCS, measure
from tests.benchmarks.results import BACKENDS

PAGE = DOCS / "benchmarks_tables.md"

PROBES = {
    "jax": "import jax; print([d.device_kind for d in jax.devices() if d.platform == 'gpu'][0])",
    "torch": "import torch; print(torch.cuda.get_device_name())",
}
CONFORMANCE = ["tests/backends", "tests/layers", "tests/test_every_layer.py", "tests/test_every_optimizer.py"]
NO_CHIP = "no CUDA device is visible, so nothing is measured on one"
PARTS = ("optimizers", "growth", "layers", "large_layers", "train_steps")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the number of backends whose tests failed."""
    quick = _options(arguments).quick
    chips = {backend: chip_of(backend) for backend in PROBES}
    for backend, chip in chips.items():
        print(f"{backend}: {chip or NO_CHIP}", flush=True)
    measured = {backend: chip for backend, chip in chips.items() if chip or quick}
    failed = [backend for backend, chip in measured.items() if not quick and not conforms(backend)]
    sections = [
        f"On {chip or 'the CPU'}.\n\n{_section(backend, quick)}" for backend, chip in measured.items()
    ]
    conditions = f"{report.machine()}. Measured on {datetime.date.today().isoformat()}."
    content = "\n\n".join([conditions, *sections])
    if quick:
        print(content)
    elif sections:
        PAGE.write_text(report.replace(PAGE.read_text(), "gpu", content))
    return len(failed)


def chip_of(backend: str) -> str | None:
    """Name of the device that the backend sees, or None."""
    done = subprocess.run([sys.executable, "-c", PROBES[backend]], capture_output=True, text=True)
    return done.stdout.strip() or None


def conforms(backend: str) -> bool:
    """Whether the layers' and optimizers' tests pass on the device."""
    # The suite hides the device unless it is named.
    environment = {"CUDA_VISIBLE_DEVICES": "0", **os.environ, "KERAS_BACKEND": backend}
    tests = [path for path in CONFORMANCE if (PAGE.parents[1] / path).exists()]
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    return subprocess.run(command, env=environment, cwd=PAGE.parents[1]).returncode == 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, printed; on the CPU without a device"
    )
    return parser.parse_args(arguments)


def _section(backend: str, quick: bool) -> str:
    measured = {part: measure(backend, part, quick) for part in PARTS}
    return f"## {BACKENDS[backend]}\n\n{report.parts(measured)}"


if __name__ == "__main__":
    sys.exit(main())
