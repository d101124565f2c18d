"""Breaks one thing at a time in a copy of the package, and shows that the suite notices each."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from tests.planted_faults import FAULTS

REPOSITORY = Path(__file__).parents[1]
# A few of each part for every change; which, is no matter, since all of them run under `full`.
FOR_EVERY_CHANGE = {
    "Adam's epsilon before bias correction",
    "PReLU's alpha without a gradient",
    "BatchNorm's running mean stale",
    "a swapped pair in the history",
    "a sign in the line search",
    "a shift lost through padding",
}
TESTS_FAILED = 1  # pytest's exit status; a test that cannot even be collected has another
HERE = [fault for fault in FAULTS if fault.backend == keras.config.backend()]


def test_every_fault_has_its_own_name_and_its_place_in_the_source():
    """A fault whose text is gone plants nothing: it must be moved with the code."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
    assert {fault.name for fault in FAULTS} >= FOR_EVERY_CHANGE
    lost = [f.name for f in FAULTS if (REPOSITORY / "keras_addons_l6" / f.file).read_text().count(f.old) != 1]
    assert not lost, f"these occur not exactly once in their file: {lost}"


def copied(directory):
    """A copy of the package, and the tests beside it."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "keras_addons_l6", directory / "keras_addons_l6", ignore=skip)
    shutil.copytree(REPOSITORY / "tests", directory / "tests", ignore=skip)
    shutil.copy(REPOSITORY / "pyproject.toml", directory)


def planted(fault, directory):
    """A copy of the package with the fault."""
    copied(directory)
    file = directory / "keras_addons_l6" / fault.file
    file.write_text(file.read_text().replace(fault.old, fault.new))


def run_tests(tests, directory):
    """Run pytest on `tests` beside the copy of the package."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not full", "--tb=line", *shlex.split(tests)],
        cwd=directory,
        env={**os.environ, "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:xdist", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.full
@pytest.mark.parametrize("tests", sorted({fault.tests for fault in HERE}))
def test_without_a_fault_the_same_tests_pass(tests, tmp_path):
    """Else a fault would seem noticed by tests that fail anyway."""
    copied(tmp_path)
    run = run_tests(tests, tmp_path)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, id=f.name, marks=[] if f.name in FOR_EVERY_CHANGE else [pytest.mark.full])
        for f in HERE
    ],
)
def test_fault_is_noticed(fault, tmp_path):
    planted(fault, tmp_path)
    run = run_tests(fault.tests, tmp_path)
    assert run.returncode == TESTS_FAILED, f"not noticed:\n{run.stdout[-3000:]}{run.stderr[-1000:]}"
