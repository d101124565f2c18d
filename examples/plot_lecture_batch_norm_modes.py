"""
How far BatchNorm's training and testing differ
===============================================

In training BatchNorm uses the batch's own mean and variance, in testing running averages of them, a fixed
affine map. The lecture calls this difference a very common source of bugs; here is its size, by batch size
and by training length.
"""

import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_addons_l6 as l6

CHANNELS = 64
BATCH_SIZES = [2, 4, 8, 16, 32, 64, 128, 256]
rng = np.random.default_rng(0)
mean, deviation = rng.normal(scale=2, size=CHANNELS), rng.uniform(0.5, 2, size=CHANNELS)


def batch(size):
    """Draw a batch from the same distribution for every layer."""
    return (rng.normal(size=(size, CHANNELS)) * deviation + mean).astype("float32")


def gap(layer, x):
    """Return the root mean square difference between the layer's outputs in its two modes."""
    training = ops.convert_to_numpy(layer(x, training=True))
    testing = ops.convert_to_numpy(layer(x, training=False))
    return float(np.sqrt(np.mean((training - testing) ** 2)))


# %%
# The running averages start at mean 0 and variance 1, and forget that start by a factor of 0.9 a step.

steps = 60
growing = l6.BatchNorm()
by_step = [gap(growing, batch(256)) for _ in range(steps)]

# %%
# Once they have settled, what remains is the noise of the batch's own statistics, about the square root of
# 1 / N. A batch of two is normalized to +1 and -1 whatever it holds.

by_size = []
for size in BATCH_SIZES:
    layer = l6.BatchNorm(momentum=0.99)
    for _ in range(500):
        layer(batch(256), training=True)
    by_size.append(np.mean([gap(layer, batch(size)) for _ in range(20)]))
    print(f"batch of {size:3}: training and testing outputs differ by {by_size[-1]:.3f} (root mean square)")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.semilogy(range(1, steps + 1), by_step)
left.set(
    xlabel="training steps (batches of 256)",
    ylabel="difference of outputs (RMS)",
    title="Running averages settle",
)
right.loglog(BATCH_SIZES, by_size, "o-", label="measured")
right.loglog(BATCH_SIZES, np.sqrt(1.5 / np.array(BATCH_SIZES)), "--", label=r"$\sqrt{1.5/N}$")
right.set(
    xlabel="batch size N (samples)",
    ylabel="difference of outputs (RMS)",
    title="Small batches stay different",
)
right.legend()
for panel in (left, right):
    panel.grid(alpha=0.3, which="both")
plt.show()
