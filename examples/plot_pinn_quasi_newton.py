"""
Which quasi-Newton method takes a physics-informed network furthest
===================================================================

Burgers' equation u_t + u u_x = (0.01 / pi) u_xx with u(x, 0) = -sin(pi x), periodic in x: a wave that steepens into a
near-shock. The network obeys the initial and the boundary condition by its form, so that the loss is the equation's residual
alone. Adam leads; then L-BFGS and three updates of ``BFGS`` go on from the same weights, in float64, on points that are drawn
anew every 500 evaluations where the residual is large. ``fit_full_batch`` keeps their curvature over the draws.
"""

import os
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from keras_addons_l6 import BFGS, LBFGS, enable_float64, fit_full_batch

enable_float64()  # before models are built: float32 ends where the interesting part begins
VISCOSITY = 0.01 / np.pi
POINTS, DRAWS, EVALUATIONS = 2000, 8, 500

# %%
# The model. ``call`` gives u = t N(cos(pi x), sin(pi x), t) - sin(pi x). ``residual`` carries the derivatives along x and t
# through the layers by the chain rule: (tanh z)' = h' = (1 - h^2) z', h'' = (1 - h^2) (z'' - 2 h z'^2). It is the same code on
# every backend, and faster than differentiating twice. Whatever ``compute_loss`` returns is what is minimized.


