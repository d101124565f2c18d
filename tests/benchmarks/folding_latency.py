"""Latency of inference before and after folding: a Markdown table for the active backend and its runtimes.

    KERAS_BACKEND=tensorflow python tests/benchmarks/folding_latency.py
    KERAS_BACKEND=jax python tests/benchmarks/folding_latency.py --models MobileNetV2 --batches 1
    KERAS_BACKEND=torch python tests/benchmarks/folding_latency.py --smoke

One process measures one backend. A case runs the model before folding and the folded one in turn, so that
both see the same machine; a row gives both medians and their ratio (above 1: folding made it faster).
`--smoke` takes small images and few runs, to see that the script works: its numbers mean nothing.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_addons_l6.folding import fold_batch_norm
from keras_addons_l6.folding.exporting.repair import export_mended
from keras_addons_l6.folding.exporting.runtimes import RUNTIMES, Feed

MODELS = ("ResNet50", "MobileNetV2", "EfficientNetB0", "DenseNet121")
SUFFIXES = {"tf_saved_model": "", "onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "torch": ".pt2"}
Call = Callable[[], object]


def build(name: str, size: int) -> keras.Model:
    """An application with random weights and BatchNorm statistics away from their initial values."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (np.shape(w) for w in layer.get_weights())
            layer.set_weights(
                [
                    rng.uniform(0.8, 1.2, gamma),
                    rng.normal(0, 0.1, beta),
                    rng.normal(0, 0.1, mean),
                    rng.uniform(0.8, 1.2, variance),
                ]
            )
    return model


def compiled(model: keras.Model, x: np.ndarray) -> Call:
    """One inference as the backend runs it best without further tools: tf.function, jax.jit, eager torch."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        function, tensor = tf.function(lambda t: model(t, training=False)), tf.constant(x)
        return lambda: function(tensor).numpy()
    if backend == "jax":
        import jax

        function = jax.jit(lambda t, n, x: model.stateless_call(t, n, x, training=False)[0])
        trained, others = (
            [v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)
        )
        tensor = jax.numpy.asarray(x)
        return lambda: function(trained, others, tensor).block_until_ready()
    import torch

    tensor = torch.as_tensor(x)

    def run() -> object:
        with torch.inference_mode():
            return model(tensor, training=False)

    return run


def artifact(model: keras.Model, x: np.ndarray, format: str, folder: str) -> Call:
    """One inference of the exported model in its runtime."""
    path = Path(folder, model.name + SUFFIXES[format])
    signature = [keras.InputSpec(shape=x.shape, dtype="float32", name="image")]
    export_mended(model, path, format, input_signature=signature)
    run = RUNTIMES[format][0].open(str(path))
    feed = Feed(x, [(("image",), x)])
    return lambda: run(feed)


def cases(before: keras.Model, after: keras.Model, x: np.ndarray) -> Iterator[tuple[str, Call, Call]]:
    """Each way to run the two models: a name, the model before folding, the folded one."""
    yield keras.config.backend(), compiled(before, x), compiled(after, x)
    for format in SUFFIXES:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            try:
                pair = artifact(before, x, format, one), artifact(after, x, format, other)
                pair[0](), pair[1]()
            except Exception as error:  # of the exporters' and runtimes' own kinds; export_folded says whose
                said = " ".join(str(error).split())[:120]
                print(f"<!-- {before.name}, {format}: {type(error).__name__}: {said} -->")
                continue
            yield f"{keras.config.backend()} to {RUNTIMES[format][0].name}", *pair


def milliseconds(before: Call, after: Call, runs: int) -> tuple[float, float]:
    """Medians of alternating runs, after a tenth of them to warm up."""
    times: tuple[list[float], list[float]] = [], []
    for turn in range(-max(2, runs // 10), runs):
        for call, kept in zip((before, after), times, strict=True):
            start = time.perf_counter()
            call()
            if turn >= 0:
                kept.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 8))
    parser.add_argument("--size", type=int, default=96, help="height and width of the images")
    parser.add_argument("--runs", type=int, default=100, help="timed runs of each model in each case")
    parser.add_argument("--smoke", action="store_true", help="32 x 32 images, batch 1, 3 runs")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.size, arguments.runs, arguments.batches = 32, 3, (1,)
    print("| model | batch | run by | before, ms | after, ms | ratio |\n|---|---|---|---|---|---|")
    for name in arguments.models:
        before = build(name, arguments.size)
        after = fold_batch_norm(before)
        for batch in arguments.batches:
            x = (
                np.random.default_rng(batch)
                .normal(size=(batch, arguments.size, arguments.size, 3))
                .astype("float32")
            )
            for runner, *calls in cases(before, after, x):
                old, new = milliseconds(*calls, arguments.runs)
                print(
                    f"| {name} | {batch} | {runner} | {old:.1f} | {new:.1f} | {old / new:.2f} |", flush=True
                )


if __name__ == "__main__":
    main()
