"""Lets a run finish its step on Ctrl-C, so that it can put its best point in place before it ends."""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

__all__ = ["DeferredInterrupt"]


class DeferredInterrupt:
    """Notes the first Ctrl-C instead of raising `KeyboardInterrupt`; a second one raises as usual.

    It acts in the main thread only, where Python delivers signals, and leaves a handler of the program's own
    alone. As a context manager it raises `KeyboardInterrupt` at the end of the block if one was noted.

    Args:
        is_running: Whether the run that defers is among the callers of a frame; None: it always ends by `remove`.
        on_request: Called when Ctrl-C is noted.
    """

    def __init__(
        self,
        is_running: Callable[[FrameType | None], bool] | None = None,
        on_request: Callable[[], None] | None = None,
    ) -> None:
        self.requested = False
        self._is_running, self._on_request = is_running, on_request
        self._previous: Any = None

    def install(self) -> None:
        """Begin to defer."""
        if threading.current_thread() is not threading.main_thread():
            return
        owner = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
        if isinstance(owner, DeferredInterrupt) and not owner._runs(sys._getframe()):
            owner.remove()  # left behind by a run that ended by an exception
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous = signal.signal(signal.SIGINT, self._note)

    def remove(self) -> None:
        """Defer no more."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _runs(self, frame: FrameType | None) -> bool:
        return self._is_running is None or self._is_running(frame)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.remove()
        if not self._runs(frame):
            signal.default_int_handler(number, frame)
        self.requested = True
        if self._on_request is not None:
            self._on_request()

    def __enter__(self) -> Self:
        """Begin to defer."""
        self.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Defer no more, and raise what was deferred unless something else is on its way."""
        self.remove()
        if self.requested and kind is None:
            raise KeyboardInterrupt
