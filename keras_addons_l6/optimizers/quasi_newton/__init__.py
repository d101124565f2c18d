"""Quasi-Newton methods: in parts, and their entrances."""

from keras_addons_l6.optimizers.quasi_newton.bfgs import BFGS
from keras_addons_l6.optimizers.quasi_newton.callbacks import StopWhenConverged
from keras_addons_l6.optimizers.quasi_newton.full_batch import fit_full_batch
from keras_addons_l6.optimizers.quasi_newton.lbfgs import LBFGS
from keras_addons_l6.optimizers.quasi_newton.minimize import MinimizeResult, minimize

__all__ = ["BFGS", "LBFGS", "MinimizeResult", "StopWhenConverged", "fit_full_batch", "minimize"]
