"""A model as a tape: the list of its calls, each value made once, in the order of running."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

__all__ = ["Call", "Played", "Tape", "as_played", "replace_tensors", "tensors_in"]


@dataclasses.dataclass(eq=False)
class Call:
    """One call of a layer or an operation.

    Attributes:
        operation: A shadow of what is called; calls of one shared layer name the same shadow.
        original: What the shadow was made from, for its configuration.
        args: Positional arguments, symbolic tensors among them.
        kwargs: Keyword arguments.
        outputs: The symbolic tensors that the call makes, flat.
        path: The layer's name behind the names of the models and blocks around it.
        kept_whole: Why a layer with a `call` of its own is not replaced by the calls it makes; the report
            says it of the BatchNorms inside.
    """

    operation: keras.Operation
    original: keras.Operation
    args: tuple
    kwargs: dict[str, Any]
    outputs: list[keras.KerasTensor]
    path: str
    kept_whole: str = ""

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The symbolic tensors among the arguments, flat, each as often as it is used."""
        return tensors_in((self.args, self.kwargs))


@dataclasses.dataclass(frozen=True, eq=False)
class Tape:
    """A whole model: its inputs, its calls and its outputs.

    Attributes:
        name: The model's name.
        inputs: Symbolic inputs in the structure the model takes.
        calls: Every call, in an order in which they can run.
        outputs: Symbolic outputs in the structure the model returns.
        output_names: The name of the layer behind each output, flat.
        trainable: The model's `trainable`.
        arguments: The arguments of the model's `call`, by which `inputs` is a dictionary if they are
            several.
    """

    name: str
    inputs: Any
    calls: list[Call]
    outputs: Any
    output_names: list[str]
    trainable: bool
    arguments: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Played:
    """A tape played: what was called for each of its calls, and what stands for each of its tensors.

    The lists run along the calls of the tape, so that two models that were played from one tape can be
    run side by side.

    Attributes:
        inputs: The tensors that stand for the inputs of the tape, flat.
        calls: For each call of the tape, the calls made for it, in order; none for one that was left out.
        tensors: For each call of the tape, the tensor that stands for each of its outputs.
        outputs: The tensors that stand for the outputs of the tape, flat.
    """

    inputs: list[keras.KerasTensor]
    calls: list[list[Call]]
    tensors: list[list[keras.KerasTensor]]
    outputs: list[keras.KerasTensor]


def as_played(tape: Tape) -> Played:
    """The tape itself, every call in its own place."""
    return Played(
        keras.tree.flatten(tape.inputs),
        [[call] for call in tape.calls],
        [call.outputs for call in tape.calls],
        keras.tree.flatten(tape.outputs),
    )


def tensors_in(structure: Any) -> list[keras.KerasTensor]:
    """The symbolic tensors in a nested structure, in the order of the structure."""
    return [leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, keras.KerasTensor)]


def replace_tensors(structure: Any, values: dict[int, Any]) -> Any:
    """The structure with each symbolic tensor replaced by the value listed under its id."""

    def replace(leaf: Any) -> Any:
        return values[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

    return keras.tree.map_structure(replace, structure)
