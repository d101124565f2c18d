"""Small Keras models and data that the tests of the entrances share."""

import functools

import keras
import numpy as np
from keras import ops

from keras_addons_l6.optimizers import LBFGS


@functools.cache
def digits():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype("float64"), labels


def softmax_regression(**arguments):
    """Softmax regression on digits with penalty 1e-4, from zero: convex, ill-conditioned."""
    model = keras.Sequential([keras.Input((64,)), Exact(10, penalty=1e-4)])
    model.set_weights([np.zeros((64, 10)), np.zeros(10)])
    model.compile(optimizer=LBFGS(**arguments), loss=CrossEntropy())
    return model


def curve(samples=40):
    """A sine on [-2, 2] with a little noise."""
    x = np.linspace(-2, 2, samples)[:, None]
    return x, np.sin(3 * x) + 0.01 * np.random.default_rng(0).normal(size=x.shape)


def initial_weights():
    """Weights of `network`, the same on every backend."""
    rng = np.random.default_rng(1)
    return [
        rng.normal(size=shape) * scale
        for shape, scale in [((1, 8), 1.0), ((8,), 0.3), ((8, 1), 0.5), ((1,), 0.0)]
    ]


@keras.saving.register_keras_serializable("lbfgs_tests")
class Exact(keras.layers.Layer):
    """A dense layer that keeps float64: Keras rounds `tanh` on JAX and `matmul` on torch to float32."""

    def __init__(self, units, curved=False, penalty=0.0, **arguments):
        super().__init__(**arguments)
        self.units, self.curved, self.penalty = units, curved, penalty

    def build(self, input_shape):
        shape, penalty = (input_shape[-1], self.units), keras.regularizers.L2(self.penalty)
        self.kernel = self.add_weight(
            shape=shape, name="kernel", regularizer=penalty if self.penalty else None
        )
        self.bias = self.add_weight(shape=(self.units,), name="bias")

    def call(self, x):
        z = x @ ops.convert_to_tensor(self.kernel) + ops.convert_to_tensor(self.bias)
        return 1 - 2 / (ops.exp(2 * z) + 1) if self.curved else z

    def get_config(self):
        return super().get_config() | {
            "units": self.units,
            "curved": self.curved,
            "penalty": self.penalty,
        }


def samples(x):
    return ops.cast(ops.shape(x)[0], x.dtype)


@keras.saving.register_keras_serializable("lbfgs_tests")
class Squares(keras.losses.Loss):
    """The mean squared error by sums, for Keras's mean rounds float64 to float32 on JAX and torch."""

    def __init__(self, name="squares", **arguments):
        super().__init__(name=name, reduction="sum")

    def call(self, y_true, y_pred):
        return ops.sum((y_true - y_pred) ** 2, axis=-1) / samples(y_pred)


class CrossEntropy(keras.losses.Loss):
    """Cross entropy of logits, likewise."""

    def __init__(self):
        super().__init__(reduction="sum")

    def call(self, y_true, y_pred):
        highest = ops.max(y_pred, axis=-1, keepdims=True)
        normalizer = ops.log(ops.sum(ops.exp(y_pred - highest), axis=-1)) + highest[:, 0]
        hit = ops.one_hot(ops.reshape(ops.cast(y_true, "int32"), (-1,)), 10, dtype=y_pred.dtype)
        return (normalizer - ops.sum(hit * y_pred, axis=-1)) / samples(y_pred)


# Building a graph takes TensorFlow longer than most of these runs; tests of the compiled modes ask for them.
QUICK = {"run_eagerly": keras.backend.backend() == "tensorflow"}


class Logarithm(keras.layers.Layer):
    """log(s + x): infinite or NaN for s <= 0, where the first steps of the search lead."""

    def build(self, input_shape):
        self.shift = self.add_weight(shape=(), initializer="ones", name="shift")

    def call(self, inputs):
        return ops.log(ops.convert_to_tensor(self.shift) + inputs)


def model_of_logarithms(optimizer):
    """A model whose search tries points outside the loss's domain, with averages that would keep what is found there."""
    keras.utils.set_random_seed(0)
    normalization = keras.layers.BatchNormalization(momentum=0.9)
    model = keras.Sequential([keras.Input((1,)), Logarithm(), normalization, keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse", **QUICK)
    x = np.linspace(0, 1, 64, dtype="float32")[:, None]
    return model, x, np.log(1e-3 + x)


def network(optimizer, **compile_arguments):
    """A 1-8-1 tanh network for `curve`: not convex, so that line searches reject trials."""
    model = keras.Sequential([keras.Input((1,)), Exact(8, curved=True), Exact(1)])
    model.set_weights(initial_weights())
    model.compile(optimizer=optimizer, loss=Squares(), **(QUICK | compile_arguments))
    return model


def network_objective(weights, x, y):
    """The loss of `network` and its gradient, written out in NumPy."""
    w1, b1, w2, b2 = weights
    hidden = np.tanh(x @ w1 + b1)
    error = hidden @ w2 + b2 - y
    d_out = 2 * error / len(x)
    d_hidden = (d_out @ w2.T) * (1 - hidden**2)
    return np.mean(error**2), [x.T @ d_hidden, d_hidden.sum(0), hidden.T @ d_out, d_out.sum(0)]


class Recorder(keras.callbacks.Callback):
    """Keeps what the logs and the optimizer hold after each epoch."""

    def __init__(self):
        super().__init__()
        self.losses = []
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])
        self.weights.append([ops.convert_to_numpy(ops.convert_to_tensor(w)) for w in self.model.weights])


def fit(model, x, y, epochs, callbacks=(), **arguments):
    """Full-batch `fit`, silent."""
    arguments = {"batch_size": len(x), "shuffle": False, "verbose": 0} | arguments
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **arguments)
