"""AdaGrad (Duchi, Hazan & Singer 2011), diagonal form."""

from typing import Any, Unpack

import keras

from keras_addons_l6.kernels.elementwise import sqrt
from keras_addons_l6.optimizers.argument_checks import number
from keras_addons_l6.optimizers.first_order import BaseArguments, FirstOrder, LearningRate, Tensor


def adagrad(g: Tensor, x: Tensor, s: Tensor, *, a: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """One step."""
    s = s + g * g
    x = x - a * g / (sqrt(s) + eps)
    return x, s


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class AdaGrad(FirstOrder):
    """AdaGrad."""

    rule = staticmethod(adagrad)

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        initial_accumulator_value: float = 0.0,
        epsilon: float = 1e-7,
        **base: Unpack[BaseArguments],
    ) -> None:
        super().__init__(learning_rate, **base)
        self.initial_accumulator_value = number(
            "initial_accumulator_value", initial_accumulator_value, low=0.0
        )
        self.epsilon = number("epsilon", epsilon, low=0.0, bounds="(]")

    def slot_names(self) -> tuple[str | None, ...]:
        """The sum of squares s."""
        return ("accumulator",)

    def slot_initializer(self) -> keras.initializers.Initializer:
        """What s starts from."""
        return keras.initializers.Constant(self.initial_accumulator_value)

    def coefficients(self, a: Tensor, t: Tensor) -> dict[str, Any]:
        """The scalars of `adagrad`."""
        return {"a": a, "eps": self.epsilon}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        own = {"initial_accumulator_value": self.initial_accumulator_value, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
