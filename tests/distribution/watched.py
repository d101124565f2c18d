"""Run by test_jax.py and test_tensorflow.py: a training on two devices, with and without `TrainingHealth`, as JSON."""

import contextlib
import json
import math
import warnings

import keras
import numpy as np

from keras_addons_l6 import Adam, TrainingHealth
from tests.distribution import problem


def two_devices():
    """What a training on two devices runs in."""
    if keras.backend.backend() == "jax":
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(devices=keras.distribution.list_devices("cpu"))
        )
        return contextlib.nullcontext()
    import tensorflow as tf

    from tests.distribution.tensorflow_mirrored import split_the_cpu

    split_the_cpu()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()


def trained(callbacks):
    """All variables after three epochs."""
    model = problem.network(problem.batch_norm())
    model.compile(Adam(0.01), "mse")
    x, y = problem.data()
    model.fit(x, y, batch_size=16, shuffle=False, epochs=3, verbose=0, callbacks=callbacks)
    return problem.flat(model)


def main():
    """Print the weights with and without, and how many numbers of the last look are missing."""
    warnings.simplefilter("ignore")
    with two_devices():
        alone = trained([])
        x, y = problem.data()
        health = TrainingHealth((x[:7], y[:7]))  # an odd number of samples, which no two devices share
        watched = trained([health])
    look = health.history[-1]
    numbers = [*look.totals().values(), *(v.gradient_norm for v in look.variables)]
    print(
        json.dumps(
            {
                "same": bool(np.array_equal(alone, watched)),
                "looks": len(health.history),
                "missing": sum(not math.isfinite(number) for number in numbers),
            }
        )
    )


if __name__ == "__main__":
    main()
