"""A dense inverse Hessian H, updated by every pair: curvature as BFGS keeps it.

Reading H from memory is what an iteration costs, so it goes over H once: while a block of rows is in the processor's cache
it gets the update of the pair before, is written back, and is multiplied by g+. The update of the new pair is known
then by three vectors, and waits for the next pass; its effect on the direction needs these vectors alone:

    H+ = c H + e I - p p' +- q q' + r r',        d = -(c H g+ + e g+ - p (p'g+) +- q (q'g+) + r (r'g+)),

with p, q and r along H y, v and s of the formula in `updates.py`. H y is H g+ - H g, and H g is kept from the step before.
The difference loses no digits that count: a step is accepted where |s'y| >= (1 - sigma) |s'g|, and in the norm of H, where
s is along H g, that gives |y| >= (1 - sigma) |g| (Cauchy and Schwarz). Two things keep rounding from growing over thousands
of updates, each of which may divide H by tau: products of a vector with itself are symmetric to the last bit, and so is H;
and H is kept in units of gamma = s'y / y'y of its first pair, where it begins as I, so that roots have no unit either.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar, Small
from keras_addons_l6.optimizers.quasi_newton.curvature import Form, Pair, Tally, is_kept
from keras_addons_l6.optimizers.quasi_newton.line_search import SIGMA
from keras_addons_l6.optimizers.quasi_newton.updates import SELF_SCALED, UPDATES

__all__ = ["Inverse", "InverseHessian"]


class Inverse(NamedTuple):
    """H in units of gamma, with an update that waits."""

    inverse_hessian: Tensor  # (n, n), n the number of all parameters' components
    pending_vectors: Tensor  # (3, n): p, q and r
    pending_weights: Small  # (5,): c, e and the signs of p p', q q' and r r'
    newton_step: Tensor  # (n,): H g at the accepted point, the update included
    resets: Small  # (1,), int32: how often H was given up for the negative gradient


class Products(NamedTuple):
    """What `redirect` needs to know of a pass, gradients in units of 1 / gamma, and flat."""

    kept: Scalar  # whether the pair is taken in
    first: Scalar  # whether it is the first
    s: Tensor
    y: Tensor
    gradient: Tensor
    hy: Tensor
    hg: Tensor


@dataclasses.dataclass(frozen=True)
class InverseHessian:
    """A dense inverse Hessian.

    Args:
        update: A key of `updates.UPDATES`.
        dtype: Its dtype, "float32" or "float64".
    """

    update: str = "bfgs"
    dtype: str = "float64"

    columns: ClassVar[tuple[str, ...]] = ()
    changing: ClassVar[tuple[str, ...]] = ("pending_vectors", "pending_weights", "newton_step")
    written: ClassVar[tuple[str, ...]] = ("inverse_hessian",)
    memory: ClassVar[Any] = Inverse

    @property
    def self_scaled(self) -> bool:
        """Whether the update divides H by a tau."""
        return self.update in SELF_SCALED

    @property
    def sigma(self) -> float:
        """How much of the slope an accepted step may leave."""
        return 0.9 if self.update == "self_scaled_broyden" else SIGMA  # docs/quasi_newton.md

    def forms(self, arrays: NumpyArrays, parameters: Sequence[Any]) -> dict[str, Form]:
        """The fields' shapes and dtypes."""
        n = components(parameters)
        return {
            "inverse_hessian": Form((n, n), self.dtype),
            "pending_vectors": Form((3, n), self.dtype),
            "pending_weights": Form((5,), self.dtype),
            "newton_step": Form((n,), self.dtype),
            "resets": Form((1,), "int32"),
        }

    def init(self, arrays: NumpyArrays, parameters: Sequence[Tensor]) -> Inverse:
        """The memory of no pair."""
        matrix, vectors, weights, newton_step, resets = self.forms(arrays, parameters).values()
        return Inverse(
            inverse_hessian=arrays.tensor(arrays.zeros(*matrix)),
            pending_vectors=arrays.tensor(arrays.zeros(*vectors)),
            pending_weights=arrays.small.zeros(*weights),
            newton_step=arrays.tensor(arrays.zeros(*newton_step)),
            resets=arrays.small.zeros(*resets),
        )

    def store(
        self,
        arrays: NumpyArrays,
        memory: Inverse,
        tally: Tally,
        pair: Pair,
        gradient: Sequence[Tensor],
        accepted: Scalar,
        moved: Scalar,
    ) -> tuple[Inverse, Tally, Products]:
        """One pass over H, if there is one: the update that waits is applied, and H g is found."""
        wide = arrays.with_real(self.dtype)
        s, y, g = (wide.flat(vectors) for vectors in (pair.s, pair.y, gradient))
        sy, ss, yy = arrays.scalars([wide.dot(s, y), wide.dot(s, s), wide.dot(y, y)])
        first = tally.pairs == 0
        kept = is_kept(arrays, accepted, sy, ss, yy)
        gamma = arrays.select(kept & first, sy / yy, tally.gamma)
        y, g = wide.scale(gamma, y), wide.scale(gamma, g)
        matrix, hg = wide.updated_product(
            memory.inverse_hessian,
            memory.pending_vectors,
            wide.unpack(memory.pending_weights, 5),
            g,
            moved & ~first,
        )
        hy, hg = wide.select(first, y, hg - memory.newton_step), wide.select(first, g, hg)
        tally = tally._replace(gamma=gamma, pairs=tally.pairs + arrays.select(kept, 1, 0))
        return memory._replace(inverse_hessian=matrix), tally, Products(kept, first, s, y, g, hy, hg)

    def redirect(
        self,
        arrays: NumpyArrays,
        memory: Inverse,
        tally: Tally,
        found: Products,
        pair: Pair,
        gradient: Sequence[Tensor],
    ) -> tuple[dict[str, Any], Sequence[Tensor]]:
        """The update that waits from now on, and the direction."""
        wide = arrays.with_real(self.dtype)
        kept, select = found.kept, wide.select
        tau, sign, vectors = self._update(wide, tally, found, pair)
        scale = select(kept, select(found.first, 0.0, 1 / tau), 1.0)
        identity = select(kept & found.first, 1 / tau, 0.0)
        signs = [select(kept, x, 0.0) for x in (-1.0, sign, 1.0)]
        # Selected, since 0 times what is not finite would live on.
        vectors = wide.stacked([select(kept, x, wide.scale(0.0, found.s)) for x in vectors])
        hg = wide.scale(scale + identity, found.hg)  # where H starts, it is I
        for i, x in enumerate(signs):
            (along,) = wide.scalars([wide.dot(vectors[i], found.gradient)])
            hg = hg + wide.scale(x * along, vectors[i])
        weights = wide.pack([scale, identity, *signs], self.dtype)
        changed = {"pending_vectors": vectors, "pending_weights": weights, "newton_step": hg}
        return changed, wide.shaped(-hg, gradient)

    def _update(
        self, wide: NumpyArrays, tally: Tally, found: Products, pair: Pair
    ) -> tuple[Scalar, Scalar, list[Tensor]]:
        """tau, the sign of phi, and the vectors p, q and r; NaN where y'H y is negative, and H of no use."""
        s, y, hy = found.s, found.y, found.hy
        sy, ss, yhy = wide.scalars([wide.dot(s, y), wide.dot(s, s), wide.dot(y, hy)])
        gamma, sbs = wide.scalars([tally.gamma, pair.sbs])
        rho = 1 / sy
        h, b = yhy * rho, wide.select(found.first, ss, gamma * sbs) * rho
        tau, phi = UPDATES[self.update](wide, h, b, s.shape[0], found.first)
        v = wide.scale(rho, s) - wide.scale(1 / yhy, hy)
        root = wide.small.sqrt
        p = wide.scale(root(1 / (yhy * tau)), hy)
        q = wide.scale(root(abs(phi) * yhy / tau), v)
        return tau, wide.select(phi < 0, -1.0, 1.0), [p, q, wide.scale(root(rho), s)]

    def after_loss(self, arrays: NumpyArrays, memory: Inverse, lost: Scalar) -> Inverse:
        """The memory with one more reset counted, if `lost`."""
        return memory._replace(resets=memory.resets + arrays.select(lost, 1, 0))

    def viewed(self, arrays: NumpyArrays, memory: Inverse) -> Inverse:
        """A memory of the caller's as the operations take it."""
        small = arrays.with_real(self.dtype).local
        return Inverse(
            inverse_hessian=arrays.view(memory.inverse_hessian),
            pending_vectors=arrays.view(memory.pending_vectors),
            pending_weights=small(memory.pending_weights),
            newton_step=arrays.view(memory.newton_step),
            resets=small(memory.resets),
        )

    def given_back(self, arrays: NumpyArrays, given: Inverse, memory: Inverse) -> Inverse:
        """A memory as the caller takes it."""
        return memory._replace(
            inverse_hessian=arrays.written(given.inverse_hessian, memory.inverse_hessian),
            pending_vectors=arrays.given_back(given.pending_vectors, memory.pending_vectors),
            newton_step=arrays.given_back(given.newton_step, memory.newton_step),
        )


def components(parameters: Sequence[Tensor]) -> int:
    """How many numbers the parameters have."""
    return sum(math.prod(x.shape) for x in parameters)
