"""The report of a folding: one row a BatchNorm call, as a table to read and as data for a program."""

from __future__ import annotations

import dataclasses
import io
import itertools
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from keras_addons_l6.folding.proving.comparison import Comparison
from keras_addons_l6.folding.proving.verification import Verification
from keras_addons_l6.folding.reason import Reason

__all__ = ["BatchNormRow", "FoldingReport", "shortened"]

# of a plain terminal; what is longer is shortened in the middle, or goes on in the next line
WIDTH = 80
NAME_WIDTH = 22


@dataclasses.dataclass(frozen=True)
class BatchNormRow:
    """What happens to one call of one BatchNorm.

    Attributes:
        layer: The layer's name, behind the names of the models and blocks it is in, "backbone/bn1".
        into: The names, in the same form, of the layers that take it up; empty if it is kept.
        reason: Why, as a code and a sentence.
        notes: What else the layers in `into` lose: constraints and regularizers.
        check: How the two models compare there; None for a call that is kept, or a fold that was not made
            or not checked. Two rows are equal whatever was measured.
    """

    layer: str
    into: tuple[str, ...]
    reason: Reason
    notes: tuple[str, ...] = ()
    check: Comparison | None = dataclasses.field(default=None, compare=False)

    @property
    def is_folded(self) -> bool:
        """Whether the call disappears."""
        return bool(self.into)


@dataclasses.dataclass(frozen=True)
class FoldingReport:
    """What folding does to a model, one row for each BatchNorm call, in the order in which they run.

    Attributes:
        model: The model's name.
        rows: The rows.
        verification: What was measured; None where nothing was folded, or not checked.

    Example:
        >>> import keras
        >>> from keras_addons_l6.folding import inspect_batch_norm
        >>> model = keras.Sequential(
        ...     [
        ...         keras.Input((8,)),
        ...         keras.layers.Dense(4, name="dense"),
        ...         keras.layers.BatchNormalization(name="norm"),
        ...     ]
        ... )
        >>> report = inspect_batch_norm(model)
        >>> [(row.layer, row.into, row.reason.code) for row in report.folded]
        [('norm', ('dense',), 'back')]
        >>> report.kept
        ()
    """

    model: str
    rows: tuple[BatchNormRow, ...]
    verification: Verification | None = dataclasses.field(default=None, compare=False)

    @property
    def folded(self) -> tuple[BatchNormRow, ...]:
        """The rows of the calls that disappear."""
        return tuple(row for row in self.rows if row.is_folded)

    @property
    def kept(self) -> tuple[BatchNormRow, ...]:
        """The rows of the calls that stay."""
        return tuple(row for row in self.rows if not row.is_folded)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[BatchNormRow]:
        return iter(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, ready for `json.dumps`."""
        data = {"model": self.model, "rows": [_plain(row) for row in self.rows]}
        return data if self.verification is None else data | {"check": _plain_check(self.verification)}

    def summary(self) -> str:
        """The counts, and what was measured, in a line."""
        counts = f"{len(self.rows)} BatchNorm calls, {len(self.folded)} folded, {len(self.kept)} kept"
        measured = "" if self.verification is None or not self.folded else f" {self.verification}"
        return f"Model '{self.model}': {counts}.{measured}"

    def __str__(self) -> str:
        """The report as a table of at most 80 columns, and what `summary` says."""
        summary = textwrap.fill(self.summary(), WIDTH, break_on_hyphens=False)
        return f"{_table(self.rows)}\n{summary}" if self.rows else summary


def _plain(row: BatchNormRow) -> dict[str, Any]:
    data = {
        "layer": row.layer,
        "folded": row.is_folded,
        "into": list(row.into),
        "code": row.reason.code,
        "sentence": row.reason.sentence,
        "notes": list(row.notes),
    }
    return data if row.check is None else data | {"check": _plain_comparison(row.check)}


def _plain_check(verification: Verification) -> dict[str, Any]:
    return {
        "error": verification.error,
        "tolerance": verification.tolerance,
        "noise": verification.noise,
        "where": verification.where,
        "not_seen": len(verification.unseen),
        "outputs": [_plain_comparison(row) for row in verification.outputs],
        "half_precision": [_plain_comparison(row) for row in verification.half],
        "outputs_only": verification.outputs_only,
    }


def _plain_comparison(row: Comparison) -> dict[str, Any]:
    return dataclasses.asdict(row) | {"seen": row.seen}


def _table(rows: tuple[BatchNormRow, ...]) -> str:
    # Keras itself depends on rich, for `model.summary()`; imported here because it takes a while
    import rich.box
    import rich.console
    import rich.markup
    import rich.table

    columns = ("BatchNorm", "into", "why", *(("error",) if any(row.check for row in rows) else ()))
    table = rich.table.Table(*columns, box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column, name in zip(table.columns, columns, strict=True):
        column.no_wrap, column.overflow = name in ("BatchNorm", "into"), "fold"
    names = shortened([name for row in rows for name in (row.layer, *row.into)], NAME_WIDTH)
    for row in rows:
        into = "\n".join(names[name] for name in row.into) or "(kept)"
        # what a fold goes into stands beside it already
        why = "; ".join((row.reason.code if row.is_folded else str(row.reason), *row.notes))
        cells = (names[row.layer], into, why, "" if row.check is None else str(row.check))
        table.add_row(*map(rich.markup.escape, cells[: len(columns)]))
    page = io.StringIO()
    rich.console.Console(file=page, width=WIDTH).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().rstrip("\n").splitlines())


def shortened(names: Iterable[str], width: int) -> dict[str, str]:
    """Each name in at most `width` characters, its middle left out, no two of them alike.

    Args:
        names: The names.
        width: The number of characters, at least 8.

    Returns:
        What to show, by name.
    """
    shown: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(dict.fromkeys(names), key=len):
        # the tail tells layers apart more often than the head
        cuts = sorted(range(1, width - 1), key=lambda head: abs(head - width // 3))
        whole = (name,) if len(name) <= width else ()
        short = (f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}" for head in cuts)
        numbered = (f"{name[: width - 1 - len(str(i))]}…{i}" for i in itertools.count(2))
        shown[name] = next(each for each in itertools.chain(whole, short, numbered) if each not in taken)
        taken.add(shown[name])
    return shown
