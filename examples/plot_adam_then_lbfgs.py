"""
Adam first, then L-BFGS: how to hand over
=========================================

From random weights Adam goes downhill quickly and forgives noise; near a minimum it crawls, and L-BFGS takes
over. Handwritten digits, a network of 64-32-10 units: compile the trained model again with ``LBFGS`` and hand
it to ``fit_full_batch``, which compiles loss, gradient and line search into one program.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from keras_addons_l6 import LBFGS, StopWhenConverged, fit_full_batch

images, labels = load_digits(return_X_y=True)
x, y = (images / 16).astype("float32"), labels
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    keras.utils.set_random_seed(0)
    penalty = keras.regularizers.L2(1e-4)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="tanh", kernel_regularizer=penalty),
            keras.layers.Dense(10, kernel_regularizer=penalty),
        ]
    )


# %%
# Adam alone, for 300 steps on the full batch, and the same with L-BFGS after the first 50. ``compile`` gives
# the model its new optimizer and leaves the weights as they are.


def fit(model, optimizer, steps, callbacks=()):
    model.compile(optimizer=optimizer, loss=loss)
    full = {"batch_size": len(x), "shuffle": False}
    return model.fit(x, y, epochs=steps, verbose=0, callbacks=list(callbacks), **full).history["loss"]


alone = fit(network(), keras.optimizers.Adam(0.01), 300)

model = network()
first = fit(model, keras.optimizers.Adam(0.01), 50)
then = fit(model, LBFGS(), 250, [StopWhenConverged()])

# %%
# ``fit_full_batch`` goes on from there, in one compiled program. It takes up the history that ``fit`` has
# left.

history = fit_full_batch(model, x, y, max_iterations=300, verbose=2)
lowest = history.history["loss"][-1]
print(f"loss {lowest:.6f}, {history.status}")

# %%
# What is left above the loss at the very end:

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.semilogy(np.arange(1, 301), np.array(alone) - lowest, label="Adam(0.01) alone")
steps = 50 + np.arange(1, len(then) + 1)
axes.semilogy(steps, np.array(then) - lowest, label="LBFGS() after 50 steps of Adam")
axes.axvline(50, color="gray", linewidth=0.8)
axes.set(
    xlabel="gradient evaluations",
    ylabel=f"penalized loss minus {lowest:.5f}",
    title="Digits, 64-32-10: the same network and start",
)
axes.legend()
plt.show()
