"""What Keras computes in true float64 beside NumPy: a network and its gradient, and what the switch's own probe leaves out."""

import functools
import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_addons_l6 import backends
from tests.layers.derivatives import compiled, transformed_gradient

pytestmark = pytest.mark.usefixtures("true_float64")

X = np.random.default_rng(0).uniform(0.2, 0.9, (6, 4))
Y = X[::-1] * 1.7


def close(found, expected, tolerance=1e-14):
    """To some fifty roundings of the largest number; float32's error is some 3e-8."""
    found = ops.convert_to_tensor(found)
    assert keras.backend.standardize_dtype(found.dtype) == "float64"
    expected = np.asarray(expected)
    error = np.max(np.abs(ops.convert_to_numpy(found) - expected)) / np.max(np.abs(expected))
    assert error <= tolerance


# --- a network --------------------------------------------------------------------------------------------------------

DECAY = 0.01
SHAPES = [(4, 5), (5,), (5, 5), (5,), (5, 1), (1,)]


def weights():
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape) / math.sqrt(shape[0]) for shape in SHAPES]


TARGET = np.sin(X.sum(1, keepdims=True))


def network():
    decay = keras.regularizers.L2(DECAY)
    dense = functools.partial(layers.Dense, kernel_regularizer=decay)
    model = keras.Sequential(
        [keras.Input((4,)), dense(5, activation="tanh"), dense(5, activation="tanh"), dense(1)]
    )
    model.set_weights(weights())
    return model


def numpy_network(w):
    """Outputs, loss and gradients of mean((f(x) - y)^2) + decay * sum of the kernels' squares."""
    h1 = np.tanh(X @ w[0] + w[1])
    h2 = np.tanh(h1 @ w[2] + w[3])
    y = h2 @ w[4] + w[5]
    loss = np.mean((y - TARGET) ** 2) + DECAY * sum(np.sum(k**2) for k in w[::2])
    d3 = 2 * (y - TARGET) / y.size
    d2 = (d3 @ w[4].T) * (1 - h2**2)
    d1 = (d2 @ w[2].T) * (1 - h1**2)
    gradients = [X.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0)]
    for kernel in range(0, 6, 2):
        gradients[kernel] = gradients[kernel] + 2 * DECAY * w[kernel]
    return y, loss, gradients


def loss_of(model, *trained):
    y, _, losses = model.stateless_call(trained, [], ops.convert_to_tensor(X), return_losses=True)
    return keras.losses.MeanSquaredError()(TARGET, y) + sum(losses)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")  # of Keras's own
def test_output_loss_and_gradient_of_a_network_compiled_or_not():
    output, loss, gradients = numpy_network(weights())
    model = network()
    tensors = [ops.convert_to_tensor(w) for w in weights()]
    value = functools.partial(loss_of, model)
    for _, run in compiled(lambda *t: (model.stateless_call(t, [], ops.convert_to_tensor(X))[0], value(*t))):
        close(run(*tensors)[0], output)
        close(run(*tensors)[1], loss)
    close(model(X), output)
    close(model.predict(X, verbose=0), output)
    for _, run in compiled(lambda *t: transformed_gradient(value, t)):
        for found, expected in zip(run(*tensors), gradients, strict=True):
            close(found, expected)


def test_the_gradient_that_l_bfgs_takes():
    """By the part of a backend that `minimize` and `fit_full_batch` run on, with compiler options of its own."""
    evaluate = backends.programs.value_and_gradient(lambda t: (loss_of(network_, *t), ()))
    network_ = network()
    value, gradients, _ = backends.programs.compile_program(evaluate)(
        [ops.convert_to_tensor(w) for w in weights()]
    )
    _, loss, expected = numpy_network(weights())
    close(value, loss)
    for found, right in zip(gradients, expected, strict=True):
        close(found, right)


# --- operations -------------------------------------------------------------------------------------------------------


