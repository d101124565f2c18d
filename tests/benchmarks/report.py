"""Turns measured rows into Markdown tables, and puts them between the markers of a page."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.results import BACKENDS, Measured, Results
from tests.benchmarks.rows import KERAS, OURS, Row

PACKAGES = ("keras", "jax", "tensorflow", "torch", "optax", "numpy")
TITLES = {
    "optimizers": "One optimizer step",
    "growth": "How an Adam step grows with the parameters",
    "variables": "How an Adam step grows with the variables",
    "layers": "Layers",
    "large_layers": "Layers over large inputs, and in mixed precision",
    "batches": "How BatchNorm grows with the batch",
    "train_steps": "A train step inside `fit`",
}


def machine() -> str:
    """Processor, cores and versions."""
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}; "
        f"{versions}"
    )


def tables(results: Results) -> str:
    """Everything that was measured, backend after backend."""
    sections = [
        f"## {BACKENDS[b]}\n\n{_conditions(results[b])}\n\n{parts(results[b].parts)}" for b in results
    ]
    return "\n\n".join([*sections, _memory_table(results)])


def parts(rows: Mapping[str, Sequence[Row]]) -> str:
    """A backend's parts in Markdown."""
    return "\n\n".join(f"### {TITLES[part]}\n\n{table(rows[part])}" for part in rows)


def _conditions(measured: Measured) -> str:
    return (
        f"{measured.machine}. Measured on {measured.day}, in {measured.minutes:.0f} minutes. "
        f"Other work on the machine at the start: {measured.load:.1f} processes on average."
    )


def _memory_table(results: Results) -> str:
    lines = ["| backend | ours, MiB | Keras, MiB |", "|---|---:|---:|"]
    for backend, measured in results.items():
        cells = (f"{measured.memory[who] / 2**20:.0f}" for who in (OURS, KERAS))
        lines.append(f"| {BACKENDS[backend]} | " + " | ".join(cells) + " |")
    return "\n".join(["## Memory of one Adam step over ResNet-50's variables", "", *lines])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found.group(1).strip() if found else platform.processor()


def table(rows: Sequence[Row]) -> str:
    """One table: milliseconds of each contender, and the ratios that the targets are about."""
    peers = list(dict.fromkeys(name for row in rows for name in row.seconds))
    floors = any(row.floor for row in rows)
    head = ["what", "mode", *(f"{peer}, ms" for peer in peers), "ours / fastest", "ours / Keras"]
    head += ["floor, ms", "ours / floor"] if floors else []
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    return "\n".join(lines + ["| " + " | ".join(_cells(row, peers, floors)) + " |" for row in rows])


def _cells(row: Row, peers: Iterable[str], floors: bool) -> list[str]:
    cells = [row.subject, row.mode, *(_time(row, peer) for peer in peers)]
    cells += [_ratio(row, row.fastest_peer()), _ratio(row, row.seconds.get(KERAS))]
    return cells + ([_milliseconds(row.floor), _ratio(row, row.floor)] if floors else [])


def _time(row: Row, peer: str) -> str:
    if peer not in row.seconds:
        return ""
    unsafe = f" (error {row.errors[peer]:.0e})" if peer in row.errors else ""
    under = "< " if row.seconds[peer] <= row.resolution else ""
    return under + _milliseconds(row.seconds[peer]) + unsafe


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3g}"


def _ratio(row: Row, theirs: float | None) -> str:
    """Our time over theirs, or its bound where one of them is not told from none; nothing where neither is."""
    ours = row.seconds[OURS]
    under = [seconds is not None and seconds <= row.resolution for seconds in (ours, theirs)]
    if theirs is None or all(under):
        return ""
    return ("< " if under[0] else "> " if under[1] else "") + f"{ours / theirs:.2f}"


def replace(page: str, marker: str, content: str) -> str:
    """The page with what stands between `<!-- marker -->` and `<!-- /marker -->` replaced.

    Raises:
        ValueError: where the page lacks the markers.
    """
    start, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    if page.count(start) != 1 or page.count(end) != 1:
        raise ValueError(f"The page must have {start} and {end} once each, in lines of their own.")
    before, rest = page.split(start)
    return f"{before}{start}\n\n{content.strip()}\n\n{end}{rest.split(end)[1]}"
