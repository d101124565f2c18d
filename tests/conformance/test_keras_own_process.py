"""Keras's own tests that need a process each: exports, averaged weights, two devices."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from tests.conformance.own_process import MODULE_VARIABLE, MODULES

HERE = [
    pytest.param(name, marks=[pytest.mark.full] if module.long else [], id=name)
    for name, module in MODULES.items()
    if keras.config.backend() in module.backends
]


@pytest.mark.parametrize("module", HERE)
def test_module_passes_on_ours(module, capsys):
    if importlib.util.find_spec(f"keras.src.{module}") is None:
        pytest.skip(f"Keras {keras.__version__} does not ship {module}")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--tb=short",
            "tests/conformance/run_in_own_process.py",
        ],
        cwd=Path(__file__).parents[2],
        env={**os.environ, MODULE_VARIABLE: module, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    with capsys.disabled():
        print(f"\nKeras's {module} on ours: {run.stdout.splitlines()[-1]}")
    assert int(re.search(r"(\d+) passed", run.stdout).group(1)) > 0
