"""One line of a result table."""

import statistics
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

OURS, KERAS = "ours", "Keras"


class Row(NamedTuple):
    """What was timed, in which mode, and the median seconds of each contender."""

    subject: str
    mode: str
    seconds: dict[str, float]
    floor: float | None = None  # seconds the memory traffic alone takes
    errors: Mapping[str, float] = MappingProxyType({})  # of the contenders that fail the numeric tests
    resolution: float = 0.0  # seconds; a time that is no longer is not told from none

    def accurate_peers(self) -> list[str]:
        """The contenders beside ours that pass the numeric tests."""
        return [name for name in self.seconds if name != OURS and name not in self.errors]

    def fastest_peer(self) -> float | None:
        """Time of the fastest of them."""
        return min((self.seconds[name] for name in self.accurate_peers()), default=None)

    def fastest(self) -> str | None:
        """The fastest contender that passes the numeric tests, ours among them."""
        return min(
            (name for name in self.seconds if name not in self.errors),
            key=self.seconds.__getitem__,
            default=None,
        )


def median_of(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """The same rows measured in several processes, as one: each number the median of theirs."""
    return [
        rows[0]._replace(
            seconds={name: statistics.median(row.seconds[name] for row in rows) for name in rows[0].seconds},
            floor=rows[0].floor and statistics.median(row.floor or 0.0 for row in rows),
            resolution=statistics.median(row.resolution for row in rows),
        )
        for rows in zip(*runs, strict=True)
    ]
