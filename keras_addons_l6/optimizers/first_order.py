"""The base class of the first-order optimizers: runs a rule for all variables of a model."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, TypedDict, Unpack

import keras
import numpy as np
from keras import ops

from keras_addons_l6.kernels import rules
from keras_addons_l6.optimizers.argument_checks import flag, number, optional_count, optional_number
from keras_addons_l6.optimizers.keras_doors import AllVariablesOptimizer

Tensor = Any
LearningRate = float | keras.optimizers.schedules.LearningRateSchedule | Callable[[], Any]


class BaseArguments(TypedDict, total=False):
    """The arguments that every Keras optimizer takes, see `FirstOrder`."""

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


class FirstOrder(AllVariablesOptimizer):
    """Runs a subclass's rule, a pure function of gradient, parameter and slots, for all variables of a model.

    A subclass gives `rule`, `slot_names()`, `coefficients(a, t)` and its own arguments in `get_config()`. Slots are
    one variable a parameter, of its shape and dtype, made in the order parameter by parameter, slot by slot; that
    order and the names are what saved states rely on. The rule is computed in at least float32. Sparse gradients
    are made dense before anything else, so that rows without a gradient decay as the formula says and clipping sees
    the gradient the model has. A gradient that is not finite is never hidden; only `clipvalue`, asked to, bounds an
    infinite one (a NaN stays a NaN).

    Args:
        learning_rate: a number >= 0, a `keras.optimizers.schedules.LearningRateSchedule`, or a function without
            arguments that returns the rate.
        weight_decay: wd >= 0; each step also takes a * wd * x off x, before the rule (Keras's decoupled form).
        clipnorm: > 0; each gradient's norm is bounded by it.
        clipvalue: > 0; each component of a gradient is bounded by it.
        global_clipnorm: > 0; the norm of all gradients together is bounded by it.
        use_ema: whether to keep an exponential moving average of the parameters, written into them at the end.
        ema_momentum: in [0, 1]; the average's.
        ema_overwrite_frequency: >= 1; the average is written into the parameters every so many steps.
        loss_scale_factor: > 0; the loss is multiplied by it and the gradients divided.
        gradient_accumulation_steps: >= 2; a step is taken every so many batches, with the mean of their gradients.
        name: the optimizer's name.

    Raises:
        ValueError: for an argument out of range, naming it and the value.
    """

    rule: ClassVar[rules.Rule]

    def __init__(self, learning_rate: LearningRate, **base: Unpack[BaseArguments]) -> None:
        """Check the arguments before Keras sees them."""
        super().__init__(learning_rate=_checked_rate(learning_rate), **_checked_base(base))
        self._excluded: dict[str, list[str]] = {}
        self._pending_state: dict[str, np.ndarray] | None = None

    def slot_names(self) -> Sequence[str | None]:
        """Names of the slots in the order the rule takes them; None where this configuration does without one."""
        raise NotImplementedError

    def slot_initializer(self) -> Any:
        """What slots start from."""
        return "zeros"

    def coefficients(self, a: Tensor, t: Tensor) -> dict[str, Any]:
        """The rule's scalars at learning rate `a` and step `t` (from 1)."""
        raise NotImplementedError

    def decay(self, a: Tensor) -> Tensor:
        """The fraction of x that weight decay takes off at learning rate `a`."""
        return a * self.weight_decay

    def build(self, variables: Sequence[Any]) -> None:
        """Create the slots, and give them the state that was loaded before there were any."""
        if self.built:
            return
        self._exclude_by_path(variables)
        super().build(variables)
        names = [name for name in self.slot_names() if name is not None]
        columns = self.add_optimizer_variables(
            variables, names, initializer=[self.slot_initializer()] * len(names)
        )
        self._slots = dict(zip(names, columns, strict=True))
        if self._pending_state is not None:
            with rules.outside_graph():
                self.load_own_variables(self._pending_state)

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take one step with one gradient a variable (None for a variable without)."""
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        if len(grads) == len(variables):
            grads = [g if g is None else rules.dense(g, v) for g, v in zip(grads, variables, strict=True)]
        super().apply(grads, trainable_variables)

    def update_steps(self, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Take one step of every variable, those of one precision together."""
        groups: dict[str, list[int]] = {}
        for i, variable in enumerate(variables):
            groups.setdefault(rules.compute_dtype(variable.dtype), []).append(i)
        for dtype, members in groups.items():
            a = ops.cast(learning_rate, dtype)
            t = ops.cast(self.iterations + 1, dtype)
            decay = None if self.weight_decay is None else self.decay(a)
            self._take_steps(
                type(self).rule,
                [gradients[i] for i in members],
                [variables[i] for i in members],
                [self._slots_of(variables[i]) for i in members],
                self.coefficients(a, t),
                [decay if self._decays(variables[i]) else None for i in members],
            )

    def _slots_of(self, variable: Any) -> list[Any]:
        index = self._index(variable)
        return [None if name is None else self._slots[name][index] for name in self.slot_names()]

    def exclude_from_weight_decay(
        self, var_list: Sequence[Any] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Keep variables out of weight decay; saved with the optimizer.

        Args:
            var_list: the variables to leave alone.
            var_names: regular expressions; a variable is left alone where one is found in its name.

        Raises:
            ValueError: after `build`, where the call would change what is excluded.
        """
        excluded = {"var_paths": [_path(v) for v in var_list or ()], "var_names": list(var_names or ())}
        if self.built and excluded != self._excluded:
            raise ValueError(
                "`exclude_from_weight_decay` must be called before the optimizer is built, that is before `fit` or "
                f"the first `apply`. Received var_names={excluded['var_names']}, variables={excluded['var_paths']}; "
                f"'{self.name}' was built with {self._excluded or 'nothing'} excluded. Create a new optimizer."
            )
        self._excluded = excluded
        super().exclude_from_weight_decay(var_list=var_list, var_names=var_names)

    def _exclude_by_path(self, variables: Sequence[Any]) -> None:
        """Find again, by their paths, the variables that a loaded configuration excludes."""
        if self._excluded:
            listed = [v for v in variables if _path(v) in self._excluded["var_paths"]]
            super().exclude_from_weight_decay(var_list=listed, var_names=self._excluded["var_names"])

    def load_own_variables(self, store: Any) -> None:
        """Set the state, or, before `build`, keep it until there are slots to take it.

        Raises:
            ValueError: naming the first slot that is missing, unexpected or of another shape; nothing is changed.
        """
        if not self.built:
            self._pending_state = {key: np.array(store[key]) for key in store}
            return
        self._pending_state = None
        _check_state(store, self.variables, self.name)
        for i, variable in enumerate(self.variables):
            variable.assign(np.array(store[str(i)]))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, and under `exclude_from_weight_decay` what that method was given."""
        config = super().get_config()
        if any(self._excluded.values()):
            config["exclude_from_weight_decay"] = {key: list(names) for key, names in self._excluded.items()}
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """Create an optimizer from `get_config()`'s answer."""
        config = dict(config)
        excluded = config.pop("exclude_from_weight_decay", None)
        optimizer = super().from_config(config, custom_objects)
        if excluded:
            optimizer._excluded = {key: list(names) for key, names in excluded.items()}
        return optimizer

    def __repr__(self) -> str:
        """Show the arguments that differ from Keras's own defaults, and the optimizer's own."""
        try:
            config = self.get_config()
        except Exception:  # a rate that is traced has no value yet, and showing an object must not fail
            return f"<{type(self).__name__} '{self.name}'>"
        shown = {key: value for key, value in config.items() if value != _KERAS_DEFAULTS.get(key, _SHOW)}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


_SHOW = object()
_KERAS_DEFAULTS: dict[str, Any] = {
    "weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


def _checked_rate(learning_rate: Any) -> Any:
    if callable(learning_rate) or isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        return learning_rate
    return number("learning_rate", learning_rate, low=0.0)


def _checked_base(base: BaseArguments) -> dict[str, Any]:
    """Check what Keras checks late, in part, or not at all."""
    given: dict[str, Any] = dict(base)
    checks: dict[str, Callable[[str, Any], Any]] = {
        "weight_decay": lambda name, v: optional_number(name, v, low=0.0),
        "clipnorm": _optional_positive,
        "clipvalue": _optional_positive,
        "global_clipnorm": _optional_positive,
        "use_ema": flag,
        "ema_momentum": lambda name, v: number(name, v, low=0.0, high=1.0),
        "ema_overwrite_frequency": lambda name, v: optional_count(name, v, low=1),
        "loss_scale_factor": _optional_positive,
        "gradient_accumulation_steps": lambda name, v: optional_count(name, v, low=2),
    }
    return {key: checks[key](key, value) if key in checks else value for key, value in given.items()}


def _optional_positive(name: str, value: Any) -> float | None:
    return optional_number(name, value, low=0.0, bounds="(]")


def _path(variable: Any) -> str:
    # A `tf.Variable` has a name only.
    return getattr(variable, "path", variable.name)


def _check_state(store: Any, variables: Sequence[Any], name: str) -> None:
    """Raise where a stored state does not fit the variables one to one."""
    problem = None
    for i, variable in enumerate(variables):
        if str(i) not in store:
            problem = f"it lacks number {i}, '{variable.path}' of shape {tuple(variable.shape)}"
        elif tuple(np.shape(store[str(i)])) != tuple(variable.shape):
            problem = (
                f"'{variable.path}' has shape {tuple(variable.shape)}, saved is {np.shape(store[str(i)])}"
            )
        if problem:
            break
    else:
        if len(store) > len(variables):
            problem = f"number {len(variables)}, after '{variables[-1].path}', has no slot to go to"
    if problem:
        raise ValueError(
            f"The saved state does not fit optimizer '{name}': {problem} ({len(store)} arrays saved, {len(variables)} "
            "expected). Load it into an optimizer of the same class and arguments, built on the same variables; or "
            "compile the model anew to start from a fresh state."
        )
