"""What long work is doing, on the standard error stream: a line that changes, or off a terminal one a stage."""

from __future__ import annotations

import sys
import time
from types import TracebackType

__all__ = ["Progress"]

# shorter work is over before a reader has read the line
_PATIENCE_S = 1.0


class Progress:
    """Shows the current step of some work, on one line that is overwritten, or off a terminal on one each.

    Args:
        title: What the work is.
        verbose: 0 shows nothing, 1 shows every step, "auto" shows steps once the work has taken a second.

    Raises:
        ValueError: When `verbose` is something else.
    """

    def __init__(self, title: str, verbose: str | int = "auto") -> None:
        if verbose not in (0, 1, 2, "auto"):
            raise ValueError(f"`verbose` must be 0, 1, 2 or 'auto', but got {verbose!r}.")
        self._title = title
        self._verbose = verbose
        self._start = time.monotonic()
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def show(self, step: str) -> None:
        """Say that a step begins."""
        elapsed = time.monotonic() - self._start
        if self._verbose == 0 or (self._verbose == "auto" and elapsed < _PATIENCE_S):
            return
        line = f"{self._title}: {step} ({elapsed:.0f} s)"
        if not sys.stderr.isatty():
            print(line, file=sys.stderr, flush=True)
            return
        print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = len(line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._width:
            print(file=sys.stderr, flush=True)
