"""Tells whether a model's layers drew random numbers."""

import warnings
from typing import Any

import numpy as np
from keras import ops

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
        seeds = [v for v in self._model.non_trainable_variables if v.name == "seed_generator_state"]
        return {v.path: ops.convert_to_numpy(v) for v in seeds}

    def changed_with_warning(self) -> bool:
        """Whether numbers were drawn since; if so, a warning names where."""
        now = self._now()
        drawn = [path for path, before in self._before.items() if not np.array_equal(before, now[path])]
        if drawn:
            warnings.warn(RANDOM.format(names=", ".join(drawn)), stacklevel=3)
        return bool(drawn)