def test_pythons_numbers_keep_their_digits():
    close(ops.array([0.1, 0.7]), [0.1, 0.7])
    close(ops.full_like(X, 0.1), np.full(X.shape, 0.1))
    close(ops.logspace(0.1, 0.7, 4), np.logspace(0.1, 0.7, 4))
    close(ops.arctan2(X, 0.3), np.arctan2(X, 0.3))
    close(ops.arctan2(0.3, X), np.arctan2(0.3, X))
    close(ops.power(X, 0.3), X**0.3)
    close(ops.where(X > 0.5, X, 0.3), np.where(X > 0.5, X, 0.3))
    close(ops.quantile(X, 0.3), np.quantile(X, 0.3))
    close(ops.clip(X, 0.3, 0.7), np.clip(X, 0.3, 0.7))
    close(ops.cast([0.1, 1], "float64"), [0.1, 1.0])
    close(ops.stack([ops.convert_to_tensor(X)[0, 0], 0.1]), [X[0, 0], 0.1])
    assert keras.backend.standardize_dtype(ops.convert_to_tensor([1, 2]).dtype).startswith("int")
    assert keras.backend.standardize_dtype(ops.cast(0.1, "float32").dtype) == "float32"


@pytest.mark.parametrize("name", ["sum", "mean", "std", "var", "prod", "median", "max", "cumsum"])
def test_reductions(name):
    close(getattr(ops, name)(X, axis=0), getattr(np, name)(X, axis=0))


def test_linear_algebra_and_transforms():
    square = X.T @ X
    close(ops.tensordot(X, Y, 2), np.tensordot(X, Y, 2))
    close(ops.outer(X[0], Y[0]), np.outer(X[0], Y[0]))
    close(ops.cholesky(square), np.linalg.cholesky(square))
    close(ops.solve(square, X[0]), np.linalg.solve(square, X[0]), 1e-12)  # its condition number is some fifty
    spectrum = np.fft.fft(X + 1j * Y)
    close(ops.fft((X, Y))[0], spectrum.real)
    close(ops.fft((X, Y))[1], spectrum.imag)
    close(ops.rfft(ops.convert_to_tensor(X))[0], np.fft.rfft(X).real)


def test_numbers_drawn_are_not_those_of_float32():
    draws = [
        keras.random.uniform((40,), seed=1),
        keras.random.normal((40,), seed=1),
        keras.random.truncated_normal((40,), seed=1),
        keras.initializers.GlorotUniform(seed=1)((5, 8)),
        keras.initializers.Orthogonal(seed=1)((5, 8)),
    ]
    for draw in draws:
        assert keras.backend.standardize_dtype(draw.dtype) == "float64"
        array = ops.convert_to_numpy(draw)
        assert np.mean(array == array.astype("float32")) < 0.5


def test_activations_with_a_slope_or_an_approximation():
    x = X - 0.5
    tanh = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    close(keras.activations.gelu(x, approximate=True), 0.5 * x * (1 + tanh))
    close(layers.LeakyReLU(0.1)(x), np.where(x > 0, x, 0.1 * x))
    close(layers.ReLU(negative_slope=0.1)(x), np.where(x > 0, x, 0.1 * x))
    # in another type each is Keras's own, and far from zero the tail of GELU keeps its digits
    half = ops.cast(x, "float32")
    for f in (keras.activations.gelu, keras.activations.leaky_relu):
        assert keras.backend.standardize_dtype(f(half).dtype) == "float32"
    tail = float(keras.activations.gelu(ops.convert_to_tensor(-8.0)))
    assert tail == pytest.approx(-4 * math.erfc(8 / math.sqrt(2)), rel=1e-10 if tail else 0, abs=1e-15)


