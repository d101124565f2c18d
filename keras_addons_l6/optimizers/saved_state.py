"""The saved state of an optimizer: one array a variable, in the order of `optimizer.variables`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def read(store: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    """The arrays of a Keras weights store, copied: the file behind it may be closed before they are used."""
    return tuple(np.array(store[str(i)]) for i in range(len(store.keys())))


def check_fits(arrays: Sequence[np.ndarray], variables: Sequence[Any], name: str) -> None:
    """Raise unless the arrays fit the variables one to one.

    Raises:
        ValueError: naming optimizer `name` and the first variable without an array of its shape.
    """
    for variable, array in zip(variables, arrays, strict=False):
        expected = tuple(variable.shape)
        if array.shape != expected:
            _refuse(name, f"'{variable.path}' has shape {expected}, what was saved for it {array.shape}")
    if len(arrays) < len(variables):
        _refuse(name, f"nothing was saved for '{variables[len(arrays)].path}'")
    if len(arrays) > len(variables):
        extra = f"an array of shape {arrays[len(variables)].shape}"
        _refuse(name, f"the last slot here is '{variables[-1].path}', and {extra} was saved after it")


def _refuse(name: str, reason: str) -> None:
    raise ValueError(
        f"The saved state does not fit optimizer '{name}': {reason}. Load it into an optimizer of the same "
        "class and arguments, built on the same variables, or compile the model anew to start afresh."
    )
