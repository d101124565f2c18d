"""Checking a folded model against the original on random inputs, with a tolerance that follows the noise.

A fixed tolerance is wrong. What a fold changes is rounding, and a network may amplify rounding by any
factor: some differ from themselves by more than one, eager to compiled. So past the bound that
rounding explains in a well-behaved network, the model's own noise is measured and is the yardstick.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import ml_dtypes
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.building.rewrite import build
from keras_addons_l6.folding.errors import FoldingError
from keras_addons_l6.folding.planning.plan import Plan
from keras_addons_l6.folding.progress import Progress
from keras_addons_l6.folding.recording.random_input import batch_for, random_array
from keras_addons_l6.folding.tape import Tape, tensors_in

# A fold rounds each weight once and each output of a layer anew; errors of independent layers add up
# as the root of their number. 32 leaves room for sums over a kernel's window, as measured over
# keras.applications (largest: 6 eps sqrt(calls)).
_ROUNDINGS = 32.0
# The folded model is one more sample of the noise that two measurements estimate.
NOISE_MULTIPLE = 10.0
# Open sizes to try: small first, then what image models with many strides ask for.
OPEN_SIZES = (16, 32, 64, 128, 224)


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was measured.

    Attributes:
        error: Largest difference of the outputs relative to the largest output, over all outputs.
        tolerance: The largest error that is accepted.
        noise: The same measure between the model and itself, compiled, and with its inputs moved by
            one rounding, whichever is larger; None where the error did not ask for it.
    """

    error: float
    tolerance: float
    noise: float | None

    @property
    def accepted(self) -> bool:
        """Whether the error is within the tolerance; an error that is not a number is not."""
        return self.error <= self.tolerance


def verify_folding(
    model: keras.Model, folded: keras.Model, plan: Plan, tolerance: float | None, progress: Progress
) -> Verification:
    """Run both models on random inputs and compare.

    Args:
        model: The original; its variables are only read.
        folded: The folded model.
        plan: The plan by which it was folded.
        tolerance: The largest accepted error; None follows the noise.
        progress: Where to say what is going on.

    Returns:
        The measured numbers.

    Raises:
        FoldingError: When the error is past the tolerance, or no random input runs.
    """
    progress.show("running the original")
    arguments, expected = _first_run(model, folded, plan.tape)
    progress.show("running the folded model")
    flat = keras.tree.flatten(arguments)
    error = difference(expected, _run_flat(folded, flat))
    for names_left_out in _optional_inputs(plan.tape):
        partial = [None if place in names_left_out else array for place, array in enumerate(flat)]
        packed = keras.tree.pack_sequence_as(arguments, partial)
        error = _worse(
            error, difference(run_inference(model, packed, plan.tape.arguments), _run_flat(folded, partial))
        )
    bound = rounding_bound(plan.tape) if tolerance is None else tolerance
    noise = None
    if not error <= bound:
        progress.show("measuring the model's own noise")
        noise = own_noise(model, plan, arguments, expected)
        bound = max(bound, NOISE_MULTIPLE * noise) if tolerance is None else tolerance
    result = Verification(error, bound, noise)
    if not result.accepted:
        raise FoldingError(_message(model, result))
    return result


def difference(expected: Any, found: Any) -> float:
    """The largest difference relative to the largest expected number, over all outputs of a model.

    Infinite where the shapes or types differ or one has a number where the other has none.

    Args:
        expected: Structure of arrays.
        found: The same structure.

    Returns:
        The error.
    """
    pairs = zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True)
    return max((_relative(a, b) for a, b in pairs), default=0.0)


