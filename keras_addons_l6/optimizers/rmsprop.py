"""RMSProp (Tieleman & Hinton 2012), with momentum and the centered form (Graves 2013)."""

from typing import Any, Unpack

import keras

from keras_addons_l6.argument_checks import flag, number
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.elementwise import maximum, sqrt
from keras_addons_l6.backends.portable.rules import Rule
from keras_addons_l6.optimizers.base_arguments import BaseArguments, LearningRate
from keras_addons_l6.optimizers.first_order import FirstOrder

__all__ = ["RMSProp", "rmsprop"]


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
    """RMSProp: scales each component's step by the root of a running mean of its squared gradients.

    With gradient g, parameter x, `learning_rate` a, `rho`, `epsilon` eps, and s starting at 0::

        s = rho * s + (1 - rho) * g * g
        x = x - a * g / (sqrt(s) + eps)

    `centered` puts the variance in the mean square's place, with mean starting at 0::

        mean = rho * mean + (1 - rho) * g
        variance = max(s - mean * mean, 0)

    and `momentum` steps by an accumulated u instead, starting at 0::

        u = momentum * u + g / (sqrt(variance) + eps)
        x = x - a * u

    Source: Tieleman & Hinton 2012, "Neural networks for machine learning", lecture 6.5; centered: Graves
    2013, "Generating sequences with recurrent neural networks", equations 38 to 41.

    Differs from `keras.optimizers.RMSprop`:

    1. epsilon is added outside the root; Keras adds it inside.
    2. With momentum, the learning rate is not part of u: a change of the rate acts at once on all of u.
    3. The variance is never taken for negative; Keras's may round below zero and give NaN.
    4. The rule is computed in at least float32, sparse gradients are dense: see `FirstOrder`.

    Differs from `torch.optim.RMSprop`:

    1. Defaults: rate 0.001, not 0.01; rho (PyTorch's `alpha`) 0.9, not 0.99; epsilon 1e-7, not 1e-8.
    2. The variance is never taken for negative, as above.
    3. `weight_decay` is decoupled, as everywhere in Keras. PyTorch's adds wd x to g.

    To reproduce Keras pass: nothing does, by point 1. Over 1,000 steps with the same arguments the gap is
    2e-7 of the path with gradients of size 1; with gradients of size 1e-6 Keras goes 0.4% of the way.

    To reproduce PyTorch pass `learning_rate=0.01, rho=0.99, epsilon=1e-8` and no `weight_decay`.

    Args:
        learning_rate: a, see `FirstOrder`.
        rho: in [0, 1), decay of the means.
        momentum: in [0, 1); 0 keeps no u.
        epsilon: eps > 0.
        centered: whether to divide by the standard deviation.
        **base: what every Keras optimizer takes, see `FirstOrder`.

    Raises:
        ValueError: for an argument out of range, naming it and the value.

    Example:
        >>> import keras
        >>> from keras_addons_l6.optimizers import RMSProp
        >>> x = keras.Variable([1.0, -1.0])
        >>> optimizer = RMSProp(learning_rate=0.1, rho=0.75)
        >>> optimizer.apply([keras.ops.convert_to_tensor([2.0, -0.5])], [x])
        >>> [round(float(v), 4) for v in keras.ops.convert_to_numpy(x)]
        [0.8, -0.8]
    """

    rule = Rule(rmsprop, kernel="rmsprop")

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
        self.rho = number(type(self).__name__, "rho", rho, low=0.0, high=1.0, bounds="[)")
        self.momentum = number(type(self).__name__, "momentum", momentum, low=0.0, high=1.0, bounds="[)")
        self.epsilon = number(type(self).__name__, "epsilon", epsilon, low=0.0, bounds="(]")
        self.centered = flag(type(self).__name__, "centered", centered)

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
