"""The training that every kind of distribution must repeat: a small regression in float64."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np

from keras_addons_l6 import layers, optimizers

STEPS = 12
SAMPLES = 32
OPTIMIZERS = {
    "Nesterov": lambda: optimizers.Nesterov(0.02),
    "AdaGrad": lambda: optimizers.AdaGrad(0.05),
    "RMSProp": lambda: optimizers.RMSProp(0.01, momentum=0.5, centered=True),
    "Adam": lambda: optimizers.Adam(0.01, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.01),
    "LBFGS": lambda: optimizers.LBFGS(),
    "BFGS": lambda: optimizers.BFGS("self_scaled_broyden"),
}


def use_float64():
    """Compute in float64, so that another order of summation stays far below any real difference."""
    keras.config.set_floatx("float64")
    if keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)


def data():
    """32 samples of a smooth function of six variables."""
    random = np.random.default_rng(6)
    x = random.normal(size=(SAMPLES, 6))
    return x, np.sin(x @ random.normal(size=(6, 1))) + 0.1 * x[:, :1] ** 2


def network(normalization=None, dense=keras.layers.Dense):
    """Two `dense` layers with fixed weights, `normalization` between them where one is given."""
    between = [] if normalization is None else [normalization]
    model = keras.Sequential(
        [
            keras.Input((6,)),
            dense(8, activation="tanh", name="hidden"),
            *between,
            dense(1, name="answer"),
        ]
    )
    random = np.random.default_rng(7)
    for variable in model.trainable_variables:
        if variable.path.endswith(("kernel", "bias")):
            variable.assign(0.5 * random.normal(size=variable.shape))
    return model


def fitted(optimizer, normalization=None, part=slice(None)):
    """The network after STEPS full-batch steps of `optimizer` in `fit`, given `part` of the samples."""
    model = network(normalization)
    model.compile(optimizer, "mse")
    x, y = (values[part] for values in data())
    model.fit(x, y, batch_size=len(x), shuffle=False, epochs=STEPS, verbose=0)
    return model


def flat(model):
    """All weights of a model as one list of numbers."""
    return np.concatenate([np.ravel(keras.ops.convert_to_numpy(w)) for w in model.weights]).tolist()


def batch_norm(**arguments):
    """A BatchNorm, whose statistics must be those of the whole batch however it is spread."""
    return layers.BatchNorm(**arguments)
