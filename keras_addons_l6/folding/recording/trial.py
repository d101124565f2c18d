"""A numeric check that a block and the calls recorded from it compute the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_addons_l6.folding.errors import one_line
from keras_addons_l6.folding.recording.block import distinct
from keras_addons_l6.folding.recording.random_input import OPEN_SIZES, batch_for, random_array
from keras_addons_l6.folding.tape import Call, replace_tensors, tensors_in

__all__ = ["Trials"]

# a block that asks for the size of what it is given may be lucky once
_SIZES_TO_PASS = 2


class Trials:
    """Runs blocks, and the calls recorded from them, on what reaches them when the tape so far is run.

    Both run the same layers on the same arrays, so only a `call` that asks what it is given (symbolic or
    not, its size), or that draws random numbers, can differ. The arrays have sizes that fit each other
    and the block, as random ones of its own would not.

    Args:
        inputs: The symbolic inputs of the tape.
        calls: Gives the tape so far.
    """

    def __init__(self, inputs: Sequence[keras.KerasTensor], calls: Callable[[], list[Call]]) -> None:
        self._inputs = inputs
        self._calls = calls
        self._runs: dict[int, _Run] = {}

    def problem(self, block: keras.Layer, args: tuple, kwargs: dict[str, Any], outputs: Any) -> str:
        """Why the recorded calls may not stand for a block.

        Args:
            block: The block.
            args: Its positional arguments, tensors of the tape among them.
            kwargs: Its keyword arguments.
            outputs: What the recorded calls, already on the tape, make of them.

        Returns:
            A sentence, empty where both compute the same.
        """
        is_open = any(None in tensor.shape[1:] for tensor in [*self._inputs, *tensors_in((args, kwargs))])
        passed, failure = 0, "it gave no numbers"
        for size in OPEN_SIZES if is_open else OPEN_SIZES[:1]:
            try:
                same = self._compare(size, block, args, kwargs, outputs)
            except Exception as error:  # too small an image, say: any backend's own error
                failure = f"{type(error).__name__}: {one_line(error, limit=160)}"
                continue
            if same is False:
                return f"the calls of '{block.name}' do not compute what the block computes"
            passed += bool(same)
            if passed == _SIZES_TO_PASS or (passed and not is_open):
                break
        sizes = f" of open sizes from {OPEN_SIZES[0]} to {OPEN_SIZES[-1]}" if is_open else ""
        return "" if passed else f"'{block.name}' could not be tried on inputs{sizes} ({failure})"

    def _compare(
        self, size: int, block: keras.Layer, args: tuple, kwargs: dict[str, Any], outputs: Any
    ) -> bool | None:
        """Whether both give the same; None where the block gives no numbers."""
        calls = self._calls()
        if size not in self._runs:
            self._runs[size] = _Run(self._inputs, size)
        run = self._runs[size]
        given = run.values(calls, distinct((args, kwargs)))
        apart = {key: _with_spread(value) for key, value in given.items()}
        if any(apart[key] is not given[key] for key in given):
            run = _Run([], size, apart)
        found = run.values(calls, tensors_in(outputs))
        given_args, given_kwargs = replace_tensors((args, kwargs), apart)
        with keras.StatelessScope():
            expected = block(*given_args, **given_kwargs | {"training": False})
        symbols = tensors_in(outputs)
        if any(keras.backend.standardize_dtype(found[id(x)].dtype) != x.dtype for x in symbols):
            return False  # the folded model would cast what it takes for another type
        pairs = list(zip(_arrays(expected), [_array(found[id(x)]) for x in symbols], strict=True))
        if not all(np.isfinite(a.astype("float64")).any() for a, _ in pairs):
            return None
        return all(_close(a, b) for a, b in pairs)


class _Run:
    """One run of a tape: the values of its tensors, computed when they are asked for."""

    def __init__(
        self, inputs: Sequence[keras.KerasTensor], size: int, values: dict[int, Any] | None = None
    ) -> None:
        generator = np.random.default_rng(size)
        sizes = (batch_for(tensor.shape for tensor in inputs), size)
        drawn = {
            id(x): keras.ops.convert_to_tensor(random_array(x.shape, x.dtype, generator, sizes), x.dtype)
            for x in inputs
        }
        self._values: dict[int, Any] = drawn if values is None else dict(values)
        # ids are only unique while the objects live
        self._alive: list[Any] = list(inputs)

    def values(self, calls: list[Call], wanted: list[keras.KerasTensor]) -> dict[int, Any]:
        """The values of some tensors by id; the calls that make them are run unless they have been."""
        with keras.StatelessScope():
            for call in self._missing(calls, wanted):
                args, kwargs = replace_tensors((call.args, call.kwargs), self._values)
                outputs = keras.tree.flatten(_run(call.operation, args, kwargs))
                self._values.update({id(x): y for x, y in zip(call.outputs, outputs, strict=True)})
                self._alive.append(call)
        return {id(tensor): self._values[id(tensor)] for tensor in wanted}

    def _missing(self, calls: list[Call], wanted: list[keras.KerasTensor]) -> list[Call]:
        needed = {id(tensor) for tensor in wanted} - self._values.keys()
        missing = []
        for call in reversed(calls):
            if not needed:
                break
            if any(id(tensor) in needed for tensor in call.outputs):
                missing.append(call)
                needed -= {id(tensor) for tensor in call.outputs}
                needed |= {id(tensor) for tensor in call.inputs} - self._values.keys()
        return missing[::-1]


def _run(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Call an operation on arrays as `model(x, training=False)` would."""
    if hasattr(operation, "kernel_size") or hasattr(operation, "pool_size"):
        # TensorFlow does not object to a window larger than the image, but gives stray memory
        operation.compute_output_shape(tuple(keras.tree.flatten(args)[0].shape))
    quiet = {"training": False} if isinstance(operation, keras.Layer) else {}
    return operation(*args, **quiet | kwargs)


def _with_spread(value: Any) -> Any:
    """A value, or random numbers of its shape where it is one number, or none, everywhere."""
    array = _array(value)
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype)) or array.size < 2:
        return value
    exact = array.astype("float64")
    if np.isfinite(exact).all() and exact.min() != exact.max():
        return value
    drawn = np.random.default_rng(0).standard_normal(array.shape)
    return keras.ops.convert_to_tensor(drawn.astype("float32"), keras.backend.standardize_dtype(value.dtype))


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _arrays(structure: Any) -> list[np.ndarray]:
    return [_array(leaf) for leaf in keras.tree.flatten(structure)]


def _close(expected: np.ndarray, found: np.ndarray) -> bool:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    a, b = expected.astype("float64"), found.astype("float64")
    return np.allclose(a, b, rtol=1e-4, atol=1e-4 * (1 + np.abs(a).max(initial=0)), equal_nan=True)
