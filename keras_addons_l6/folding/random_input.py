"""Random arrays that a model accepts: floats, whole numbers within range, flags and words."""

from __future__ import annotations

import keras
import numpy as np

WORDS = ("one", "two", "three", "four")


def random_array(
    shape: tuple[int | None, ...], dtype: str, generator: np.random.Generator, unknown: int, limit: int = 2
) -> np.ndarray:
    """A random array of a shape and type.

    Args:
        shape: Sizes, None where a model leaves them open.
        dtype: Floats are standard normal; whole numbers lie in [0, limit), bytes in [0, 256).
        generator: Source of randomness.
        unknown: The size used for open dimensions past the first; the first, the batch, becomes 2.
        limit: One past the largest whole number.

    Returns:
        The array.
    """
    sizes = tuple((2 if axis == 0 else unknown) if size is None else size for axis, size in enumerate(shape))
    if keras.backend.is_float_dtype(dtype):
        return generator.standard_normal(sizes).astype("float64" if dtype == "float64" else "float32")
    if dtype == "string":
        return generator.choice(WORDS, sizes)
    if dtype == "bool":
        return generator.random(sizes) < 0.5
    return generator.integers(0, 256 if dtype == "uint8" else limit, sizes).astype(dtype)
