"""The curvature pairs of L-BFGS and the search direction they give, by dot products alone.

With S = [s_1 ... s_k] and Y = [y_1 ... y_k], oldest first, R the upper triangle of S'Y (diagonal included), D its
diagonal and gamma = s_k'y_k / y_k'y_k, the BFGS updates of gamma I by all pairs make the inverse Hessian

    H = gamma I + [S, gamma Y] [[R^-T (D + gamma Y'Y) R^-1, -R^-T], [-R^-1, 0]] [S, gamma Y]'

(Byrd, Nocedal & Schnabel 1994, equation 3.1). So H g takes one pass over the pairs for S'g and Y'g, arithmetic on
matrices of `history_size` rows, and one pass for the combination, where the two-loop recursion takes each vector
twice and in turn (the idea of Chen, Wang & Zhou 2014). R^-1 and Y'Y are kept: a new pair adds a column, and the
oldest takes its row and column along, because R^-1 is triangular, too. The equation holds in any order of the pairs,
if rows and columns of all matrices have it: here it is that of the rings' rows, and nothing is ever moved. Dot products
are sums over a list of tensors, one a parameter, so that tensors keep their shapes and layouts.
"""

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar, Small
from keras_addons_l6.optimizers.quasi_newton.curvature import Form, Pair, Tally, is_kept
from keras_addons_l6.optimizers.quasi_newton.line_search import SIGMA
from keras_addons_l6.optimizers.quasi_newton.vectors import dot, working_dtype

__all__ = ["History", "LimitedMemory", "Pairs", "direction", "measure", "store", "with_newest"]


class Pairs(NamedTuple):
    """What is kept of m = `history_size` pairs."""

    rings: Sequence[Tensor]  # one a parameter, (2 m, *shape): S above Y
    products: Small  # (2, m, m): R^-1 and Y'Y, row and column i those of the pair in row i; R^-1 is 0 where no pair is


class History(NamedTuple):
    """Curvature pairs s = x' - x and y = g' - g, in rings of m = `history_size` rows."""

    rings: Sequence[Tensor]  # see `Pairs`
    products: Small
    gamma: Scalar  # s'y / y'y of the newest pair
    newest: Scalar  # its row; the oldest pair, or no pair, is in the next
    pairs: Scalar  # how many there are


def store(
    arrays: NumpyArrays, history: History, s: Sequence[Tensor], y: Sequence[Tensor], wanted: Scalar
) -> tuple[History, Scalar]:
    """Put a pair in place of the oldest if it is `wanted` and curved.

    Returns:
        The history, `products` apart (see `with_newest`), and whether the pair was put there.
    """
    sy, ss, yy = arrays.scalars([dot(arrays, s, y), dot(arrays, s, s), dot(arrays, y, y)])
    keep = is_kept(arrays, wanted, sy, ss, yy)
    size = history.products.shape[-1]
    row = (history.newest + 1) % size
    stored = history._replace(
        rings=tuple(
            arrays.put(arrays.put(ring, row, a, keep), size + row, b, keep)
            for ring, a, b in zip(history.rings, s, y, strict=True)
        ),
        gamma=arrays.select(keep, sy / yy, history.gamma),
        newest=arrays.select(keep, row, history.newest),
        pairs=arrays.select(keep, arrays.smaller(history.pairs + 1, size), history.pairs),
    )
    return stored, keep


def measure(arrays: NumpyArrays, history: History, *vectors: Sequence[Tensor]) -> Small:
    """S'x and Y'x of each of k vectors x, shape (k, 2, m)."""
    by_parameter = map(arrays.inner, history.rings, zip(*vectors, strict=True))
    products = functools.reduce(operator.add, by_parameter)
    return arrays.small.reshape(products, (-1, 2, history.products.shape[-1]))


def with_newest(arrays: NumpyArrays, history: History, inner: Small) -> Small:
    """The products with the newest pair, of S'y and Y'y = `inner`, shape (2, m), and without the one it replaced.

    [R r; 0 rho]^-1 = [R^-1, -R^-1 r / rho; 0, 1 / rho], where r = S'y without rho = s'y.
    """
    newest, before = history.newest, history.products
    (others,) = arrays.either(
        history.pairs > 1, lambda: (before,), lambda: (arrays.small.zeros_like(before),)
    )
    rho, yy = arrays.component(inner[0], newest), arrays.component(inner[1], newest)
    # The replaced pair is still in R^-1, alone in its column, as the oldest: it adds to its own row only.
    column = -arrays.product(others[0], inner[0]) / rho
    inverse = arrays.crossed(others[0], newest, 0 * column, column, 1 / rho)
    return arrays.stack([inverse, arrays.crossed(others[1], newest, inner[1], inner[1], yy)])


