"""
Find an unknown coefficient from noisy measurements
===================================================

Heat spreads by u_t = kappa u_xx on 0 < x < 1, 0 < t < 1, with u = 0 at both ends. Kappa is not known; u was measured at 200
places, with errors of 0.01. A network for u and kappa are trained together: kappa is one more weight of the model, the loss is
the misfit to the measurements and the residual of the equation, and ``BFGS`` minimizes over both.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from keras_addons_l6 import BFGS, enable_float64, fit_full_batch

enable_float64()  # before models are built
KAPPA, NOISE = 0.07, 0.01


def exact(points):
    x, t = points[:, :1], points[:, 1:]
    return sum(
        a * np.exp(-KAPPA * (k * np.pi) ** 2 * t) * np.sin(k * np.pi * x) for k, a in ((1, 1.0), (3, 0.5))
    )


rng = np.random.default_rng(0)
inside = rng.uniform(size=(1000, 2))
where = rng.uniform(size=(200, 2))
measured = exact(where) + NOISE * rng.normal(size=(200, 1))

# %%
# The model. x (1 - x) N(x, t) is 0 at both ends. Derivatives go through the layers by the chain rule:
# (tanh z)' = h' = (1 - h^2) z', h'' = (1 - h^2) (z'' - 2 h z'^2). Kappa starts at 0. It is the weight itself, not its
# logarithm: the residual is linear in kappa, so that for any u there is one best kappa, and no way to get lost at 0. The misfit
# counts a hundredfold: errors of 0.01 leave 1e-4 of its square, and the residual should have a say but not drown it.


class Heat(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = [keras.layers.Dense(20, "tanh") for _ in range(2)]
        self.out = keras.layers.Dense(1)
        self.kappa = self.add_weight(shape=(), initializer="zeros", name="kappa")

    def u(self, points):
        h, x = points, points[:, :1]
        for layer in self.hidden:
            h = layer(h)
        return x * (1 - x) * self.out(h)

    def residual(self, points):
        x, t = points[:, :1], points[:, 1:]
        zero, one = ops.zeros_like(t), ops.ones_like(t)
        h, h_x, h_t = points, ops.concatenate([one, zero], axis=1), ops.concatenate([zero, one], axis=1)
        h_xx = ops.zeros_like(points)
        for layer in self.hidden:
            h = layer(h)
            z_x, z_xx, z_t = (ops.matmul(d, layer.kernel) for d in (h_x, h_xx, h_t))
            slope = 1 - h**2
            h_x, h_xx, h_t = slope * z_x, slope * (z_xx - 2 * h * z_x**2), slope * z_t
        n_x, n_xx, n_t = (ops.matmul(d, self.out.kernel) for d in (h_x, h_xx, h_t))
        bump, bump_x, bump_xx = x * (1 - x), 1 - 2 * x, -2.0
        u_t, u_xx = bump * n_t, bump_xx * self.out(h) + 2 * bump_x * n_x + bump * n_xx
        return u_t - self.kappa * u_xx

    def call(self, inputs):
        return {
            "misfit": self.u(inputs["where"]) - inputs["measured"],
            "residual": self.residual(inputs["inside"]),
        }

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 100 * ops.mean(y_pred["misfit"] ** 2) + ops.mean(y_pred["residual"] ** 2)


# %%
# Sets of points of different lengths go into ``x`` as a dict. After 20 iterations each, kappa is written down, and a line
# printed.

keras.utils.set_random_seed(0)
model = Heat()
model.compile(optimizer=BFGS("self_scaled_broyden", gradient_tolerance=1e-8))
path = []


class Kappa(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        path.append((self.model.optimizer.evaluations, float(ops.convert_to_numpy(model.kappa))))


data = {"inside": inside, "where": where, "measured": measured}
history = fit_full_batch(model, data, max_iterations=300, callbacks=[Kappa()], callback_every=20, verbose=2)
print(f"kappa {path[-1][1]:.4f}, truth {KAPPA}; {history.status}")

# %%
# The coefficient on its way, and the temperature that came out beside the measurements.

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
evaluations, kappas = zip(*path, strict=True)
left.plot(evaluations, kappas, "o-", markersize=3, label="trained")
left.axhline(KAPPA, color="black", linewidth=0.8, linestyle="--", label=f"truth, {KAPPA}")
left.set(xlabel="gradient evaluations", ylabel="kappa", title=f"The coefficient: {kappas[-1]:.4f} at the end")
left.legend()
t, x = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
grid = np.c_[x.ravel(), t.ravel()]
found = ops.convert_to_numpy(model.u(ops.convert_to_tensor(grid))).reshape(x.shape)
image = middle.pcolormesh(t, x, found, cmap="inferno", shading="gouraud")
middle.plot(where[:, 1], where[:, 0], "w.", markersize=3)
middle.set(xlabel="t", ylabel="x", title="u(x, t), and where it was measured")
figure.colorbar(image, ax=middle)
for at, color in zip((0, 20, 50, 100), plt.cm.viridis(np.linspace(0, 0.85, 4)), strict=True):
    right.plot(x[:, at], found[:, at], color=color, label=f"t = {t[0, at]:.1f}")
    near = np.abs(where[:, 1] - t[0, at]) < 0.03
    right.plot(where[near, 0], measured[near, 0], ".", color=color)
    right.plot(x[:, at], exact(np.c_[x[:, at], t[:, at]]), color="black", linewidth=0.6, linestyle="--")
right.set(xlabel="x", ylabel="u", title="Trained, measured nearby, exact (dashed)")
right.legend()
plt.show()
