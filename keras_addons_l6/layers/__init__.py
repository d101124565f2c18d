"""Activations and normalizations as Keras layers."""

from keras_addons_l6.layers.batch_norm import BatchNorm
from keras_addons_l6.layers.group_norm import GroupNorm
from keras_addons_l6.layers.instance_norm import InstanceNorm
from keras_addons_l6.layers.layer_norm import LayerNorm
from keras_addons_l6.layers.prelu import PReLU
from keras_addons_l6.layers.selu import SELU
from keras_addons_l6.layers.swish import Swish

__all__ = ["SELU", "BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "PReLU", "Swish"]
