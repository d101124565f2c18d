"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

from typing import Any, Unpack

import keras

from keras_addons_l6.optimizers.adam import Adam
from keras_addons_l6.optimizers.argument_checks import flag, number
from keras_addons_l6.optimizers.first_order import BaseArguments, LearningRate, Tensor


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class AdamW(Adam):
    """AdamW."""

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        amsgrad: bool = False,
        *,
        decouple_lr: bool | float = False,
        **base: Unpack[BaseArguments],
    ) -> None:
        base["weight_decay"] = number("weight_decay", weight_decay, low=0.0)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, **base)
        self._initial_rate = self._checked_initial_rate(decouple_lr)

    @property
    def decouple_lr(self) -> bool | float:
        """The rate a_0 that the schedule's multiplier is measured against; False where decay follows the rate."""
        return self._initial_rate or False

    def _checked_initial_rate(self, decouple_lr: bool | float) -> float | None:
        if not isinstance(decouple_lr, bool):
            return number("decouple_lr", decouple_lr, low=0.0, bounds="(]")
        if not flag("decouple_lr", decouple_lr):
            return None
        initial_rate = float(keras.ops.convert_to_numpy(self.learning_rate))
        if initial_rate > 0:
            return initial_rate
        raise ValueError(
            "`decouple_lr=True` divides by the learning rate at construction (a schedule's at step 0), which is "
            f"{initial_rate}. Received: decouple_lr={decouple_lr!r}; pass the schedule's peak rate as a float instead."
        )

    def decay(self, a: Tensor) -> Tensor:
        """The fraction that weight decay takes off x: a wd, or eta_t wd with `decouple_lr`."""
        return super().decay(a) if self._initial_rate is None else super().decay(a / self._initial_rate)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments; a `decouple_lr` of True is told as the rate it stands for."""
        return {**super().get_config(), "decouple_lr": self.decouple_lr}
