"""What a quasi-Newton method keeps of the curvature it has met, and how a direction comes out of it.

An iteration hands over a pair, s = x+ - x and y = g+ - g, and takes back d = -H g+, where H is an inverse Hessian that
satisfies the secant equation H y = s. How H is kept is a `Curvature`: as the last pairs (`pairs.py`), or as a dense
matrix (`inverse_hessian.py`). Another one is one more file with this interface, and a class of optimizer that names it.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.arrays import NumpyArrays, Scalar

__all__ = ["BENT", "Curvature", "Form", "Pair", "Tally", "is_kept"]

BENT = 10.0  # a pair is kept if s'y > BENT u |s| |y|, u the unit roundoff of the scalars


class Pair(NamedTuple):
    """What an accepted step tells of the curvature."""

    s: Sequence[Tensor]  # a d, one tensor a parameter
    y: Sequence[Tensor]  # the change of the gradient
    sbs: Scalar  # s'B s = -a s'g, where B is H's inverse: B s = -a g


class Tally(NamedTuple):
    """The numbers that a run keeps of its curvature."""

    gamma: Scalar  # s'y / y'y of the pair that H starts from
    newest: Scalar  # the row of the newest pair, where pairs are kept
    pairs: Scalar  # how many H has; none: the direction is along the negative gradient


class Form(NamedTuple):
    """What an array of a memory is; of one a parameter the shape is the rows before the parameter's own axes."""

    shape: tuple[int, ...]
    dtype: str


class Curvature(Protocol):
    """How curvature is kept: a value, compared and hashed by its fields, so that programs can be kept by it.

    What is kept is a NamedTuple of arrays, called `memory`, whose shapes and dtypes never change; a field is one array
    a parameter where it is named in `columns`, else one array. `redirect` may run in a branch, so that it changes small
    arrays only; `store` always runs.
    """

    columns: ClassVar[tuple[str, ...]]  # fields with one array a parameter
    changing: ClassVar[tuple[str, ...]]  # fields that `redirect` gives
    written: ClassVar[tuple[str, ...]]  # fields that are written in place where the backend can
    memory: ClassVar[Any]  # the NamedTuple

    @property
    def self_scaled(self) -> bool:
        """Whether H is divided by a tau < 1 now and then, which lengthens all directions.

        The whole step is mostly too long then: a search begins where the last decrease is expected again
        (`line_search.expected_step`).
        """

    @property
    def sigma(self) -> float:
        """How much of the slope an accepted step may leave, as a part of it (`line_search.accepts`)."""

    def forms(self, arrays: NumpyArrays, parameters: Sequence[Any]) -> dict[str, Form]:
        """The fields' shapes and dtypes, in the order of the memory's fields."""

    def init(self, arrays: NumpyArrays, parameters: Sequence[Tensor]) -> Any:
        """The memory of no pair: zeros."""

    def store(
        self,
        arrays: NumpyArrays,
        memory: Any,
        tally: Tally,
        pair: Pair,
        gradient: Sequence[Tensor],
        accepted: Scalar,
        moved: Scalar,
    ) -> tuple[Any, Tally, Any]:
        """Take in a pair if `accepted`, and, if `moved`, what a direction from `gradient` takes from large arrays.

        Returns:
            The memory, the tally, and what `redirect` needs to know.
        """

    def redirect(
        self,
        arrays: NumpyArrays,
        memory: Any,
        tally: Tally,
        found: Any,
        pair: Pair,
        gradient: Sequence[Tensor],
    ) -> tuple[dict[str, Any], Sequence[Tensor]]:
        """The small fields of the memory after the pair, all of `changing`, and the direction -H g."""

    def after_loss(self, arrays: NumpyArrays, memory: Any, lost: Scalar) -> Any:
        """The memory where H was given up for the negative gradient if `lost`."""

    def viewed(self, arrays: NumpyArrays, memory: Any) -> Any:
        """A memory of the caller's as the operations take it."""

    def given_back(self, arrays: NumpyArrays, given: Any, memory: Any) -> Any:
        """A memory as the caller takes it, who gave another."""


def is_kept(arrays: NumpyArrays, accepted: Scalar, sy: Scalar, ss: Scalar, yy: Scalar) -> Scalar:
    """Whether a pair was accepted and shows positive curvature beyond rounding: said once, so in a branch (`step`)."""
    bound = BENT * arrays.unit_roundoff * (arrays.small.sqrt(ss) * arrays.small.sqrt(yy))
    return arrays.cond(accepted, lambda: (sy > bound) & arrays.isfinite(yy), lambda: accepted)
