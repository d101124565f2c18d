"""Optimizers that follow the published formulas."""

from keras_addons_l6.optimizers.adagrad import AdaGrad
from keras_addons_l6.optimizers.adam import Adam
from keras_addons_l6.optimizers.adamw import AdamW
from keras_addons_l6.optimizers.nesterov import Nesterov
from keras_addons_l6.optimizers.quasi_newton import (
    BFGS,
    LBFGS,
    MinimizeResult,
    StopWhenConverged,
    fit_full_batch,
    minimize,
)
from keras_addons_l6.optimizers.rmsprop import RMSProp

__all__ = [
    "BFGS",
    "LBFGS",
    "AdaGrad",
    "Adam",
    "AdamW",
    "MinimizeResult",
    "Nesterov",
    "RMSProp",
    "StopWhenConverged",
    "fit_full_batch",
    "minimize",
]
