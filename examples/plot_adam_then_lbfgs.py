"""
Adam first, then L-BFGS
=======================

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

from keras_addons_l6 import LBFGS, fit_full_batch

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
# Adam alone, for 300 epochs of the full batch, and the same with L-BFGS after the first 50. ``compile`` gives
# the model its new optimizer and leaves the weights as they are.


def adam(model, epochs):
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss)
    return model.fit(x, y, batch_size=len(x), epochs=epochs, verbose=0).history["loss"]


alone = adam(network(), 300)

model = network()
first = adam(model, 50)
model.compile(optimizer=LBFGS(), loss=loss, metrics=["accuracy"])
history = fit_full_batch(model, x, y, max_iterations=300, verbose=2)
print(history.status)

# %%
# The history has one entry a chunk of about half a second; ``evaluations`` counts gradients, so both can
# share an axis.

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
lowest = min(history.history["loss"])
axes.semilogy(np.arange(1, 301), np.array(alone) - lowest, label="Adam(0.01) alone")
axes.semilogy(
    50 + np.array(history.history["evaluations"]),
    np.array(history.history["loss"]) - lowest + 1e-8,
    "o-",
    label="LBFGS() after 50 steps of Adam",
)
axes.axvline(50, color="gray", linewidth=0.8)
axes.set(
    xlabel="gradient evaluations",
    ylabel=f"penalized loss minus {lowest:.5f}",
    title="Digits: the same network and start",
)
axes.legend()
plt.show()
