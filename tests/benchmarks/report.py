"""Turns measured rows into Markdown tables and a chart, and puts them between the markers of a page."""

import datetime
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.benchmarks.rows import KERAS, OURS, Row

PACKAGES = ("keras", "jax", "tensorflow", "torch", "optax", "numpy")


def machine() -> str:
    """Processor, cores, load, versions and the day."""
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}; "
        f"{versions}. Measured on {datetime.date.today():%d %B %Y}."
    )


def load() -> str:
    """How busy the machine is with other work; ask before starting any."""
    return f"Other work on the machine at the start: {os.getloadavg()[0]:.1f} processes on average."


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


def chart(growth: dict[str, Sequence[Row]], batches: dict[str, Sequence[Row]], path: Path) -> None:
    """Draw step time against parameters, and layer time against the batch, one column a backend."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, len(growth), figsize=(4.2 * len(growth), 7), squeeze=False, layout="constrained"
    )
    for column, backend in enumerate(growth):
        _curves(axes[0, column], growth[backend], r"(\S+) in", f"{backend}: one Adam step", "parameters")
        both_ways = [row for row in batches[backend] if row.subject.endswith("forward+backward")]
        _curves(axes[1, column], both_ways, r"\((\d+),", f"{backend}: BatchNorm, both ways", "batch size")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _curves(axes: object, rows: Sequence[Row], number: str, title: str, label: str) -> None:
    rows = [row for row in rows if row.mode == rows[0].mode]
    sizes = [float(re.search(number, row.subject).group(1)) for row in rows]
    for name in rows[0].seconds:
        axes.plot(sizes, [1e3 * row.seconds[name] for row in rows], marker="o", label=name)
    if rows[0].floor is not None:
        axes.plot(sizes, [1e3 * row.floor for row in rows], "k--", label="memory traffic")
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms", title=title)
    axes.legend(fontsize="small")
