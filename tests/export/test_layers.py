"""Every layer in every format: exported, reloaded in the format's own runtime, and compared by `export_folded`."""

import keras
import pytest
from keras import layers

from keras_addons_l6.folding import export_folded
from keras_addons_l6.layers import SELU, BatchNorm, GroupNorm, InstanceNorm, LayerNorm, PReLU, Swish
from tests.export.test_export_folded import SUFFIX, WORKS
from tests.test_every_layer import unlike_at_first

LAYERS = {
    "PReLU": lambda: PReLU(),
    "PReLU, one alpha an element": lambda: PReLU(shared_axes=None),
    "PReLU, one alpha": lambda: PReLU(shared_axes="all"),
    "PReLU, one alpha a row": lambda: PReLU(shared_axes=[2, 3]),
    "SELU": lambda: SELU(),
    "Swish": lambda: Swish(),
    "Swish, fixed beta": lambda: Swish(trainable_beta=False),
    "Swish, one beta a channel": lambda: Swish(shared_axes="spatial"),
    "GroupNorm": lambda: GroupNorm(2),
    "GroupNorm, axis 1": lambda: GroupNorm(2, axis=1),
    "InstanceNorm": lambda: InstanceNorm(),
    "LayerNorm": lambda: LayerNorm(),
    "LayerNorm, three axes": lambda: LayerNorm(axis=[1, 2, 3]),
    "BatchNorm": lambda: BatchNorm(),
    "BatchNorm, axis 1": lambda: BatchNorm(axis=1),
}


@pytest.mark.parametrize("format", WORKS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_a_format(name, format, tmp_path):
    """Behind an activation and before padding, so that no BatchNorm is folded away."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(4, 3, activation="tanh"),
            LAYERS[name](),
            layers.Conv2D(3, 3, padding="same"),
        ]
    )
    unlike_at_first(model)
    assert export_folded(model, tmp_path / f"model{SUFFIX[format]}", format).path.exists()
