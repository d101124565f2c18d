"""float64 that stays float64 inside Keras: the switch, and the proof that it worked."""

from keras_addons_l6.precision.switch import disable_float64, enable_float64, float64

__all__ = ["disable_float64", "enable_float64", "float64"]
