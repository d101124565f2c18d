"""Starts the scripts of this folder in processes of their own, with a limit in time, on loopback only."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

LIMIT_SECONDS = 300
REPOSITORY = Path(__file__).parents[2]


def run(script, *arguments, environments=({},)):
    """Run `script` once for each environment at the same time; return the JSON each prints last."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"tests.distribution.{script}", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments
    ]
    try:
        outputs = [process.communicate(timeout=LIMIT_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-6000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in outputs]


def free_ports(count):
    """Ports on loopback that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def assert_same_path(name, result):
    """Hold the weights of a spread training to those of the same training on one device.

    Both run in float64, their sums in another order: 4e-16 was the most over 12 steps of any first-order
    rule; 1e-12 leaves room for other machines. A curvature pair is a difference of gradients and quasi-Newton
    methods divide by its inner products, so that its error may grow tenfold from step to step.
    """
    tolerance = 1e-6 if name in ("LBFGS", "BFGS") else 1e-12
    np.testing.assert_allclose(
        result["spread"], result["alone"], rtol=tolerance, atol=tolerance, err_msg=name
    )
