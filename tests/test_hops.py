"""How far a reader has to go: the files of the package that a step of an optimizer runs through."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_addons_l6
from keras_addons_l6 import optimizers

PACKAGE = Path(keras_addons_l6.__file__).parent
MOST = 5


def files_of(run):
    """The package's files in which a function ran during `run`."""
    found = set()

    def profile(frame, event, argument):
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(str(PACKAGE)):
            found.add(str(Path(file).relative_to(PACKAGE)))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize("create", [optimizers.Adam, optimizers.Nesterov, optimizers.AdaGrad])
def test_a_step_in_fit_runs_through_five_files_at_most(create):
    """Tracing included, where the backend traces; what `build` makes once is not part of a step."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(create(), "mse")
    model.optimizer.build(model.trainable_variables)
    x = np.ones((4, 3), "float32")
    files = files_of(lambda: model.fit(x, x[:, :2], epochs=1, verbose=0))
    assert f"optimizers/{create.__name__.lower()}.py" in files, "nothing was watched"
    assert len(files) <= MOST, sorted(files)
