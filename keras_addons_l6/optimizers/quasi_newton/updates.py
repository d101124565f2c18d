"""The updates of Broyden's family, as two numbers each.

With an accepted step s, the gradient's change y, rho = 1 / s'y and B = H^-1,

    H+ = (H - H y y'H / y'Hy + phi (y'Hy) v v') / tau + rho s s',      v = rho s - H y / y'Hy,

satisfies the secant equation H+ y = s for every tau and phi. phi = 1 is BFGS, phi = 0 is DFP; dividing by tau first lets
curvature that was estimated wrong be forgotten. What an update decides by has no unit, so that the scale of the objective
changes nothing:

    h = y'Hy / s'y,      b = s'B s / s'y,      b h >= 1 (Cauchy and Schwarz).
"""

from collections.abc import Callable
from typing import NamedTuple

from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar

__all__ = ["SELF_SCALED", "UPDATES", "Update", "bfgs", "self_scaled_bfgs", "self_scaled_broyden"]


class Update(NamedTuple):
    """A member of the family."""

    tau: Scalar
    phi: Scalar


Rule = Callable[[NumpyArrays, Scalar, Scalar, int, Scalar], Update]


def bfgs(arrays: NumpyArrays, h: Scalar, b: Scalar, n: int, first: Scalar) -> Update:
    """Broyden, Fletcher, Goldfarb & Shanno (1970)."""
    return Update(tau=0 * b + 1, phi=0 * b + 1)


def self_scaled_bfgs(arrays: NumpyArrays, h: Scalar, b: Scalar, n: int, first: Scalar) -> Update:
    """Oren & Luenberger (1974), with Al-Baali's bound (1998): tau = min(1, 1 / b), and 1 at the first pair."""
    return Update(tau=arrays.select(first, 0 * b + 1, arrays.smaller(0 * b + 1, 1 / b)), phi=0 * b + 1)


def self_scaled_broyden(arrays: NumpyArrays, h: Scalar, b: Scalar, n: int, first: Scalar) -> Update:
    """Al-Baali & Khalfan (2005), as Urban, Stefanou & Pons (2025), equations 13 to 23, have it.

    theta is the update's place in the family as it is counted for B: 0 is BFGS, 1 is DFP.
    """
    smaller, larger, select = arrays.smaller, arrays.larger, arrays.select
    one = 0 * b + 1
    a = larger(b * h - 1, TINY * one)  # 0 at least, and to be divided by
    c = arrays.small.sqrt(a / (1 + a))
    r = smaller(one, h * (1 - c))
    theta = larger((r - 1) / a, smaller(1 / r, (1 - b) / b))
    sigma = 1 + theta * a
    q = abs(sigma) ** (1 / (1 - n)) if n > 1 else one
    p = smaller(one, 1 / b)
    later = select(theta <= 0, smaller(p * q, sigma), p * smaller(q, 1 / larger(theta, TINY * one)))
    return Update(tau=select(first, h / sigma, later), phi=(1 - theta) / sigma)


TINY = 1e-30  # in float32 too, and far below what rounding leaves of b h - 1

UPDATES: dict[str, Rule] = {
    "bfgs": bfgs,
    "self_scaled_bfgs": self_scaled_bfgs,
    "self_scaled_broyden": self_scaled_broyden,
}

SELF_SCALED = frozenset(UPDATES) - {"bfgs"}
