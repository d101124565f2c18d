"""One line of a result table, and the choice of the backend that fills it."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import NamedTuple

import keras

OURS, KERAS = "ours", "Keras"


class Row(NamedTuple):
    """What was timed, in which mode, and the median seconds of each contender."""

    subject: str
    mode: str
    seconds: dict[str, float]
    floor: float | None = None  # seconds the memory traffic alone takes
    errors: Mapping[str, float] = MappingProxyType({})  # of the contenders that fail the numeric tests

    def fastest_peer(self) -> float | None:
        """Time of the fastest contender beside ours that passes the numeric tests."""
        peers = [s for name, s in self.seconds.items() if name != OURS and name not in self.errors]
        return min(peers, default=None)


def engine() -> ModuleType:
    """The module that knows the active backend."""
    return importlib.import_module(f"tests.benchmarks.on_{keras.config.backend()}")
