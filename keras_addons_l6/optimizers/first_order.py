"""The base class of the first-order optimizers: runs a rule for all variables of a model."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, Unpack

import keras

from keras_addons_l6.backends import rules
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable import rules as portable
from keras_addons_l6.backends.portable.rules import Rule, Update
from keras_addons_l6.keras_private import (
    AllVariablesOptimizer,
    held,
    in_stateless_scope,
    moving_averages,
    schedule_of,
    variables_of_build,
)
from keras_addons_l6.optimizers import base_arguments
from keras_addons_l6.optimizers.base_arguments import BaseArguments, LearningRate
from keras_addons_l6.optimizers.exclusions import Exclusions, find, texts
from keras_addons_l6.optimizers.saved_state import LoadsSavedState

__all__ = ["FirstOrder"]


class FirstOrder(LoadsSavedState, AllVariablesOptimizer):
    """Runs a subclass's rule, a pure function of gradient, parameter and slots, for all variables.

    A subclass gives `rule`, `slot_names()`, `coefficients(a, t)` and its arguments in `get_config()`.

    * Slots are one variable a parameter, of its shape and dtype, made parameter by parameter and slot by
      slot. Saved states rely on that order, on the slots' names and on nothing else.
    * Rules are computed in at least float32, whatever the parameter's dtype.
    * A sparse gradient is made dense before anything else: the slots of rows without a gradient decay as
      the formula says, and clipping sees the gradient that the model has.
    * A gradient that is not finite is never hidden: it ends in a parameter that is not finite. Only
      `clipvalue` bounds an infinite component, which is what it is asked for; a NaN stays a NaN.

    Args:
        learning_rate: a number >= 0, a `keras.optimizers.schedules.LearningRateSchedule`, or a function
            without arguments that returns the rate.
        weight_decay: wd >= 0; each step also takes a wd x off x (Keras's decoupled form).
        clipnorm: > 0; bounds the norm of each gradient.
        clipvalue: > 0; bounds each component of a gradient.
        global_clipnorm: > 0; bounds the norm of all gradients together.
        use_ema: whether to keep an exponential moving average of the parameters, which `fit` writes into
            them at its end.
        ema_momentum: in [0, 1], the average's.
        ema_overwrite_frequency: >= 1; write the average into the parameters every so many steps.
        loss_scale_factor: > 0; multiplies the loss and divides the gradients.
        gradient_accumulation_steps: >= 2; take a step every so many batches, with their mean gradient.
        name: the optimizer's name.

    Raises:
        ValueError: for an argument out of range, naming it and the value.
    """

    rule: ClassVar[Rule | Callable[..., Any]]
    """A formula with its kernel, or, in a class of one's own, a static method with the formula alone."""

    def __init__(self, learning_rate: LearningRate, **base: Unpack[BaseArguments]) -> None:
        rate = base_arguments.checked_rate(type(self).__name__, learning_rate)
        super().__init__(rate, **base_arguments.checked(type(self), base))
        self._excluded = Exclusions()
        self._undecayed: frozenset[int] = frozenset()
        self._await_slots()

    def slot_names(self) -> Sequence[str | None]:
        """Names of the slots in the order the rule takes them; None for one this configuration lacks."""
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
        """Create the slots, and give them the state that was loaded before they were there."""
        if self.built:
            return
        super().build(variables)
        names = [name for name in self.slot_names() if name is not None]
        columns = self.add_optimizer_variables(variables, names, [self.slot_initializer()] * len(names))
        self._slots = dict(zip(names, columns, strict=True))
        self._find_excluded(variables)
        self._slots_are_made()

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Take one step.

        Args:
            grads: a gradient for each variable, dense or sparse; None for a variable without.
            trainable_variables: the variables; those of `build` where left out.

        Raises:
            ValueError: for `gradient_accumulation_steps` inside a `tf.distribute` strategy.
        """
        if self.gradient_accumulation_steps and rules.in_distribution_strategy():
            raise ValueError(
                f"{type(self).__name__}: `gradient_accumulation_steps` does not work inside a `tf.distribute` strategy, where "
                "gradients cannot be added up over the replicas in a branch. Received: "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps}. Leave it out, and use a larger batch or "
                "more replicas."
            )
        known = variables_of_build(self) if trainable_variables is None else list(trainable_variables)
        if len(grads) == len(known):
            grads = [g if g is None else rules.dense(g, v) for g, v in zip(grads, known, strict=True)]
        super().apply(grads, trainable_variables)

    @property
    def learning_rate(self) -> Any:
        """The rate a; a schedule's at the number of steps taken, whatever batches make up a step."""
        schedule = schedule_of(self)
        # Keras asks a schedule for the batch's number, so that the rate would run ahead of t.
        return super().learning_rate if schedule is None else schedule(self.iterations)

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        keras.optimizers.Optimizer.learning_rate.fset(self, learning_rate)

    def stateless_apply(
        self, optimizer_variables: Sequence[Any], grads: Sequence[Any], trainable_variables: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Take one step of values that are passed in and returned, as JAX's `fit` does.

        Raises:
            ValueError: for other variables than the optimizer was built with.
        """
        if self.built and len(trainable_variables) != len(variables_of_build(self)):
            raise ValueError(
                f"'{self.name}' was built with {len(variables_of_build(self))} trained variables, and is given "
                f"{len(trainable_variables)}. On JAX an optimizer keeps to the variables it was built with: after "
                "changing `trainable`, call `compile` with a new optimizer."
            )
        return super().stateless_apply(optimizer_variables, grads, trainable_variables)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Write the moving averages into the variables, where `use_ema` keeps them; `fit` calls this at its end."""
        if not (self.use_ema and self.built):
            return
        averages = moving_averages(self)
        known = {id(v): average for v, average in zip(variables_of_build(self), averages, strict=True)}
        # Found by variable, since some may have been frozen since; and copied, since a step on JAX takes the memory of
        # both over, which they cannot share.
        for variable in var_list:
            average = known.get(id(variable))
            if average is not None and _has_value(average):
                variable.assign(keras.ops.copy(average))

    def update_steps(self, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Take one step of every variable, those of one precision together."""
        by_dtype: dict[str, list[tuple[Any, Any]]] = {}
        for gradient, variable in zip(gradients, variables, strict=True):
            by_dtype.setdefault(rules.compute_dtype(variable.dtype), []).append((gradient, variable))
        for dtype, pairs in by_dtype.items():
            a = rules.scalar(learning_rate, dtype)
            t = rules.scalar(self.iterations + 1, dtype)
            decay = None if self.weight_decay is None else self.decay(a)
            updates = [Update(g, x, self._slots_of(x), self._is_decayed(x)) for g, x in pairs]
            # In a stateless scope nothing may be changed in place: the values are the caller's.
            step = portable.step if in_stateless_scope() else rules.step
            step(_rule_of(type(self)), updates, self.coefficients(a, t), decay, self.assign, held)

    def _slots_of(self, variable: Any) -> list[Any]:
        index = self._index(variable)
        return [None if name is None else self._slots[name][index] for name in self.slot_names()]

    def exclude_from_weight_decay(
        self, var_list: Sequence[Any] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Keep variables out of weight decay; what is excluded is part of the configuration.

        Args:
            var_list: the variables to leave alone.
            var_names: regular expressions; a variable is left alone where one is found in its name, in its path
                (`"layer_norm"` for all variables of that layer), or in a part of the path (`"^beta$"`).

        What reaches no variable is told in a warning when the optimizer is built.

        Raises:
            ValueError: for what are not lists of variables and of regular expressions; after `build`, unless
                the call changes nothing.
        """
        excluded = Exclusions.of(var_list, var_names)
        if not self.built:
            self._excluded = excluded
        elif find(excluded, variables_of_build(self), self._searched).indices != self._undecayed:
            raise ValueError(
                "`exclude_from_weight_decay` must be called before the optimizer is built, that is before "
                f"`fit` and the first `apply`. Received: {excluded.get_config()}; '{self.name}' was built with "
                f"{self._excluded.get_config()}. Create a new optimizer and exclude first."
            )

    def _searched(self, variable: Any) -> Sequence[str]:
        """What patterns are searched in."""
        return texts(variable)

    def _find_excluded(self, variables: Sequence[Any]) -> None:
        found = find(self._excluded, variables, self._searched)
        self._undecayed, self._excluded = found.indices, found.exclusions
        found.warn(self.name)

    def _is_decayed(self, variable: Any) -> bool:
        return self.weight_decay is not None and self._index(variable) not in self._undecayed

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, and what `exclude_from_weight_decay` was given where it was called."""
        config = super().get_config()
        excluded = self._excluded.get_config()
        return {**config, "exclude_from_weight_decay": excluded} if any(excluded.values()) else config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """Create an optimizer from what `get_config` returned."""
        config = dict(config)
        excluded = config.pop("exclude_from_weight_decay", None)
        optimizer = super().from_config(config, custom_objects)
        if excluded is not None:
            optimizer._excluded = Exclusions.from_config(excluded)
        return optimizer

    def __repr__(self) -> str:
        """Show the class's own arguments, and of Keras's those that are set."""
        try:
            config = self.get_config()
        except Exception:  # a rate that is being traced has no value, and showing an object must not fail
            return f"<{type(self).__name__} '{self.name}'>"
        shown = {k: v for k, v in config.items() if k not in _DEFAULTS or v != _DEFAULTS[k]}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


def _has_value(variable: Any) -> bool:
    """Whether a variable holds one: JAX's trainer empties all for a step, and leaves them so when the step fails."""
    try:
        return variable.value is not None
    except TypeError:
        return False


def _rule_of(cls: type[FirstOrder]) -> Rule:
    return cls.rule if isinstance(cls.rule, Rule) else Rule(cls.rule)


_DEFAULTS: dict[str, Any] = dict(base_arguments.DEFAULTS)
