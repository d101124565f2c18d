"""Layers that folding is told about: they take maps up, or let them pass, and are checked like any other."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from keras_addons_l6.folding import (
    Absorber,
    FoldingError,
    Reason,
    fold_batch_norm,
    inspect_batch_norm,
    register_absorber,
    register_passage,
)
from tests.folding.models import BN, IMAGE, seq
from tests.folding.randomize import batch_norms, randomize


@keras.saving.register_keras_serializable(package="tests")
class Quantized(L.Dense):
    """A dense layer that rounds its kernel to multiples of `grid` in its call; 0 for none."""

    def __init__(self, units, grid=0.0, **arguments):
        super().__init__(units, **arguments)
        self.grid = grid

    def call(self, x):
        kernel = ops.convert_to_tensor(self.kernel)
        kernel = ops.round(kernel / self.grid) * self.grid if self.grid else kernel
        return ops.matmul(x, kernel) + self.bias

    def get_config(self):
        return super().get_config() | {"grid": self.grid}


@keras.saving.register_keras_serializable(package="tests")
class Unknown(Quantized):
    """Derived from a class that may be registered, and not registered itself."""


@keras.saving.register_keras_serializable(package="tests")
class Rotate(L.Layer):
    """Another order of the channels."""

    def call(self, x):
        return ops.roll(x, 1, axis=-1)


@keras.saving.register_keras_serializable(package="tests")
class Loudest(L.Layer):
    """The largest value of each channel."""

    def call(self, x):
        return ops.stop_gradient(ops.amax(x, axis=(1, 2)))


class TakesUp(Absorber):
    """As a dense layer does, wherever the kernel is not rounded."""

    def refuses_after(self, layer, axis, rank):
        if layer.grid:
            return Reason("quantized", f"'{layer.name}' rounds its kernel")
        return super().refuses_after(layer, axis, rank)

    def after(self, weights, affine, layer, axis, rank):
        return {
            "kernel": weights["kernel"] * affine.scale,
            "bias": weights["bias"] * affine.scale + affine.shift,
        }


class TakesUpBlindly(TakesUp):
    """Wrong for a rounded kernel, and does not say so."""

    def refuses_after(self, layer, axis, rank):
        return Absorber.refuses_after(self, layer, axis, rank)


def assert_same(model, folded, shape):
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    expected, found = (m.predict(x, verbose=0) for m in (model, folded))
    # a few dozen roundings of float32, 6e-8 each
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


def test_a_registered_layer_takes_up_what_follows_it():
    register_absorber(Quantized, TakesUp())
    model = randomize(seq((5,), Quantized(4), BN(), L.ReLU()))
    folded = fold_batch_norm(model)
    assert not batch_norms(folded)
    assert isinstance(folded.layers[1], Quantized)
    assert_same(model, folded, (5,))


def test_where_it_refuses_the_batch_norm_is_kept_and_its_words_are_the_reason():
    register_absorber(Quantized, TakesUp())
    (row,) = inspect_batch_norm(randomize(seq((5,), Quantized(4, grid=0.25), BN(), L.ReLU()))).kept
    assert row.reason.code == "quantized"
    assert "rounds its kernel" in row.reason.sentence


def test_an_absorber_that_is_wrong_is_found_by_the_check():
    register_absorber(Quantized, TakesUpBlindly())
    with pytest.raises(FoldingError):
        fold_batch_norm(randomize(seq((5,), Quantized(4, grid=0.25), BN(), L.ReLU())))


def test_a_derived_class_is_not_meant():
    register_absorber(Quantized, TakesUp())
    assert len(inspect_batch_norm(randomize(seq((5,), Unknown(4, grid=0.25), BN(), L.ReLU()))).kept) == 1


def test_maps_pass_a_registered_layer_channel_by_channel():
    register_passage(Rotate)
    model = randomize(seq(IMAGE, L.Conv2D(4, 3), Rotate(), BN(), L.ReLU()))
    folded = fold_batch_norm(model)
    assert not batch_norms(folded)
    assert_same(model, folded, IMAGE)


def test_a_negative_scale_does_not_pass_a_registered_maximum():
    register_passage(Loudest, maximum=True)
    (row,) = inspect_batch_norm(randomize(seq(IMAGE, L.Conv2D(9, 3), Loudest(), BN()))).kept
    assert row.reason.code == "sign"


@pytest.mark.parametrize("layer_class", [L.Dense(3), int, "Dense"])
def test_what_is_no_layer_class_is_refused(layer_class):
    with pytest.raises(ValueError, match="`layer_class` must be a class of layers"):
        register_passage(layer_class)
    with pytest.raises(ValueError, match="`layer_class` must be a class of layers"):
        register_absorber(layer_class, TakesUp())
    with pytest.raises(ValueError, match="`absorber` must be an instance"):
        register_absorber(Quantized, TakesUp)
