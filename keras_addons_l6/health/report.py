"""The report of a training: what was found, worst first, as a table to read and as data for a program."""

from __future__ import annotations

import dataclasses
import io
import textwrap
from collections.abc import Iterator
from typing import Any

from keras_addons_l6.health.findings import KINDS, Finding

__all__ = ["HealthReport"]

WIDTH = 100


@dataclasses.dataclass(frozen=True)
class HealthReport:
    """What `TrainingHealth` found in a training.

    Attributes:
        model: The model's name.
        looks: How many looks it rests on.
        findings: The findings, worst first.
        not_watched: What of the model could not be looked into.
    """

    model: str
    looks: int
    findings: tuple[Finding, ...]
    not_watched: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing was found but information."""
        return all(finding.kind == "frozen" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, ready for `json.dumps`."""
        return {
            "model": self.model,
            "looks": self.looks,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "not_watched": list(self.not_watched),
        }

    def __str__(self) -> str:
        """The findings as a table, and what was not watched."""
        looks = f"{self.looks} look" if self.looks == 1 else f"{self.looks} looks"
        count = len(self.findings)
        found = "nothing found" if not count else "1 finding" if count == 1 else f"{count} findings"
        lines = [f"Model '{self.model}': {found} in {looks}."]
        if self.findings:
            lines.append(_table(self.findings))
        if self.not_watched:
            lines += ["Not watched:", *(textwrap.fill(f"* {note}", WIDTH) for note in self.not_watched)]
        return "\n".join(lines)


def _table(findings: tuple[Finding, ...]) -> str:
    # Keras itself depends on rich, for `model.summary()`; imported here because it takes a while
    import rich.box
    import rich.console
    import rich.markup
    import rich.table

    table = rich.table.Table("where", "what", "seen", box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[:2]:
        column.overflow = "fold"
    for finding in findings:
        kind = KINDS[finding.kind] + ("" if finding.sure or finding.kind == "frozen" else " (perhaps)")
        table.add_row(*map(rich.markup.escape, (finding.name, kind, finding.sentence)))
    page = io.StringIO()
    rich.console.Console(file=page, width=WIDTH).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().strip("\n").splitlines())
