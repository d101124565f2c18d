"""Why a BatchNorm was folded or kept: a code that a program can match, and a sentence for a person."""

from __future__ import annotations

import dataclasses

__all__ = ["CODES", "Reason"]

CODES = {
    "back": "folded into what comes before it",
    "forward": "folded into what comes after it",
    "beside": "folded into what its output is added to",
    "activation": "an activation stands between",
    "shared": "the value next to it is used elsewhere too",
    "conflict": "a shared layer would need different weights in different calls",
    "output": "the value next to it is an output of the model",
    "input": "nothing that could take it up comes before it",
    "axis": "it normalizes another axis than the one the neighbour can scale",
    "padding": "zeros padded around the value would have to become another number",
    "sign": "a maximum cannot be scaled by a negative number",
    "training": "it is called with `training=True`",
    "statistics": "its statistics are not numbers that can be folded",
    "range": "the folded weights would leave the range of their type",
    "quantized": "the neighbour's weights are quantized",
    "custom": "it has a `call` of its own",
    "opaque": "it is inside a layer that was not traced",
    "layer": "the neighbour does not let a scale and shift through",
}


@dataclasses.dataclass(frozen=True)
class Reason:
    """A code out of `CODES`, and a sentence that names the layers it is about."""

    code: str
    sentence: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"{self.code!r} is no reason; `reason.CODES` lists them: {', '.join(CODES)}.")

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"
