"""AdaGrad (Duchi, Hazan & Singer 2011), diagonal form."""

from typing import Any, Unpack

import keras
import numpy as np

from keras_addons_l6.argument_checks import number
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.elementwise import sqrt
from keras_addons_l6.backends.portable.rules import Rule
from keras_addons_l6.optimizers.base_arguments import BaseArguments, LearningRate
from keras_addons_l6.optimizers.first_order import FirstOrder

__all__ = ["AdaGrad", "adagrad"]


def adagrad(g: Tensor, x: Tensor, s: Tensor, *, a: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """One step."""
    s = s + g * g
    x = x - a * g / (sqrt(s) + eps)
    return x, s


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class AdaGrad(FirstOrder):
    """AdaGrad: scales each component's step by the root of the sum of its squared gradients.

    With gradient g, parameter x, `learning_rate` a, `epsilon` eps, and s starting at
    `initial_accumulator_value`::

        s = s + g * g
        x = x - a * g / (sqrt(s) + eps)

    Source: Duchi, Hazan & Singer 2011, "Adaptive subgradient methods for online learning and stochastic
    optimization", figure 1 with the diagonal matrix (its delta is eps).

    Differs from `keras.optimizers.Adagrad`:

    1. epsilon is added outside the root, as in the paper; Keras adds it inside.
    2. s starts at 0, as in the paper, not at 0.1.
    3. The learning rate is 0.01, not 0.001.
    4. The rule is computed in at least float32, sparse gradients are dense: see `FirstOrder`.

    Differs from `torch.optim.Adagrad`:

    1. epsilon is 1e-7, not 1e-10.
    2. There is no `lr_decay`: pass a schedule.
    3. `weight_decay` is decoupled, as everywhere in Keras. PyTorch's adds wd x to g.

    To reproduce Keras pass its epsilon as part of the initial value, where it has the same effect:
    `AdaGrad(0.001, initial_accumulator_value=0.1 + 1e-7, epsilon=1e-30)`.

    To reproduce PyTorch pass `epsilon=1e-10` and no `weight_decay`.

    Args:
        learning_rate: a, see `FirstOrder`.
        initial_accumulator_value: what s starts from, >= 0.
        epsilon: eps > 0.
        **base: what every Keras optimizer takes, see `FirstOrder`.

    Raises:
        ValueError: for an argument out of range, naming it and the value.

    Example:
        >>> import keras
        >>> from keras_addons_l6.optimizers import AdaGrad
        >>> x = keras.Variable([1.0, -1.0])
        >>> optimizer = AdaGrad(learning_rate=0.1)
        >>> for _ in range(2):
        ...     optimizer.apply([keras.ops.convert_to_tensor([2.0, -0.5])], [x])
        >>> [round(float(v), 4) for v in keras.ops.convert_to_numpy(x)]
        [0.8293, -0.8293]
    """

    rule = Rule(adagrad, kernel="adagrad")

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        initial_accumulator_value: float = 0.0,
        epsilon: float = 1e-7,
        **base: Unpack[BaseArguments],
    ) -> None:
        super().__init__(learning_rate, **base)
        self.initial_accumulator_value = number(
            type(self).__name__, "initial_accumulator_value", initial_accumulator_value, low=0.0
        )
        self.epsilon = number(type(self).__name__, "epsilon", epsilon, low=0.0, bounds="(]")

    def slot_names(self) -> tuple[str | None, ...]:
        """The sum of squares s."""
        return ("accumulator",)

    def slot_initializer(self) -> keras.initializers.Initializer:
        """What s starts from."""
        # A NumPy number, since TensorFlow takes a Python number through float32.
        return keras.initializers.Constant(np.float64(self.initial_accumulator_value))

    def coefficients(self, a: Tensor, t: Tensor) -> dict[str, Any]:
        """The scalars of `adagrad`."""
        return {"a": a, "eps": self.epsilon}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        own = {"initial_accumulator_value": self.initial_accumulator_value, "epsilon": self.epsilon}
        return {**super().get_config(), **own}
