"""RMSProp (Tieleman & Hinton 2012), with momentum and the centered form (Graves 2013)."""

from typing import Any, Unpack

import keras

from keras_addons_l6.kernels.elementwise import maximum, sqrt
from keras_addons_l6.optimizers.argument_checks import flag, number
from keras_addons_l6.optimizers.first_order import BaseArguments, FirstOrder, LearningRate, Tensor


def rmsprop(
    g: Tensor,
    x: Tensor,
    s: Tensor,
    u: Tensor | None,
    mean: Tensor | None,
    *,
    a: Tensor,
    rho: float,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """One step; u is None without momentum, mean is None unless centered."""
    s = rho * s + (1 - rho) * g * g
    mean = None if mean is None else rho * mean + (1 - rho) * g
    variance = s if mean is None else maximum(s - mean * mean, 0.0)
    scaled = g / (sqrt(variance) + eps)
    u = None if u is None else momentum * u + scaled
    x = x - a * (scaled if u is None else u)
    return x, s, u, mean


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class RMSProp(FirstOrder):
    """RMSProp."""

    rule = staticmethod(rmsprop)

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **base: Unpack[BaseArguments],
    ) -> None:
        super().__init__(learning_rate, **base)
        self.rho = number("rho", rho, low=0.0, high=1.0, bounds="[)")
        self.momentum = number("momentum", momentum, low=0.0, high=1.0, bounds="[)")
        self.epsilon = number("epsilon", epsilon, low=0.0, bounds="(]")
        self.centered = flag("centered", centered)

    def slot_names(self) -> tuple[str | None, ...]:
        """The mean square s, with momentum u, and centered the mean gradient."""
        return (
            "velocity",
            "momentum" if self.momentum else None,
            "average_gradient" if self.centered else None,
        )

    def coefficients(self, a: Tensor, t: Tensor) -> dict[str, Any]:
        """The scalars of `rmsprop`."""
        return {"a": a, "rho": self.rho, "momentum": self.momentum, "eps": self.epsilon}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        own = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}
        return {**super().get_config(), **own}
