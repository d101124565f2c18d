"""
What each activation lets through, forward and back
===================================================

What the lecture asks of each activation: what it returns and what gradient it lets through at x = -10, 0
and 10, whether it saturates, whether its outputs are centred on zero, and whether a unit can die. Keras's
own sigmoid, tanh, ReLU, leaky ReLU, ELU and GELU stand beside this package's PReLU, SELU and Swish.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_addons_l6 as l6


def elementwise(layer):
    """Return a layer as a float64 NumPy function of a vector."""

    def function(x):
        return ops.convert_to_numpy(layer(ops.convert_to_tensor(x[:, None], "float64")))[:, 0]

    return function


def from_keras(function):
    return elementwise(keras.layers.Activation(function, dtype="float64"))


ACTIVATIONS = {
    "sigmoid": from_keras("sigmoid"),
    "tanh": from_keras("tanh"),
    "ReLU": from_keras("relu"),
    "leaky ReLU (0.1)": elementwise(keras.layers.LeakyReLU(0.1, dtype="float64")),
    "ELU": from_keras("elu"),
    "GELU": from_keras("gelu"),
    "PReLU (a = 0.25)": elementwise(l6.PReLU(dtype="float64")),
    "SELU": elementwise(l6.SELU(dtype="float64")),
    "Swish (beta = 1)": elementwise(l6.Swish(dtype="float64")),
}


def slope(function, x, step=1e-3):
    """Return the derivative by central differences, at the kink the mean of both sides."""
    return (function(x + step) - function(x - step)) / (2 * step)


# %%
# The questions of the lecture, answered in numbers. "Mean" is the mean output for a standard normal input:
# zero is centred. "Saturated" is the share of inputs from N(0, 5²) whose gradient is below 0.001: these
# units learn nothing.

questions = np.array([-10.0, 0.0, 10.0])
normal = np.random.default_rng(0).normal(size=100_000)
print(f"{'':18} {'f at -10, 0, 10':>25}   {'gradient there':>25}   mean  saturated")
for name, function in ACTIVATIONS.items():
    values, slopes = function(questions), slope(function, questions)
    saturated = np.mean(np.abs(slope(function, 5 * normal)) < 1e-3)
    print(
        f"{name:18} {values[0]:9.5f} {values[1]:7.3f} {values[2]:7.3f}   {slopes[0]:9.5f} {slopes[1]:6.3f} "
        f"{slopes[2]:8.5f}   {function(normal).mean():5.2f}  {saturated:8.1%}"
    )

# %%
# Sigmoid and tanh saturate on both sides and ReLU on one, where a unit that is negative for every input is
# dead: no gradient ever reaches it. Leaky ReLU and PReLU keep a slope there, and PReLU learns it.

x = np.linspace(-6, 6, 1201)
figure, axes = plt.subplots(3, 3, figsize=(10, 8), sharex=True, layout="constrained")
for panel, (name, function) in zip(axes.flat, ACTIVATIONS.items(), strict=True):
    panel.plot(x, function(x), label="f(x)")
    panel.plot(x, slope(function, x), "--", label="f'(x)")
    panel.set_title(name)
    panel.set_ylim(-2.2, 4)
    panel.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    panel.axvline(0, color="0.8", linewidth=0.8, zorder=0)
axes[0, 0].legend()
for panel in axes[-1]:
    panel.set_xlabel("x")
figure.suptitle("Activations (solid) and their gradients (dashed)")
plt.show()
