"""BFGS and its self-scaled relatives as a Keras optimizer."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_addons_l6.argument_checks import count, refuse
from keras_addons_l6.backends import widest_real
from keras_addons_l6.optimizers.quasi_newton.arguments import check_size, checked_update
from keras_addons_l6.optimizers.quasi_newton.curvature import Curvature
from keras_addons_l6.optimizers.quasi_newton.inverse_hessian import Inverse, InverseHessian, components
from keras_addons_l6.optimizers.quasi_newton.optimizer import QuasiNewton
from keras_addons_l6.optimizers.quasi_newton.slots import path_of
from keras_addons_l6.optimizers.quasi_newton.updates import UPDATES

__all__ = ["BFGS", "MAX_MEMORY"]

MAX_MEMORY = 4 * 2**30


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class BFGS(QuasiNewton):
    """BFGS, or a self-scaled relative, with a dense inverse Hessian and Hager & Zhang's line search, on the full batch.

    With s = x+ - x, y = g+ - g and rho = 1 / s'y the inverse Hessian H, of which d = -H g is the direction, becomes::

        v = rho s - H y / y'Hy
        H+ = (H - H y y'H / y'Hy + phi (y'Hy) v v') / tau + rho s s'

    * `update="bfgs"`: phi = 1, tau = 1 (Broyden, Fletcher, Goldfarb & Shanno 1970).
    * `update="self_scaled_bfgs"`: phi = 1, tau = min(1, s'y / s'B s), B the inverse of H (Oren & Luenberger 1974, Al-Baali
      1998).
    * `update="self_scaled_broyden"`: both vary (Al-Baali & Khalfan 2005); the one for physics-informed networks, where it
      ends at losses orders of magnitude below L-BFGS's (Urban, Stefanou & Pons 2025).

    H starts as gamma I, gamma = s'y / y'y of the first pair. It is kept over `fit` and `fit_full_batch` calls, with new
    data too: collocation points can be drawn anew every few hundred evaluations. `reset_curvature()` starts it afresh. A
    direction that does not descend, or is not finite, does so by itself, which `resets` counts.

    Each train step evaluates one trial point, on the same batch, without randomness, as `LBFGS` does::

        model.compile(optimizer=BFGS("self_scaled_broyden"), loss="mse")
        model.fit(x, y, batch_size=len(x), shuffle=False, epochs=500, callbacks=[StopWhenConverged()])

    Args:
        update: "bfgs", "self_scaled_bfgs" or "self_scaled_broyden".
        learning_rate: > 0, fixed: the first trial step of every search but the first, whose length is `1/|g|`. A
            self-scaled update multiplies it by min(1, 1.01 * 2 (f - f_old) / g'd), where the loss is expected to
            fall as far as in the last step (Nocedal & Wright 2006, equation 3.60).
        gradient_tolerance: >= 0; converged when no component of the gradient exceeds it.
        change_tolerance: >= 0; stalled when the loss decreases by less than this, relatively; 0 switches it
            off.
        max_line_search_steps: >= 1; trials of one search.
        max_memory: >= 1, in bytes; what H may take. It takes 8 n^2 for n parameters, 4 n^2 in float32.
        curvature_dtype: H's dtype, "float32" or "float64"; None is float64 where the backend has it (on JAX where it
            is switched on), whatever the parameters'.
        save_curvature: Whether H is saved with the model. Without it a run that is loaded goes on with H afresh.
        loss_scale_factor: > 0; the loss is multiplied by it and the gradients divided.
        gradient_accumulation_steps: k >= 2; k batches of equal size make one full batch, value and gradient.
        verbose: 1 prints, when `fit` ends, why the run did, or that it has not; 0 nothing.
        name: The optimizer's name.
        **refused: Keras's other optimizer arguments; they are accepted at their defaults only.

    Raises:
        ValueError: for an argument out of range; for `clipnorm`, `clipvalue`, `global_clipnorm`,
            `weight_decay`, `use_ema` or a learning-rate schedule, each of which would falsify the curvature; at
            `build` for variables with constraints, for more than `max_memory`, and for variables that a
            `keras.distribution` layout divides among devices.

    Example:
        >>> import keras, numpy as np
        >>> from keras_addons_l6.optimizers import BFGS
        >>> x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile(optimizer=BFGS(gradient_tolerance=1e-4), loss="mse")
        >>> history = model.fit(x, 3 * x + 1, batch_size=32, shuffle=False, epochs=20, verbose=0)
        >>> model.optimizer.converged
        True
    """

    def __init__(
        self,
        update: str = "bfgs",
        learning_rate: float = 1.0,
        gradient_tolerance: float = 1e-5,
        change_tolerance: float = 1e-9,
        max_line_search_steps: int = 20,
        *,
        max_memory: int = MAX_MEMORY,
        curvature_dtype: str | None = None,
        save_curvature: bool = True,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        verbose: int = 0,
        name: str | None = None,
        **refused: Any,
    ) -> None:
        """Check the arguments before Keras sees them."""
        owner = type(self).__name__
        update = checked_update(owner, "update", update, tuple(UPDATES))
        max_memory = count(owner, "max_memory", max_memory)
        if curvature_dtype not in (None, "float32", "float64"):
            refuse(owner, "curvature_dtype", curvature_dtype, "'float32', 'float64' or None")
        if not isinstance(save_curvature, bool):
            refuse(owner, "save_curvature", save_curvature, "True or False")
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
        self.update, self.max_memory = update, max_memory
        self.curvature_dtype, self.save_curvature = curvature_dtype, save_curvature

    def _curvature_for(self, variables: Sequence[Any]) -> Curvature:
        dtype = self.curvature_dtype or widest_real(variables)
        check_size(type(self).__name__, components(variables), dtype, self.max_memory, "`LBFGS`")
        divided = [path_of(v) for v in variables if _is_divided(v)]
        if divided:
            raise ValueError(
                f"{type(self).__name__} needs whole variables: its inverse Hessian couples all of their components. The "
                f"distribution's layout divides {divided} among devices. Use `LBFGS`, or `keras.distribution.DataParallel`."
            )
        return InverseHessian(self.update, dtype)

    @property
    def resets(self) -> int:
        """How often H was given up for the negative gradient, over all runs."""
        return int(self._slots.number("resets")[0]) if self.built else 0

    def slots_left_out(self) -> frozenset[str]:
        """Names of slots that saving leaves out."""
        return frozenset() if self.save_curvature else frozenset(Inverse._fields)

    def _state_is_loaded(self, left_out: frozenset[str]) -> None:
        if "inverse_hessian" in left_out:
            self.reset_curvature()
            warnings.warn(
                f"The state of '{self.name}' was saved without its inverse Hessian (`save_curvature=False`): the run goes "
                "on with H afresh.",
                stacklevel=4,
            )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            **super().get_config(),
            "update": self.update,
            "max_memory": self.max_memory,
            "curvature_dtype": self.curvature_dtype,
            "save_curvature": self.save_curvature,
        }


def _is_divided(variable: Any) -> bool:
    """Whether a layout of `keras.distribution` divides the variable among devices."""
    distribution = keras.distribution.distribution()
    layout = None if distribution is None else distribution.get_variable_layout(variable)
    return any(axis is not None for axis in getattr(layout, "axes", None) or ())
