"""Names for the layers of a model that was laid flat: each used once, those of inputs and outputs kept."""

from __future__ import annotations

from collections.abc import Set

import keras

from keras_addons_l6.folding.tape import Tape

__all__ = ["free_name", "unique_names"]


def unique_names(tape: Tape, folded: Set[int]) -> dict[int, str]:
    """A name for each operation that stays, by the operation's id.

    A layer keeps its name where no other has it; else the name of the model around it comes before
    it. The names of inputs are theirs alone. The name of an output belongs to the layer that makes the
    output, if it makes all outputs of that name; else to none, so that one Identity behind them can
    have it.

    Args:
        tape: The model.
        folded: The ids of the calls that disappear.

    Returns:
        Names by the id of the operation.
    """
    reserved = {maker: name for name, maker in _makers(tape, folded).items()}
    taken = {tensor.name for tensor in keras.tree.flatten(tape.inputs)} | set(tape.output_names)
    names: dict[int, str] = {}
    for call in tape.calls:
        if id(call.operation) in names or id(call) in folded:
            continue
        own = call.operation.name
        makes_outputs = reserved.get(id(call.operation)) == own
        names[id(call.operation)] = own if makes_outputs else free_name(call.path, own, taken)
        taken.add(names[id(call.operation)])
    return names


def _makers(tape: Tape, folded: Set[int]) -> dict[str, int]:
    """The id of the operation that makes all outputs of a name, for the names that have such a one."""
    made_by = {id(tensor): call for call in tape.calls for tensor in call.outputs}
    makers: dict[str, set[int]] = {}
    for tensor, name in zip(keras.tree.flatten(tape.outputs), tape.output_names, strict=True):
        call = made_by.get(id(tensor))
        gone = call is None or id(call) in folded
        makers.setdefault(name, set()).add(0 if call is None or gone else id(call.operation))
    return {name: maker for name, (maker, *others) in makers.items() if maker and not others}


def free_name(path: str, name: str, taken: Set[str]) -> str:
    """The name, with as much of the path to its layer before it, or a number behind it, as it takes.

    Args:
        path: The names of the models and blocks around the layer, and its own, with slashes between.
        name: The layer's name.
        taken: Names that others have.

    Returns:
        A name that none of them has.
    """
    parts = path.split("/")
    longer = ["_".join([*parts[start:-1], name]) for start in reversed(range(len(parts)))]
    candidate = next((each for each in longer if each not in taken), None)
    number = 1
    while candidate is None or candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
