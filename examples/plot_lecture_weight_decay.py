"""
Why L2 regularization is not weight decay
=========================================

L2 adds 2 lambda x to the gradient before the optimizer sees it; decoupled decay takes rate * decay * x off
the parameter beside the step. For plain gradient descent they are the same with decay = 2 lambda. The
lecture's sentence extends to momentum only where the decay goes through the velocity (PyTorch's ``SGD``);
Keras's decoupled decay does not, and for methods that divide by the gradient's size they differ for good.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_addons_l6 as l6

CURVATURE = np.array([1.0, 25.0], "float32")
START, TARGET = np.array([-1.8, 1.4], "float32"), np.array([1.0, 0.5], "float32")
L2, STEPS = 0.5, 150

OPTIMIZERS = {
    "gradient descent": lambda **decay: keras.optimizers.SGD(0.02, **decay),
    "Nesterov momentum": lambda **decay: l6.Nesterov(0.01, momentum=0.8, **decay),
    "RMSProp": lambda **decay: l6.RMSProp(0.02, **decay),
    "Adam / AdamW": lambda **decay: l6.Adam(0.05, **decay),
}


def path(optimizer, l2):
    """Return the iterates on a quadratic bowl with the penalty ``l2`` |x|^2 in the gradient."""
    x = keras.Variable(START)
    points = [START]
    for _ in range(STEPS):
        value = points[-1]
        gradient = CURVATURE * (value - TARGET) + 2 * l2 * value
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [x])
        points.append(keras.ops.convert_to_numpy(x))
    return np.array(points)


# %%
# Both ways from the same start. The minimum with the penalty is marked; decoupled decay ends where rate
# times decay and the optimizer's own normalized step balance, which is somewhere else.

minimum = CURVATURE * TARGET / (CURVATURE + 2 * L2)
grid_x, grid_y = np.meshgrid(np.linspace(-2, 1.5, 200), np.linspace(-0.6, 1.6, 200))
penalized = 0.5 * (CURVATURE[0] * (grid_x - TARGET[0]) ** 2 + CURVATURE[1] * (grid_y - TARGET[1]) ** 2)
penalized = penalized + L2 * (grid_x**2 + grid_y**2)

figure, axes = plt.subplots(1, 4, figsize=(15, 4), sharey=True, layout="constrained")
for panel, (name, optimizer) in zip(axes, OPTIMIZERS.items(), strict=True):
    coupled = path(optimizer(), L2)
    decoupled = path(optimizer(weight_decay=2 * L2), 0.0)
    difference = np.abs(coupled - decoupled).max()
    print(f"{name:18} largest difference of the two paths: {difference:.1e}")
    panel.contour(grid_x, grid_y, penalized, levels=20, colors="0.85", linewidths=0.8)
    panel.plot(*coupled.T, label="L2 in the gradient")
    panel.plot(*decoupled.T, "--", label="decoupled decay")
    panel.plot(*minimum, "k*", markersize=10, label="minimum with L2")
    panel.set(title=f"{name}\nlargest difference {difference:.1e}", xlabel="x1")
axes[0].set_ylabel("x2")
axes[0].legend(loc="lower left", fontsize=8)
plt.show()
