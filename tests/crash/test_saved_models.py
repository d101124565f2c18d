"""What an earlier version saved loads in this one, on any backend: outputs, optimizer state, and further training."""

import keras
import numpy as np
import pytest

from tests.fixtures.saved_models import write

FILES = sorted(write.HERE.glob("*/*.keras"))


def test_this_version_left_its_files():
    """A new version writes its own folder (`python -m tests.fixtures.saved_models.write`)."""
    import keras_addons_l6

    assert {f.stem for f in FILES if f.parent.name == keras_addons_l6.__version__} == set(write.OPTIMIZERS)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_saved_model_loads_and_goes_on(file):
    model = keras.saving.load_model(file)
    with np.load(file.with_suffix(".npz")) as saved:
        expected = dict(saved)
    state = model.optimizer.variables
    assert len(state) == len(expected) - 2
    for i, variable in enumerate(state):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(variable), expected[f"state_{i}"], err_msg=variable.path
        )
    found = write.record(model)
    # Outputs of order one in float32 through nine layers; backends differ by some roundings, 1e-6.
    np.testing.assert_allclose(found["outputs"], expected["outputs"], rtol=0, atol=1e-5)
    # Three more steps multiply that by what rates and curvature allow, about ten.
    np.testing.assert_allclose(found["later"], expected["later"], rtol=0, atol=1e-4)
