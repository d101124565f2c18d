"""Names for the layers of a model that was laid flat: each used once, those of inputs and outputs kept."""

from __future__ import annotations

from collections.abc import Set

import keras

from keras_addons_l6.folding.tape import Tape


def unique_names(tape: Tape, folded: Set[int]) -> dict[int, str]:
    """A name for each operation that stays, by the operation's id.

    A layer keeps its name where no other has it; else the name of the model around it comes before
    it. The names of inputs are theirs alone, and the name of an output belongs to the layer that
    makes the output.

    Args:
        tape: The model.
        folded: The ids of the calls that disappear.

    Returns:
        Names by the id of the operation.
    """
    outputs = keras.tree.flatten(tape.outputs)
    reserved = {id(tensor): name for tensor, name in zip(outputs, tape.output_names, strict=True)}
    taken = {tensor.name for tensor in keras.tree.flatten(tape.inputs)} | set(tape.output_names)
    names: dict[int, str] = {}
    for call in tape.calls:
        if id(call.operation) in names or id(call) in folded:
            continue
        own = call.operation.name
        makes_output = any(reserved.get(id(tensor)) == own for tensor in call.outputs)
        names[id(call.operation)] = own if makes_output else _free(call.path, own, taken)
        taken.add(names[id(call.operation)])
    return names


def _free(path: str, name: str, taken: Set[str]) -> str:
    parts = path.split("/")
    longer = ["_".join([*parts[start:-1], name]) for start in reversed(range(len(parts)))]
    candidate = next((each for each in longer if each not in taken), None)
    number = 1
    while candidate is None or candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
