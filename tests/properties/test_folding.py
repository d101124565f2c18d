"""Folding any random model leaves what it computes alone, and accounts for every BatchNorm."""

import keras
import numpy as np
import pytest
from hypothesis import settings

from keras_addons_l6.folding import fold_batch_norm, inspect_batch_norm
from tests.properties.random_models import Generator, sample

# A layer sums at most 200 products, each rounded to 6e-8, and a model has at most 25 layers:
# 25 * sqrt(200) * 6e-8 = 2e-5, and five times that for gains above 1.
TOLERANCE = 1e-4


def outputs(model, x):
    answers = model(x, training=False)
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(answers)]


def batch_norm_calls(model):
    """How often a BatchNorm is called, nested models included."""
    count = 0
    for operation in model.operations:
        calls = len(operation._inbound_nodes)
        if isinstance(operation, keras.layers.BatchNormalization):
            count += calls
        elif isinstance(operation, keras.Model):
            count += batch_norm_calls(operation)
    return count


def check(seed):
    generator = Generator(seed)
    model = generator.model()
    x = sample(model, generator.random)
    before = [np.array(v) for v in model.get_weights()]
    expected = outputs(model, x)
    folded = fold_batch_norm(model, verify=False, verbose=0)
    for one, other in zip(outputs(folded, x), expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE * np.abs(other).max())
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other, err_msg="the original was changed")
    report = inspect_batch_norm(model)
    assert len(inspect_batch_norm(folded)) == len(report.kept)
    assert not inspect_batch_norm(folded).folded, "a second folding would find more"
    return len(report.folded), len(report.kept)


EVERY_CHANGE, FULL = range(12), range(12, 512)


@pytest.mark.parametrize("seed", EVERY_CHANGE)
def test_folded_random_model_equals_the_model(seed):
    check(seed)


@pytest.mark.full
@pytest.mark.parametrize("seed", FULL)
def test_folded_random_model_equals_the_model_in_bulk(seed):
    check(seed)


def test_generator_makes_what_it_claims():
    """Among the models of every change are the kinds of layers that folding treats apart."""
    kinds = set()
    for seed in EVERY_CHANGE:
        model = Generator(seed).model()
        kinds |= {type(layer).__name__ for layer in model.layers}
    assert {"Conv2D", "Dense", "DepthwiseConv2D", "Concatenate", "Add", "Functional", "Embedding"} <= kinds
    assert settings.default.derandomize
