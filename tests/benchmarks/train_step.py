"""`fit` on a ResNet-50-sized and a transformer-sized model, our optimizer against Keras's."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tests.benchmarks import methods, timing
from tests.benchmarks.rows import KERAS, OURS, Row
from tests.benchmarks.timing import Effort, Run

STEPS = 4  # a call of `fit`; what a call costs besides its steps is the same for both


def resnet50() -> tuple[Any, np.ndarray]:
    """25.6 M parameters in 214 variables; small images, so that the optimizer is a visible part."""
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=1000)
    return model, np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)


def transformer(
    layers: int = 12, width: int = 768, heads: int = 12, length: int = 16
) -> tuple[Any, np.ndarray]:
    """An encoder of 85 M parameters in 192 variables, and its head."""
    inputs = x = keras.Input((length, width))
    for _ in range(layers):
        attention = keras.layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = keras.layers.LayerNormalization()(x + attention)
        hidden = keras.layers.Dense(4 * width, activation="gelu")(x)
        x = keras.layers.LayerNormalization()(x + keras.layers.Dense(width)(hidden))
    outputs = keras.layers.Dense(10, activation="softmax")(x[:, 0])
    return keras.Model(inputs, outputs), np.random.default_rng(0).standard_normal(
        (2, length, width), np.float32
    )


def small() -> tuple[Any, np.ndarray]:
    """A network for trying the benchmark out."""
    return transformer(layers=1, width=16, heads=2, length=4)


MODELS: dict[str, Callable[[], tuple[Any, np.ndarray]]] = {"ResNet-50": resnet50, "transformer": transformer}


def rows(
    models: dict[str, Callable[[], tuple[Any, np.ndarray]]], effort: Effort, rule: str = "Adam"
) -> Iterator[Row]:
    """One row a model: seconds of one train step inside `fit`, as users compile it."""
    for name, make in models.items():
        contenders = {
            OURS: _fit(make, methods.our_optimizer(rule)),
            KERAS: _fit(make, methods.keras_optimizer(rule)),
        }
        seconds = timing.medians(contenders, effort)
        yield Row(f"{rule}, {name}", "fit", {peer: s / STEPS for peer, s in seconds.items()})


def _fit(make: Callable[[], tuple[Any, np.ndarray]], optimizer: Any) -> Run:
    keras.utils.set_random_seed(0)
    model, batch = make()
    x = np.tile(batch, (STEPS,) + (1,) * (batch.ndim - 1))
    y = np.zeros(len(x), "int32")
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return lambda: model.fit(x, y, batch_size=len(batch), verbose=0)