def direction(
    arrays: NumpyArrays, history: History, gradient: Sequence[Tensor], inner: Small
) -> Sequence[Tensor]:
    """The search direction -H g, `inner` being S'g and Y'g; -gamma g without pairs."""
    coefficients = arrays.small.reshape(_coefficients(arrays, history, inner), (-1,))
    return tuple(
        arrays.combine(coefficients, ring) - arrays.scale(history.gamma, g)
        for g, ring in zip(gradient, history.rings, strict=True)
    )


def _coefficients(arrays: NumpyArrays, history: History, inner: Small) -> Small:
    """From S'g and Y'g the vectors p and q of -H g = -gamma g + S p + Y q, shape (2, m).

    By the equation at the head of this file, with v = R^-1 S'g:
    p = -R^-T (D v + gamma (Y'Y v - Y'g)) and q = gamma v.
    """
    small, gamma = arrays.small, history.gamma
    inverse, yy = history.products[0], history.products[1]
    diagonal = small.diagonal(inverse)
    d = 1 / small.where(diagonal == 0, 1, diagonal)
    v = arrays.product(inverse, inner[0])
    p = -arrays.product(small.transpose(inverse), d * v + gamma * (arrays.product(yy, v) - inner[1]))
    return arrays.stack([p, gamma * v])


@dataclasses.dataclass(frozen=True)
class LimitedMemory:
    """The last pairs: curvature as L-BFGS keeps it.

    Args:
        size: How many.
    """

    size: int = 10

    columns: ClassVar[tuple[str, ...]] = ("rings",)
    changing: ClassVar[tuple[str, ...]] = ("products",)
    written: ClassVar[tuple[str, ...]] = ("rings",)
    self_scaled: ClassVar[bool] = False
    sigma: ClassVar[float] = SIGMA
    memory: ClassVar[Any] = Pairs

    def forms(self, arrays: NumpyArrays, parameters: Sequence[Any]) -> dict[str, Form]:
        """The fields' shapes and dtypes."""
        size = self.size
        return {"rings": Form((2 * size,), arrays.real), "products": Form((2, size, size), arrays.real)}

    def init(self, arrays: NumpyArrays, parameters: Sequence[Tensor]) -> Pairs:
        """The memory of no pair."""
        dtypes = [working_dtype(arrays.dtype(x)) for x in parameters]
        return Pairs(
            rings=tuple(
                arrays.tensor(arrays.zeros((2 * self.size, *x.shape), dtype))
                for x, dtype in zip(parameters, dtypes, strict=True)
            ),
            products=arrays.small.zeros((2, self.size, self.size), arrays.real),
        )

    def store(
        self,
        arrays: NumpyArrays,
        memory: Pairs,
        tally: Tally,
        pair: Pair,
        gradient: Sequence[Tensor],
        accepted: Scalar,
        moved: Scalar,
    ) -> tuple[Pairs, Tally, Scalar]:
        """Put an accepted pair in place of the oldest; `redirect` needs to know whether it was."""
        history, kept = store(arrays, History(*memory, *tally), pair.s, pair.y, accepted)
        return Pairs(*history[:2]), Tally(*history[2:]), kept

    def redirect(
        self,
        arrays: NumpyArrays,
        memory: Pairs,
        tally: Tally,
        kept: Scalar,
        pair: Pair,
        gradient: Sequence[Tensor],
    ) -> tuple[dict[str, Any], Sequence[Tensor]]:
        """The products with the pair, and the direction."""
        history = History(*memory, *tally)
        inner = measure(arrays, history, pair.y, gradient)
        products = arrays.select(kept, with_newest(arrays, history, inner[0]), history.products)
        history = history._replace(products=products)
        return {"products": products}, direction(arrays, history, gradient, inner[1])

    def after_loss(self, arrays: NumpyArrays, memory: Pairs, lost: Scalar) -> Pairs:
        """The memory as it is: the number of pairs says that none counts."""
        return memory

    def viewed(self, arrays: NumpyArrays, memory: Pairs) -> Pairs:
        """A memory of the caller's as the operations take it."""
        return Pairs(tuple(map(arrays.view, memory.rings)), arrays.local(memory.products))

    def given_back(self, arrays: NumpyArrays, given: Pairs, memory: Pairs) -> Pairs:
        """A memory as the caller takes it."""
        return memory._replace(rings=tuple(map(arrays.written, given.rings, memory.rings)))
