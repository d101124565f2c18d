"""What was measured, in one file: the pages are made from it, so that they can be made anew without measuring."""

import json
import math
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.rows import Row

BACKENDS = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "torch"}
DIGITS = 4  # that are kept of a number; noise is in the second or third


class Measured(NamedTuple):
    """All of one backend, from one run."""

    machine: str
    day: str
    load: float  # processes on average, at the start
    minutes: float
    parts: dict[str, list[Row]]
    memory: dict[str, int]  # bytes that one step takes, by whose optimizer does it


Results = dict[str, Measured]  # by backend


def save(results: Results, path: Path) -> None:
    """Write the file, a row a line."""
    blocks = [
        f"{json.dumps(backend)}: {_block(results[backend])}" for backend in BACKENDS if backend in results
    ]
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n")


def load(path: Path) -> Results:
    """Read the file; nothing where there is none yet."""
    if not path.exists():
        return {}
    return {backend: _measured(block) for backend, block in json.loads(path.read_text()).items()}


def as_dict(row: Row) -> dict:
    """A row as JSON has it, where a NaN is null."""
    return {
        "subject": row.subject,
        "mode": row.mode,
        "seconds": {peer: _rounded(seconds) for peer, seconds in row.seconds.items()},
        "floor": None if row.floor is None else _rounded(row.floor),
        "errors": {peer: None if math.isnan(e) else _rounded(e) for peer, e in row.errors.items()},
        "resolution": _rounded(row.resolution),
    }


def as_row(stored: dict) -> Row:
    """The row back."""
    errors = {peer: math.nan if error is None else error for peer, error in stored["errors"].items()}
    return Row(**(stored | {"errors": errors}))


def _measured(block: dict) -> Measured:
    parts = {part: [as_row(stored) for stored in rows] for part, rows in block["parts"].items()}
    return Measured(**(block | {"parts": parts}))


def _block(measured: Measured) -> str:
    plain = {name: value for name, value in measured._asdict().items() if name != "parts"}
    lines = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in plain.items()]
    parts = [
        f"  {json.dumps(part)}: [\n" + ",\n".join(f"   {json.dumps(as_dict(row))}" for row in rows) + "\n  ]"
        for part, rows in measured.parts.items()
    ]
    return "\n".join(["{", *lines, ' "parts": {', ",\n".join(parts), " }", "}"])


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")
