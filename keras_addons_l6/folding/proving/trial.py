"""What models are tried on: inputs of the caller's, or random ones of a size that the model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import ml_dtypes
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.errors import FoldingError
from keras_addons_l6.folding.recording.random_input import OPEN_SIZES, batch_for, random_array
from keras_addons_l6.folding.tape import Tape, tensors_in

__all__ = [
    "first_run",
    "given_inputs",
    "largest_index",
    "left_out",
    "require_fitting",
    "run_flat",
    "run_inference",
    "trial",
]


def trial(model: keras.Model, folded: keras.Model, tape: Tape, inputs: Any = None) -> tuple[Any, Any]:
    """Inputs in the structure that a tape takes, and what the model makes of them.

    Args:
        model: The original.
        folded: The folded model, whose shapes say which sizes are too small.
        tape: The original, recorded.
        inputs: A batch as `predict` takes it; None for random numbers.

    Returns:
        The inputs, as arrays, and the outputs.

    Raises:
        ValueError: When `inputs` are not what the model takes.
        FoldingError: When no random input runs.
    """
    if inputs is not None:
        arguments = given_inputs(tape, inputs)
        return arguments, run_inference(model, arguments, tape.arguments)

    def run(arguments: Any) -> Any:
        require_fitting(folded, arguments)
        return run_inference(model, arguments, tape.arguments)

    sizes = OPEN_SIZES if _has_open_size(tape) else OPEN_SIZES[:1]
    return first_run(lambda size: _random_inputs(tape, size), run, sizes, model.name)


def given_inputs(tape: Tape, inputs: Any) -> Any:
    """A caller's batch as arrays in the structure that a tape takes.

    Args:
        tape: The model.
        inputs: An array, or a list, tuple or dictionary of arrays: as `predict` takes them.

    Returns:
        The arrays.

    Raises:
        ValueError: When there are other arrays, or other shapes, than the model takes.
    """
    tensors = keras.tree.flatten(tape.inputs)
    if isinstance(inputs, dict) and not isinstance(tape.inputs, dict):
        inputs = [inputs.get(tensor.name) for tensor in tensors]
    elif isinstance(tape.inputs, dict) and isinstance(inputs, dict):
        inputs = {name: inputs.get(name) for name in tape.inputs}
    flat = keras.tree.flatten(inputs)
    if len(flat) != len(tensors):
        raise ValueError(
            f"`inputs` must be a batch as `predict` takes it: {len(tensors)} arrays for "
            f"{', '.join(tensor.name for tensor in tensors)}; got {len(flat)}."
        )
    arrays = [_given(value, tensor) for value, tensor in zip(flat, tensors, strict=True)]
    return keras.tree.pack_sequence_as(tape.inputs, arrays)


def _given(value: Any, tensor: keras.KerasTensor) -> np.ndarray | None:
    if value is None and keras_private.is_optional(tensor):
        return None
    array = np.asarray(keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else value)
    fits = array.ndim == len(tensor.shape) and all(
        wanted in (None, size) for wanted, size in zip(tensor.shape, array.shape, strict=True)
    )
    if value is None or not fits or array.size == 0:
        got = "nothing" if value is None else f"an array of shape {array.shape}"
        raise ValueError(
            f"`inputs` must hold an array of shape {tensor.shape} for '{tensor.name}'; got {got}."
        )
    # as `random_array` has them: the backends take half precision from float32 themselves
    wide = {"float16": "float32", "bfloat16": "float32"}.get(tensor.dtype, tensor.dtype)
    return array if wide == "string" else array.astype(wide)


def first_run(
    inputs_of: Callable[[int], Any], run: Callable[[Any], Any], sizes: Sequence[int], name: str
) -> tuple[Any, Any]:
    """Inputs of the first size that a model gives numbers for, and those numbers.

    An image too small for a model raises, or gives empty outputs, or means of nothing, which are no
    numbers; only where no size does better are such outputs compared.

    Args:
        inputs_of: Makes the inputs for an open size.
        run: Makes the outputs, a structure of arrays.
        sizes: The sizes to try.
        name: The model's name, for the error.

    Returns:
        The inputs and the outputs.

    Raises:
        FoldingError: When no size runs.
    """
    problem: Exception | None = None
    without_numbers: list[tuple[Any, Any]] = []
    for size in sizes:
        inputs = inputs_of(size)
        try:
            outputs = run(inputs)
        except Exception as error:  # too small an image, say: any backend's own error
            problem = error
            continue
        if all(_has_number(array) for array in keras.tree.flatten(outputs)):
            return inputs, outputs
        without_numbers.append((inputs, outputs))
    if without_numbers:
        return without_numbers[0]
    raise FoldingError(
        f"Model '{name}' did not run on random inputs, so its folding cannot be verified: {problem} "
        "Pass `verify=False` and compare on inputs of your own."
    ) from problem


def require_fitting(folded: keras.Model, arguments: Any) -> None:
    """Raise where the sizes are too small for a layer.

    TensorFlow's eager convolution does not: with a kernel larger than the image it returns an output of
    the wrong shape, full of stray memory.

    Args:
        folded: The folded model, or another Functional model with the same inputs.
        arguments: Arrays, in the structure of its inputs.
    """
    specs = [
        keras.KerasTensor(array.shape, tensor.dtype)
        for array, tensor in zip(keras.tree.flatten(arguments), folded.inputs, strict=True)
    ]
    folded.compute_output_spec(keras.tree.pack_sequence_as(folded.input, specs))


def _has_number(array: np.ndarray) -> bool:
    if array.dtype.kind not in "fV" and array.dtype != ml_dtypes.bfloat16:
        return array.size > 0
    return bool(np.isfinite(array.astype("float64")).any())


def _has_open_size(tape: Tape) -> bool:
    return any(None in tensor.shape[1:] for tensor in tensors_in(tape.inputs))


def _random_inputs(tape: Tape, unknown: int) -> Any:
    """Random arrays in the structure of a tape's inputs, whole numbers small enough for every table."""
    generator = np.random.default_rng(0)
    limit = largest_index(tape)
    sizes = (batch_for(tensor.shape for tensor in tensors_in(tape.inputs)), unknown)

    def drawn(tensor: keras.KerasTensor) -> np.ndarray:
        array = random_array(tensor.shape, tensor.dtype, generator, sizes, limit)
        known = _vocabulary(tape, tensor)
        return generator.choice(known, array.shape).astype(array.dtype) if known else array

    return keras.tree.map_structure(drawn, tape.inputs)


