"""What true float64 needs of torch: nothing beyond Keras's promotion, for its own operations keep every digit."""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["EXACT"]

EXACT: Mapping[str, Callable[[Any], Any]] = {}
