"""Trainings with one thing wrong each, and a healthy one, on scikit-learn's digits."""

import functools
from typing import NamedTuple

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

from keras_addons_l6 import AdamW, BatchNorm, TrainingHealth

SAMPLES, BATCH, LOOKED_AT = 640, 64, 32
RATE = 2e-3


class Training(NamedTuple):
    """A compiled model, how it is trained, and what is wrong."""

    model: keras.Model
    kind: str | None = None
    name: str | None = None
    epochs: int = 4
    shuffle: bool = True
    order: np.ndarray | None = None
    batch: int = BATCH


@functools.cache
def digits():
    images, labels = load_digits(return_X_y=True)
    mixed = np.random.default_rng(0).permutation(len(labels))[: SAMPLES + LOOKED_AT]
    return (images[mixed] / 16).astype("float32"), labels[mixed]


def compiled(inside, optimizer=None, loss="sparse_categorical_crossentropy"):
    model = keras.Sequential([keras.Input((64,)), *inside, layers.Dense(10, "softmax", name="digit")])
    model.compile(optimizer or AdamW(RATE), loss)
    return model


def plain(activation="relu", **arguments):
    return [
        layers.Dense(32, activation, name="first"),
        layers.Dense(32, activation, name="second", **arguments),
    ]


def normalized(norm=BatchNorm, **arguments):
    return [
        *(
            layers.Dense(32, use_bias=False, name="first"),
            norm(name="norm", **arguments),
            layers.ReLU(name="relu"),
        ),
        *(layers.Dropout(0.2, seed=5, name="dropout"), layers.Dense(32, "relu", name="second")),
    ]


def healthy():
    return Training(compiled(normalized()))


def dead():
    return Training(
        compiled(plain(bias_initializer=keras.initializers.Constant(-10.0))), kind="dead", name="second"
    )


def saturated():
    wide = keras.initializers.RandomNormal(stddev=5.0, seed=1)
    stack = [layers.Dense(32, "sigmoid", kernel_initializer=wide, name=f"stack{i}") for i in range(4)]
    return Training(compiled(stack), kind="saturated")


def rate_too_high():
    return Training(compiled(normalized(), AdamW(100 * RATE)), kind="update_too_large")


def rate_too_low():
    return Training(compiled(normalized(), AdamW(RATE / 1000)), kind="update_too_small")


def momentum_too_high(norm=BatchNorm):
    return Training(compiled(normalized(norm, momentum=0.9999)), kind="batch_norm", name="norm", epochs=3)


def one_class_at_a_time():
    return Training(
        compiled(normalized()),
        kind="batch_norm",
        name="norm",
        shuffle=False,
        batch=BATCH // 4,
        order=np.argsort(digits()[1][:SAMPLES], kind="stable"),
    )


def exploding():
    huge = keras.initializers.Constant(1e25)
    inside = [layers.Dense(8, name=name, kernel_initializer=huge) for name in ("large", "larger", "after")]
    return Training(compiled(inside), kind="not_finite", name="larger", epochs=1)


def without_gradient():
    image = keras.Input((64,))
    x = layers.Dense(32, "relu", name="first")(image)
    x = ops.stop_gradient(layers.Dense(32, "relu", name="second")(x))
    model = keras.Model(image, layers.Dense(10, "softmax", name="digit")(x))
    model.compile(AdamW(RATE), "sparse_categorical_crossentropy")
    return Training(model, kind="no_gradient", name="second")


def frozen():
    model = compiled(plain())
    model.get_layer("second").trainable = False
    model.compile(AdamW(RATE), "sparse_categorical_crossentropy")
    return Training(model, kind="frozen", name="second")


SICK = [
    dead,
    saturated,
    rate_too_high,
    rate_too_low,
    momentum_too_high,
    one_class_at_a_time,
    exploding,
    without_gradient,
    frozen,
]


def looked_at():
    x, y = digits()
    return x[SAMPLES:], y[SAMPLES:]


def watched(training, health=None, **arguments):
    """Train under watch; returns the callback and Keras's history."""
    x, y = (part[:SAMPLES] for part in digits())
    if training.order is not None:
        x, y = x[training.order], y[training.order]
    health = TrainingHealth(looked_at(), **arguments) if health is None else health
    history = training.model.fit(
        x,
        y,
        batch_size=training.batch,
        epochs=training.epochs,
        shuffle=training.shuffle,
        verbose=0,
        callbacks=[health],
    )
    return health, history
