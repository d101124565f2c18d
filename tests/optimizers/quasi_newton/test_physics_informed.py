"""Physics-informed training: the loss holds second derivatives of the network, in float64, on every entrance.

The problem is -u'' = pi^2 sin(pi x) with u(0) = u(1) = 0, whose solution is sin(pi x).
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6 import LBFGS, fit_full_batch, minimize
from tests.optimizers.quasi_newton.models import fit

POINTS = np.linspace(0, 1, 20)[:, None]
ENDS = np.array([[0.0], [1.0]])


def second_derivative(u, x):
    """u'' at each row of x, for a function that treats rows one by one, by the backend's own differentiation."""
    if keras.backend.backend() == "jax":
        import jax

        ones = ops.ones_like(x)
        return jax.jvp(lambda x: jax.jvp(u, (x,), (ones,))[1], (x,), (ones,))[1]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = u(x)
            first = inner.gradient(value, x)
        return outer.gradient(first, x)
    import torch

    x = x.detach().requires_grad_()
    (first,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
    return torch.autograd.grad(first.sum(), x, create_graph=True)[0]


def residual_loss(u, x):
    """Mean squares of the residual inside and of the value at both ends."""
    residual = second_derivative(u, x) + np.pi**2 * ops.sin(np.pi * x)
    return ops.mean(residual**2) + 100.0 * ops.mean(u(ops.convert_to_tensor(ENDS)) ** 2)


def start():
    rng = np.random.default_rng(0)
    return {"w": rng.normal(size=(1, 10)) * 2, "b": rng.normal(size=10), "v": rng.normal(size=(10, 1)) * 0.3}


def solution_error(u):
    x = np.linspace(0, 1, 101)[:, None]
    return np.abs(ops.convert_to_numpy(u(ops.convert_to_tensor(x))) - np.sin(np.pi * x)).max()


# Ten tanh units can represent the sine to about 1e-4; a residual of 1e-2 leaves an error of 1e-2 / 8 (Green's
# function).
CLOSE = 2e-3


class Network(keras.Model):
    """A network whose loss is the equation's."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(10, activation="tanh")
        self.out = keras.layers.Dense(1, use_bias=False)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.out.build((None, 10))

    def call(self, x):
        return self.out(self.hidden(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        del y, y_pred, sample_weight, training
        return residual_loss(self, x)


def network(**arguments):
    model = Network()
    model.build((None, 1))
    values = start()
    model.set_weights([values["w"], values["b"], values["v"]])
    model.compile(optimizer=LBFGS(history_size=50, gradient_tolerance=1e-6, **arguments))
    return model


@pytest.mark.usefixtures("float64")
class TestPoisson:
    def test_minimize(self):
        points = ops.convert_to_tensor(POINTS)

        def net(parameters):
            return lambda x: ops.tanh(x @ parameters["w"] + parameters["b"]) @ parameters["v"]

        result = minimize(
            lambda p: residual_loss(net(p), points),
            start(),
            history_size=50,
            max_evaluations=600,
            change_tolerance=0.0,
        )
        assert solution_error(net(result.x)) < CLOSE
        assert result.fun < 1e-3

    def test_a_keras_model_in_fit_full_batch(self):
        model = network(change_tolerance=0.0)
        history = fit_full_batch(model, POINTS, verbose=0, max_iterations=500)
        assert solution_error(model) < CLOSE
        assert history.history["loss"][-1] < 1e-3

    def test_a_keras_model_in_fit(self):
        model = network(change_tolerance=0.0)
        losses = fit(model, POINTS, np.zeros_like(POINTS), 60).history["loss"]
        assert losses[-1] < 1e-3 * losses[0]
        assert not model.optimizer.running or model.optimizer.iterations_accepted > 40
