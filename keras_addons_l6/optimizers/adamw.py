"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

import numbers
from typing import Any, Unpack

import keras
import numpy as np

from keras_addons_l6.argument_checks import number, refuse
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.optimizers.adam import Adam
from keras_addons_l6.optimizers.base_arguments import BaseArguments, LearningRate

__all__ = ["AdamW"]


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class AdamW(Adam):
    """AdamW: Adam, with weight decay beside the gradient's step and not in the gradient.

    With gradient g, parameter x, `learning_rate` a (a_t at step t from 1), `weight_decay` wd, `beta_1` b1,
    `beta_2` b2, `epsilon` eps, and m and v starting at 0::

        x = x - decay * x
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        m_hat = m / (1 - b1^t)
        v_hat = v / (1 - b2^t)
        x = x - a_t * m_hat / (sqrt(v_hat) + eps)

    where decay = a_t wd, the form of Keras and PyTorch, or with `decouple_lr` decay = (a_t / a_0) wd, so that
    the strength of the decay follows the schedule's multiplier eta_t = a_t / a_0 and not the rate's size.

    Source: Loshchilov & Hutter 2019, "Decoupled weight decay regularization", Algorithm 2, line 12 (whose
    alpha is a_0), on Kingma & Ba 2015, Algorithm 1. `amsgrad` as in `Adam`.

    Differs from `keras.optimizers.AdamW`:

    1. epsilon is added after the bias correction, as in the paper, see `Adam`; it is 1e-8, not 1e-7.
    2. `decouple_lr` is new.
    3. The rest of `Adam`'s list.

    Differs from `torch.optim.AdamW`:

    1. `weight_decay` is 0.004 (Keras's default), not 0.01.

    To reproduce Keras pass: nothing does, by point 1; see `Adam` for how much it differs.

    To reproduce PyTorch pass `weight_decay=0.01`. For TensorFlow Addons' form, which takes wd x off whatever
    the rate, pass `decouple_lr=True` with a constant rate.

    Args:
        learning_rate: a, see `FirstOrder`.
        weight_decay: wd >= 0.
        beta_1: b1 in [0, 1), decay of the mean.
        beta_2: b2 in [0, 1), decay of the mean square.
        epsilon: eps > 0.
        amsgrad: whether to divide by the largest v so far.
        decouple_lr: a_0 > 0, or True for the rate at construction (a schedule's at step 0); False lets the
            decay follow the rate. The configuration holds the number.
        **base: what every Keras optimizer takes, see `FirstOrder`.

    Raises:
        ValueError: for an argument out of range, naming it and the value; for `decouple_lr=True` where the
            rate at construction is 0.

    Example:
        >>> import keras
        >>> from keras_addons_l6.optimizers import AdamW
        >>> x = keras.Variable([1.0, -1.0])
        >>> optimizer = AdamW(learning_rate=0.1, weight_decay=0.5)
        >>> optimizer.apply([keras.ops.convert_to_tensor([2.0, -0.5])], [x])
        >>> [round(float(v), 4) for v in keras.ops.convert_to_numpy(x)]
        [0.85, -0.85]
    """

    def __init__(  # type: ignore[misc]  # here `weight_decay` has a place and a default of its own
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
        base["weight_decay"] = number(type(self).__name__, "weight_decay", weight_decay, low=0.0)
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, **base)
        self._initial_rate = self._checked_initial_rate(decouple_lr)

    @property
    def decouple_lr(self) -> bool | float:
        """The rate a_0 that a schedule's multiplier is measured against; False: decay follows the rate."""
        return self._initial_rate or False

    def _checked_initial_rate(self, decouple_lr: bool | float) -> float | None:
        owner = type(self).__name__
        if isinstance(decouple_lr, numbers.Integral) and not isinstance(decouple_lr, bool):
            # A 1 may stand for True, or for a rate.
            refuse(owner, "decouple_lr", decouple_lr, "True, False, or a rate as a float, such as 1e-3")
        if not isinstance(decouple_lr, bool | np.bool_):
            return number(owner, "decouple_lr", decouple_lr, low=0.0, bounds="(]")
        if not decouple_lr:
            return None
        initial_rate = float(keras.ops.convert_to_numpy(self.learning_rate))
        if initial_rate > 0:
            return initial_rate
        raise ValueError(
            f"{owner}: `decouple_lr=True` measures rates against the one at construction (a schedule's at step 0), "
            f"which is {initial_rate}. Received: decouple_lr={decouple_lr!r}; pass a schedule's peak rate as "
            "a float instead."
        )

    def decay(self, a: Tensor) -> Tensor:
        """The fraction that weight decay takes off x: a wd, or eta_t wd with `decouple_lr`."""
        return super().decay(a) if self._initial_rate is None else super().decay(a / self._initial_rate)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments; a `decouple_lr` of True is told as the rate it stands for."""
        return {**super().get_config(), "decouple_lr": self.decouple_lr}
