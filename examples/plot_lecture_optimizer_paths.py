"""
How optimizers walk: a narrow valley, a saddle, noise
=====================================================

The lecture's three troubles of plain gradient descent: a long narrow bowl (condition number 50), where it
jitters along the steep direction and crawls along the flat one; a saddle, where the gradient nearly
vanishes; and gradients that are noisy because they come from minibatches.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import keras_addons_l6 as l6

OPTIMIZERS = {
    "gradient descent": lambda: keras.optimizers.SGD(0.018),
    "momentum": lambda: keras.optimizers.SGD(0.006, momentum=0.9),
    "Nesterov": lambda: l6.Nesterov(0.006, momentum=0.9),
    "AdaGrad": lambda: l6.AdaGrad(0.4),
    "RMSProp": lambda: l6.RMSProp(0.04),
    "Adam": lambda: l6.Adam(0.12),
    "AdamW": lambda: l6.AdamW(0.12, weight_decay=0.05),
}
STEPS = 120


class Surface:
    """A function of two variables, its gradient, and where paths on it start and are drawn."""

    def __init__(self, title, value, gradient, start, limits, noise=0.0):
        self.title, self.value, self.gradient = title, value, gradient
        self.start, self.limits, self.noise = np.array(start, "float32"), limits, noise


def bowl(x, y):
    return 0.5 * (x**2 + 50 * y**2)


def saddle(x, y):
    return 0.5 * x**2 - 0.5 * y**2 + 0.1 * y**4


SURFACES = [
    Surface("ill-conditioned bowl", bowl, lambda p: p * [1, 50], (-4.0, 0.9), (-4.5, 1.5, -1.2, 1.2)),
    Surface(
        "saddle",
        saddle,
        lambda p: np.array([p[0], -p[1] + 0.4 * p[1] ** 3]),
        (-2.0, 1e-3),
        (-2.2, 1.5, -2.2, 2.2),
    ),
    Surface("noisy bowl", bowl, lambda p: p * [1, 50], (-4.0, 0.9), (-4.5, 1.5, -1.2, 1.2), noise=4.0),
]


def first_order_path(optimizer, surface):
    """Return the iterates of a Keras optimizer that is given the surface's gradient, noise included."""
    rng = np.random.default_rng(0)
    x = keras.Variable(surface.start)
    points = [surface.start]
    for _ in range(STEPS):
        gradient = surface.gradient(points[-1]) + surface.noise * rng.normal(size=2)
        optimizer.apply([ops.convert_to_tensor(gradient.astype("float32"))], [x])
        points.append(ops.convert_to_numpy(x))
    return np.array(points)


def lbfgs_path(surface, iterations=15):
    """Return the accepted points of L-BFGS, which needs the exact function."""

    def function(p):
        return surface.value(p[0], p[1])

    results = [l6.minimize(function, surface.start, max_iterations=k) for k in range(1, iterations + 1)]
    evaluations = results[-1].evaluations
    points = np.array([surface.start, *(ops.convert_to_numpy(result.x) for result in results)])
    return points, evaluations


# %%
# Paths over contours. The number beside a name is the value at the end: all first-order methods took 120
# gradients, L-BFGS the evaluations that it names. It is not shown on the noisy bowl, where its curvature
# pairs would be noise; the lecture's last slide says so too.

figure, axes = plt.subplots(1, 3, figsize=(16, 5.5), layout="constrained")
for panel, surface in zip(axes, SURFACES, strict=True):
    left, right, bottom, top = surface.limits
    x, y = np.meshgrid(np.linspace(left, right, 200), np.linspace(bottom, top, 200))
    panel.contour(x, y, surface.value(x, y), levels=25, colors="0.85", linewidths=0.8)
    print(surface.title)
    for name, optimizer in OPTIMIZERS.items():
        points = first_order_path(optimizer(), surface)
        value = surface.value(*points[-1].astype("float64"))
        panel.plot(*points.T, ".-", markersize=3, linewidth=1, label=f"{name}: {value:.1e}")
        print(f"  {name:16} value after {STEPS} steps {value:9.2e}")
    if not surface.noise:
        points, evaluations = lbfgs_path(surface)
        value = surface.value(*points[-1].astype("float64"))
        panel.plot(*points.T, "k*-", markersize=7, label=f"L-BFGS: {value:.1e} ({evaluations} evaluations)")
        print(f"  {'L-BFGS':16} value after {evaluations} evaluations {value:9.2e}")
    panel.plot(*surface.start, "ko")
    panel.set(title=surface.title, xlim=(left, right), ylim=(bottom, top), xlabel="x1", ylabel="x2")
    panel.legend(fontsize=7, loc="lower left" if surface.title == "saddle" else "upper right")
plt.show()
