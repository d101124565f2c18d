"""
First steps: train, save, fold and ship a network
=================================================

A small convolutional network with all six layers learns scikit-learn's handwritten digits, is saved,
reloaded in a new process and trained on, loses its BatchNorms to the convolutions before them, and leaves
as two SavedModels that need no Keras. Every figure in the closing table is measured by this run.

Run it with ``python examples/quickstart.py``; results go to ``quickstart_output/``.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import numpy as np
from keras import layers, ops
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_addons_l6 as l6

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OUTPUT = Path("quickstart_output")
EPOCHS = 12
# Float32 keeps 24 bits; a dozen layers of sums over at most 288 products stay well within 1e-4 of one
# another.
LARGEST_DIFFERENCE = 1e-4


# %%
# The data: 1,797 images of 8 by 8 pixels, values 0 to 16.


def digits():
    """Return (x_train, x_test, y_train, y_test), pixels scaled to [0, 1]."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    return train_test_split(images, labels, test_size=0.2, random_state=6, stratify=labels)


# %%
# The network: each of the six layers once or more, in a functional model.


def network():
    """Return the untrained functional model."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(32, 3, padding="same", use_bias=False)(image)
    x = l6.BatchNorm()(x)
    x = l6.PReLU()(x)
    x = layers.Conv2D(32, 3, padding="same", use_bias=False)(x)
    x = l6.BatchNorm()(x)
    x = l6.Swish()(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, padding="same")(x)
    x = l6.GroupNorm(groups=8)(x)
    x = l6.SELU()(x)
    x = layers.Conv2D(64, 1)(x)
    x = l6.InstanceNorm()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(64, use_bias=False)(x)
    x = l6.BatchNorm()(x)
    x = l6.PReLU()(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="digit")(x), name="digits")


def compiled(optimizer):
    """Return a freshly initialised network, the same for every optimizer, ready to fit."""
    keras.utils.set_random_seed(6)
    model = network()
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# %%
# What a new process does with the saved model: load it without custom objects, and train on.


def resume(path):
    """Load the saved model, train two more epochs, and print the test accuracies as JSON."""
    x_train, x_test, y_train, y_test = digits()
    model = keras.saving.load_model(path)
    before = model.evaluate(x_test, y_test, verbose=0)[1]
    keras.utils.set_random_seed(1)
    model.fit(x_train, y_train, batch_size=64, epochs=2, verbose=0)
    print(json.dumps({"before": before, "after": model.evaluate(x_test, y_test, verbose=0)[1]}))


def resume_in_new_process(path):
    """Run :func:`resume` in a process that has seen nothing of this one."""
    run = subprocess.run(
        [sys.executable, __file__, "resume", path], capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise SystemExit(f"resuming in a new process failed:\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


# %%
# What serves the exported model: TensorFlow alone, no Keras and none of this package.

SERVE = """
import sys, numpy, tensorflow as tf
serve = tf.saved_model.load(sys.argv[1])
numpy.save(sys.argv[3], serve.serve(numpy.load(sys.argv[2])).numpy())
assert "keras_addons_l6" not in sys.modules
"""


def serve_in_new_process(saved_model, x):
    """Return what the SavedModel at ``saved_model`` answers to ``x`` when TensorFlow alone has loaded it."""
    np.save(OUTPUT / "x.npy", x)
    command = [sys.executable, "-c", SERVE, saved_model, OUTPUT / "x.npy", OUTPUT / "answer.npy"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"serving {saved_model} failed:\n{run.stderr}")
    answer = np.load(OUTPUT / "answer.npy")
    for name in ("x.npy", "answer.npy"):
        (OUTPUT / name).unlink()
    return answer


def latencies(models, x, repeats=500):
    """Return the seconds of each of the compiled inferences of each model, taking turns."""
    import tensorflow as tf

    x = tf.constant(x)
    functions = [tf.function(lambda x, model=model: model(x, training=False)) for model in models]
    for function in functions:
        function(x)
    seconds = [[] for _ in models]
    for _ in range(repeats):
        for function, record in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function(x).numpy()
            record.append(time.perf_counter() - start)
    return np.array(seconds)


# %%
# The figure: the five first-order optimizers on the same data from the same weights, and the three
# activations.

OPTIMIZERS = {
    "Nesterov": lambda: l6.Nesterov(0.01),
    "AdaGrad": lambda: l6.AdaGrad(0.01),
    "RMSProp": lambda: l6.RMSProp(0.001),
    "Adam": lambda: l6.Adam(0.001),
    "AdamW (decay 0.1)": lambda: l6.AdamW(0.001, weight_decay=0.1),
}


def training_curves(epochs=8):
    """Return each optimizer's training loss by epoch, from the same initial weights and batches."""
    x_train, _, y_train, _ = digits()
    curves = {}
    for name, optimizer in OPTIMIZERS.items():
        model = compiled(optimizer())
        curves[name] = model.fit(x_train, y_train, batch_size=64, epochs=epochs, verbose=0).history["loss"]
        print(f"  {name:17} loss {curves[name][0]:.3f} -> {curves[name][-1]:.4f}")
    return curves


