"""Measures everything and puts the tables into docs/benchmarks.md.

`python -m tests.benchmarks [--quick] [--backends ...]`. Every part runs in a process of its own on each
backend, one after the other; small work in several: where a program's buffers come to lie makes it faster or
slower by a tenth, at times by half, in all of a process's runs. `--quick` tries the whole way on tiny sizes and
prints instead of writing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.rows import Row, median_of
from tests.benchmarks.timing import THREADS

BACKENDS = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "torch"}
PARTS = {
    "optimizers": "One optimizer step",
    "growth": "How an Adam step grows with the parameters",
    "variables": "How an Adam step grows with the variables",
    "layers": "Layers",
    "batches": "How BatchNorm grows with the batch",
    "train_steps": "A train step inside `fit`",
}
PROCESSES = {"growth": 5, "variables": 5, "layers": 5, "batches": 5}  # else one
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
CHART = PAGE.with_name("benchmarks.svg")

Results = dict[str, dict[str, list[Row]]]  # backend -> part -> rows


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    options = _options(arguments)
    conditions = f"{report.machine()} {report.load()}"
    results: Results = {b: {p: measure(b, p, options.quick) for p in PARTS} for b in options.backends}
    peaks = {b: {who: _peak(b, who, options.quick) for who in ("ours", "Keras")} for b in options.backends}
    content = "\n\n".join([conditions, *(tables(b, results[b]) for b in results), _memory_table(peaks)])
    if options.quick:
        print(content)
    else:
        PAGE.write_text(report.replace(PAGE.read_text(), "measured", content))
        _draw(results, CHART)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, printed")
    parser.add_argument("--backends", nargs="+", choices=list(BACKENDS), default=list(BACKENDS))
    return parser.parse_args(arguments)


def measure(backend: str, part: str, quick: bool) -> list[Row]:
    """Rows of one part, each number the median over its processes."""
    return median_of([_measure(backend, part, quick) for _ in range(1 if quick else PROCESSES.get(part, 1))])


def _measure(backend: str, part: str, quick: bool) -> list[Row]:
    """Rows of one part, measured in a process of its own."""
    print(f"{backend}: {part}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        _python(backend, "part", part, str(file), quick=quick)
        return [Row(**row) for row in json.loads(file.read_text())]


def _peak(backend: str, who: str, quick: bool) -> int:
    return int(_python(backend, "memory", who, quick=quick).split()[-1])


def _python(backend: str, module: str, *arguments: str, quick: bool) -> str:
    """Run a module of this package in a fresh process; its output, or its error in full."""
    command = [
        sys.executable,
        "-m",
        f"tests.benchmarks.{module}",
        *arguments,
        *(["--quick"] if quick else []),
    ]
    environment = {
        "JAX_PLATFORMS": "" if os.environ.get("CUDA_VISIBLE_DEVICES") else "cpu",  # else it looks for a TPU
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": str(THREADS),
    }
    done = subprocess.run(command, env=environment, cwd=PAGE.parents[1], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed on {backend}:\n{done.stderr}")
    return done.stdout


def tables(backend: str, parts: dict[str, list[Row]]) -> str:
    """A backend's parts in Markdown."""
    sections = (f"### {PARTS[part]}\n\n{report.table(rows)}" for part, rows in parts.items())
    return "\n\n".join([f"## {BACKENDS[backend]}", *sections])


def _memory_table(peaks: dict[str, dict[str, int]]) -> str:
    lines = [
        "## Memory of one Adam step over ResNet-50's variables",
        "",
        "| backend | ours, MiB | Keras, MiB |",
    ]
    lines.append("|---|---:|---:|")
    for backend, by_who in peaks.items():
        lines.append(
            f"| {BACKENDS[backend]} | " + " | ".join(f"{b / 2**20:.0f}" for b in by_who.values()) + " |"
        )
    return "\n".join(lines)


def _draw(results: Results, path: Path) -> None:
    growth = {BACKENDS[b]: parts["growth"] for b, parts in results.items()}
    batches = {BACKENDS[b]: parts["batches"] for b, parts in results.items()}
    report.chart(growth, batches, path)


if __name__ == "__main__":
    main()