class Burgers(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = [keras.layers.Dense(20, "tanh") for _ in range(3)]
        self.out = keras.layers.Dense(1)

    def call(self, points):
        angle, t = np.pi * points[:, :1], points[:, 1:]
        h = ops.concatenate([ops.cos(angle), ops.sin(angle), t], axis=1)
        for layer in self.hidden:
            h = layer(h)
        return t * self.out(h) - ops.sin(angle)

    def residual(self, points):
        angle, t = np.pi * points[:, :1], points[:, 1:]
        cos, sin, zero = ops.cos(angle), ops.sin(angle), ops.zeros_like(t)
        h = ops.concatenate([cos, sin, t], axis=1)
        h_x = ops.concatenate([-np.pi * sin, np.pi * cos, zero], axis=1)
        h_xx = ops.concatenate([-(np.pi**2) * cos, -(np.pi**2) * sin, zero], axis=1)
        h_t = ops.concatenate([zero, zero, ops.ones_like(t)], axis=1)
        for layer in self.hidden:
            h = layer(h)
            z_x, z_xx, z_t = (ops.matmul(d, layer.kernel) for d in (h_x, h_xx, h_t))
            slope = 1 - h**2
            h_x, h_xx, h_t = slope * z_x, slope * (z_xx - 2 * h * z_x**2), slope * z_t
        n_x, n_xx, n_t = (ops.matmul(d, self.out.kernel) for d in (h_x, h_xx, h_t))
        n = self.out(h)
        u, u_t = t * n - sin, n + t * n_t
        u_x, u_xx = t * n_x - np.pi * cos, t * n_xx + np.pi**2 * sin
        return u_t + u * u_x - VISCOSITY * u_xx

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(self.residual(x) ** 2)


# %%
# Points: spread evenly (Roberts's sequence, shifted at random), and of four times as many those where the residual is large
# (Wu et al. 2023), at equal steps of the summed density: what lies evenly leaves no gaps for the error to hide in.

R2 = (0.7548776662466927, 0.5698402909980532)  # 1/p and 1/p^2, p^3 = p + 1


def evenly(rng, count):
    unit = (rng.random(2) + np.outer(np.arange(count), R2)) % 1
    return [-1, 0] + [2, 1] * unit


def drawn_by_residual(model, rng):
    candidates = evenly(rng, 4 * POINTS)
    size = np.abs(ops.convert_to_numpy(model.residual(ops.convert_to_tensor(candidates)))[:, 0])
    summed = np.cumsum(size / size.mean() + 1)
    steps = (np.arange(POINTS) + rng.random()) / POINTS
    return candidates[np.searchsorted(summed / summed[-1], steps)]


# %%
# The exact solution, by Cole's and Hopf's transformation and quadrature: what the errors are measured by.


def exact(points):
    z, weights = np.polynomial.hermite.hermgauss(100)
    y = points[:, :1] - z * np.sqrt(4 * VISCOSITY * points[:, 1:])
    exponents = -np.cos(np.pi * y) / (2 * np.pi * VISCOSITY)
    f = weights * np.exp(exponents - exponents.max(axis=1, keepdims=True))
    return -(f * np.sin(np.pi * y)).sum(axis=1, keepdims=True) / f.sum(axis=1, keepdims=True)


t, x = np.meshgrid(np.linspace(0, 1, 101), np.linspace(-1, 1, 201))
grid = np.c_[x.ravel(), t.ravel()]
solution = exact(grid)


def error(model):
    """Relative, in the L2 norm."""
    found = ops.convert_to_numpy(model(ops.convert_to_tensor(grid)))
    return np.linalg.norm(found - solution) / np.linalg.norm(solution)


# %%
# Adam first, on batches of 500 points.

keras.utils.set_random_seed(1)
rng = np.random.default_rng(1)
model = Burgers()
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(evenly(rng, 10_000), batch_size=500, epochs=100, verbose=0)
start = model.get_weights()
print(f"Adam: relative error {error(model):.1e}")

# %%
# From there each method has 4,000 evaluations, and a callback that writes down the error every 25 iterations. Tolerances of 0:
# a run ends where its evaluations do.


class Errors(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rows, self.began = [(0, 0.0, error(model))], time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        row = self.model.optimizer.evaluations, time.perf_counter() - self.began, error(self.model)
        self.rows.append(row)


def run(optimizer):
    rng = np.random.default_rng(2)
    model.set_weights(start)
    model.compile(optimizer=optimizer)
    errors = Errors()
    for draw in range(DRAWS):
        points = drawn_by_residual(model, rng)
        history = fit_full_batch(
            model,
            points,
            max_iterations=EVALUATIONS,
            max_evaluations=EVALUATIONS,
            callbacks=[errors],
            callback_every=25,
            verbose=0,
        )
        loss = history.history["loss"][-1]
        print(f"{optimizer.name}, draw {draw + 1}: loss {loss:.1e}, relative error {errors.rows[-1][2]:.1e}")
    return np.array(errors.rows).T, points


exhausted = {"gradient_tolerance": 0.0, "change_tolerance": 0.0}
methods = {
    "L-BFGS, 50 pairs": LBFGS(history_size=50, **exhausted),
    "BFGS": BFGS("bfgs", name="bfgs", **exhausted),
    "self-scaled BFGS": BFGS("self_scaled_bfgs", name="self_scaled_bfgs", **exhausted),
    "self-scaled Broyden": BFGS("self_scaled_broyden", name="self_scaled_broyden", **exhausted),
}
runs = {name: run(optimizer) for name, optimizer in methods.items()}

# %%
# The last method's solution and its last points, where it is wrong by how much, and how all four came there.

figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
(wave, wrong), (over_evaluations, over_time) = axes
found = ops.convert_to_numpy(model(ops.convert_to_tensor(grid)))
image = wave.pcolormesh(t, x, found.reshape(x.shape), cmap="RdBu_r", shading="gouraud")
points = runs["self-scaled Broyden"][1]
wave.plot(points[:, 1], points[:, 0], "k.", markersize=1, alpha=0.5)
wave.set(xlabel="t", ylabel="x", title="u(x, t), and the points of the last draw")
figure.colorbar(image, ax=wave)
sizes = np.log10(np.abs(found - solution) + 1e-12).reshape(x.shape)
image = wrong.pcolormesh(t, x, sizes, cmap="magma", shading="gouraud", vmin=-8)
wrong.set(xlabel="t", ylabel="x", title="log10 of the error, self-scaled Broyden")
figure.colorbar(image, ax=wrong)
for name, ((evaluations, seconds, errors), _) in runs.items():
    over_evaluations.semilogy(evaluations, errors, label=name)
    over_time.semilogy(seconds, errors, label=name)
for draw in range(1, DRAWS):
    over_evaluations.axvline(draw * EVALUATIONS, color="gray", linewidth=0.6, linestyle=":")
over_evaluations.set(xlabel="evaluations after Adam (dotted: new points)", ylabel="relative L2 error")
over_time.set(xlabel="seconds, compilation included", ylabel="relative L2 error")
over_evaluations.legend()
for ax in (over_evaluations, over_time):
    ax.grid(alpha=0.3)
plt.show()
