"""A numeric check that a block and the calls recorded from it compute the same."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.recording.random_input import batch_for, random_array
from keras_addons_l6.folding.tape import tensors_in

# enough for a stride or two and a pooling inside one block
_UNKNOWN_SIZE = 16


def same_on_random_input(
    block: keras.Layer, graph: keras.Function, args: tuple, kwargs: dict[str, Any]
) -> bool:
    """Whether a block gives, bit for bit or within rounding, what its recorded graph gives.

    Both run the same layers on the same arrays, so only a `call` that asks what it is given
    (symbolic or not), or that draws random numbers, can differ.

    Args:
        block: The layer.
        graph: The graph that its `call` made of `args` and `kwargs`.
        args: Positional arguments of the recorded call, symbolic.
        kwargs: Keyword arguments of the recorded call.

    Returns:
        False where they differ or either cannot run.
    """
    generator = np.random.default_rng(0)
    tensors = tensors_in((args, kwargs))
    sizes = (batch_for(tensor.shape for tensor in tensors), _UNKNOWN_SIZE)
    arrays = {
        id(x): keras.ops.convert_to_tensor(random_array(x.shape, x.dtype, generator, sizes), x.dtype)
        for x in tensors
    }
    given_args, given_kwargs = keras.tree.map_structure(
        lambda leaf: arrays.get(id(leaf), leaf), (args, kwargs)
    )
    quiet = {"training": False} if keras_private.takes_training(block) else {}
    try:
        with keras.StatelessScope():
            expected = block(*given_args, **given_kwargs | quiet)
            values = [arrays[id(tensor)] for tensor in graph.inputs]
            found = keras_private.run_graph(graph, values, lambda op, *a, **k: op(*a, **k))
    except Exception:  # a shape that the block refuses, or anything its own code raises
        return False
    return all(map(_close, keras.tree.flatten(expected), keras.tree.flatten(found)))


def _close(expected: Any, found: Any) -> bool:
    a, b = (np.asarray(keras.ops.convert_to_numpy(x), dtype="float64") for x in (expected, found))
    return a.shape == b.shape and np.allclose(
        a, b, rtol=1e-4, atol=1e-4 * (1 + np.abs(a).max(initial=0)), equal_nan=True
    )
