"""Random arrays that a model accepts: floats, whole numbers within range, flags and words."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
import numpy as np

__all__ = ["OPEN_SIZES", "WORDS", "batch_for", "random_array"]

# Open sizes to try: small first, then what image models with many strides ask for.
OPEN_SIZES = (16, 32, 64, 128, 224)
WORDS = ("one", "two", "three", "four")
# elements of an image that a large network works on for a second
_LARGE_SAMPLE = 100_000


def random_array(
    shape: tuple[int | None, ...],
    dtype: str,
    generator: np.random.Generator,
    sizes: tuple[int, int],
    limit: int = 2,
) -> np.ndarray:
    """A random array of a shape and type.

    Args:
        shape: Sizes, None where a model leaves them open.
        dtype: Floats are standard normal; whole numbers lie in [0, limit), bytes in [0, 256).
        generator: Source of randomness.
        sizes: The sizes used for an open batch, the first dimension, and for other open dimensions.
        limit: One past the largest whole number.

    Returns:
        The array.
    """
    full = tuple(sizes[min(axis, 1)] if size is None else size for axis, size in enumerate(shape))
    if keras.backend.is_float_dtype(dtype):
        return generator.standard_normal(full).astype("float64" if dtype == "float64" else "float32")
    if dtype == "string":
        return generator.choice(WORDS, full)
    if dtype == "bool":
        return generator.random(full) < 0.5
    return generator.integers(0, 256 if dtype == "uint8" else limit, full).astype(dtype)


def batch_for(shapes: Iterable[tuple[int | None, ...]]) -> int:
    """Two samples, or one where a sample is large."""
    largest = max((math.prod(size or 1 for size in shape[1:]) for shape in shapes), default=0)
    return 1 if largest > _LARGE_SAMPLE else 2
