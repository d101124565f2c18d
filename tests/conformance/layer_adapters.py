"""Our layers under the names, arguments and defaults of Keras's, for Keras's own tests."""

from keras.saving import register_keras_serializable

from keras_addons_l6 import layers as ours

as_keras = register_keras_serializable(package="conformance")


@as_keras
class PReLU(ours.PReLU):
    """Ours with Keras's defaults: one alpha an element, from zero."""

    def __init__(
        self,
        alpha_initializer="Zeros",
        alpha_regularizer=None,
        alpha_constraint=None,
        shared_axes=None,
        **kwargs,
    ):
        super().__init__(alpha_initializer, alpha_regularizer, alpha_constraint, shared_axes, **kwargs)


@as_keras
class BatchNormalization(ours.BatchNorm):
    """Ours with Keras's momentum and epsilon."""

    def __init__(self, axis=-1, momentum=0.99, epsilon=1e-3, **kwargs):
        super().__init__(axis=axis, momentum=momentum, epsilon=epsilon, **kwargs)


@as_keras
class GroupNormalization(ours.GroupNorm):
    """Ours with Keras's epsilon."""

    def __init__(self, groups=32, axis=-1, epsilon=1e-3, **kwargs):
        super().__init__(groups=groups, axis=axis, epsilon=epsilon, **kwargs)


@as_keras
class LayerNormalization(ours.LayerNorm):
    """Ours with Keras's epsilon."""

    def __init__(self, axis=-1, epsilon=1e-3, **kwargs):
        super().__init__(axis=axis, epsilon=epsilon, **kwargs)


def selu(x):
    """A new SELU applied to x."""
    return ours.SELU()(x)


def silu(x):
    """A new Swish with beta = 1 applied to x."""
    return ours.Swish(trainable_beta=False)(x)
