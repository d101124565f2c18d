"""L-BFGS: the method in parts, and its entrances."""

from keras_addons_l6.optimizers.lbfgs.callbacks import StopWhenConverged
from keras_addons_l6.optimizers.lbfgs.full_batch import fit_full_batch
from keras_addons_l6.optimizers.lbfgs.minimize import MinimizeResult, minimize
from keras_addons_l6.optimizers.lbfgs.optimizer import LBFGS

__all__ = ["LBFGS", "MinimizeResult", "StopWhenConverged", "fit_full_batch", "minimize"]
