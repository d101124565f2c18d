"""
Solve Burgers' equation with a physics-informed network
=======================================================

u_t + u u_x = (0.01 / pi) u_xx on -1 < x < 1, 0 < t < 1, with u(x, 0) = -sin(pi x) and u(-1, t) = u(1, t) = 0:
a wave that steepens into a near-shock at x = 0 (Raissi, Perdikaris & Karniadakis 2019). The loss holds second
derivatives of the network; ``minimize`` takes it as any other function of the weights. A long history, 50
pairs, helps such losses more than anything else.
"""

import itertools
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

from keras_addons_l6 import minimize

VISCOSITY = 0.01 / np.pi
rng = np.random.default_rng(0)
inside = np.c_[rng.uniform(-1, 1, 1500), rng.uniform(0, 1, 1500)].astype("float32")
initial = np.c_[np.linspace(-1, 1, 100), np.zeros(100)].astype("float32")
walls = np.c_[np.repeat([-1.0, 1.0], 50), np.tile(np.linspace(0, 1, 50), 2)].astype("float32")


def u(weights, points):
    for kernel, bias in weights[:-1]:
        points = ops.tanh(ops.matmul(points, kernel) + bias)
    kernel, bias = weights[-1]
    return ops.matmul(points, kernel) + bias


# %%
# Derivatives along x and t, by the backend's own differentiation.


def derivatives(function, points):
    """u, u_t, u_x and u_xx at each point."""
    if keras.backend.backend() == "jax":
        import jax

        along_x = ops.convert_to_tensor(np.tile([1.0, 0.0], (len(points), 1)), "float32")
        along_t = ops.convert_to_tensor(np.tile([0.0, 1.0], (len(points), 1)), "float32")

        def u_x(p):
            return jax.jvp(function, (p,), (along_x,))[1]

        value, u_t = jax.jvp(function, (points,), (along_t,))
        slope, u_xx = jax.jvp(u_x, (points,), (along_x,))
        return value, u_t, slope, u_xx
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as outer:
            outer.watch(points)
            with tf.GradientTape() as inner:
                inner.watch(points)
                value = function(points)
            first = inner.gradient(value, points)
            u_x = first[:, :1]
        return value, first[:, 1:], u_x, outer.gradient(u_x, points)[:, :1]
    import torch

    points = points.detach().requires_grad_()
    value = function(points)
    (first,) = torch.autograd.grad(value.sum(), points, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), points, create_graph=True)
    return value, first[:, 1:], first[:, :1], second[:, :1]


points, at_start, at_walls = (ops.convert_to_tensor(p) for p in (inside, initial, walls))
wave = ops.convert_to_tensor(-np.sin(np.pi * initial[:, :1]), "float32")


def loss(weights):
    value, u_t, u_x, u_xx = derivatives(lambda p: u(weights, p), points)
    residual = u_t + value * u_x - VISCOSITY * u_xx
    return (
        ops.mean(residual**2)
        + ops.mean((u(weights, at_start) - wave) ** 2)
        + ops.mean(u(weights, at_walls) ** 2)
    )


# %%
# Four hidden layers of 20 units, Glorot's initial weights. The callback sees the result after each chunk of
# about half a second.

sizes = [2, 20, 20, 20, 20, 1]
start = [
    [(rng.normal(size=(m, n)) * np.sqrt(2 / (m + n))).astype("float32"), np.zeros(n, "float32")]
    for m, n in itertools.pairwise(sizes)
]
path = []
result = minimize(
    loss,
    start,
    history_size=50,
    max_iterations=2500,
    max_evaluations=2500,
    change_tolerance=0.0,
    callback=lambda r: path.append((r.evaluations, r.fun)),
)
print(f"loss {result.fun:.2e} after {result.evaluations} evaluations: {result.status}")

# %%
# The solution, and the loss on the way.

t, x = np.meshgrid(np.linspace(0, 1, 101), np.linspace(-1, 1, 201))
grid = ops.convert_to_tensor(np.c_[x.ravel(), t.ravel()], "float32")
values = ops.convert_to_numpy(u(result.x, grid)).reshape(x.shape)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
image = left.pcolormesh(t, x, values, cmap="coolwarm", shading="gouraud")
left.set(xlabel="t", ylabel="x", title="u(x, t)")
figure.colorbar(image, ax=left)
for at in (0, 25, 50, 75, 100):
    middle.plot(x[:, at], values[:, at], label=f"t = {t[0, at]:.2f}")
middle.set(xlabel="x", ylabel="u", title="The wave steepens")
middle.legend()
right.loglog(*zip(*path, strict=True), "o-")
right.set(xlabel="gradient evaluations", ylabel="loss", title="L-BFGS, 50 pairs")
plt.show()
