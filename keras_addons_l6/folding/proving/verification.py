"""What a check of a folded model measured, and how it reads."""

from __future__ import annotations

import dataclasses

from keras_addons_l6.folding.proving.comparison import LIMIT, Comparison, worst

__all__ = ["Verification"]


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was measured.

    Attributes:
        folds: One comparison for each BatchNorm call that was folded, in the order in which they run.
        outputs: One for each output of the model, from end to end.
        half: The outputs again, in half precision, of a model that computes in it; the others are then
            those of float32 copies.
        outputs_only: Why nothing but outputs could be compared; empty where folds were.
    """

    folds: tuple[Comparison, ...]
    outputs: tuple[Comparison, ...]
    half: tuple[Comparison, ...] = ()
    outputs_only: str = ""

    @property
    def largest(self) -> Comparison:
        """The comparison with the largest error that was seen."""
        return worst((*self.folds, *self.outputs))

    @property
    def error(self) -> float:
        """The largest error that was seen, relative to the spread of what was compared."""
        return self.largest.error

    @property
    def tolerance(self) -> float:
        """The error that was allowed there."""
        return self.largest.tolerance

    @property
    def noise(self) -> float | None:
        """How far the original is from itself there; None where the error did not ask for it."""
        return self.largest.noise

    @property
    def where(self) -> str:
        """The layer whose output has the largest error."""
        return self.largest.at

    @property
    def accepted(self) -> bool:
        """Whether nothing was refused, and a fault could have been seen somewhere."""
        return self.sighted and not any(each.refused for each in (*self.folds, *self.outputs, *self.half))

    @property
    def sighted(self) -> bool:
        """Whether a fault would have shown in any fold, or, where only outputs were compared, in any output."""
        return any(each.seen for each in self.folds or self.outputs)

    @property
    def unseen(self) -> tuple[Comparison, ...]:
        """The folds, or outputs, of which nothing was seen on these inputs."""
        return tuple(each for each in self.folds or self.outputs if not each.seen)

    def __str__(self) -> str:
        """The numbers in a sentence or two."""
        lines = [self._main()]
        if self.unseen:
            lines.append(f"{len(self.unseen)} of {self._count()} not seen on these inputs")
        if self.outputs_only:
            lines.append(f"only outputs were compared: {self.outputs_only}")
        if self.half:
            lines.append(f"in half precision {_in_half(worst(self.half))}")
        return "; ".join(lines) + "."

    def _main(self) -> str:
        if not self.sighted:
            return "The check saw nothing on these inputs"
        noise = f", of which {self.noise:.1e} is the model's own noise" if self.noise is not None else ""
        return f"Largest error {self.error:.1e} at '{self.where}' ({self.tolerance:.1e} allowed{noise})"

    def _count(self) -> str:
        return f"{len(self.folds)} folds" if self.folds else f"{len(self.outputs)} outputs"


def _in_half(row: Comparison) -> str:
    verdict = ", inconclusive: the float32 copies decide" if row.error > LIMIT else ""
    return f"the outputs differ by {row.error:.1e}{verdict}"
