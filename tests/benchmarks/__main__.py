"""Measures, keeps the numbers in docs/benchmarks.json, and makes the pages and the figure from them.

`python -m tests.benchmarks` measures every backend, `python -m tests.benchmarks jax` one or some; what was
measured of the others before stays. A backend's numbers are kept as soon as they are complete, so a run that is
interrupted goes on with the backends that are left. `python -m tests.benchmarks page` measures nothing and makes the
pages anew. `--quick` tries the whole way on tiny sizes and prints instead of writing.

Every part runs in a process of its own on each backend, one after the other; a millisecond's work in several: where
a program's buffers come to lie makes it faster or slower by a tenth, at times by half, in all of a process's runs. So do
train steps: of the two threads of TensorFlow's pool one may sleep for steps on end, in one process more often than in another.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import figure, report, summary
from tests.benchmarks.results import BACKENDS, Measured, as_row, load, save
from tests.benchmarks.rows import KERAS, OURS, Row, median_of
from tests.benchmarks.timing import THREADS

PROCESSES = {"layers": 2, "train_steps": 3}  # else one
# Freed memory stays with the process. Else each tensor of more than 32 MiB is given back to the system, and the next one is
# mapped page by page: for two of them in a call 16,000 page faults, which took twice as long as the layer between.
# And it is in one arena: those of other threads hold no tensor of 64 MiB.
KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_ARENA_MAX": "1",
}
DOCS = Path(__file__).parents[2] / "docs"
ONLY_PAGES = "page"


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    options = _options(arguments)
    wanted = [name for name in options.what if name != ONLY_PAGES] if options.what else list(BACKENDS)
    for backend in wanted:
        measured = measure_backend(backend, options.quick)
        if options.quick:
            print(report.tables({backend: measured}))
        else:
            save({**load(DOCS / "benchmarks.json"), backend: measured}, DOCS / "benchmarks.json")
    if not options.quick:
        write_pages(DOCS)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", choices=[*BACKENDS, ONLY_PAGES], help="backends, or the pages alone"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, printed")
    return parser.parse_args(arguments)


def write_pages(docs: Path) -> None:
    """Make both pages and the figure from what is kept beside them."""
    results = load(docs / "benchmarks.json")
    page = docs / "benchmarks.md"
    text = report.replace(
        page.read_text(), "summary", f"{summary.sentences(results)}\n\n{summary.table(results)}"
    )
    text = report.replace(text, "figure", f"![{figure.alternative(results)}](benchmarks.svg)")
    text = report.replace(text, "slower", f"{summary.counts(results)}\n\n{summary.slower(results)}")
    text = report.replace(text, "machine", summary.measured_on(results))
    tables = docs / "benchmarks_tables.md"
    tables_text = report.replace(tables.read_text(), "measured", report.tables(results))
    figure.draw(results, docs / "benchmarks.svg")
    page.write_text(text)
    tables.write_text(tables_text)


def measure_backend(backend: str, quick: bool) -> Measured:
    """Every part of one backend."""
    start, load_at_start = time.monotonic(), os.getloadavg()[0]
    parts = {part: measure(backend, part, quick) for part in report.TITLES}
    memory = {who: _peak(backend, who, quick) for who in (OURS, KERAS)}
    minutes = round((time.monotonic() - start) / 60, 1)
    today = datetime.date.today().isoformat()
    return Measured(report.machine(), today, round(load_at_start, 1), minutes, parts, memory)


def measure(backend: str, part: str, quick: bool) -> list[Row]:
    """Rows of one part, each number the median over its processes."""
    return median_of([_measure(backend, part, quick) for _ in range(1 if quick else PROCESSES.get(part, 1))])


def _measure(backend: str, part: str, quick: bool) -> list[Row]:
    """Rows of one part, measured in a process of its own."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        _python(backend, "part", part, str(file), quick=quick)
        rows = [as_row(stored) for stored in json.loads(file.read_text())]
    print(f"{backend}: {part}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return rows


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
        **(KEPT_MEMORY if module == "part" else {}),
    }
    done = subprocess.run(command, env=environment, cwd=DOCS.parent, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed on {backend}:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
