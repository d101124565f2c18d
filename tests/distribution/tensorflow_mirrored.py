"""Run by test_tensorflow.py: trains on one and on two logical CPU devices, and prints both ends as JSON."""

import json

import tensorflow as tf

from tests.distribution import problem


def split_the_cpu():
    """Make two logical devices of the one CPU, before TensorFlow starts it."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def main():
    """Print, by optimizer, the weights on one device and on two."""
    split_the_cpu()
    problem.use_float64()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    cases = {name: (make, None) for name, make in problem.OPTIMIZERS.items()}
    cases["BatchNorm"] = problem.OPTIMIZERS["Adam"], lambda: problem.batch_norm(synchronized=True)
    results = {}
    for name, (make, layer) in cases.items():
        alone = problem.flat(problem.fitted(make(), layer and problem.batch_norm()))
        with strategy.scope():
            spread = problem.flat(problem.fitted(make(), layer and layer()))
        results[name] = {"alone": alone, "spread": spread}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