def gradient(function, x):
    """Return the derivative of an elementwise ``function`` by central differences in float64."""
    step = 1e-3
    return (function(x + step) - function(x - step)) / (2 * step)


def activation_values():
    """Return x and, by name, the values and derivatives of the package's three activations, in float64."""
    x = np.linspace(-5, 5, 1000)
    activations = {"PReLU (a = 0.25)": l6.PReLU, "SELU": l6.SELU, "Swish (beta = 1)": l6.Swish}
    curves = {}
    for name, layer in activations.items():
        layer = layer(dtype="float64")
        layer.build((None, 1))

        def function(x, layer=layer):
            return ops.convert_to_numpy(layer(x[:, None]))[:, 0]

        curves[name] = function(x), gradient(function, x)
    return x, curves


def draw(curves, path):
    """Draw the training curves beside the activations with their gradients."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    for name, losses in curves.items():
        left.semilogy(range(1, len(losses) + 1), losses, marker="o", markersize=3, label=name)
    left.set(
        title="Five optimizers, same data and start",
        xlabel="epoch",
        ylabel="training loss (cross-entropy, nats)",
    )
    x, activations = activation_values()
    for name, (values, slopes) in activations.items():
        middle.plot(x, values, label=name)
        right.plot(x, slopes, label=name)
    middle.set(title="Activations", xlabel="x", ylabel="f(x)")
    right.set(title="Their gradients", xlabel="x", ylabel="df/dx")
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


# %%
# The whole job.


def main():
    """Train, save, resume, fold, export, compare and draw."""
    OUTPUT.mkdir(exist_ok=True)
    x_train, x_test, y_train, y_test = digits()
    model = compiled(l6.AdamW(2e-3))
    model.summary(line_length=90)
    start = time.perf_counter()
    model.fit(x_train, y_train, batch_size=64, epochs=EPOCHS, validation_data=(x_test, y_test))
    training_seconds = time.perf_counter() - start
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    if accuracy < 0.97:
        raise SystemExit(f"test accuracy {accuracy:.4f} is below the 0.97 that this network should reach")

    saved = OUTPUT / "digits.keras"
    model.save(saved)
    print("Loading the saved model in a new process and training on ...")
    resumed = resume_in_new_process(saved)

    print("Folding BatchNorm ...")
    report = l6.inspect_batch_norm(model)
    print(report)
    folded = l6.fold_batch_norm(model)

    print("Exporting both, and serving each with TensorFlow alone ...")
    answers = model.predict(x_test, verbose=0)
    differences = {}
    for name, one in {"as trained": model, "folded": folded}.items():
        directory = OUTPUT / f"saved_model_{name.replace(' ', '_')}"
        one.export(directory, verbose=False)
        differences[name] = float(np.abs(serve_in_new_process(directory, x_test) - answers).max())
        print(f"  {name}: largest difference from the trained model {differences[name]:.1e}")
        if differences[name] > LARGEST_DIFFERENCE:
            raise SystemExit(
                f"{directory} answers differently: {differences[name]:.1e} > {LARGEST_DIFFERENCE:.0e}"
            )
    before, after = latencies([model, folded], x_test[:1])
    in_rounds = np.median(before.reshape(5, -1), axis=1) / np.median(after.reshape(5, -1), axis=1)

    print("Training with each optimizer for the figure ...")
    figure = OUTPUT / "quickstart.png"
    draw(training_curves(), figure)

    table = Table(title="What was done", show_header=False)
    for row in (
        ("trained", f"{model.count_params():,} parameters, {EPOCHS} epochs in {training_seconds:.0f} s"),
        (
            "test accuracy",
            f"{accuracy:.2%}; reloaded {resumed['before']:.2%}, two epochs on {resumed['after']:.2%}",
        ),
        ("folded", f"{len(report.folded)} of {len(report.folded) + len(report.kept)} BatchNorms"),
        ("largest difference", ", ".join(f"{name} {value:.1e}" for name, value in differences.items())),
        (
            "latency, one image",
            f"median {1e3 * np.median(before):.2f} ms -> {1e3 * np.median(after):.2f} ms; the first over the second "
            f"{in_rounds.min():.2f} to {in_rounds.max():.2f} in {len(in_rounds)} rounds",
        ),
        ("files", f"{OUTPUT}/: digits.keras, saved_model_as_trained, saved_model_folded, quickstart.png"),
    ):
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["resume"]:
        resume(sys.argv[2])
    else:
        main()