def test_losses_metrics_schedules_and_regularizers():
    p, weight = X / X.sum(1, keepdims=True), np.linspace(0.11, 0.7, 6)
    q = p[::-1]
    close(
        keras.losses.MeanSquaredError()(p, q, sample_weight=weight), np.mean(((p - q) ** 2).mean(1) * weight)
    )
    close(keras.losses.Poisson()(p, q), np.mean(q - p * np.log(q + 1e-7)))
    labels = np.array([0, 1, 2, 3, 0, 1])
    scce = keras.losses.SparseCategoricalCrossentropy()(labels, q)
    close(scce, -np.mean(np.log(q[range(6), labels])))
    logits = keras.losses.BinaryCrossentropy(from_logits=True)(p, X)
    close(logits, np.mean(np.log1p(np.exp(X)) - p * X))
    mean = keras.metrics.Mean()
    mean.update_state(X)
    close(mean.result(), X.mean())
    error = keras.metrics.RootMeanSquaredError()
    error.update_state(p, q)
    close(error.result(), np.sqrt(np.mean((p - q) ** 2)))
    close(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)(3), 0.1 * 0.9**0.3)
    close(keras.regularizers.L1L2(0.1, 0.2)(X), 0.1 * X.sum() + 0.2 * (X**2).sum())
    close(keras.optimizers.Adam(0.1).learning_rate, 0.1)


def test_layers():
    close(layers.Normalization(mean=0.1, variance=0.3)(X), (X - 0.1) / math.sqrt(0.3))
    batch = (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3)
    close(layers.BatchNormalization()(X, training=True), batch)
    close(layers.UnitNormalization()(X), X / np.sqrt((X**2).sum(1, keepdims=True)))
    kernel = np.random.default_rng(2).normal(size=(4, 3))
    rnn = layers.SimpleRNN(3, kernel_initializer=lambda *a, **k: ops.convert_to_tensor(kernel))
    rnn.build((None, 1, 4))
    close(rnn(X[:, None]), np.tanh(X @ kernel))
    pooled = layers.AveragePooling1D(3)(X[..., None])
    close(pooled[..., 0], X[:, :3].mean(1, keepdims=True))


@pytest.mark.parametrize("case", ["plain", "causal", "mask", "bias", "scale", "nothing seen"])
def test_attention(case):
    """Over (batch, time, heads, depth), of depth 3, whose root has all digits."""
    rng = np.random.default_rng(3)
    q, k, v = rng.normal(size=(3, 2, 5, 2, 3))
    mask = rng.random((2, 1, 5, 5)) < 0.6
    mask |= np.eye(5, dtype=bool)
    if case == "nothing seen":
        mask = np.broadcast_to(np.arange(5)[:, None] != 2, (2, 1, 5, 5))
    bias, scale = rng.normal(size=(2, 2, 5, 5)), 0.7
    arguments = {
        "causal": {"is_causal": True},
        "mask": {"mask": ops.convert_to_tensor(mask)},
        "nothing seen": {"mask": ops.convert_to_tensor(mask)},
        "bias": {"bias": ops.convert_to_tensor(bias)},
        "scale": {"scale": scale},
    }
    if (case, keras.config.backend()) == ("nothing seen", "torch"):
        pytest.skip("torch's own kernel, which is exact and stays, leaves a row that sees nothing at zero")
    scores = np.einsum("btnh,bsnh->bnts", q, k) * (scale if case == "scale" else 1 / math.sqrt(3))
    scores = scores + bias if case == "bias" else scores
    seen = np.tri(5, dtype=bool) if case == "causal" else mask if case in ("mask", "nothing seen") else True
    scores = np.where(seen, scores, -1e300)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("bnts,bsnh->btnh", e / e.sum(-1, keepdims=True), v)
    close(ops.dot_product_attention(q, k, v, **arguments.get(case, {})), expected)


def test_a_transformers_attention_layer():
    layer = layers.MultiHeadAttention(2, 3)
    steps = np.random.default_rng(4).normal(size=(2, 5, 4))
    found = layer(steps, steps)
    wq, bq, wk, bk, wv, bv, wo, bo = map(ops.convert_to_numpy, layer.weights)
    q, k, v = (np.einsum("btd,dnh->btnh", steps, w) + b for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    scores = np.exp(np.einsum("btnh,bsnh->bnts", q, k) / math.sqrt(3))
    attended = np.einsum("bnts,bsnh->btnh", scores / scores.sum(-1, keepdims=True), v)
    close(found, np.einsum("btnh,nhd->btd", attended, wo) + bo)
