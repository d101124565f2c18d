"""Our optimizers under the names, arguments and defaults of Keras's, for Keras's own tests."""

from keras import ops, optimizers
from keras.saving import register_keras_serializable

from keras_addons_l6 import optimizers as ours

as_keras = register_keras_serializable(package="conformance")


@as_keras
class SGD(ours.Nesterov):
    """Ours with Keras's momentum of 0, where Nesterov's rule and every other are plain gradient descent."""

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, **kwargs):
        super().__init__(learning_rate, momentum, **kwargs)
        self.nesterov = nesterov

    def get_config(self):
        return {**super().get_config(), "nesterov": self.nesterov}


@as_keras
class Adagrad(ours.AdaGrad):
    """Ours with Keras's accumulator of 0.1."""

    def __init__(self, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate, initial_accumulator_value, epsilon, **kwargs)


@as_keras
class RMSprop(ours.RMSProp):
    """Ours: the defaults are Keras's."""


@as_keras
class Adam(ours.Adam):
    """Ours with Keras's epsilon: before bias correction, so that ours is it over sqrt(1 - beta_2^t)."""

    def coefficients(self, a, t):
        given = super().coefficients(a, t)
        return {**given, "eps": given["eps"] / ops.sqrt(given["c2"])}


@as_keras
class AdamW(ours.AdamW):
    """Ours with Keras's epsilon, in size and in place."""

    def __init__(
        self,
        learning_rate=0.001,
        weight_decay=0.004,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        **kwargs,
    ):
        super().__init__(learning_rate, weight_decay, beta_1, beta_2, epsilon, amsgrad, **kwargs)

    def coefficients(self, a, t):
        given = super().coefficients(a, t)
        return {**given, "eps": given["eps"] / ops.sqrt(given["c2"])}


OPTIMIZERS = {"SGD": SGD, "Adagrad": Adagrad, "RMSprop": RMSprop, "Adam": Adam, "AdamW": AdamW}
_BY_LOWER_NAME = {name.lower(): optimizer for name, optimizer in OPTIMIZERS.items()}


def get_optimizer(identifier):
    """`keras.optimizers.get`, that answers with ours for the names of Keras's five."""
    if isinstance(identifier, str) and identifier in _BY_LOWER_NAME:
        return _BY_LOWER_NAME[identifier]()
    if isinstance(identifier, dict) and identifier["class_name"] in _BY_LOWER_NAME:
        return _BY_LOWER_NAME[identifier["class_name"]](**identifier["config"])
    return optimizers.get(identifier)
