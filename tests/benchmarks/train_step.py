"""`fit` on ResNet-50 and two transformers, with our optimizer, and LayerNorm, against Keras's."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_addons_l6
from tests.benchmarks import methods, timing
from tests.benchmarks.engines import engine
from tests.benchmarks.rows import KERAS, OURS, Row
from tests.benchmarks.timing import Effort, Run

STEPS = 4  # a call of `fit`; what a call costs besides its steps is the same for both


Make = Callable[[], tuple[Any, np.ndarray]]  # the model and a batch


class Training(NamedTuple):
    """An optimizer, and the model that it trains, with our layers and with Keras's."""

    rule: str
    ours: Make
    keras: Make


def resnet50() -> tuple[Any, np.ndarray]:
    """25.6 M parameters in 214 variables; small images, so that the optimizer is a visible part."""
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=1000)
    return model, np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)


def transformer(
    layers: int = 12,
    width: int = 768,
    heads: int = 12,
    length: int = 16,
    norm: Callable[[], Any] = keras.layers.LayerNormalization,
) -> tuple[Any, np.ndarray]:
    """An encoder and its head; by default 85 M parameters in 192 variables."""
    inputs = x = keras.Input((length, width))
    for _ in range(layers):
        attention = keras.layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = norm()(x + attention)
        hidden = keras.layers.Dense(4 * width, activation="gelu")(x)
        x = norm()(x + keras.layers.Dense(width)(hidden))
    outputs = keras.layers.Dense(10, activation="softmax")(x[:, 0])
    batch = np.random.default_rng(0).standard_normal((2, length, width), np.float32)
    return keras.Model(inputs, outputs), batch


def small_transformer(norm: Callable[[], Any]) -> Make:
    """4 layers, 256 wide, over texts of 256 tokens, with that normalization: 3.2 M parameters in 66 variables."""
    return lambda: transformer(layers=4, width=256, heads=4, length=256, norm=norm)


def small() -> tuple[Any, np.ndarray]:
    """A network for trying the benchmark out."""
    return transformer(layers=1, width=16, heads=2, length=4)


TRAININGS = {
    "Adam, ResNet-50": Training("Adam", resnet50, resnet50),
    "Adam, transformer": Training("Adam", transformer, transformer),
    "AdamW and LayerNorm, small transformer": Training(
        "AdamW",
        small_transformer(keras_addons_l6.LayerNorm),
        small_transformer(keras.layers.LayerNormalization),
    ),
}


def rows(trainings: dict[str, Training], effort: Effort) -> Iterator[Row]:
    """One row for each training and mode: seconds of one train step inside `fit`."""
    for name, training in trainings.items():
        for mode in engine().MODES:
            contenders = {
                OURS: _fit(training.ours, methods.our_optimizer(training.rule), mode),
                KERAS: _fit(training.keras, methods.keras_optimizer(training.rule), mode),
            }
            seconds = timing.medians(contenders, effort)
            yield Row(name, mode, {peer: s / STEPS for peer, s in seconds.items()})


def _fit(make: Make, optimizer: Any, mode: str) -> Run:
    keras.utils.set_random_seed(0)
    model, batch = make()
    x = np.tile(batch, (STEPS,) + (1,) * (batch.ndim - 1))
    y = np.zeros(len(x), "int32")
    # Of itself Keras compiles on JAX, and on TensorFlow where there is a GPU.
    jit_compile = {"XLA": True, "graph": False}
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit_compile.get(mode, "auto"))
    return lambda: model.fit(x, y, batch_size=len(batch), verbose=0)
