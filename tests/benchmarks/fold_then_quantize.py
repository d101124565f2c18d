"""Folding before quantizing against quantizing alone, on scikit-learn's digits; prints a Markdown table.

    KERAS_BACKEND=tensorflow python -m tests.benchmarks.fold_then_quantize

Two networks with BatchNorm behind each layer: dense ones, which `model.quantize("int8")` takes, and convolutions, which
LiteRT's post-training quantization takes as well. Accuracies are of 360 test images, medians over five seeds; agreement is
the share of test images that get the class which the float model gives them.
"""

import pathlib
import tempfile
import warnings

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from keras_addons_l6 import BatchNorm
from keras_addons_l6.folding import fold_batch_norm
from tests.folding.randomize import batch_norms

SEEDS = range(5)


def digits():
    """Images of shape (8, 8, 1) in [0, 1] and their classes: for training, for the test."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    return train_test_split(images, labels, test_size=0.2, random_state=6, stratify=labels)


def dense_network():
    inner = [layer for units in (128, 64) for layer in (layers.Dense(units), BatchNorm(), layers.ReLU())]
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), *inner, layers.Dense(10)])


def convolutional_network():
    inner = [
        layer
        for filters in (16, 32)
        for layer in (layers.Conv2D(filters, 3, padding="same"), BatchNorm(), layers.ReLU())
    ]
    return keras.Sequential(
        [keras.Input((8, 8, 1)), *inner, layers.GlobalAveragePooling2D(), layers.Dense(10)]
    )


def trained(network, seed, data):
    x, _, y, _ = data
    keras.utils.set_random_seed(seed)
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=loss)
    model.fit(x, y, batch_size=64, epochs=30, verbose=0)
    return model


def keras_int8(model, x):
    """The answers of a copy of the model whose dense layers are quantized to int8."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras names each layer that has nothing to quantize
        copy.quantize("int8")
    return copy.predict(x, verbose=0), len(batch_norms(copy))


def litert_int8(model, x):
    """The answers of the model as LiteRT has it, weights in int8 (dynamic range)."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "model.tflite")
        model.export(path, format="litert", optimizations=[tf.lite.Optimize.DEFAULT], verbose=False)
        interpreter = Interpreter(model_path=path)
        runner = interpreter.get_signature_runner()
        (name,) = runner.get_input_details()
        answers = [next(iter(runner(**{name: image[None]}).values()))[0] for image in x]
        return np.stack(answers), pathlib.Path(path).stat().st_size


WAYS = {
    ("dense", 'model.quantize("int8")'): (dense_network, keras_int8, "BatchNorms left"),
    ("convolutional", "LiteRT, post-training"): (convolutional_network, litert_int8, "bytes"),
}


def measure(network, quantize, seed, data):
    """Accuracy in float, then accuracy, agreement and size for quantizing alone and for folding first."""
    _, x, _, y = data
    model = trained(network, seed, data)
    classes = model.predict(x, verbose=0).argmax(-1)
    rows = []
    for each in (model, fold_batch_norm(model)):
        answers, size = quantize(each, x)
        found = answers.argmax(-1)
        rows += [(found == y).mean(), (found == classes).mean(), size]
    return [(classes == y).mean(), *rows]


def main():
    """Print the table."""
    data = digits()
    print(
        "| network | quantized by | accuracy, float | quantized alone | folded first | agreement, alone | folded first |",
        end="",
    )
    print(" size, alone | folded first |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (name, way), (network, quantize, unit) in WAYS.items():
        runs = [measure(network, quantize, seed, data) for seed in SEEDS]
        plain, alone, agree, size, folded, agree_folded, size_folded = np.median(runs, axis=0)
        print(
            f"| {name} | `{way}` | {plain:.3f} | {alone:.3f} | {folded:.3f} | {agree:.3f} | {agree_folded:.3f} "
            f"| {size:.0f} {unit} | {size_folded:.0f} |"
        )


if __name__ == "__main__":
    main()
