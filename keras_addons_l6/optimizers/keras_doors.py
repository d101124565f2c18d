"""What optimizers need of Keras that has no public door, each with its reason."""

from collections.abc import Sequence
from typing import Any

import keras

# No public function tells whether values go into a `keras.StatelessScope` instead of into variables.
from keras.src.backend import in_stateless_scope

from keras_addons_l6.backends import rules
from keras_addons_l6.backends.portable import rules as portable
from keras_addons_l6.backends.portable.rules import Rule, Update


class AllVariablesOptimizer(keras.optimizers.Optimizer):
    """A Keras optimizer that updates all variables in one call of `update_steps`, where Keras allows it."""

    def update_steps(self, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Take one step of every variable."""
        raise NotImplementedError

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take one step of one variable (Keras's public hook)."""
        self.update_steps([gradient], [variable], learning_rate)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        # The public hook is called once a variable: on torch a loop of small kernels. Under tf.distribute
        # Keras's own version merges the replicas and calls the public hook in each one's context.
        if rules.in_distribution_strategy():
            super()._backend_update_step(grads, trainable_variables, learning_rate)
        else:
            self.update_steps(grads, trainable_variables, learning_rate)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        # Keras decays in a pass of its own before the step; `update_steps` does it on the way, in the same
        # order. On torch Keras's version also fails where every variable is excluded.
        del variables

    def _is_decayed(self, variable: Any) -> bool:
        # What `exclude_from_weight_decay` left, by Keras's own reading of names and variables.
        return self.weight_decay is not None and self._use_weight_decay(variable)

    def _index(self, variable: Any) -> int:
        # Under tf.distribute `variable` is one replica's part, which only Keras can map back.
        return self._get_variable_index(variable)

    def _take(self, rule: Rule, updates: Sequence[Update], coefficients: dict[str, Any]) -> None:
        # In a stateless scope nothing may be changed in place: the values are the caller's.
        take = portable.step if in_stateless_scope() else rules.step
        take(rule, updates, coefficients, self.assign)
