"""A training that is killed at any step and restarted from its backup ends where an undisturbed one does."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.crash.training import OPTIMIZERS, steps

LIMIT_SECONDS = 300


def run_to_the_end(directory, kills):
    """Start the training as often as it is killed; return how often that was."""
    directory.mkdir()
    (directory / "kills.json").write_text(json.dumps(kills))
    deaths = 0
    while True:
        process = subprocess.run(
            [sys.executable, "-m", "tests.crash.training", str(directory)],
            cwd=Path(__file__).parents[2],
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
        if process.returncode == 0:
            return deaths
        assert process.returncode == -signal.SIGKILL, process.stderr[-4000:]
        deaths += 1
        assert deaths <= sum(map(len, kills.values())), "it was killed more often than told"


def kill_points(name, count):
    """`count` steps in order, drawn from all but the last; the seed is the optimizer's place in the list."""
    random = np.random.default_rng(list(OPTIMIZERS).index(name))
    return sorted(random.choice(steps(name) - 1, count, replace=False).tolist())


def assert_same_end(directory, undisturbed, name):
    with np.load(directory / f"{name}.npz") as ended, np.load(undisturbed / f"{name}.npz") as expected:
        assert set(ended) == set(expected)
        for key in expected:
            np.testing.assert_array_equal(ended[key], expected[key], err_msg=f"{name}, variable {key}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Where each optimizer ends when nothing happens."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run_to_the_end(directory, {name: [] for name in OPTIMIZERS}) == 0
    return directory


def test_one_kill_each_changes_no_bit(undisturbed, tmp_path):
    kills = {name: kill_points(name, 1) for name in OPTIMIZERS}
    assert run_to_the_end(tmp_path / "run", kills) == len(OPTIMIZERS)
    for name in OPTIMIZERS:
        assert_same_end(tmp_path / "run", undisturbed, name)


@pytest.mark.full
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_kills_change_no_bit(undisturbed, tmp_path, name):
    assert run_to_the_end(tmp_path / "run", {name: kill_points(name, 20)}) == 20
    assert_same_end(tmp_path / "run", undisturbed, name)
