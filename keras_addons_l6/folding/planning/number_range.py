"""Whether weights still fit their type after a fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["out_of_range"]


def out_of_range(weights: Mapping[str, np.ndarray], dtypes: Iterable[str]) -> str | None:
    """Say how float64 weights fail to fit floating-point types; None where they fit all of them.

    Values past the largest number overflow. Where most of a kernel's values that are not zero lie below
    the smallest normal number, the type has too few digits left for them; a bias may be as small as it
    likes, since it is added.

    Args:
        weights: float64 arrays by name.
        dtypes: Names of the types the weights are stored and computed in.

    Returns:
        "'kernel' overflows float16", "'kernel' underflows float16" and the like, or None.
    """
    for name, values in weights.items():
        for dtype in dict.fromkeys(dtypes):
            verb = _failure(np.abs(values), ml_dtypes.finfo(dtype), name)
            if verb is not None:
                return f"'{name}' {verb} {dtype}"
    return None


def _failure(size: np.ndarray, limits: Any, name: str) -> str | None:
    # `not <=` also catches NaN
    if not size.max(initial=0) <= float(limits.max):
        return "overflows"
    if name in ("bias", "beta"):
        return None
    present = np.count_nonzero(size)
    small = np.count_nonzero(size < float(limits.smallest_normal)) - (size.size - present)
    return "underflows" if 2 * small > present else None
