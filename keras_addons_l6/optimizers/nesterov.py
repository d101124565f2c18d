"""SGD with Nesterov momentum (Nesterov 1983; Sutskever et al. 2013), after the change of variables."""

from typing import Any, Unpack

import keras

from keras_addons_l6.optimizers.argument_checks import number
from keras_addons_l6.optimizers.first_order import BaseArguments, FirstOrder, LearningRate, Tensor


def nesterov(g: Tensor, x: Tensor, v: Tensor, *, a: Tensor, m: float) -> tuple[Tensor, Tensor]:
    """One step."""
    v_next = m * v - a * g
    x = x - m * v + (1 + m) * v_next
    return x, v_next


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class Nesterov(FirstOrder):
    """Nesterov."""

    rule = staticmethod(nesterov)

    def __init__(
        self, learning_rate: LearningRate = 0.01, momentum: float = 0.9, **base: Unpack[BaseArguments]
    ) -> None:
        super().__init__(learning_rate, **base)
        self.momentum = number("momentum", momentum, low=0.0, high=1.0, bounds="[)")

    def slot_names(self) -> tuple[str | None, ...]:
        """The velocity v, under the name Keras's `SGD` gives it."""
        return ("momentum",)

    def coefficients(self, a: Tensor, t: Tensor) -> dict[str, Any]:
        """The scalars of `nesterov`."""
        return {"a": a, "m": self.momentum}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "momentum": self.momentum}
