"""Run by test_tensorflow.py, twice at once: a worker on loopback; prints its end, and that of one."""

import json
import os

import tensorflow as tf

from tests.distribution import problem


def main():
    """Print, by optimizer, the weights this worker ends with and those of a training in one process."""
    problem.use_float64()
    # The strategy must be the first thing TensorFlow does: it starts the servers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    results = {}
    for name, make in problem.OPTIMIZERS.items():
        with strategy.scope():
            spread = problem.flat(fitted_by_hand(strategy, make()))
        results[name] = {"spread": spread, "alone": problem.flat(problem.fitted(make()))}
    print(json.dumps(results))


def fitted_by_hand(strategy, optimizer):
    """The network after STEPS steps, each worker with its half of the samples, in a `strategy.run` loop."""
    model = problem.network()
    optimizer.build(model.trainable_variables)
    x, y = problem.data()
    half = problem.SAMPLES // strategy.num_replicas_in_sync
    mine = slice(*(half * (json.loads(os.environ["TF_CONFIG"])["task"]["index"] + end) for end in (0, 1)))
    x, y = tf.constant(x[mine]), tf.constant(y[mine])

    @tf.function
    def step():
        def of_one_replica():
            with tf.GradientTape() as tape:
                # Each replica's loss is its part of the mean over all samples.
                loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / problem.SAMPLES
                loss = optimizer.scale_loss(loss)
            gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
            optimizer.apply(gradients, model.trainable_variables)

        strategy.run(of_one_replica)

    for _ in range(problem.STEPS):
        step()
    optimizer.finalize_variable_values(model.trainable_variables)
    return model


if __name__ == "__main__":
    main()
