"""The curvature pairs of L-BFGS and the search direction they give, by dot products alone.

With S = [s_1 ... s_k] and Y = [y_1 ... y_k], oldest first, R the upper triangle of S'Y (diagonal included), D its
diagonal and gamma = s_k'y_k / y_k'y_k, the BFGS updates of gamma I make the inverse Hessian

    H = gamma I + [S, gamma Y] [[R^-T (D + gamma Y'Y) R^-1, -R^-T], [-R^-1, 0]] [S, gamma Y]'

(Byrd, Nocedal & Schnabel 1994, equation 3.1). So H g takes one pass over the history for S'g and Y'g, arithmetic on matrices
of `history_size` rows, and one pass for the combination (the form of Chen, Wang & Zhou 2014); S'Y and Y'Y are kept, one
column new at each pair. Dot products are sums over a list of tensors, one a parameter, so that tensors keep their layouts.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from keras_addons_l6.optimizers.lbfgs.arrays import NumpyArrays, Scalar, Small, Tensor

CURVATURE = 10.0  # a pair is kept if s'y > CURVATURE u |s| |y|, u the unit roundoff of the scalars


class History(NamedTuple):
    """Curvature pairs s = x' - x and y = g' - g in rings of m = `history_size` rows, empty ones zero."""

    s: Sequence[Tensor]  # one a parameter, (m, *shape)
    y: Sequence[Tensor]
    products: Small  # (2, m, m): S'Y and Y'Y, ordered by age with the newest pair last
    slot: Scalar  # the row that the next pair goes to
    pairs: Scalar  # how many there are


def dot(arrays: NumpyArrays, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """x'y of two lists of tensors."""
    return sum(arrays.dot(a, b) for a, b in zip(x, y, strict=True))


def largest(arrays: NumpyArrays, x: Sequence[Tensor]) -> Tensor:
    """The largest magnitude in a list of tensors."""
    return functools.reduce(arrays.maximum, (arrays.largest(a) for a in x))


def store(
    arrays: NumpyArrays,
    history: History,
    s: Sequence[Tensor],
    y: Sequence[Tensor],
    wanted: Scalar,
) -> tuple[History, Scalar]:
    """The history with the pair s, y in place of the oldest if `wanted`, and whether it is kept: s'y > 10 u |s| |y|."""
    sy, ss, yy = arrays.scalars([dot(arrays, s, y), dot(arrays, s, s), dot(arrays, y, y)])
    bound = CURVATURE * arrays.unit_roundoff * (arrays.small.sqrt(ss) * arrays.small.sqrt(yy))
    keep = wanted & (sy > bound)
    size = history.products.shape[-1]
    return history._replace(
        s=tuple(arrays.put(ring, history.slot, row, keep) for ring, row in zip(history.s, s, strict=True)),
        y=tuple(arrays.put(ring, history.slot, row, keep) for ring, row in zip(history.y, y, strict=True)),
        slot=arrays.select(keep, (history.slot + 1) % size, history.slot),
        pairs=arrays.select(keep, arrays.small.minimum(history.pairs + 1, size), history.pairs),
    ), keep


def inner(arrays: NumpyArrays, history: History, x: Sequence[Tensor]) -> tuple[Small, Small]:
    """S'x and Y'x, ordered by age."""
    by_age = _rows_by_age(arrays, history)
    return tuple(
        arrays.small.take(sum(arrays.inner(ring, v) for ring, v in zip(rings, x, strict=True)), by_age)
        for rings in (history.s, history.y)
    )


def with_newest(arrays: NumpyArrays, history: History, y: Sequence[Tensor]) -> Small:
    """The products after the pair that was stored last, whose difference of gradients is y."""
    sy, yy = inner(arrays, history, y)
    return arrays.small.stack(
        [_shift(arrays, history.products[0], sy), _shift(arrays, history.products[1], yy)]
    )


def multiply(arrays: NumpyArrays, history: History, gradient: Sequence[Tensor]) -> Sequence[Tensor]:
    """H g, by the equation at the head of this file; g itself without pairs."""
    small = arrays.small
    sy, yy = history.products[0], history.products[1]
    size = sy.shape[-1]
    age = small.arange(size, dtype="int32")
    known = age >= size - history.pairs
    diagonal = small.where(known, small.diagonal(sy), 1)
    gamma = arrays.select(history.pairs > 0, sy[-1, -1] / arrays.select(history.pairs > 0, yy[-1, -1], 1), 1)
    upper = (age[:, None] < age[None, :]) & known[:, None] & known[None, :]
    r = small.where(upper, sy, 0) + small.diag(diagonal)
    sg, yg = (small.where(known, product, 0) for product in inner(arrays, history, gradient))
    q = arrays.solve_triangular(r, sg, lower=False)
    yyq = small.matmul(small.where(known, yy, 0), q)
    p = arrays.solve_triangular(small.transpose(r), diagonal * q + gamma * (yyq - yg), lower=True)
    by_row = (age - history.slot) % size
    p, q = small.take(small.where(known, p, 0), by_row), small.take(small.where(known, q, 0), by_row)
    return tuple(
        arrays.scale(gamma, g) + arrays.combine(p, s) - arrays.combine(gamma * q, y)
        for g, s, y in zip(gradient, history.s, history.y, strict=True)
    )


def _rows_by_age(arrays: NumpyArrays, history: History) -> Small:
    """Rows of the rings, oldest (or empty) first."""
    size = history.products.shape[-1]
    return (history.slot + arrays.small.arange(size, dtype="int32")) % size


def _shift(arrays: NumpyArrays, products: Small, newest: Small) -> Small:
    """Products without the oldest pair's, and with the newest pair's as last row and column."""
    small = arrays.small
    younger = small.concatenate([products[1:, 1:], newest[None, :-1]], axis=0)
    return small.concatenate([younger, newest[:, None]], axis=1)
