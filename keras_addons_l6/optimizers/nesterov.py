"""SGD with Nesterov momentum (Nesterov 1983; Sutskever et al. 2013), after the change of variables."""

from typing import Any, Unpack

import keras

from keras_addons_l6.argument_checks import number
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.rules import Rule
from keras_addons_l6.optimizers.base_arguments import BaseArguments, LearningRate
from keras_addons_l6.optimizers.first_order import FirstOrder

__all__ = ["Nesterov", "nesterov"]


def nesterov(g: Tensor, x: Tensor, v: Tensor, *, a: Tensor, m: float) -> tuple[Tensor, Tensor]:
    """One step; x - m v + (1 + m) v_next in a form that needs no v once v_next has taken its memory."""
    v_next = m * v - a * g
    x = x + (m * v_next - a * g)  # v_next - m v = -a g
    return x, v_next


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class Nesterov(FirstOrder):
    """SGD with Nesterov momentum: steps by a velocity corrected with the gradient ahead.

    With gradient g, parameter x, `learning_rate` a, `momentum` m, and v starting at 0::

        v_next = m * v - a * g
        x = x - m * v + (1 + m) * v_next

    Source: Nesterov 1983, "A method of solving a convex programming problem with convergence rate
    O(1/k^2)", in the form of Sutskever et al. 2013, "On the importance of initialization and momentum in
    deep learning", equations 3 and 4, after the change of variables x + m v -> x: x is the point looked
    ahead to, where the gradient is taken.

    Differs from `keras.optimizers.SGD(nesterov=True)`:

    1. momentum is 0.9, not 0, where it is not given.
    2. The rule is computed in at least float32, sparse gradients are dense: see `FirstOrder`.

    Differs from `torch.optim.SGD(nesterov=True)`:

    1. The learning rate is part of v, so that a step after a change of the rate keeps the velocity it had.
       PyTorch keeps the rate out of its buffer and scales the whole velocity by the new rate at once.
    2. `weight_decay` is decoupled, as everywhere in Keras. PyTorch's adds wd x to g.

    To reproduce Keras pass the same `learning_rate` and `momentum` as to `SGD(nesterov=True)`.

    To reproduce PyTorch pass the same rate and momentum, while the rate is constant. When it changes nothing
    does: with m = 0.9, g = 1 and a rate of 0.1 cut to 0.01 after two of five steps, x goes from 0 to
    -0.959 and PyTorch's to -0.583.

    Args:
        learning_rate: a, see `FirstOrder`.
        momentum: m in [0, 1).
        **base: what every Keras optimizer takes, see `FirstOrder`.

    Raises:
        ValueError: for an argument out of range, naming it and the value.

    Example:
        >>> import keras
        >>> from keras_addons_l6.optimizers import Nesterov
        >>> x = keras.Variable([1.0, -1.0])
        >>> optimizer = Nesterov(learning_rate=0.1, momentum=0.5)
        >>> optimizer.apply([keras.ops.convert_to_tensor([2.0, -0.5])], [x])
        >>> [round(float(v), 4) for v in keras.ops.convert_to_numpy(x)]
        [0.7, -0.925]
    """

    rule = Rule(nesterov, kernel="nesterov")

    def __init__(
        self, learning_rate: LearningRate = 0.01, momentum: float = 0.9, **base: Unpack[BaseArguments]
    ) -> None:
        super().__init__(learning_rate, **base)
        self.momentum = number(type(self).__name__, "momentum", momentum, low=0.0, high=1.0, bounds="[)")

    def slot_names(self) -> tuple[str | None, ...]:
        """The velocity v, under the name Keras's `SGD` gives it."""
        return ("momentum",)

    def coefficients(self, a: Tensor, t: Tensor) -> dict[str, Any]:
        """The scalars of `nesterov`."""
        return {"a": a, "m": self.momentum}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "momentum": self.momentum}
