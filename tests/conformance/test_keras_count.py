"""How many of Keras's tests run on our classes."""

from tests.conformance import test_keras_layers, test_keras_optimizers
from tests.conformance.keras_modules import TALLY


def test_count(capsys):
    """Every module contributes; the line says how many tests, and how many differ on purpose."""
    assert test_keras_layers
    assert test_keras_optimizers
    with capsys.disabled():
        print("\nKeras's own tests on our classes:")
        for module, tests in sorted(TALLY.collected.items()):
            print(f"  {module}: {tests} tests, {TALLY.differing.get(module, 0)} differ on purpose")
        print(
            f"  in all {sum(TALLY.collected.values())}; not in this Keras: {', '.join(TALLY.absent) or 'none'}"
        )
    assert all(TALLY.collected.values())
