"""
L-BFGS in ``fit``: a regression to the last digit
=================================================

A small network learns a curve from 200 samples. The whole data set fits in one batch and nothing is random,
which is where L-BFGS is at home: one line in ``compile``, one callback in ``fit``. Adam gets as many gradient
evaluations.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import matplotlib.pyplot as plt
import numpy as np

from keras_addons_l6 import LBFGS, StopWhenConverged

EVALUATIONS = 600

x = np.linspace(-3, 3, 200, dtype="float32")[:, None]
y = np.sin(2 * x) * np.exp(-0.2 * x**2)


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(20, activation="tanh"),
            keras.layers.Dense(20, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )


# %%
# Every step must see the same full batch: ``batch_size=len(x)`` and ``shuffle=False``. ``StopWhenConverged``
# adds the accepted iterations, the evaluations and the gradient's largest component to the logs, and says why
# it stopped.


def train(optimizer, callbacks):
    model = network()
    model.compile(optimizer=optimizer, loss="mse")
    history = model.fit(
        x, y, batch_size=len(x), shuffle=False, epochs=EVALUATIONS, verbose=0, callbacks=callbacks
    )
    return model, history.history


model, lbfgs = train(LBFGS(), [StopWhenConverged()])
_, adam = train(keras.optimizers.Adam(0.01), [])
print(model.optimizer.status)
print(f"{model.optimizer.evaluations} evaluations, {model.optimizer.iterations_accepted} accepted iterations")
print(f"loss: L-BFGS {lbfgs['loss'][-1]:.1e}, Adam {adam['loss'][-1]:.1e}")

# %%
# A few trials along the way are worse than the point they started from: the line search rejects them. What
# stays in the weights at the end is an accepted point.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.semilogy(adam["loss"], label="Adam(0.01)")
left.semilogy(lbfgs["loss"], label="LBFGS()")
left.set(xlabel="gradient evaluations", ylabel="mean squared error", title="Loss at each evaluation")
left.legend()
right.plot(x, model.predict(x, verbose=0) - y)
right.set(xlabel="x", ylabel="network minus curve", title="What L-BFGS leaves")
plt.show()