def _relative(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    if expected.dtype.kind not in "fV" and expected.dtype != ml_dtypes.bfloat16:
        return 0.0 if np.array_equal(expected, found) else float("inf")
    a, b = expected.astype("float64"), found.astype("float64")
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    a, b = a[~same], b[~same]
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    scale = np.abs(
        expected.astype("float64"), where=np.isfinite(expected), out=np.zeros(expected.shape)
    ).max()
    return float(np.abs(a - b).max() / max(scale, np.finfo("float64").tiny))


def _worse(a: float, b: float) -> float:
    return float("nan") if np.isnan(a) or np.isnan(b) else max(a, b)


def _first_run(model: keras.Model, folded: keras.Model, tape: Tape) -> tuple[Any, Any]:
    """Random inputs in the structure the model takes, and what it makes of them."""

    def run(arguments: Any) -> Any:
        require_fitting(folded, arguments)
        return run_inference(model, arguments, tape.arguments)

    return first_run(
        lambda size: random_inputs(tape, size),
        run,
        OPEN_SIZES if _has_open_size(tape) else OPEN_SIZES[:1],
        model.name,
    )


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


def random_inputs(tape: Tape, unknown: int = 16) -> Any:
    """Random arrays in the structure of a tape's inputs, whole numbers small enough for every table.

    Args:
        tape: The model.
        unknown: The size of open dimensions past the batch.

    Returns:
        The arrays.
    """
    generator = np.random.default_rng(0)
    limit = largest_index(tape)
    sizes = (batch_for(tensor.shape for tensor in tensors_in(tape.inputs)), unknown)
    return keras.tree.map_structure(
        lambda tensor: random_array(tensor.shape, tensor.dtype, generator, sizes, limit), tape.inputs
    )


def largest_index(tape: Tape) -> int:
    """One past the largest whole number that every table and encoding of the model takes."""
    sizes = [
        size
        for call in tape.calls
        for layer in (call.operation, *keras_private.sublayers(call.operation))
        for size in (getattr(layer, "input_dim", None), getattr(layer, "num_tokens", None))
        if isinstance(size, int)
    ]
    return min(sizes, default=2)


def _optional_inputs(tape: Tape) -> Iterator[set[int]]:
    """The places of the inputs that may be left out, together."""
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


def _run_flat(folded: keras.Model, flat: list[Any]) -> Any:
    return run_inference(folded, keras.tree.pack_sequence_as(folded.input, flat))


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def rounding_bound(tape: Tape) -> float:
    """32 roundings a call, added up as independent ones, in the coarsest type the model computes in."""
    dtypes = {tensor.dtype for call in tape.calls for tensor in call.outputs}
    # `result_type`: on JAX and torch, Keras's own layers compute float64 in float32 here and there
    floats = [keras.backend.result_type(dtype) for dtype in dtypes if keras.backend.is_float_dtype(dtype)]
    epsilon = max(float(ml_dtypes.finfo(dtype).eps) for dtype in floats or ["float32"])
    return _ROUNDINGS * epsilon * max(len(tape.calls), 1) ** 0.5


def own_noise(model: keras.Model, plan: Plan, arguments: Any, expected: Any) -> float:
    """How far the model is from itself: with inputs one rounding away, and compiled."""
    moved = keras.tree.map_structure(_one_rounding_away, arguments)
    noise = difference(expected, run_inference(model, moved, plan.tape.arguments))
    copy = build(dataclasses.replace(plan, decisions=[], new_layers={}))
    packed = keras.tree.pack_sequence_as(copy.input, keras.tree.flatten(arguments))
    compiled = keras.tree.flatten(copy.predict(packed, verbose=0, batch_size=_batch(arguments)))
    return _finite_max(noise, difference(keras.tree.flatten(expected), compiled))


def _finite_max(*values: float) -> float:
    return max((value for value in values if np.isfinite(value)), default=0.0)


def _batch(arguments: Any) -> int:
    return len(keras.tree.flatten(arguments)[0])


def _one_rounding_away(array: np.ndarray) -> np.ndarray:
    return np.nextafter(array, np.inf, dtype=array.dtype) if array.dtype.kind == "f" else array


def _message(model: keras.Model, result: Verification) -> str:
    noise = (
        f"the model's own noise (compiled, and with inputs one rounding away) is {result.noise:.2e}"
        if result.noise is not None
        else "its noise was not measured"
    )
    return (
        f"Folding '{model.name}' changed its outputs: the largest difference relative to the largest output "
        f"is {result.error:.2e}, past the tolerance of {result.tolerance:.2e}; {noise}. It may do more "
        "than its calls show, or its numbers may lie at the edge of their type. `inspect_batch_norm(model)` "
        "lists what was folded; a larger `tolerance` accepts the difference."
    )
