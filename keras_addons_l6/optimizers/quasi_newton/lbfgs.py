"""L-BFGS as a Keras optimizer."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_addons_l6.argument_checks import count
from keras_addons_l6.optimizers.quasi_newton.curvature import Curvature
from keras_addons_l6.optimizers.quasi_newton.optimizer import QuasiNewton
from keras_addons_l6.optimizers.quasi_newton.pairs import LimitedMemory

__all__ = ["LBFGS"]


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class LBFGS(QuasiNewton):
    """Limited-memory BFGS with Hager & Zhang's line search, for `fit` on the full batch.

    From gradients g at accepted points x it builds the quasi-Newton direction d = -H g (Liu & Nocedal 1989)
    and looks for a step a along it. With phi(a) = f(x + a d) it takes a where::

        phi(a) - phi(0) <= delta * a * phi'(0)
        phi'(a) >= sigma * phi'(0)

    or the approximate form of these conditions (Hager & Zhang 2005, T1 and T2). Each train step evaluates one
    trial point: the weights during `fit` are trial points, most of which are accepted. At the end of `fit`
    the last accepted point is put back into the weights, and the next `fit` goes on from there with its
    history.

    Every step must see the same batch, the whole data set, and no randomness::

        model.compile(optimizer=LBFGS(), loss="mse")
        model.fit(x, y, batch_size=len(x), shuffle=False, epochs=500, callbacks=[StopWhenConverged()])

    Once it has converged, stalled or failed (see `status`), further steps change nothing.

    Args:
        learning_rate: > 0, fixed: the first trial step of every search but the first, whose length is `1/|g|`.
        history_size: >= 1; curvature pairs kept. Memory: 2 * history_size + 3 times the parameters.
            Physics-informed losses gain from 50 and more.
        gradient_tolerance: >= 0; converged when no component of the gradient exceeds it.
        change_tolerance: >= 0; stalled when the loss decreases by less than this, relatively; 0 switches it
            off.
        max_line_search_steps: >= 1; trials of one search.
        loss_scale_factor: > 0; the loss is multiplied by it and the gradients divided.
        gradient_accumulation_steps: k >= 2; k batches of equal size make one full batch, value and gradient.
        verbose: 1 prints, when `fit` ends, why the run did, or that it has not; 0 nothing.
        name: The optimizer's name.
        **refused: Keras's other optimizer arguments; they are accepted at their defaults only.

    Raises:
        ValueError: for an argument out of range; for `clipnorm`, `clipvalue`, `global_clipnorm`,
            `weight_decay`, `use_ema` or a learning-rate schedule, each of which would falsify the curvature
            pairs; at `build` for variables with constraints.

    Example:
        >>> import keras, numpy as np
        >>> from keras_addons_l6.optimizers import LBFGS
        >>> x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=LBFGS(gradient_tolerance=1e-4), loss="mse")
        >>> history = model.fit(x, 3 * x + 1, batch_size=32, shuffle=False, epochs=20, verbose=0)
        >>> model.optimizer.converged
        True
    """

    def __init__(
        self,
        learning_rate: float = 1.0,
        history_size: int = 10,
        gradient_tolerance: float = 1e-5,
        change_tolerance: float = 1e-9,
        max_line_search_steps: int = 20,
        *,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        verbose: int = 0,
        name: str | None = None,
        **refused: Any,
    ) -> None:
        """Check the arguments before Keras sees them."""
        history_size = count(type(self).__name__, "history_size", history_size)
        super().__init__(
            learning_rate,
            gradient_tolerance,
            change_tolerance,
            max_line_search_steps,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            verbose=verbose,
            name=name,
            **refused,
        )
        self.history_size = history_size

    def _curvature_for(self, variables: Sequence[Any]) -> Curvature:
        return LimitedMemory(self.history_size)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {**super().get_config(), "history_size": self.history_size}
