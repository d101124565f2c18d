"""The import is quick, brings no backend but the active one, and leaves the public names in place."""

import json
import os
import statistics
import subprocess
import sys

import keras
import pytest

import keras_addons_l6

# What no backend changes is run on one.
once = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="the same on every backend; torch runs it"
)

BACKENDS = {"tensorflow", "jax", "torch"}

MEASURE = """
import json, sys, time
import keras
before = set(sys.modules)
start = time.process_time()
import keras_addons_l6
seconds = time.process_time() - start
print(json.dumps([seconds, sorted({name.partition(".")[0] for name in set(sys.modules) - before})]))
"""


def import_in_new_process(bytecode):
    """Seconds and packages of an import in a new process, with compiled files under `bytecode`, as installing leaves them."""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(bytecode)}
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env=env)
    return json.loads(run.stdout.splitlines()[-1])


def test_import_costs_less_than_50_milliseconds_over_keras(tmp_path, capsys):
    """Processor time, which other programs do not stretch; the least of five runs is the import's own."""
    import_in_new_process(tmp_path)  # compiles
    seconds = [import_in_new_process(tmp_path)[0] for _ in range(5)]
    with capsys.disabled():
        print(
            f"\nimport keras_addons_l6 over import keras: least {1e3 * min(seconds):.1f} ms, "
            f"median {1e3 * statistics.median(seconds):.1f} ms"
        )
    assert min(seconds) < 0.050


def test_import_brings_no_backend_but_the_active_one(backend, tmp_path):
    _, packages = import_in_new_process(tmp_path)
    assert BACKENDS.intersection(packages) <= {backend}


def run_on(backend, code):
    """What a new process on a backend prints last, or the last line of its error."""
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    return (run.stdout or run.stderr).strip().splitlines()[-1]


INFERENCE_ELSEWHERE = """
import keras, numpy as np
import keras_addons_l6 as l6
x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
print(np.asarray(l6.SELU()(l6.GroupNorm(groups=2)(x))).shape)
"""
MINIMIZE_ELSEWHERE = """
import numpy as np
import keras_addons_l6 as l6
try:
    l6.minimize(lambda x: (x * x).sum(), np.ones(3, "float32"))
except NotImplementedError as error:
    print(error)
"""


@once
def test_another_backend_runs_layers_and_is_told_which_ones_train():
    assert run_on("numpy", INFERENCE_ELSEWHERE) == "(4, 6)"
    said = run_on("numpy", MINIMIZE_ELSEWHERE)
    assert "numpy" in said
    assert "tensorflow, jax or torch" in said


@once
def test_a_package_imported_but_not_used_shows_what_it_has():
    names = run_on("numpy", "import keras_addons_l6; print(*dir(keras_addons_l6))").split()
    assert set(keras_addons_l6.__all__) <= set(names)
    assert not {"Any", "TYPE_CHECKING", "importlib"} & set(names)


def test_every_public_name_is_there():
    assert all(hasattr(keras_addons_l6, name) for name in keras_addons_l6.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fold'"):
        keras_addons_l6.fold  # noqa: B018
