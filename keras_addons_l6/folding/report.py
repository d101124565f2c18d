"""The report of a folding: one row a BatchNorm call, as a table to read and as data for a program."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

from keras_addons_l6.folding.reason import Reason


@dataclasses.dataclass(frozen=True)
class BatchNormRow:
    """What happens to one call of one BatchNorm.

    Attributes:
        layer: The layer's name, behind the names of the models and blocks it is in, "backbone/bn1".
        into: The names, in the same form, of the layers that take it up; empty if it is kept.
        reason: Why, as a code and a sentence.
        notes: What else the layers in `into` lose: constraints and regularizers.
    """

    layer: str
    into: tuple[str, ...]
    reason: Reason
    notes: tuple[str, ...] = ()

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
        return {"model": self.model, "rows": [_plain(row) for row in self.rows]}

    def __str__(self) -> str:
        """The report as a table of at most 120 columns, and a line that counts."""
        counts = f"{len(self.rows)} BatchNorm calls, {len(self.folded)} folded, {len(self.kept)} kept"
        summary = f"Model '{self.model}': {counts}."
        return f"{_table(self.rows)}\n{summary}" if self.rows else summary


def _plain(row: BatchNormRow) -> dict[str, Any]:
    return {
        "layer": row.layer,
        "folded": row.is_folded,
        "into": list(row.into),
        "code": row.reason.code,
        "sentence": row.reason.sentence,
        "notes": list(row.notes),
    }


def _table(rows: tuple[BatchNormRow, ...]) -> str:
    # Keras itself depends on rich, for `model.summary()`; imported here because it takes a while
    import rich.console
    import rich.table

    table = rich.table.Table("BatchNorm", "into", "code", "why")
    for row in rows:
        why = "; ".join((row.reason.sentence, *row.notes))
        table.add_row(
            *map(rich.markup.escape, (row.layer, ", ".join(row.into) or "(kept)", row.reason.code, why))
        )
    page = io.StringIO()
    rich.console.Console(file=page, width=120).print(table)
    return page.getvalue().rstrip("\n")
