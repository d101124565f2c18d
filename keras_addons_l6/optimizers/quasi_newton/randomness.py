"""Tells whether a model's layers drew random numbers."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_addons_l6.keras_private import seed_states
from keras_addons_l6.optimizers.quasi_newton.slots import numpy_of

RANDOM = (
    "Layers of the model draw random numbers in training ({names}), so the loss is another function at each "
    "evaluation. LBFGS needs the same one: set their rate to 0, or remove them."
)


class RandomStates:
    """The states of a model's seed generators at one time.

    Args:
        model: A built model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._before = self._now()

    def _now(self) -> dict[str, np.ndarray]:
        return {v.path: numpy_of(v) for v in seed_states(self._model)}

    def changed_with_warning(self) -> bool:
        """Whether numbers were drawn since; if so, a warning names where."""
        now = self._now()
        # Torch draws for a layer from its own generator, so there a layer's seed says only that it draws.
        known = keras.backend.backend() == "torch"
        drawn = [path for path, seed in self._before.items() if known or not np.array_equal(seed, now[path])]
        if drawn:
            warnings.warn(RANDOM.format(names=", ".join(drawn)), stacklevel=3)
        return bool(drawn)
