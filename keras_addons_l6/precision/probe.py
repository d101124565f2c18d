"""The proof that float64 stays float64: what networks consist of, each result beside NumPy's."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_addons_l6 import backends
from keras_addons_l6.keras_private import SUPPORTED
from keras_addons_l6.layers import LayerNorm

__all__ = ["TOLERANCE", "check_float64"]

TOLERANCE = 1e-14
"""Of the largest number of a result: some fifty roundings in float64, a ten-millionth of one in float32."""

# A name of its own: automatic ones are counted, and the user's first layer is to be number one.
_NAME = "keras_addons_l6_probe"


class _Check(NamedTuple):
    """What is computed from a tensor x, and what NumPy has for it."""

    name: str
    compute: Callable[[Any], Any]
    expected: Any


def check_float64() -> None:
    """Compare what Keras computes in float64 with NumPy.

    Raises:
        RuntimeError: naming the first operation whose result is not float64, or not NumPy's.
    """
    x = np.linspace(0.11, 0.97, 12).reshape(3, 4)  # none of them a number of float32
    checks = [
        *(*_of_numbers(x), *_of_operations(x), *_of_activations(x)),
        *(*_of_losses(x), *_of_layers(x)),
    ]
    for check, result in zip(checks, _results(checks, x), strict=True):
        kind = keras.backend.standardize_dtype(result.dtype)
        error = _relative(ops.convert_to_numpy(result), np.asarray(check.expected))
        if kind != "float64" or not error <= TOLERANCE:
            raise RuntimeError(_words(check.name, f"its result is {kind}, and off by {error:.1e}"))


def _results(checks: Sequence[_Check], x: np.ndarray) -> list[Any]:
    """What the active backend computes, compiled at once where it compiles."""

    def program(tensor: Any) -> list[Any]:
        return [_computed(check, tensor) for check in checks]

    return backends.chosen("float64").compiled(program)(ops.convert_to_tensor(x))


def _computed(check: _Check, tensor: Any) -> Any:
    try:
        return check.compute(tensor)
    except Exception as error:
        raise RuntimeError(_words(check.name, f"it raises: {error}")) from error


def _relative(result: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(result - expected)) / np.max(np.abs(expected)))


def _words(name: str, problem: str) -> str:
    return (
        f"`{name}` still rounds float64: {problem}, with Keras {keras.__version__} on {keras.config.backend()}. "
        f"keras_addons_l6 supports Keras {SUPPORTED} and cannot mend this one; all is set as it was before. Install "
        "one of these, or compute in the backend's own functions."
    )


def _of_numbers(x: np.ndarray) -> Iterator[_Check]:
    """Python's numbers, alone and beside tensors."""
    yield _Check("ops.convert_to_tensor(0.1)", lambda _: ops.convert_to_tensor(0.1), 0.1)
    yield _Check("ops.convert_to_tensor([0.1])", lambda _: ops.convert_to_tensor([0.1, 0.2]), [0.1, 0.2])
    yield _Check("ops.cast(0.1, float)", lambda _: ops.cast(0.1, float), 0.1)
    yield _Check("ops.arange", lambda _: ops.arange(0.1, 0.4, 0.1), np.arange(0.1, 0.4, 0.1))
    yield _Check("ops.linspace", lambda _: ops.linspace(0.1, 0.4, 4), np.linspace(0.1, 0.4, 4))
    yield _Check("ops.full", lambda _: ops.full((2,), 0.1), np.full(2, 0.1))
    yield _Check("ops.multiply(0.1, x)", lambda t: ops.multiply(0.1, t), 0.1 * x)
    yield _Check("ops.maximum(x, 0.3)", lambda t: ops.maximum(t, 0.3), np.maximum(x, 0.3))
    yield _Check("ops.mod(x, 0.3)", lambda t: ops.mod(t, 0.3), np.mod(x, 0.3))
    yield _Check("regularizers.L2", lambda t: keras.regularizers.L2(0.1)(t), 0.1 * (x**2).sum())


