"""What Keras 3 leaves out: layers, optimizers, L-BFGS and BatchNorm folding."""

from keras_addons_l6.folding import fold_batch_norm, inspect_batch_norm
from keras_addons_l6.layers import SELU, BatchNorm, GroupNorm, InstanceNorm, PReLU, Swish
from keras_addons_l6.optimizers import AdaGrad, Adam, AdamW, Nesterov, RMSProp

__version__ = "0.1.0"

__all__ = [
    "SELU",
    "AdaGrad",
    "Adam",
    "AdamW",
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "Nesterov",
    "PReLU",
    "RMSProp",
    "Swish",
    "fold_batch_norm",
    "inspect_batch_norm",
]
