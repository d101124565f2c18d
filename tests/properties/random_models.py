"""Builds small random Functional models: branches, shared and nested layers of every kind."""

import keras
import numpy as np
from keras import layers

from keras_addons_l6.layers import BatchNorm, GroupNorm, PReLU, Swish

# By rank of the tensor, batch included: what may follow it. "any" holds for each rank.
KINDS = {
    "any": [
        "dense",
        "batch_norm",
        "batch_norm",
        "batch_norm",
        "activation",
        "dropout",
        "identity",
        "shared",
        "branch",
    ],
    3: ["conv", "conv_transpose", "depthwise1d", "separable1d", "pool", "pad", "crop", "upsample", "einsum"],
    4: [
        "conv",
        "conv_transpose",
        "depthwise2d",
        "separable2d",
        "pool",
        "max_pool",
        "pad",
        "crop",
        "upsample",
        "nested",
    ],
    5: ["conv", "conv_transpose", "pool", "pad", "crop"],
}
INPUTS = ["image", "sequence", "image", "volume", "vector", "image", "tokens"]
SHAPES = {"image": (8, 8, 3), "sequence": (10, 4), "volume": (5, 5, 5, 2), "vector": (6,), "tokens": (7,)}


class Generator:
    """Draws one model from a seed."""

    def __init__(self, seed):
        self.kind = INPUTS[seed % len(INPUTS)]
        self.random = np.random.default_rng(seed)
        self.made = {}

    def choose(self, options):
        return options[self.random.integers(len(options))]

    def model(self):
        """A model of five to ten steps, with one or two outputs and random weights."""
        tokens = self.kind == "tokens"
        inputs = keras.Input(SHAPES[self.kind], dtype="int32" if tokens else "float32", name=self.kind)
        x = layers.Embedding(11, 6)(inputs) if tokens else inputs
        seen = [x]
        for _ in range(self.random.integers(5, 11)):
            x = self.step(x)
            seen.append(x)
        early = [self.choose(seen[1:])] if self.random.random() < 0.3 else []
        outputs = [layers.Dense(3, name="answer")(self.pooled(x)), *early]
        model = keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])
        randomize(model, self.random)
        return model

    def pooled(self, x):
        """A vector a sample, by a way that folding may or may not pass."""
        rank = len(x.shape)
        if rank == 2:
            return x
        if self.random.random() < 0.5:
            return layers.Flatten()(x)
        return getattr(layers, f"GlobalAveragePooling{rank - 2}D")()(x)

    def step(self, x):
        """One random layer after x, and often a BatchNorm after that."""
        kind = self.choose(KINDS["any"] + 2 * KINDS.get(len(x.shape), []))
        x = getattr(self, kind)(x)
        return self.batch_norm(x) if self.random.random() < 0.4 else x

    def batch_norm(self, x):
        layer = self.choose([layers.BatchNormalization, BatchNorm])
        # The last axis mostly; another is a case to be kept.
        axis = -1 if self.random.random() < 0.9 else 1
        return layer(axis=axis, center=self.random.random() < 0.9, scale=self.random.random() < 0.9)(x)

    def settings(self):
        return {
            "use_bias": self.random.random() < 0.5,
            "activation": self.choose([None, None, None, "relu", "tanh"]),
        }

    def dense(self, x):
        return layers.Dense(self.choose([3, 4, 6]), **self.settings())(x)

    def einsum(self, x):
        return layers.EinsumDense("abc,cd->abd", (x.shape[1], 5), bias_axes=self.choose([None, "d", "bd"]))(x)

    def activation(self, x):
        return self.choose(
            [
                layers.ReLU,
                PReLU,
                Swish,
                lambda: layers.Activation("linear"),
                lambda: layers.Activation("tanh"),
                lambda: GroupNorm(groups=1),
            ]
        )()(x)

    def dropout(self, x):
        return self.choose([layers.Dropout, layers.GaussianNoise, layers.GaussianDropout])(0.3)(x)

    def identity(self, x):
        return layers.Identity()(x)

    def rank(self, x, name, **arguments):
        """Keras's layer of that name for the rank of x."""
        return getattr(layers, f"{name}{len(x.shape) - 2}D")(**arguments)(x)

    def smallest(self, x):
        return min(x.shape[1:-1])

    def padding(self, x):
        return self.choose(["same", "valid"]) if self.smallest(x) >= 3 else "same"

    def conv(self, x):
        groups = self.choose([g for g in (1, 1, 2, 3) if x.shape[-1] % g == 0])
        return self.rank(
            x,
            "Conv",
            filters=groups * self.choose([2, 3]),
            kernel_size=self.choose([1, 3]) if self.smallest(x) >= 3 else 1,
            padding=self.padding(x),
            groups=groups,
            **self.settings(),
        )

    def conv_transpose(self, x):
        if self.smallest(x) > 8:
            return x
        layer = {3: layers.Conv1DTranspose, 4: layers.Conv2DTranspose, 5: layers.Conv3DTranspose}[
            len(x.shape)
        ]
        return layer(3, 3, padding="same", strides=self.choose([1, 2]), **self.settings())(x)

    def depthwise1d(self, x):
        return layers.DepthwiseConv1D(
            3, padding="same", depth_multiplier=self.choose([1, 2]), **self.settings()
        )(x)

    def depthwise2d(self, x):
        return layers.DepthwiseConv2D(
            3, padding="same", depth_multiplier=self.choose([1, 2]), **self.settings()
        )(x)

    def separable1d(self, x):
        return layers.SeparableConv1D(4, 3, padding="same", **self.settings())(x)

    def separable2d(self, x):
        return layers.SeparableConv2D(4, 3, padding="same", **self.settings())(x)

    def pool(self, x):
        return self.rank(x, "AveragePooling", pool_size=2) if self.smallest(x) >= 4 else x

    def max_pool(self, x):
        return self.rank(x, "MaxPooling", pool_size=2) if self.smallest(x) >= 4 else x

    def pad(self, x):
        return self.rank(x, "ZeroPadding", padding=1) if self.smallest(x) <= 8 else x

    def crop(self, x):
        return self.rank(x, "Cropping", cropping=1) if self.smallest(x) >= 5 else x

    def upsample(self, x):
        return self.rank(x, "UpSampling", size=2) if self.smallest(x) <= 4 else x

    def shared(self, x):
        """A layer that is called wherever the same number of channels comes by."""
        key = (len(x.shape) == 2, x.shape[-1])
        if key not in self.made:
            self.made[key] = layers.Dense(x.shape[-1]), layers.BatchNormalization()
        dense, normalization = self.made[key]
        return normalization(dense(x)) if self.random.random() < 0.7 else dense(x)

    def branch(self, x):
        """Two ways that meet in a sum or side by side."""
        left, right = layers.Dense(4)(x), self.batch_norm(layers.Dense(4, use_bias=False)(x))
        if self.random.random() < 0.5:
            left = self.batch_norm(left)
        return self.choose([layers.Add, layers.Concatenate])()([left, right])

    def nested(self, x):
        inside = keras.Input(x.shape[1:])
        y = layers.Conv2D(3, 1, use_bias=False)(inside)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        return keras.Model(inside, layers.BatchNormalization()(layers.Conv2D(4, 1)(y)))(x)


def randomize(model, random):
    """Give every weight values that folding must carry: negative gammas, moved means, variances from 0.2 to 3."""
    for variable in model.variables:
        shape = variable.shape
        if variable.name == "moving_variance":
            variable.assign(random.uniform(0.2, 3, shape))
        elif variable.name in ("gamma", "beta", "bias", "moving_mean", "alpha"):
            variable.assign(random.normal(size=shape))
        elif len(shape) > 1:
            variable.assign(random.normal(size=shape) / np.sqrt(max(1, np.prod(shape[:-1]))))


def sample(model, random):
    """A random batch of three for the model's input."""
    (inputs,) = model.inputs
    shape = (3, *inputs.shape[1:])
    if inputs.dtype == "int32":
        return random.integers(0, 11, shape).astype("int32")
    return random.normal(size=shape).astype("float32")
