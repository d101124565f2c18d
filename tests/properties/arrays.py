"""Strategies for inputs of layers: shapes, axes, dtypes, values, masks."""

import numpy as np
from hypothesis import strategies as st

# A small set of sizes, so that backends that compile for each shape meet few of them.
SHAPES = [(4, 6), (2, 3, 4, 6), (2, 3, 2, 2, 4)]
DTYPES = ["float16", "bfloat16", "float32"]
# Half a unit in the last place of each, for values near 1.
ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}


@st.composite
def inputs(draw, shapes=SHAPES):
    """Standard normal values times a power of two, of a drawn shape, and a channel axis of it."""
    shape = draw(st.sampled_from(shapes))
    axis = draw(st.sampled_from([1, len(shape) - 1]))
    values = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=shape)
    return (values * 2.0 ** draw(st.integers(-3, 6))).astype("float32"), axis


def divisors(number):
    """The numbers of groups that `number` channels can be split into."""
    return [d for d in range(1, number + 1) if number % d == 0]
