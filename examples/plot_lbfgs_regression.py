"""
L-BFGS in ``fit``: take a regression to its minimum
===================================================

Softmax regression on handwritten digits: 650 weights, 1,797 images, one minimum. The whole data set fits in
one batch and nothing is random, which is where L-BFGS is at home: one line in ``compile``, one callback in
``fit``. Adam gets as many gradient evaluations.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from keras_addons_l6 import LBFGS, StopWhenConverged

EVALUATIONS = 250

images, labels = load_digits(return_X_y=True)
x, y = (images / 16).astype("float32"), labels


def train(optimizer, callbacks):
    penalty = keras.regularizers.L2(1e-4)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(10, kernel_regularizer=penalty, kernel_initializer="zeros")]
    )
    model.compile(optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(
        x, y, batch_size=len(x), shuffle=False, epochs=EVALUATIONS, verbose=0, callbacks=callbacks
    )
    return model, history.history


# %%
# Every step must see the same full batch: ``batch_size=len(x)`` and ``shuffle=False``. ``StopWhenConverged``
# adds the accepted iterations, the evaluations and the gradient's largest component to the logs, and says why
# it stopped.

model, lbfgs = train(LBFGS(), [StopWhenConverged()])
adam = {rate: train(keras.optimizers.Adam(rate), [])[1]["loss"] for rate in (0.1, 0.01)}
print(f"{model.optimizer.evaluations} evaluations, {model.optimizer.iterations_accepted} accepted iterations")

# %%
# Some trials on the way are worse than the point they started from: the line search rejects them. What stays
# in the weights at the end is an accepted point.

figure = plt.figure(figsize=(10, 4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.1, 1])
axes = left.subplots()
lowest = min(lbfgs["loss"])
for rate, losses in adam.items():
    axes.semilogy(np.array(losses) - lowest, label=f"Adam({rate})")
axes.semilogy(np.array(lbfgs["loss"]) - lowest + 1e-8, label="LBFGS()")
axes.set(
    xlabel="gradient evaluations",
    ylabel=f"penalized loss minus {lowest:.5f}",
    title="The same start and loss",
)
axes.legend()
kernel = model.get_weights()[0]
grid = right.subplots(2, 5)
for digit, cell in enumerate(grid.flat):
    shown = cell.imshow(kernel[:, digit].reshape(8, 8), cmap="RdBu", vmin=-3, vmax=3)
    cell.set(title=str(digit), xticks=[], yticks=[])
right.colorbar(shown, ax=grid, label="weight of the pixel", shrink=0.8)
plt.show()
