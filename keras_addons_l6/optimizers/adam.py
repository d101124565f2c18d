"""Adam (Kingma & Ba 2015), with the epsilon of its Algorithm 1."""

from typing import Any, Unpack

import keras

from keras_addons_l6.kernels.elementwise import maximum, one_minus_power, sqrt
from keras_addons_l6.optimizers.argument_checks import flag, number
from keras_addons_l6.optimizers.first_order import BaseArguments, FirstOrder, LearningRate, Tensor


def adam(
    g: Tensor,
    x: Tensor,
    m: Tensor,
    v: Tensor,
    v_max: Tensor | None,
    *,
    a: Tensor,
    b1: float,
    b2: float,
    c1: Tensor,
    c2: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """One step; c1 = 1 - b1^t, c2 = 1 - b2^t, and v_max is None without amsgrad."""
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    v_max = None if v_max is None else maximum(v_max, v)
    m_hat = m / c1
    v_hat = (v if v_max is None else v_max) / c2
    x = x - a * m_hat / (sqrt(v_hat) + eps)
    return x, m, v, v_max


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class Adam(FirstOrder):
    """Adam."""

    rule = staticmethod(adam)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **base: Unpack[BaseArguments],
    ) -> None:
        super().__init__(learning_rate, **base)
        self.beta_1 = number("beta_1", beta_1, low=0.0, high=1.0, bounds="[)")
        self.beta_2 = number("beta_2", beta_2, low=0.0, high=1.0, bounds="[)")
        self.epsilon = number("epsilon", epsilon, low=0.0, bounds="(]")
        self.amsgrad = flag("amsgrad", amsgrad)

    def slot_names(self) -> tuple[str | None, ...]:
        """First moment m, second moment v, and with amsgrad its running maximum."""
        return "momentum", "velocity", "velocity_hat" if self.amsgrad else None

    def coefficients(self, a: Tensor, t: Tensor) -> dict[str, Any]:
        """The scalars of `adam`."""
        b1, b2 = self.beta_1, self.beta_2
        c1, c2 = one_minus_power(b1, t), one_minus_power(b2, t)
        return {"a": a, "b1": b1, "b2": b2, "c1": c1, "c2": c2, "eps": self.epsilon}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "amsgrad": self.amsgrad}
        return {**super().get_config(), **own}
