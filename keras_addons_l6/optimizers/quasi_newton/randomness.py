"""Tells whether a model's layers drew random numbers."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_addons_l6.keras_private import seed_states
from keras_addons_l6.optimizers.quasi_newton.slots import numpy_of

__all__ = ["RANDOM", "RandomStates", "warn_if_random"]

RANDOM = (
    "Layers of the model draw random numbers in training ({names}), so the loss is another function at each "
    "evaluation. a quasi-Newton method needs the same one: set their rate to 0, or remove them."
)


def warn_if_random(model: Any, variables: Sequence[Any], evaluate: Callable[[], Any]) -> bool:
    """Warn where an evaluation, whose updates are not kept, draws random numbers.

    Args:
        model: A built model.
        variables: Those that it does not train, seeds among them.
        evaluate: Evaluates its loss in training mode once; gives the loss and what it makes of the variables.
    """
    seeds = seed_states(model)
    before, unnamed = [numpy_of(v) for v in seeds], _torch_state()
    _, found = evaluate()
    values = {id(v): x for v, x in zip(variables, found, strict=True)}
    after = [ops.convert_to_numpy(values[id(v)]) for v in seeds]
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    return _warn(model, changed, unnamed != _torch_state())


class RandomStates:
    """The states of a model's seed generators at one time.

    Args:
        model: A built model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._before = self._now()
        self._unnamed, self._drew_unnamed = b"", False

    def _now(self) -> list[np.ndarray]:
        return [numpy_of(v) for v in seed_states(self._model)]

    def begin_batch(self) -> None:
        """Note that a batch begins: between batches others draw from torch's own generator, too."""
        self._unnamed = _torch_state()

    def end_batch(self) -> None:
        """Note that a batch has ended."""
        self._drew_unnamed |= self._unnamed != _torch_state()

    def changed_with_warning(self) -> bool:
        """Whether numbers were drawn since; if so, a warning names where."""
        changed = [not np.array_equal(a, b) for a, b in zip(self._before, self._now(), strict=True)]
        return _warn(self._model, changed, self._drew_unnamed)


def _warn(model: Any, changed: list[bool], unnamed: bool) -> bool:
    """Warn where a seed has changed, or numbers were drawn that no seed knows of."""
    seeds = [v.path for v in seed_states(model)]
    names = [path for path, was in zip(seeds, changed, strict=True) if was]
    if unnamed and seeds:  # a layer without a seed of its own is not one of Keras's
        # Torch draws for a layer whose seed the user left open from its own generator: which one drew is not known.
        names = names or [f"one of {', '.join(seeds)}"]
    if names:
        warnings.warn(RANDOM.format(names=", ".join(names)), stacklevel=4)
    return bool(names)


def _torch_state() -> bytes:
    """The state of torch's own generators; empty elsewhere."""
    if keras.backend.backend() != "torch":
        return b""
    import torch

    states = [torch.get_rng_state()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    return b"".join(state.numpy().tobytes() for state in states)
