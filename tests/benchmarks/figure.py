"""Draws the page's figure: bars of a few kinds of work, backend under backend, to be read on a phone."""

from pathlib import Path
from typing import Any

from tests.benchmarks import summary
from tests.benchmarks.results import BACKENDS, Results
from tests.benchmarks.rows import KERAS, OURS, Row

WIDTH = 4.8  # inches: 461 pixels, and on a phone three quarters of that, where 10 points are still legible
OTHER = "the fastest other"
COLORS = {OURS: "#1f6fb4", KERAS: "#9a9a9a", OTHER: "#e5973a"}
BAR, GAP = 0.2, 0.13  # inches
LONGEST = 1.65  # of Keras's time; a longer bar is cut, its number is not


def draw(results: Results, path: Path) -> None:
    """Write the figure, as large as its bars need."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    works = [work for work in summary.WORKS if work.label]
    panels = {BACKENDS[b]: [(work.label, summary.find(results, b, work)) for work in works] for b in results}
    heights = [sum(BAR * len(_bars(row)) + GAP for _, row in panel) for panel in panels.values()]
    with mpl.rc_context({"font.size": 10, "hatch.linewidth": 1.2, "svg.hashsalt": "benchmarks"}):
        figure, axes = plt.subplots(
            len(panels),
            squeeze=False,
            figsize=(WIDTH, sum(heights) + 0.75 * len(panels) + 0.9),
            gridspec_kw={"height_ratios": heights},
            layout="constrained",
        )
        figure.get_layout_engine().set(hspace=0.03)
        for ax, (title, panel) in zip(axes[:, 0], panels.items(), strict=True):
            _panel(ax, title, panel)
        figure.legend(handles=_legend(), loc="outside upper left", ncols=2, frameon=False)
        axes[-1, 0].set_xlabel("time, as a part of Keras's: shorter is faster")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _panel(ax: Any, title: str, panel: list[tuple[str, Row]]) -> None:
    """Groups of bars from the top down, each as long as its part of Keras's time, its milliseconds beside it."""
    y, ticks = 0.0, []
    for label, row in panel:
        bars = _bars(row)
        for kind, peer in bars.items():
            _bar(ax, y, kind, row, peer)
            y += BAR
        ticks.append((y - BAR * (len(bars) + 1) / 2, label))
        y += GAP
    ax.set_yticks(*zip(*ticks, strict=True))
    ax.set(xlim=(0, LONGEST + 0.55), ylim=(y - GAP - 0.3 * BAR, -0.7 * BAR), xticks=(0, 0.5, 1, 1.5))
    ax.set_title(title, loc="left", weight="bold", size=11)
    ax.tick_params(left=False)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.axvline(1, color="#bbb", linewidth=0.8, zorder=0)


def _bar(ax: Any, y: float, kind: str, row: Row, peer: str) -> None:
    fails = peer in row.errors
    length = min(row.seconds[peer] / row.seconds[KERAS], LONGEST)
    look = (
        {"facecolor": "white", "edgecolor": COLORS[kind], "hatch": "////"}
        if fails
        else {"color": COLORS[kind]}
    )
    ax.barh(y, length, 0.88 * BAR, **look)
    said = f"{summary.milliseconds(row.seconds[peer])} ms" + (", inaccurate" if fails else "")
    blank = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}  # over the line at 1
    ax.text(length + 0.025, y, said, va="center", size=9, bbox=blank)


def _bars(row: Row) -> dict[str, str]:
    """The contenders that are drawn, by kind: of the others the fastest that passes, else the fastest."""
    others = [peer for peer in row.seconds if peer not in (OURS, KERAS)]
    best = min(others, key=lambda peer: (peer in row.errors, row.seconds[peer]), default=None)
    return {OURS: OURS, KERAS: KERAS, **({OTHER: best} if best else {})}


def _legend() -> list[Any]:
    from matplotlib.patches import Patch

    hatched = Patch(facecolor="white", edgecolor="#555", hatch="////", label="fails the accuracy test")
    return [*(Patch(color=color, label=kind) for kind, color in COLORS.items()), hatched]


def alternative(results: Results) -> str:
    """What the figure shows, for whoever does not see it."""
    rows = [summary.find(results, b, work) for b in results for work in summary.WORKS if work.label]
    ahead = sum(row.seconds[OURS] <= row.seconds[KERAS] for row in rows)
    failing = sum(KERAS in row.errors for row in rows)
    return (
        f"Bars of time as a part of Keras's, for {len(rows)} kinds of work on {len(results)} backends. "
        f"Ours is no longer than Keras's in {ahead}; in {failing} Keras's fails the accuracy test and is hatched"
    )
