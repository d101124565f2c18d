"""Training in two processes with torch's DDP takes the single-process path."""

import keras
import pytest

from tests.distribution import worker

pytestmark = pytest.mark.skipif(keras.config.backend() != "torch", reason="DDP is torch's")


def test_two_processes_with_every_optimizer():
    (port,) = worker.free_ports(1)
    loopback = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    first, second = worker.run("torch_processes", environments=[{**loopback, "RANK": rank} for rank in "01"])
    assert set(first) == {"Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW", "LBFGS", "BFGS"}
    for name, result in first.items():
        worker.assert_same_path(name, result)
        assert result["spread"] == second[name]["spread"], f"{name}: the processes' weights differ"
