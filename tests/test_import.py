"""The import is quick, brings no backend but the active one, and leaves the public names in place."""

import json
import os
import statistics
import subprocess
import sys

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


def import_in_new_process():
    run = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env=os.environ
    )
    return json.loads(run.stdout.splitlines()[-1])


def test_import_costs_less_than_50_milliseconds_over_keras(capsys):
    """Processor time, which other programs do not stretch; the least of five runs is the import's own."""
    seconds = [import_in_new_process()[0] for _ in range(5)]
    with capsys.disabled():
        print(
            f"\nimport keras_addons_l6 over import keras: least {1e3 * min(seconds):.1f} ms, "
            f"median {1e3 * statistics.median(seconds):.1f} ms"
        )
    assert min(seconds) < 0.050


def test_import_brings_no_backend_but_the_active_one(backend):
    _, packages = import_in_new_process()
    assert BACKENDS.intersection(packages) <= {backend}
