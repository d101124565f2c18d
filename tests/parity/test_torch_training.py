"""A PyTorch network's weights carried over: the same outputs, and 100 training steps alike."""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_addons_l6 import SELU, BatchNorm, GroupNorm, InstanceNorm, Nesterov, PReLU, Swish

STEPS, RATE, MOMENTUM = 100, 0.02, 0.9
# Ours computes in float32, the golden in float64. A step rounds to 6e-8, and momentum adds ten of them up:
# 6e-7, which is what was seen (7e-7 at most, JAX and torch); 1e-5 leaves room for other orders of summation.
TOLERANCE = 1e-5


def network():
    """The network of make_torch_training.py, with the arguments that reproduce PyTorch."""
    convolution = keras.layers.Conv2D
    return keras.Sequential(
        [
            keras.Input((5, 4, 3)),
            convolution(6, 1),
            BatchNorm(unbiased_moving_variance=True),
            PReLU(),
            convolution(6, 1),
            GroupNorm(groups=2),
            Swish(trainable_beta=False),
            convolution(6, 1),
            InstanceNorm(),
            SELU(),
            convolution(1, 1),
        ]
    )


def torch_names(index, layer):
    """The layer's weights in Keras's order, by PyTorch's names."""
    names = {
        keras.layers.Conv2D: ["weight", "bias"],
        BatchNorm: ["weight", "bias", "running_mean", "running_var"],
        GroupNorm: ["weight", "bias"],
        InstanceNorm: ["weight", "bias"],
        PReLU: ["weight"],
    }
    return [f"layers.{index}.{name}" for name in names.get(type(layer), [])]


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("torch_training.npz")) as file:
        return dict(file)


def carried_over(golden, when):
    model = network()
    for index, layer in enumerate(model.layers):
        names = torch_names(index, layer)
        if names:
            # PyTorch's PReLU has alpha as (6,), ours one axis of length 1 for each axis of space.
            shapes = [weight.shape for weight in layer.weights]
            values = [golden[f"{when}/{name}"] for name in names]
            layer.set_weights([value.reshape(shape) for value, shape in zip(values, shapes, strict=True)])
    return model


def test_outputs_are_those_of_the_trained_torch_network(golden):
    answer = carried_over(golden, "after")(golden["x"], training=False)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(answer), golden["answer"], rtol=1e-4, atol=1e-5)


def test_a_hundred_steps_lead_to_the_same_weights_and_running_statistics(golden):
    model = carried_over(golden, "before")
    model.compile(Nesterov(RATE, MOMENTUM), "mse")
    x, y = golden["x"], golden["y"]
    model.fit(x, y, batch_size=len(x), shuffle=False, epochs=STEPS, verbose=0)
    moved = 0.0
    for index, layer in enumerate(model.layers):
        for name, weight in zip(torch_names(index, layer), layer.get_weights(), strict=False):
            expected = golden[f"after/{name}"]
            moved = max(moved, np.abs(expected - golden[f"before/{name}"]).max())
            scale = max(1.0, np.abs(expected).max())
            weight = weight.reshape(expected.shape)
            np.testing.assert_allclose(weight, expected, rtol=0, atol=TOLERANCE * scale, err_msg=name)
    assert moved > 0.3, "the training went nowhere"
