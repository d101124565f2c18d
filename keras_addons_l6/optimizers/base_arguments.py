"""The arguments that every Keras optimizer takes: their types, their defaults, their checks."""

from collections.abc import Callable
from typing import Any, TypedDict

import keras

from keras_addons_l6.optimizers.argument_checks import flag, number, optional_count, optional_number

LearningRate = float | keras.optimizers.schedules.LearningRateSchedule | Callable[[], Any]


class BaseArguments(TypedDict, total=False):
    """Keyword arguments of every optimizer here, explained in `first_order.FirstOrder`."""

    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: int | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    name: str | None


DEFAULTS: BaseArguments = {
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "name": None,
}


def checked_rate(learning_rate: Any) -> Any:
    """Return a schedule or function as it is, a number as a float.

    Raises:
        ValueError: for anything else, and for a number that is negative or not finite.
    """
    return learning_rate if callable(learning_rate) else number("learning_rate", learning_rate, low=0.0)


def checked(arguments: BaseArguments) -> dict[str, Any]:
    """Return the arguments as plain Python values.

    Keras checks these in part, some only where another one is set, and takes a negative `clipnorm` for none.

    Raises:
        ValueError: naming the first argument out of range, and its value.
    """
    values: dict[str, Any] = dict(arguments)
    return {key: _CHECKS[key](key, value) if key in _CHECKS else value for key, value in values.items()}


def _at_least_zero(name: str, value: Any) -> float | None:
    return optional_number(name, value, low=0.0)


def _above_zero(name: str, value: Any) -> float | None:
    return optional_number(name, value, low=0.0, bounds="(]")


def _name(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"`{name}` must be a string or None. Received: {name}={value!r}")


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "weight_decay": _at_least_zero,
    "clipnorm": _above_zero,
    "clipvalue": _above_zero,
    "global_clipnorm": _above_zero,
    "use_ema": flag,
    "ema_momentum": lambda name, value: number(name, value, low=0.0, high=1.0),
    "ema_overwrite_frequency": lambda name, value: optional_count(name, value, low=1),
    "loss_scale_factor": _above_zero,
    "gradient_accumulation_steps": lambda name, value: optional_count(name, value, low=2),
    "name": _name,
}
