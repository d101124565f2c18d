"""The arguments that every Keras optimizer takes: their types, their defaults, their checks."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict

import keras

from keras_addons_l6.argument_checks import (
    check_names,
    flag,
    names_of,
    number,
    optional_count,
    optional_number,
    refuse,
)

__all__ = ["DEFAULTS", "BaseArguments", "LearningRate", "check_no_parameters", "checked", "checked_rate"]

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


def checked_rate(owner: str, learning_rate: Any) -> Any:
    """Return a schedule or function as it is, a number as a float.

    Raises:
        ValueError: for anything else, and for a number that is negative or not finite.
    """
    check_no_parameters(owner, learning_rate)
    if callable(learning_rate):
        return learning_rate
    return number(owner, "learning_rate", learning_rate, low=0.0)


def check_no_parameters(owner: str, learning_rate: Any) -> None:
    """Raise where the first argument is what a PyTorch optimizer takes there: the model's parameters, or the model."""
    if isinstance(learning_rate, keras.layers.Layer):
        given = "a model" if isinstance(learning_rate, keras.Model) else "a layer"
    elif isinstance(learning_rate, Iterator) or _holds_weights(learning_rate):
        given = f"parameters (a {type(learning_rate).__name__})"
    else:
        return
    raise ValueError(
        f"{owner}: the first argument is `learning_rate`. Received: {given}. A Keras optimizer gets its variables from "
        f"the model: pass `{owner}(learning_rate=...)` to `model.compile`, or, in a loop of your own, call "
        "`optimizer.build(model.trainable_variables)` and `optimizer.apply(gradients)`."
    )


def _holds_weights(value: Any) -> bool:
    """Whether `value` is a weight, a list or dict of tensors or variables, or of PyTorch's groups of parameters."""
    if isinstance(value, keras.Variable) or keras.ops.is_tensor(value):
        return len(value.shape) > 0
    if not isinstance(value, list | tuple | Mapping):
        return False
    parts = value.values() if isinstance(value, Mapping) else value
    return any(hasattr(part, "dtype") or isinstance(part, Mapping | tuple) for part in parts)


def checked(owner: type, arguments: BaseArguments) -> dict[str, Any]:
    """Return the arguments as plain Python values.

    Keras checks these in part, some only where another one is set, and takes a negative `clipnorm` for none.

    Args:
        owner: the optimizer's class.
        arguments: what its constructor did not take itself.

    Raises:
        ValueError: naming the first argument out of range, and its value, or one that does not exist.
    """
    values: dict[str, Any] = dict(arguments)
    if not values.keys() <= DEFAULTS.keys():
        classes = [cls for cls in owner.__mro__ if issubclass(cls, keras.optimizers.Optimizer)]
        own = [name for cls in classes for name in names_of(cls)]
        check_names(owner.__name__, values, dict.fromkeys([*own, *DEFAULTS]))
    return {key: _CHECKS[key](owner.__name__, key, value) for key, value in values.items()}


def _at_least_zero(owner: str, name: str, value: Any) -> float | None:
    return optional_number(owner, name, value, low=0.0)


def _above_zero(owner: str, name: str, value: Any) -> float | None:
    return optional_number(owner, name, value, low=0.0, bounds="(]")


def _share(owner: str, name: str, value: Any) -> float:
    return number(owner, name, value, low=0.0, high=1.0)


def _at_least_one(owner: str, name: str, value: Any) -> int | None:
    return optional_count(owner, name, value, low=1)


def _at_least_two(owner: str, name: str, value: Any) -> int | None:
    return optional_count(owner, name, value, low=2)


def _name(owner: str, name: str, value: Any) -> str | None:
    return (
        value if value is None or isinstance(value, str) else refuse(owner, name, value, "a string or None")
    )


_CHECKS: dict[str, Callable[[str, str, Any], Any]] = {
    "weight_decay": _at_least_zero,
    "clipnorm": _above_zero,
    "clipvalue": _above_zero,
    "global_clipnorm": _above_zero,
    "use_ema": flag,
    "ema_momentum": _share,
    "ema_overwrite_frequency": _at_least_one,
    "loss_scale_factor": _above_zero,
    "gradient_accumulation_steps": _at_least_two,
    "name": _name,
}
