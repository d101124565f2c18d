"""Writes docs/how_this_is_tested.md: what proves the package, with counts taken from the suite.

KERAS_BACKEND=jax python -m tests.write_how_this_is_tested
"""

import collections
import os
import subprocess
import sys
from pathlib import Path

from tests.planted_faults import FAULTS
from tests.test_bad_input import CONSTRUCTIONS
from tests.test_planted_faults import FOR_EVERY_CHANGE

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "how_this_is_tested.md"
PARTS = {
    "layers": "each layer against float64 NumPy, finite differences and its promises",
    "backends": "each operation, and each backend's own kernel against the portable one",
    "optimizers": "each rule against its paper's formula; L-BFGS and its three entrances",
    "precision": "float64 that stays float64: the switch, and every value beside NumPy",
    "folding": "awkward small models and applications, folded and compared",
    "health": "trainings with one thing wrong each, and that watching leaves a training as it is",
    "export": "exported files, reloaded in their runtimes",
    "parity": "PyTorch over 100 and 1,000 steps, from its own weights and gradients",
    "properties": "what holds at any shape, setting and random model (Hypothesis, fixed examples)",
    "conformance": "the test modules in Keras's wheel, run on our classes in place of Keras's",
    "crash": "training killed with SIGKILL and resumed; saved states that do not fit",
    "distribution": "several devices and processes against one",
    "benchmarks": "that the benchmarks run",
}


def collected(backend, marks):
    """How many tests pytest collects in each folder of tests/; its own files count as 'the rest'."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", marks, "tests"],
        cwd=REPOSITORY,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTEST_ADDOPTS": "-p no:cacheprovider"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SystemExit(f"collecting failed:\n{run.stdout[-3000:]}")
    tests = [line.split("/") for line in run.stdout.splitlines() if "::" in line]
    return collections.Counter(parts[1] if parts[1] in PARTS else "the rest" for parts in tests)


def table(backend):
    """Rows of the page's table."""
    change, full = collected(backend, "not full"), collected(backend, "full")
    about = {
        **PARTS,
        "the rest": "every layer and optimizer times every promise, imports, docs, faults, bad input",
    }
    rows = [f"| {part} | {change[part]} | {full[part]} | {what} |" for part, what in about.items()]
    return [*rows, f"| in all | {change.total()} | {full.total()} | |"]


def main():
    """Write the page."""
    backend = os.environ.get("KERAS_BACKEND", "jax")
    lines = [
        "# How this is tested",
        "",
        "<!-- Written by tests/write_how_this_is_tested.py; do not edit. -->",
        "",
        f"The suite runs once a backend. Tests collected on {backend}:",
        "",
        "| part | for every change | more under `--full` | what it does |",
        "|---|---|---|---|",
        *table(backend),
        "",
        "## Beyond tests of single functions",
        "",
        f"* {len(FAULTS)} faults are planted one at a time in a copy of the package, and tests must fail then",
        f"  (`tests/planted_faults.py`); {len(FOR_EVERY_CHANGE)} of them for every change, all under `--full`.",
        f"* {CONSTRUCTIONS:,} constructor calls with drawn arguments give an object or an error that names the",
        "  argument.",
        "* Keras's own tests that differ on purpose stand in `tests/conformance/deselections.py`, each with its",
        "  reason; each is run and must fail, so that the list can't grow stale.",
        "* A training that is killed and resumed must end with every bit of an undisturbed one.",
        "",
    ]
    PAGE.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
