"""Keras's own layer tests, run on our layers."""

import pytest

from tests.conformance.deselections import LAYERS_DIFFER
from tests.conformance.keras_modules import run_on_ours
from tests.conformance.layer_adapters import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    PReLU,
    selu,
    silu,
)

pytestmark = [
    # Keras's harness leaves shuffle on for generators, and trains layers without weights.
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    pytest.mark.filterwarnings("ignore:The model does not have any trainable weights:UserWarning"),
]

globals().update(run_on_ours("layers.activations.prelu_test", {"prelu.PReLU": PReLU}, LAYERS_DIFFER))
globals().update(
    run_on_ours(
        "activations.activations_test",
        {"activations.selu": selu, "activations.silu": silu},
        LAYERS_DIFFER,
        only=lambda test: test in ("test_selu", "test_silu"),
    )
)
globals().update(
    run_on_ours(
        "layers.normalization.batch_normalization_test",
        {"layers.BatchNormalization": BatchNormalization},
        LAYERS_DIFFER,
    )
)
globals().update(
    run_on_ours(
        "layers.normalization.group_normalization_test",
        {"layers.GroupNormalization": GroupNormalization},
        LAYERS_DIFFER,
    )
)
globals().update(
    run_on_ours(
        "layers.normalization.layer_normalization_test",
        {"layers.LayerNormalization": LayerNormalization},
        LAYERS_DIFFER,
    )
)
