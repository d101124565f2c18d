"""What quasi-Newton methods accept: its arguments, and the variables it can train."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_addons_l6.argument_checks import check_names, count, names_of, number, refuse, shown
from keras_addons_l6.optimizers.base_arguments import check_no_parameters
from keras_addons_l6.optimizers.quasi_newton.iteration import Settings
from keras_addons_l6.optimizers.quasi_newton.slots import path_of

__all__ = [
    "check_base",
    "check_parameters",
    "check_size",
    "checked_update",
    "settings_from",
    "warn_if_narrower",
]

# Keras's optimizer arguments that falsify curvature pairs: the default that a saved configuration may hold,
# and what to do instead.
_REFUSED: dict[str, tuple[Any, str]] = {
    "clipnorm": (None, "the line search already bounds each step; leave it out"),
    "clipvalue": (None, "the line search already bounds each step; leave it out"),
    "global_clipnorm": (None, "the line search already bounds each step; leave it out"),
    "weight_decay": (
        None,
        "put the penalty into the loss, with `kernel_regularizer=keras.regularizers.L2(...)`",
    ),
    "use_ema": (False, "a full batch has no noise to average out; leave it out"),
    "ema_momentum": (0.99, "a full batch has no noise to average out; leave it out"),
    "ema_overwrite_frequency": (None, "a full batch has no noise to average out; leave it out"),
}


def check_base(owner: type, given: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an argument that quasi-Newton methods refuse, `UnknownArgumentError` for one no optimizer has."""
    check_names(owner.__name__, given.keys() - _REFUSED.keys(), names_of(owner))
    for name, value in given.items():
        default, instead = _REFUSED[name]
        # By type first: an array compared with a number is no truth value.
        if value is not None and (type(value) is not type(default) or value != default):
            raise ValueError(
                f"{owner.__name__} takes no `{name}`: the gradient or the weights would no longer be those of the loss, "
                f"and its curvature pairs false. Received: {name}={shown(value)}. Instead: {instead}."
            )


def settings_from(
    owner: str,
    *,
    gradient_tolerance: float,
    change_tolerance: float,
    learning_rate: float = 1.0,
    max_line_search_steps: int = 20,
) -> Settings:
    """The method's settings, but for its curvature.

    Raises:
        ValueError: for an argument out of range, naming it and the value.
    """
    check_no_parameters(owner, learning_rate)
    if callable(learning_rate) or isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        raise ValueError(
            f"{owner}: `learning_rate` must be a number: it is the first trial step of each line search, which finds "
            f"the step itself; a schedule has no meaning here. Received: learning_rate={learning_rate!r}. "
            "Leave it at 1.0."
        )
    return Settings(
        gradient_tolerance=number(owner, "gradient_tolerance", gradient_tolerance, low=0.0),
        change_tolerance=number(owner, "change_tolerance", change_tolerance, low=0.0),
        max_line_search_steps=count(owner, "max_line_search_steps", max_line_search_steps),
        learning_rate=number(owner, "learning_rate", learning_rate, low=0.0, bounds="(]"),
    )


def check_parameters(owner: str, parameters: Sequence[Any]) -> None:
    """Raise `ValueError` for variables that the method cannot train, and warn where float64 is not what it says."""
    constrained = [path_of(v) for v in parameters if getattr(v, "constraint", None) is not None]
    if constrained:
        raise ValueError(
            f"{owner} cannot train variables with a constraint: projecting them after a step falsifies its "
            f"curvature pairs. Constrained: {constrained}. Remove the constraint, or build it into the layer "
            "(a weight `ops.softplus(w)` is positive for any w), or train with a first-order optimizer."
        )
    overwritten = [path_of(v) for v in parameters if getattr(v, "overwrite_with_gradient", False)]
    if overwritten:
        raise ValueError(
            f"{owner} cannot train variables that are overwritten by their gradients, as float8 training has: "
            f"{overwritten}. Train in float32."
        )
    whole = [path_of(v) for v in parameters if "float" not in keras.backend.standardize_dtype(v.dtype)]
    if whole:
        raise ValueError(f"{owner} trains real floating-point variables only. Received: {whole}.")
    warn_if_narrower([(v.dtype, v.value.dtype) for v in parameters if isinstance(v, keras.Variable)])


def warn_if_narrower(asked_and_given: Sequence[tuple[Any, Any]]) -> None:
    """Warn where float64 was asked for and the backend gives something else."""
    names = [
        (keras.backend.standardize_dtype(a), keras.backend.standardize_dtype(b)) for a, b in asked_and_given
    ]
    if any(asked == "float64" != given for asked, given in names):
        warnings.warn(
            "float64 was asked for, but JAX computes in float32: call `keras_addons_l6.enable_float64()`, which sets "
            "`jax_enable_x64`, before anything else.",
            stacklevel=2,
        )


def checked_update(owner: str, argument: str, value: Any, known: Sequence[str]) -> str:
    """A method's name, if it is one of those known."""
    if not isinstance(value, str) or value not in known:
        refuse(owner, argument, value, f"one of {', '.join(map(repr, known))}")
    return value


def check_size(owner: str, n: int, dtype: str, max_memory: int, instead: str) -> None:
    """Raise `ValueError` where a dense inverse Hessian of n rows needs more than `max_memory` bytes."""
    need = n * n * (8 if dtype == "float64" else 4)
    if need > max_memory:
        raise ValueError(
            f"{owner} keeps a dense inverse Hessian, which for n = {n:,} parameters takes {need:,} bytes "
            f"({need / 2**30:.1f} GiB) in {dtype}; `max_memory` is {max_memory:,}. Use {instead}, which keeps pairs of "
            "vectors, or raise `max_memory`."
        )
