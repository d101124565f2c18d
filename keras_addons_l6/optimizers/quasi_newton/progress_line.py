"""The line on which `fit_full_batch` shows where it stands."""

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["ProgressLine", "described"]

WIDTH = 20  # of the bar itself
INTERVAL_S = 0.1  # a reader sees no more of a line that changes sooner


class ProgressLine:
    """One line that is overwritten: a terminal's by a carriage return, a notebook's by its own display.

    Args:
        total: Iterations at which the bar is full.
        shown: Whether anything is shown.
    """

    def __init__(self, total: int, shown: bool) -> None:
        self._total, self._shown = total, shown
        self._notebook: Any = None
        self._length, self._last, self._text = 0, float("-inf"), ""

    def say(self, text: str) -> None:
        """Show a text at once."""
        if self._shown and text != self._text:
            self._write(text)
            self._text, self._last = text, time.monotonic()

    def update(self, done: int, numbers: Mapping[str, Any], final: bool = False) -> None:
        """Show where the run stands, unless the line has just changed."""
        if final or time.monotonic() - self._last >= INTERVAL_S:
            filled = WIDTH * done // self._total
            bar = "=" * filled + "." * (WIDTH - filled)
            self.say(f"iteration {done}/{self._total} [{bar}] {described(numbers)}")

    def close(self) -> None:
        """Leave the line as it is, and go to the next."""
        if self._shown and self._text and self._notebook is None:
            print()

    def _write(self, text: str) -> None:
        if self._notebook is None:
            self._notebook = _notebook_display()
        if self._notebook is not None:
            self._notebook.update({"text/plain": text}, raw=True)
            return
        if sys.stdout.isatty():  # a line that wraps is not overwritten
            text = text[: shutil.get_terminal_size().columns - 1]
        print(f"\r{text:<{self._length}}", end="", flush=True)
        self._length = len(text)


def described(numbers: Mapping[str, Any]) -> str:
    """Numbers by name: counts as integers, others with four digits."""
    return " - ".join(
        f"{name}: {value}" if isinstance(value, int) else f"{name}: {value:.4g}"
        for name, value in numbers.items()
    )


def _notebook_display() -> Any:
    """A place in a notebook's output that can be written again; None elsewhere."""
    ipython = sys.modules.get("IPython")
    if ipython is None or getattr(ipython.get_ipython(), "kernel", None) is None:
        return None
    return ipython.display.display({"text/plain": ""}, raw=True, display_id=True)