def _vocabulary(tape: Tape, tensor: keras.KerasTensor) -> list[Any]:
    """What a lookup that takes an input knows: of words that it does not know, all are alike to it."""
    users = [call.operation for call in tape.calls if any(each is tensor for each in call.inputs)]
    lookup = next((user for user in users if hasattr(user, "get_vocabulary")), None)
    words = [] if lookup is None else lookup.get_vocabulary(include_special_tokens=False)
    return list(words) if keras.backend.is_int_dtype(tensor.dtype) or tensor.dtype == "string" else []


def largest_index(tape: Tape) -> int:
    """One past the largest whole number that every table and encoding of the model takes."""
    sizes = [
        size
        for call in tape.calls
        for layer in (call.operation, *keras_private.sublayers(call.operation))
        for size in (getattr(layer, "input_dim", None), getattr(layer, "num_tokens", None))
        # tables of one row hold a weight of a `call`'s own, and are looked up at zeros
        if isinstance(size, int) and size > 1
    ]
    return min(sizes, default=2)


def left_out(tape: Tape) -> Iterator[set[int]]:
    """The places of the inputs that may be left out, together; nothing where there are none."""
    flat = keras.tree.flatten(tape.inputs)
    places = {place for place, tensor in enumerate(flat) if keras_private.is_optional(tensor)}
    if places and len(places) < len(flat):
        yield places


def run_inference(model: keras.Model, inputs: Any, names: tuple[str, ...] = ()) -> Any:
    """The outputs of a model in inference, as arrays; its variables stay as they are."""
    rest = {name: inputs[name] for name in names[1:]}
    with keras.StatelessScope():
        outputs = model(inputs[names[0]] if rest else inputs, **rest, training=False)
    return keras.tree.map_structure(_array, outputs)


def run_flat(folded: keras.Model, flat: list[Any]) -> Any:
    """The outputs of a Functional model in inference, from its inputs in a flat list."""
    return run_inference(folded, keras.tree.pack_sequence_as(folded.input, flat))


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))
