"""
SELU: fifty layers deep without BatchNorm
=========================================

Klambauer et al. (2017) choose SELU's two constants so that, with LeCun-normal weights, activations of mean
0 and variance 1 keep them from layer to layer. Here is the same standard normal batch through fifty dense
layers of 256 units.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_addons_l6 as l6

DEPTH, UNITS, SAMPLES = 50, 256, 1024

NETWORKS = {
    "SELU, LeCun normal": (l6.SELU, "lecun_normal"),
    "ReLU, He normal": (keras.layers.ReLU, "he_normal"),
    "tanh, Glorot normal": (lambda: keras.layers.Activation("tanh"), "glorot_normal"),
    "sigmoid, Glorot normal": (lambda: keras.layers.Activation("sigmoid"), "glorot_normal"),
}


def moments_by_layer(activation, initializer):
    """Return the mean and the variance of the activations after each layer."""
    keras.utils.set_random_seed(0)
    x = ops.convert_to_tensor(np.random.default_rng(0).normal(size=(SAMPLES, UNITS)).astype("float32"))
    moments = []
    for _ in range(DEPTH):
        x = activation()(keras.layers.Dense(UNITS, kernel_initializer=initializer, use_bias=False)(x))
        values = ops.convert_to_numpy(x)
        moments.append((values.mean(), values.var()))
    return np.array(moments).T


# %%
# SELU stays near (0, 1). ReLU's mean is far from zero though He's initialization keeps its scale; tanh
# fades; sigmoid's activations become the same number for every input.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, network in NETWORKS.items():
    mean, variance = moments_by_layer(*network)
    print(f"{name:24} after {DEPTH} layers: mean {mean[-1]:7.4f}, variance {variance[-1]:.2e}")
    left.plot(range(1, DEPTH + 1), mean, label=name)
    right.semilogy(range(1, DEPTH + 1), variance, label=name)
left.set(xlabel="layer", ylabel="mean of the activations", title="Mean")
right.set(xlabel="layer", ylabel="variance of the activations", title="Variance")
for panel in (left, right):
    panel.grid(alpha=0.3)
left.legend(loc="center right")
plt.show()
