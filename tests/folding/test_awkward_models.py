"""The table of awkward models: what is left of BatchNorm, why, and the same outputs."""

import keras
import numpy as np
import pytest

from keras_addons_l6.folding import fold_batch_norm, inspect_batch_norm
from tests.folding.models import CASES
from tests.folding.randomize import batch_norms, randomize

# Each layer of these models adds a few roundings of its type; the folded ones add other roundings.
TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 2e-6}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fold(case):
    model = randomize(case.build())
    nodes, weights = recorded_calls(model), [np.array(value) for value in model.get_weights()]

    report = inspect_batch_norm(model)
    folded = fold_batch_norm(model, verify=False)

    assert tuple(row.reason.code for row in report.kept) == case.why
    assert len(report.kept) == case.left
    assert len(batch_norms(folded)) == len({row.layer for row in report.kept})
    assert recorded_calls(model) == nodes
    assert all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(weights, model.get_weights(), strict=True)
    )
    assert not {id(v) for v in model.variables} & {id(v) for v in folded.variables}
    assert_same_outputs(model, folded)


def recorded_calls(model):
    layers = model._flatten_layers()
    return [(len(layer._inbound_nodes), len(layer._outbound_nodes), layer.built) for layer in layers]


def assert_same_outputs(model, folded):
    for x in inputs_of(folded):
        expected, found = (keras.tree.map_structure(as_array, m(x, training=False)) for m in (model, folded))
        keras.tree.assert_same_structure(expected, found)
        for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            a, b = np.where(same, 0, a).astype("float64"), np.where(same, 0, b).astype("float64")
            tolerance = max(TOLERANCE[dtype] for dtype in compute_dtypes(folded))
            np.testing.assert_allclose(b, a, rtol=0, atol=tolerance * max(np.abs(a).max(), 1e-3))


def compute_dtypes(model):
    return {layer.compute_dtype for layer in model._flatten_layers()} & set(TOLERANCE)


def as_array(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def inputs_of(model):
    """Random inputs in the model's structure; once more without those it may do without."""
    generator = np.random.default_rng(3)

    def draw(tensor):
        shape = (tensor.shape[0] or 3, *(10 if size is None else size for size in tensor.shape[1:]))
        if tensor.dtype == "int32":
            return generator.integers(0, 11, shape).astype("int32")
        return generator.normal(size=shape).astype("float32")

    full = keras.tree.map_structure(draw, model.input)
    yield full
    if [tensor.name for tensor in model.inputs] == ["a", "b"] and model.inputs[1]._keras_history[0].optional:
        yield [full[0], None]
