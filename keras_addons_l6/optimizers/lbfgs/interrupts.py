"""Lets a run finish its step on Ctrl-C, so that it can put its best point in place before it ends."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class DeferredInterrupt:
    """Notes the first Ctrl-C instead of raising `KeyboardInterrupt`; a second one raises as usual.

    It acts in the main thread only, where Python delivers signals, and leaves a handler of the program's own
    alone. As a context manager it raises `KeyboardInterrupt` at the end of the block if one was noted.

    Args:
        on_request: Called when Ctrl-C is noted; returns whether it may be deferred.
    """

    def __init__(self, on_request: Callable[[FrameType | None], bool] | None = None) -> None:
        self.requested = False
        self._on_request = on_request
        self._previous: Any = None

    def install(self) -> None:
        """Begin to defer."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous = signal.signal(signal.SIGINT, self._note)

    def remove(self) -> None:
        """Defer no more."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.remove()
        if self._on_request is not None and not self._on_request(frame):
            signal.default_int_handler(number, frame)
        self.requested = True

    def __enter__(self) -> Self:
        """Begin to defer."""
        self.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Defer no more, and raise what was deferred unless something else is on its way."""
        self.remove()
        if self.requested and kind is None:
            raise KeyboardInterrupt
