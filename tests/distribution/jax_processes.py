"""Run by test_jax.py, twice at once: one of two processes on loopback; prints its end."""

import json
import os

import keras

from tests.distribution import problem


def main():
    """Print, by optimizer, the weights of a training with half of the samples in each process."""
    problem.use_float64()
    process = int(os.environ["PROCESS"])
    keras.distribution.initialize(os.environ["COORDINATOR"], 2, process)
    # Each process is given its own half, and so nothing is left to shard.
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    half = problem.SAMPLES // 2
    part = slice(process * half, (process + 1) * half)
    results = {
        name: {"spread": problem.flat(problem.fitted(make(), part=part))}
        for name, make in problem.OPTIMIZERS.items()
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
