"""
Fold BatchNorm away, and compare every exported file
====================================================

In inference BatchNorm is a fixed scale and shift of each channel, and the convolution or dense layer beside
it can take both into its weights. Two models here, a small one trained on scikit-learn's digits and a
MobileNetV2, are folded, exported in every format that works on this backend, reloaded in the format's own
runtime and compared with the model before folding; then latency is measured before and after.
"""

import statistics
import tempfile
import time
import warnings
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_addons_l6 as l6
from keras_addons_l6.folding import FoldingError, export_folded, fold_batch_norm, inspect_batch_norm
from keras_addons_l6.folding.exporting.runtimes import RUNTIMES, Feed

keras.utils.set_random_seed(1)
folder = Path(tempfile.mkdtemp())
backend = keras.config.backend()

# %%
# A model to fold
# ---------------
# Two convolutions and a dense layer, each with a BatchNorm behind it, trained for a few epochs.

images, labels = load_digits(return_X_y=True)
images = (images / 16).reshape(-1, 8, 8, 1).astype("float32")
train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.25, random_state=1)

digits = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(16, 3, padding="same", use_bias=False),
        l6.BatchNorm(),
        l6.PReLU(),
        keras.layers.Conv2D(32, 3, strides=2, use_bias=False),
        l6.BatchNorm(),
        l6.PReLU(),
        keras.layers.Flatten(),
        keras.layers.Dense(64, use_bias=False),
        l6.BatchNorm(),
        l6.Swish(),
        keras.layers.Dense(10),
    ],
    name="digits",
)
digits.compile(
    optimizer=l6.Adam(2e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
digits.fit(train_x, train_y, batch_size=64, epochs=8, verbose=0)

# %%
# What would happen, before anything does: one row for each BatchNorm.

print(inspect_batch_norm(digits))

# %%
# Folding checks itself: it runs both models on random inputs, and raises ``FoldingError`` if they differ by
# more than rounding explains. On the digits the answers are the same.

folded = fold_batch_norm(digits)
before, after = (model.predict(test_x, verbose=0) for model in (digits, folded))
for when, model in (("before", digits), ("after", folded)):
    print(f"BatchNorms {when} folding: {sum(isinstance(layer, l6.BatchNorm) for layer in model.layers)}")
for when, logits in (("before", before), ("after", after)):
    print(f"accuracy {when} folding: {np.mean(logits.argmax(1) == test_y):.4f}")
print(f"largest difference of a logit: {np.abs(before - after).max():.1e}, of {np.abs(before).max():.1f}")

# %%
# MobileNetV2
# -----------
# Untrained, so its BatchNorms get scales and shifts by chance, and the averages of a batch by chance: its outputs
# then differ from image to image, and a wrong fold would show. All 52 BatchNorm layers go.

mobile = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
rng = np.random.default_rng(1)
for layer in mobile.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.set_weights([rng.uniform(0.8, 1.2, w.shape) for w in layer.get_weights()])
        layer.momentum = 0.0  # its averages become those of the next batch
mobile(rng.normal(size=(32, 96, 96, 3)).astype("float32"), training=True)
report = inspect_batch_norm(mobile)
print(f"{len(report.folded)} folded, {len(report.kept)} kept; the first:")
for row in report.folded[:3]:
    print(f"  {row.layer} into {', '.join(row.into)}: {row.reason}")

# %%
# Export
# ------
# ``export_folded`` folds, exports beside the destination, reloads the artifact in its own runtime, compares
# it with the model before folding, and only then moves it to its place. Where it cannot, it says in one line
# who is at fault, and leaves nothing behind.

SUFFIXES = {"tf_saved_model": "", "onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "torch": ".pt2"}
exported = {}
for model in (digits, mobile):
    for format, suffix in SUFFIXES.items():
        try:
            exported[model.name, format] = export_folded(
                model, folder / f"{model.name}{suffix}", format, verbose=0
            )
        except (FoldingError, ValueError) as error:
            print(f"{model.name}, {format}: no: {error}")
        else:
            result = exported[model.name, format]
            error = "not seen" if result.difference is None else f"{result.difference:.1e}"
            print(f"{model.name}, {format}: {result.size / 1e6:.2f} MB, largest difference {error}")

# %%
# Latency
# -------
# MobileNetV2 at batch 1, run in turn before and after folding: by Keras's own ``predict_on_batch``, and by
# each runtime on the artifact of the model before folding and of the folded one. Runtimes that fold BatchNorm
# themselves gain nothing here; the others do.

image = rng.normal(size=(1, 96, 96, 3)).astype("float32")


def by_keras(model):
    return lambda: model.predict_on_batch(image)


def by_runtime(path, format):
    run = RUNTIMES[format][0].open(str(path))
    return lambda: run(Feed(image, [(("image",), image)]))


def export_unfolded(format):
    path = folder / f"unfolded{SUFFIXES[format]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mobile.export(str(path), format=format, verbose=False)
    return path


def medians(first, second, runs=40, warm_up=5):
    """Median times of two calls, run in turn, in milliseconds."""
    times = ([], [])
    for _ in range(warm_up + runs):
        for call, kept in zip((first, second), times, strict=True):
            start = time.perf_counter()
            call()
            kept.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(kept[warm_up:]) for kept in times]


latency = {f"Keras ({backend})": medians(by_keras(mobile), by_keras(fold_batch_norm(mobile)))}
for (name, format), result in exported.items():
    if name == mobile.name and result.reloaded:
        unfolded = by_runtime(export_unfolded(format), format)
        latency[result.runtimes[0]] = medians(unfolded, by_runtime(result.path, format))
for name, (old, new) in latency.items():
    print(f"{name:25} {old:6.1f} ms before, {new:6.1f} ms after, ratio {old / new:.2f}")

# %%

places = np.arange(len(latency))
figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
for shift, which, label in ((-0.2, 0, "before folding"), (0.2, 1, "after folding")):
    bars = axes.bar(places + shift, [times[which] for times in latency.values()], width=0.38, label=label)
    axes.bar_label(bars, fmt="%.1f", padding=2)
axes.set_xticks(places, [name.replace(" ", "\n", 1) for name in latency])
axes.set_ylabel("latency, ms (median of 40)")
axes.set_title(f"MobileNetV2, 96 by 96, batch 1, exported from the {backend} backend")
axes.margins(y=0.12)
axes.legend()
plt.show()
