"""Training under `tf.distribute`, on two devices and in two processes, takes the single-device path."""

import json

import keras
import pytest

from tests.distribution import worker

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute is TensorFlow's"
)


def test_mirrored_on_two_devices_with_every_optimizer_and_synchronized_batch_norm():
    (results,) = worker.run("tensorflow_mirrored")
    assert set(results) == {"Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW", "LBFGS", "BFGS", "BatchNorm"}
    for name, result in results.items():
        worker.assert_same_path(name, result)


def test_two_workers_with_every_optimizer():
    addresses = [f"127.0.0.1:{port}" for port in worker.free_ports(2)]
    environments = [
        {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}})}
        for i in (0, 1)
    ]
    first, second = worker.run("tensorflow_worker", environments=environments)
    assert set(first) == {"Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW", "LBFGS", "BFGS"}
    for name, result in first.items():
        worker.assert_same_path(name, result)
        assert result["spread"] == second[name]["spread"], f"{name}: the workers' weights differ"


def test_a_watched_training_on_two_devices_is_the_same_to_the_bit():
    (result,) = worker.run("watched")
    assert result == {"same": True, "looks": 4, "missing": 0}
