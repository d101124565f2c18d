"""The curvature pairs of L-BFGS and the search direction they give, by dot products alone.

With S = [s_1 ... s_k] and Y = [y_1 ... y_k], oldest first, R the upper triangle of S'Y (diagonal included), D its
diagonal and gamma = s_k'y_k / y_k'y_k, the BFGS updates of gamma I by all pairs make the inverse Hessian

    H = gamma I + [S, gamma Y] [[R^-T (D + gamma Y'Y) R^-1, -R^-T], [-R^-1, 0]] [S, gamma Y]'

(Byrd, Nocedal & Schnabel 1994, equation 3.1). So H g takes one pass over the pairs for S'g and Y'g, arithmetic on
matrices of `history_size` rows, and one pass for the combination, where the two-loop recursion takes each vector
twice and in turn (the idea of Chen, Wang & Zhou 2014). R^-1 and Y'Y are kept: a new pair adds a column, and the
oldest takes its row and column along, because R^-1 is triangular, too. Dot products are sums over a list of tensors,
one a parameter, so that tensors keep their shapes and layouts.
"""

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_addons_l6.kernels.arrays import NumpyArrays, Scalar, Small, Tensor

CURVATURE = 10.0  # a pair is kept if s'y > CURVATURE u |s| |y|, u the unit roundoff of the scalars


class History(NamedTuple):
    """Curvature pairs s = x' - x and y = g' - g, in rings of m = `history_size` rows."""

    s: Sequence[Tensor]  # one a parameter, (m, *shape)
    y: Sequence[Tensor]
    products: Small  # (2, m, m): R^-1, upper triangular, and Y'Y; the newest pair is last
    slot: Scalar  # the row that the next pair goes to: the oldest pair's, or the first that is free
    pairs: Scalar  # how many there are


def dot(arrays: NumpyArrays, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """The dot product of two lists of tensors."""
    return functools.reduce(operator.add, map(arrays.dot, x, y))


def largest(arrays: NumpyArrays, x: Sequence[Tensor]) -> Tensor:
    """The largest magnitude of a component in a list of tensors."""
    return functools.reduce(arrays.maximum, map(arrays.largest, x))


def store(
    arrays: NumpyArrays, history: History, s: Sequence[Tensor], y: Sequence[Tensor], wanted: Scalar
) -> tuple[History, Scalar]:
    """Put a pair in place of the oldest if it is `wanted` and s'y > 10 u |s| |y|.

    Returns:
        The history, `products` apart (see `with_newest`), and whether the pair was put there.
    """
    sy, ss, yy = arrays.scalars([dot(arrays, s, y), dot(arrays, s, s), dot(arrays, y, y)])
    bound = CURVATURE * arrays.unit_roundoff * (arrays.small.sqrt(ss) * arrays.small.sqrt(yy))
    keep = wanted & (sy > bound) & arrays.isfinite(yy)
    size = history.products.shape[-1]
    stored = history._replace(
        s=tuple(arrays.put(ring, history.slot, row, keep) for ring, row in zip(history.s, s, strict=True)),
        y=tuple(arrays.put(ring, history.slot, row, keep) for ring, row in zip(history.y, y, strict=True)),
        slot=arrays.select(keep, (history.slot + 1) % size, history.slot),
        pairs=arrays.select(keep, arrays.small.minimum(history.pairs + 1, size), history.pairs),
    )
    return stored, keep


def measure(arrays: NumpyArrays, history: History, *vectors: Sequence[Tensor]) -> Small:
    """S'x and Y'x of each of k vectors x, shape (k, 2, m), the oldest pair first; zeros where there is no pair."""
    size = history.products.shape[-1]
    by_age = (history.slot + _ages(size)) % size
    products = [[_product(arrays, rings, x) for rings in (history.s, history.y)] for x in vectors]
    by_row = arrays.stack(products)
    return arrays.small.where(_known(history), arrays.gather(by_row, by_age), 0)


def with_newest(arrays: NumpyArrays, history: History, newest: Small) -> Small:
    """The products with the newest pair, of S'y and Y'y = `newest`, shape (2, m), and without the oldest.

    [R r; 0 rho]^-1 = [R^-1, -R^-1 r / rho; 0, 1 / rho], where r = S'y and rho = s'y.
    """
    r, rho = newest[0, :-1], newest[0, -1]
    y_y, yy = newest[1, :-1], newest[1, -1]
    younger = history.products[:, 1:, 1:]
    inverse = arrays.bordered(younger[0], 0 * r, -arrays.product(younger[0], r) / rho, 1 / rho)
    gram = arrays.bordered(younger[1], y_y, y_y, yy)
    return arrays.stack([inverse, gram])


def direction(
    arrays: NumpyArrays, history: History, gradient: Sequence[Tensor], inner: Small
) -> Sequence[Tensor]:
    """The search direction -H g, `inner` being S'g and Y'g; -g without pairs."""
    gamma, on_s, on_y = _coefficients(arrays, history, inner)
    return tuple(
        arrays.scale(-gamma, g) + arrays.combine(on_s, s) + arrays.combine(on_y, y)
        for g, s, y in zip(gradient, history.s, history.y, strict=True)
    )


def _coefficients(arrays: NumpyArrays, history: History, inner: Small) -> tuple[Scalar, Small, Small]:
    """From S'g and Y'g the scalar gamma and, by rows, the vectors p and q of -H g = -gamma g + S p + Y q.

    By the equation at the head of this file, with v = R^-1 S'g:
    p = -R^-T (D v + gamma (Y'Y v - Y'g)) and q = gamma v.
    """
    small, size = arrays.small, history.products.shape[-1]
    inverse, yy = history.products[0], history.products[1]
    d = 1 / small.where(_known(history), small.diagonal(inverse), 1)
    gamma = d[-1] / arrays.select(history.pairs > 0, yy[-1, -1], 1.0)
    v = arrays.product(inverse, inner[0])
    p = -arrays.product(arrays.small.transpose(inverse), d * v + gamma * (arrays.product(yy, v) - inner[1]))
    by_row = (_ages(size) - history.slot) % size
    return gamma, arrays.gather(p, by_row), arrays.gather(gamma * v, by_row)


def _product(arrays: NumpyArrays, rings: Sequence[Tensor], x: Sequence[Tensor]) -> Small:
    """The product of each row of a list of rings with a list of tensors."""
    return functools.reduce(operator.add, map(arrays.inner, rings, x))


def _known(history: History) -> Small:
    """Whether there is a pair, the newest last."""
    size = history.products.shape[-1]
    return _ages(size) >= size - history.pairs


@functools.cache
def _ages(size: int) -> np.ndarray:
    return np.arange(size, dtype="int32")
