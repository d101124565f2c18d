"""Which tests run for every change on which backend; the others wait for `.ci/run --full`, which runs all of them on all.

A row names tests by the beginning of their ids and the backends that run them for every change: one, where no backend
changes what is tested; none, where a test has a process or minutes of its own. `one_in` lets every so many of a long table
run everywhere, so that a mistake in a backend's own part still shows.
"""

from typing import NamedTuple

from keras_addons_l6.backends import SUPPORTED


class Quick(NamedTuple):
    """The tests whose ids begin like this, where they run for every change, and how many of them run there anyway."""

    tests: str
    backends: tuple[str, ...] = ()
    one_in: int | None = None


ROWS = [
    # in processes of their own
    Quick("tests/conformance/test_keras_own_process.py"),
    Quick("tests/conformance/", ("torch",)),
    Quick("tests/crash/test_kill_and_resume.py"),
    Quick("tests/distribution/"),
    Quick("tests/benchmarks/test_benchmarks.py::test_part_times"),
    Quick("tests/benchmarks/test_benchmarks.py::test_wall_time"),
    Quick("tests/benchmarks/test_benchmarks.py::test_ten_million"),
    Quick("tests/benchmarks/test_benchmarks.py::test_folding_first"),
    Quick("tests/benchmarks/", ("torch",)),
    Quick("tests/test_import.py::test_import_costs"),
    Quick("tests/test_import.py", ("torch",)),
    Quick("tests/test_command_line.py", ("torch",)),
    Quick("tests/test_docstrings.py", ("torch",)),
    Quick("tests/test_map.py", ("torch",)),
    Quick("tests/test_migrating.py", ("torch",)),
    Quick("tests/test_claims.py::test_adamw"),
    Quick("tests/test_claims.py::test_tf_keras", ("tensorflow",)),
    Quick("tests/test_claims.py", ("torch",)),
    Quick("tests/test_release.py", ("torch",)),
    Quick("tests/test_notebooks.py::test_runs"),
    Quick("tests/test_notebooks.py", ("torch",)),
    Quick("tests/test_snippets.py::test_long_page_runs"),
    Quick("tests/test_snippets.py::test_index_runs", ("tensorflow",)),
    Quick("tests/test_snippets.py", ("torch",)),
    # long tables of which every fourth shows a mistake in a backend's part
    Quick("tests/test_every_layer.py", ("torch",), one_in=4),
    Quick("tests/test_every_optimizer.py", ("torch",), one_in=4),
    Quick("tests/backends/test_numerics.py", ("torch",), one_in=2),
    Quick("tests/properties/test_layers.py", ("torch",), one_in=3),
    # what arguments, names, paths and texts decide is no backend's business
    Quick("tests/test_bad_input.py", ("torch",), one_in=10),
    Quick("tests/test_keras_private.py", ("torch",), one_in=5),
    Quick("tests/test_lecture.py", ("torch",), one_in=5),
    Quick("tests/optimizers/test_arguments.py", ("torch",), one_in=10),
    Quick("tests/optimizers/test_exclusions.py", ("torch",), one_in=5),
    Quick("tests/crash/test_saved_state.py", ("torch",), one_in=4),
    Quick("tests/crash/test_saved_models.py", ("torch",), one_in=3),
    Quick("tests/precision/test_training.py", ("torch",), one_in=3),
    # what the callback finds is NumPy's to decide; how tensors are got at differs
    Quick("tests/health/test_training_health.py::TestModels::test_a_loop_of_the_backend", SUPPORTED),
    Quick("tests/health/test_training_health.py", ("torch",), one_in=8),
    Quick("tests/health/", ("torch",), one_in=4),
    # what folding decides is no backend's business, and what it computes is NumPy's
    Quick("tests/folding/test_applications.py", ("torch",)),
    Quick("tests/folding/test_awkward_models.py", ("torch",), one_in=8),
    Quick("tests/folding/recording/", ("torch",), one_in=3),
    Quick("tests/folding/test_proof.py", ("torch",), one_in=4),
    Quick("tests/folding/test_promises.py", ("torch",), one_in=3),
    Quick("tests/folding/planning/", ("torch",), one_in=5),
    Quick("tests/folding/building/", ("torch",), one_in=5),
    Quick("tests/properties/test_folding.py", ("torch",), one_in=10),
    Quick("tests/export/test_destination.py", ("torch",)),
    # each artifact runs in a process of its own
    Quick("tests/export/test_export_folded.py", ("torch",), one_in=10),
    # every layer in every format: TensorFlow has the most formats
    Quick("tests/export/test_layers.py", ("tensorflow",), one_in=10),
    # L-BFGS's path is the same everywhere (TestPath holds it to that); torch compiles nothing
    Quick("tests/optimizers/quasi_newton/test_problems.py", ("torch",)),
    Quick("tests/optimizers/quasi_newton/test_bfgs.py", ("torch",), one_in=6),
    Quick("tests/optimizers/quasi_newton/test_full_batch.py::test_float32_at", SUPPORTED),
    # where programs are compiled, these are what can go wrong
    Quick("tests/optimizers/quasi_newton/test_full_batch.py::TestSameProgram", SUPPORTED),
    Quick("tests/optimizers/quasi_newton/test_minimize.py::TestData::test_where_the_start", SUPPORTED),
    # each backend tells by itself that nothing flows back
    Quick(
        "tests/optimizers/quasi_newton/test_minimize.py::TestRefused::test_a_loss_without_gradient", SUPPORTED
    ),
    # most of these compile a program or three, for seconds each; what they hold is said once for all backends
    Quick("tests/optimizers/quasi_newton/test_full_batch.py", ("torch",), one_in=6),
    Quick("tests/optimizers/quasi_newton/test_minimize.py", ("torch",), one_in=4),
    Quick("tests/optimizers/quasi_newton/test_optimizer_in_fit.py", ("torch",), one_in=6),
    Quick("tests/optimizers/quasi_newton/test_pairs.py", ("torch",), one_in=3),
    Quick("tests/optimizers/quasi_newton/test_iteration.py", ("torch",), one_in=3),
    Quick("tests/optimizers/quasi_newton/test_callbacks.py", ("torch",), one_in=3),
    Quick("tests/properties/test_optimizers.py", ("torch",), one_in=3),
    # each backend goes over H in its own way
    Quick("tests/optimizers/quasi_newton/test_inverse_hessian.py::TestPass", SUPPORTED),
    Quick("tests/optimizers/quasi_newton/test_inverse_hessian.py", ("torch",), one_in=4),
    Quick("tests/properties/test_lbfgs_runs.py", ("torch",), one_in=5),
]


def waits(test: str, number: int, backend: str) -> bool:
    """Whether a test, the `number`-th of its row, waits for the long run on a backend."""
    row = row_of(test)
    if row is None or backend in row.backends:
        return False
    return row.one_in is None or number % row.one_in != 0


def row_of(test: str) -> Quick | None:
    """The first row that a test's id begins like."""
    return next((row for row in ROWS if test.startswith(row.tests)), None)
