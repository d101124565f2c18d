"""The table of what runs for every change names tests that exist, and leaves none without a backend by accident."""

from pathlib import Path

from tests import quick

REPOSITORY = Path(__file__).parents[1]


def test_every_row_names_tests_that_exist():
    for row in quick.ROWS:
        path, _, name = row.tests.partition("::")
        assert (REPOSITORY / path).exists(), row
        found = (REPOSITORY / path).read_text() if name else ""
        assert all(part in found for part in name.split("::")), row


def test_a_row_lets_its_backends_and_every_so_many_run():
    row = quick.Quick("tests/folding/test_awkward_models.py", ("torch",), one_in=8)
    assert row in quick.ROWS
    test = row.tests + "::test_fold[add]"
    assert not any(quick.waits(test, number, "torch") for number in range(10))
    assert [number for number in range(10) if not quick.waits(test, number, "jax")] == [0, 8]
    assert not quick.waits("tests/layers/test_selu.py::test_value", 3, "jax")