def _of_operations(x: np.ndarray) -> Iterator[_Check]:
    for name in ("add", "subtract", "multiply", "divide", "power", "maximum"):
        compute = functools.partial(lambda f, t: f(t, ops.flip(t, 0)), getattr(ops, name))
        yield _Check(f"ops.{name}", compute, getattr(np, name)(x, x[::-1]))
    for name in ("sin", "cos", "exp", "log", "sqrt", "square", "mean", "sum", "var", "max"):
        yield _Check(f"ops.{name}", getattr(ops, name), getattr(np, name)(x))
    yield _Check("ops.matmul", lambda t: ops.matmul(t, ops.transpose(t)), x @ x.T)
    yield _Check("ops.einsum", lambda t: ops.einsum("ij,kj->ik", t, t), x @ x.T)
    steps = x.T  # of depth 3, whose root is a number with all digits
    attended = _softmax(steps @ steps.T / math.sqrt(3)) @ steps
    yield _Check("ops.dot_product_attention", lambda t: _attention(ops.transpose(t)), attended)


def _attention(steps: Any) -> Any:
    """One head that sees its own steps."""
    heads = steps[None, :, None, :]
    return ops.dot_product_attention(heads, heads, heads)[0, :, 0, :]


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


_erf = np.vectorize(math.erf)
_SELU = (1.0507009873554805, 1.6732632423543772)

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: _SELU[0] * np.where(x > 0, x, _SELU[1] * np.expm1(x)),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softmax": _softmax,
}


def _of_activations(x: np.ndarray) -> Iterator[_Check]:
    """Of x - 1/2, which has both signs."""
    for name, expected in _ACTIVATIONS.items():
        compute = functools.partial(lambda f, t: f(t - 0.5), getattr(keras.activations, name))
        yield _Check(f"activations.{name}", compute, expected(x - 0.5))


def _of_losses(x: np.ndarray) -> Iterator[_Check]:
    target = (x / x.sum(1, keepdims=True))[::-1]
    error = x - target
    expected = {
        "MeanSquaredError": (error**2).mean(),
        "MeanAbsoluteError": np.abs(error).mean(),
        "Huber": (error**2 / 2).mean(),  # no error here is larger than 1
        "LogCosh": np.log(np.cosh(error)).mean(),
        "KLDivergence": (target * np.log(target / x)).sum(1).mean(),
        "BinaryCrossentropy": -(target * np.log(x) + (1 - target) * np.log(1 - x)).mean(),
        "CategoricalCrossentropy": -(target * np.log(x / x.sum(1, keepdims=True))).sum(1).mean(),
    }
    for name, value in expected.items():
        loss = getattr(keras.losses, name)(name=_NAME)
        yield _Check(f"losses.{name}", functools.partial(loss, target), value)


def _of_layers(x: np.ndarray) -> Iterator[_Check]:
    """Layers without random numbers, of which the user's own draws must not miss any."""
    layers, constant = keras.layers, keras.initializers.Constant(0.1)
    dense = layers.Dense(2, "tanh", kernel_initializer=constant, name=_NAME)
    yield _of_layer("layers.Dense", dense, x, np.tanh(x @ np.full((4, 2), 0.1)))
    conv = layers.Conv2D(2, 2, kernel_initializer=constant, name=_NAME)
    sums = 0.1 * np.lib.stride_tricks.sliding_window_view(x, (2, 2)).sum((2, 3))
    yield _of_layer("layers.Conv2D", conv, x[None, :, :, None], np.stack([sums, sums], -1)[None])
    rescaling = layers.Rescaling(0.1, 0.3, name=_NAME)
    yield _of_layer("layers.Rescaling", rescaling, x, 0.1 * x + 0.3)
    normalized = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    theirs = layers.LayerNormalization(epsilon=1e-5, name=_NAME)
    yield _of_layer("layers.LayerNormalization", theirs, x, normalized)
    ours = LayerNorm(epsilon=1e-5, name=_NAME)
    yield _of_layer("keras_addons_l6.layers.LayerNorm", ours, x, normalized)


def _of_layer(name: str, layer: keras.Layer, inputs: np.ndarray, expected: np.ndarray) -> _Check:
    layer.build(inputs.shape)  # not where a compiler looks on
    return _Check(name, lambda t: layer(ops.reshape(t, inputs.shape)), expected)
