"""Largest error of each normalization against float64, ours and Keras's, by backend and offset, as Markdown.

python -m tests.benchmarks.numerics            # all three backends, one process each
KERAS_BACKEND=jax python -m tests.benchmarks.numerics --one
"""

import os
import subprocess
import sys

BACKENDS = ("tensorflow", "jax", "torch")
OFFSETS = (0.0, 1e2, 1e3, 1e4)
SHAPE = (16, 56, 56, 64)  # channels last, the layout that native kernels fail in
GROUPS = 8


def reference(x, axes):
    """Normalize a float32 array in float64 over `axes`."""
    import numpy as np

    x = x.astype("float64")
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def rows():
    """Yield (layer, who, largest error by offset) on the active backend."""
    import keras
    import numpy as np
    from keras import ops

    import keras_addons_l6 as l6

    base = np.random.default_rng(0).normal(size=SHAPE)
    layers = {
        "BatchNorm": (l6.BatchNorm(), keras.layers.BatchNormalization(epsilon=1e-5), True),
        f"GroupNorm({GROUPS})": (
            l6.GroupNorm(GROUPS),
            keras.layers.GroupNormalization(GROUPS, epsilon=1e-5),
            False,
        ),
        "InstanceNorm": (l6.InstanceNorm(), keras.layers.GroupNormalization(-1, epsilon=1e-5), False),
        "LayerNorm": (l6.LayerNorm(), keras.layers.LayerNormalization(epsilon=1e-5), False),
    }
    for name, (ours, theirs, training) in layers.items():
        for who, layer in (("ours", ours), ("Keras", theirs)):
            errors = []
            for offset in OFFSETS:
                x = (base + offset).astype("float32")
                y = ops.convert_to_numpy(layer(x, training=True) if training else layer(x))
                errors.append(np.abs(y - expected(name, x)).max())
            yield name, who, errors


def expected(name, x):
    """Return what the layer of this name should give for `x`."""
    if name == "BatchNorm":
        return reference(x, (0, 1, 2))
    if name == "InstanceNorm":
        return reference(x, (1, 2))
    if name == "LayerNorm":
        return reference(x, (3,))
    grouped = x.reshape(*x.shape[:3], GROUPS, -1)
    return reference(grouped, (1, 2, 4)).reshape(x.shape)


def one():
    """Print the rows of the active backend."""
    import keras

    for name, who, errors in rows():
        print(
            f"| {keras.config.backend()} | {name} | {who} | " + " | ".join(f"{e:.1e}" for e in errors) + " |",
            flush=True,
        )


def main():
    """Print the table, one backend after the other."""
    offsets = " | ".join(f"{offset:g}" for offset in OFFSETS)
    print(f"| backend | layer | whose | {offsets} |\n|" + "---|" * (3 + len(OFFSETS)), flush=True)
    for backend in BACKENDS:
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "tests.benchmarks.numerics", "--one"]
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    one() if "--one" in sys.argv else main()
