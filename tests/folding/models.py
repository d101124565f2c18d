"""Small awkward models, one line each in `CASES`: how to build it, BatchNorm calls left, and why."""

# ruff: noqa: E501 - the table has one line a case

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers as L
from keras import ops

from tests.folding import blocks as B


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], keras.Model]
    left: int
    # the code of the reason for each BatchNorm that is left, in order; empty for none
    why: tuple[str, ...] = ()


def net(shape, function, dtype=None):
    """A Functional model of one input."""
    inputs = keras.Input(shape, dtype=dtype, name="x")
    return keras.Model(inputs, function(inputs))


def chain(shape, *layers, dtype=None):
    """A Functional model of layers, one after another."""

    def function(x):
        for layer in layers:
            x = layer(x)
        return x

    return net(shape, function, dtype)


def seq(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


BN = L.BatchNormalization
IMAGE = (8, 8, 3)
LINE = (9, 3)
SPACE = (6, 6, 6, 2)
FIRST = {"data_format": "channels_first"}


def branches(merge, first=None, second=None, after=()):
    """Two convolutions of one input, merged, normalized."""

    def function(x):
        a = (first or L.Conv2D(4, 1))(x)
        b = (second or L.Conv2D(4, 1))(x)
        y = BN()(merge(a, b))
        for layer in after:
            y = layer(y)
        return y

    return net(IMAGE, function)


def add(a, b):
    return L.Add()([a, b])


def concat(a, b, axis=-1):
    return L.Concatenate(axis=axis)([a, b])


def shared_conv_same_norm():
    def function(x):
        conv, norm = L.Conv2D(4, 1), BN()
        return L.Add()([norm(conv(x)), L.ReLU()(norm(conv(L.ReLU()(x))))])

    return net(IMAGE, function)


def shared_conv_two_norms():
    def function(x):
        conv = L.Conv2D(4, 1)
        return L.Add()([L.ReLU()(BN()(conv(x))), L.ReLU()(BN()(conv(L.ReLU()(x))))])

    return net(IMAGE, function)


def shared_conv_one_norm():
    def function(x):
        conv = L.Conv2D(4, 1)
        return L.Add()([L.ReLU()(BN()(conv(x))), conv(L.ReLU()(x))])

    return net(IMAGE, function)


def shared_norm_two_convs():
    def function(x):
        norm = BN()
        return L.Add()([L.ReLU()(norm(L.Conv2D(4, 1)(x))), L.ReLU()(norm(L.Conv2D(4, 3, padding="same")(x)))])

    return net(IMAGE, function)


def shared_norm_one_foldable():
    def function(x):
        norm = BN()
        return L.Add()([norm(L.Conv2D(3, 1)(x)), L.ReLU()(norm(L.ReLU()(x)))])

    return net(IMAGE, function)


def shared_norm_as_target():
    def function(x):
        norm = BN()
        a = BN()(norm(x))
        return L.Add()([L.ReLU()(a), L.ReLU()(norm(L.ReLU()(x)))])

    return net(IMAGE, function)


def conv_output_is_output():
    inputs = keras.Input(IMAGE)
    y = L.Conv2D(4, 3)(inputs)
    return keras.Model(inputs, [y, L.ReLU()(BN()(y))])


def conv_used_twice():
    def function(x):
        y = L.Conv2D(4, 1)(x)
        return L.Add()([L.ReLU()(BN()(y)), y])

    return net(IMAGE, function)


def norm_is_two_outputs():
    inputs = keras.Input(IMAGE)
    y = BN(name="norm")(L.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, {"a": y, "b": L.ReLU(name="relu")(y)})


def norm_is_same_output_twice():
    inputs = keras.Input(IMAGE)
    y = BN(name="norm")(L.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, [y, y])


def input_is_output():
    inputs = keras.Input((4,), name="x")
    return keras.Model(inputs, [inputs, BN()(L.Dense(3)(inputs))])


def sum_with_shared_branch():
    def function(x):
        skip = L.Conv2D(4, 1)(x)
        return L.Add()([L.ReLU()(BN()(L.Add()([skip, L.Conv2D(4, 1)(x)]))), skip])

    return net(IMAGE, function)


def sum_with_input():
    return net((8, 8, 4), lambda x: BN()(L.Add()([x, L.Conv2D(4, 1)(x)])))


def sum_with_itself():
    def function(x):
        y = L.Conv2D(4, 1)(x)
        return BN()(L.Add()([y, y]))

    return net(IMAGE, function)


def sum_broadcast_space():
    def function(x):
        pooled = L.GlobalAveragePooling2D(keepdims=True)(L.Conv2D(4, 1)(x))
        return BN()(L.Add()([L.Conv2D(4, 1)(x), pooled]))

    return net(IMAGE, function)


def sum_broadcast_channels():
    return net(IMAGE, lambda x: BN()(L.Conv2D(4, 1)(x) + L.Conv2D(1, 1)(x)))


def sum_of_three_nested():
    def function(x):
        a = L.Add()([L.Conv2D(4, 1)(x), L.Conv2D(4, 3, padding="same")(x)])
        return BN()(
            L.Add()([a, BN()(L.DepthwiseConv2D(1, depth_multiplier=4)(x)[..., :4]), L.Conv2D(4, 1)(x)])
        )

    return net(IMAGE, function)


def sum_padding_one_side():
    """One summand cannot be shifted, but scaled; the other takes the shift."""
    padded = L.ZeroPadding2D(1)

    def function(x):
        return BN()(L.Add()([padded(L.Conv2D(4, 3)(x)), L.Conv2D(4, 1)(x)]))

    return net(IMAGE, function)


def nested_functional():
    inner_in = keras.Input(IMAGE)
    inner = keras.Model(inner_in, L.ReLU()(BN()(L.Conv2D(4, 3)(inner_in))), name="inner")
    return net(IMAGE, lambda x: BN()(L.Dense(3)(L.GlobalAveragePooling2D()(inner(x)))))


def nested_across():
    """The convolution ends one model, the BatchNorm begins the next."""
    a_in, b_in = keras.Input(IMAGE), keras.Input((8, 8, 4))
    a = keras.Model(a_in, L.Conv2D(4, 1)(a_in), name="a")
    b = keras.Model(b_in, L.ReLU()(BN()(b_in)), name="b")
    return net(IMAGE, lambda x: b(a(x)))


def nested_twice():
    inner_in = keras.Input((8, 8, 3))
    inner = keras.Model(inner_in, L.ReLU()(BN()(L.Conv2D(3, 1)(inner_in))), name="inner")
    return net(IMAGE, lambda x: inner(inner(x)))


def nested_twice_across():
    """The inner model's convolution is followed by different things in its two calls."""
    inner_in = keras.Input((8, 8, 3))
    inner = keras.Model(inner_in, L.Conv2D(3, 1)(inner_in), name="inner")
    return net(IMAGE, lambda x: L.ReLU()(inner(L.ReLU()(BN()(inner(x))))))


def nested_same_names():
    def inner(name):
        inputs = keras.Input((5,), name="in")
        return keras.Model(inputs, BN(name="norm")(L.Dense(5, name="dense")(inputs)), name=name)

    return net((5,), lambda x: inner("right")(L.ReLU()(inner("left")(x))))


def nested_frozen_training_false():
    inner = seq(IMAGE, L.Conv2D(4, 3), BN(), L.ReLU())
    inner.trainable = False
    return net(IMAGE, lambda x: L.Dense(2)(L.GlobalMaxPooling2D()(inner(x, training=False))))


def nested_training_true():
    inner = seq(IMAGE, L.Conv2D(4, 3), BN(), L.ReLU())
    return net(IMAGE, lambda x: inner(x, training=True))


def nested_dict():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    inner = keras.Model({"a": a, "b": b}, {"sum": BN()(L.Dense(3)(a)), "other": L.Dense(2)(b)})
    return net(
        (4,), lambda x: [inner({"b": x, "a": L.ReLU()(x)})["sum"], BN()(inner({"a": x, "b": x})["other"])]
    )


def two_inputs():
    a, b = keras.Input((4,), name="a"), keras.Input((6,), name="b")
    y = BN()(L.Concatenate()([L.Dense(3)(a), L.Dense(5)(b)]))
    return keras.Model([a, b], [L.ReLU(name="out")(y), BN(name="raw")(L.Dense(2)(y))])


def dict_inputs_and_outputs():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    y = L.ReLU()(BN()(L.Dense(3)(a)))
    return keras.Model({"a": a, "b": b}, {"y": {"deep": [BN(name="n")(L.Dense(2)(y))]}, "z": L.Dense(1)(b)})


def optional_input():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b", optional=True)
    return keras.Model([a, b], BN()(L.Dense(3)(B.AddIfThere()([a, b]))))


def mask_through():
    return chain((7,), L.Embedding(11, 6, mask_zero=True), BN(), L.LSTM(4), BN(), L.Dense(2), dtype="int32")


def mask_average():
    return chain(
        (7,), L.Embedding(11, 6, mask_zero=True), L.Dense(5), L.GlobalAveragePooling1D(), BN(), dtype="int32"
    )


def explicit_mask():
    def function(x):
        mask = ops.not_equal(x[..., 0], 0.0)
        return L.LSTM(3)(BN()(L.Dense(4)(x), mask=mask))

    return net((5, 3), function)


def lora(layer, shape):
    def build():
        model = chain(shape, layer(), BN())
        model.layers[1].enable_lora(2)
        return model

    return build


def tied_embedding():
    table = L.Embedding(11, 6)

    class Tied(keras.Model):
        def __init__(self):
            super().__init__()
            self.table, self.norm = table, BN()

        def call(self, x):
            y = ops.relu(self.norm(self.table(x)))
            return ops.matmul(y, ops.transpose(self.table.embeddings))

    model = Tied()
    model(np.zeros((2, 5), "int32"))
    return model


def statistics(change):
    def build():
        model = seq(IMAGE, L.Conv2D(4, 1), BN(), L.ReLU())
        change(model.layers[1])
        model.frozen_statistics = True
        return model

    return build


def _negative_variance(layer):
    layer.moving_variance.assign([1.0, -1e-4, 1.0, 1.0])


def _nan_mean(layer):
    layer.moving_mean.assign([0.0, float("nan"), 0.0, 0.0])


def _infinite_gamma(layer):
    layer.gamma.assign([1.0, float("inf"), 1.0, 1.0])


def half_overflow():
    model = seq((4,), L.Dense(3, dtype="float16"), BN(dtype="float16", scale=False), L.ReLU(dtype="float16"))
    model.layers[0].kernel.assign(np.full((4, 3), 600.0))
    model.layers[1].moving_variance.assign(np.full(3, 1e-5))
    model.layers[1].epsilon = 1e-7
    model.frozen_statistics = True
    return model


def quantized():
    model = seq((8,), L.Dense(4), BN(), L.ReLU(), L.Dense(4), BN())
    model.layers[0].quantize("int8")
    return model


def subclassed(model, shape, dtype="float32"):
    def build():
        made = model()
        made(np.zeros(shape, dtype))
        return made

    return build


def mixed(policy, *layers, shape=IMAGE):
    def build():
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            return chain(shape, *[layer() for layer in layers])
        finally:
            keras.config.set_dtype_policy(before)

    return build


def no_grad(layer):
    layer.trainable = False
    return layer


# fmt: off
CASES = [
    # back into each kind of layer
    Case("conv1d", lambda: seq(LINE, L.Conv1D(4, 3), BN(), L.ReLU()), 0),
    Case("conv1d causal dilated", lambda: seq(LINE, L.Conv1D(4, 3, padding="causal", dilation_rate=2), BN()), 0),
    Case("conv2d", lambda: seq(IMAGE, L.Conv2D(4, 3, use_bias=False), BN(), L.ReLU()), 0),
    Case("conv2d strided same", lambda: seq(IMAGE, L.Conv2D(4, 3, strides=2, padding="same"), BN()), 0),
    Case("conv2d groups", lambda: seq((8, 8, 6), L.Conv2D(9, 3, groups=3), BN(), L.ReLU()), 0),
    Case("conv2d channels first", lambda: seq((3, 8, 8), L.Conv2D(4, 3, **FIRST), BN(axis=1)), 0),
    Case("conv3d", lambda: seq(SPACE, L.Conv3D(4, 2), BN(), L.ReLU()), 0),
    Case("depthwise1d", lambda: seq(LINE, L.DepthwiseConv1D(3, depth_multiplier=2), BN()), 0),
    Case("depthwise2d", lambda: seq(IMAGE, L.DepthwiseConv2D(3, use_bias=False), BN(), L.ReLU()), 0),
    Case("depthwise2d multiplier is channels", lambda: seq(IMAGE, L.DepthwiseConv2D(2, depth_multiplier=3), BN()), 0),
    Case("separable1d", lambda: seq(LINE, L.SeparableConv1D(4, 3, depth_multiplier=2), BN()), 0),
    Case("separable2d", lambda: seq(IMAGE, L.SeparableConv2D(4, 3, use_bias=False), BN(), L.ReLU()), 0),
    Case("conv1d transpose", lambda: seq(LINE, L.Conv1DTranspose(4, 3, strides=2), BN()), 0),
    Case("conv2d transpose", lambda: seq(IMAGE, L.Conv2DTranspose(3, 3, strides=2, use_bias=False), BN()), 0),
    Case("conv3d transpose", lambda: seq(SPACE, L.Conv3DTranspose(2, 2, padding="same"), BN()), 0),
    Case("dense", lambda: seq((5,), L.Dense(4, use_bias=False), BN(), L.ReLU()), 0),
    Case("dense on a sequence", lambda: seq((7, 5), L.Dense(4), BN(), L.ReLU()), 0),
    Case("dense, only scale", lambda: seq((5,), L.Dense(4), BN(center=False)), 0),
    Case("dense, only shift", lambda: seq((5,), L.Dense(4), BN(scale=False)), 0),
    Case("dense, neither", lambda: seq((5,), L.Dense(4), BN(scale=False, center=False)), 0),
    Case("dense, renorm", lambda: seq((5,), L.Dense(4), B.renorm()), 0),
    Case("einsum", lambda: chain((4, 5), L.EinsumDense("abc,cd->abd", (None, 6)), BN()), 0),
    Case("einsum bias", lambda: chain((4, 5), L.EinsumDense("abc,cd->abd", (4, 6), bias_axes="d"), BN()), 0),
    Case("einsum two axes", lambda: chain((4, 5), L.EinsumDense("abc,cde->abde", (4, 2, 3)), BN(axis=2)), 0),
    Case("einsum bias two axes", lambda: chain((4, 5), B.einsum_heads("de"), BN(axis=2)), 0),
    Case("einsum ellipsis", lambda: chain((4, 5), L.EinsumDense("...x,xy->...y", 6), BN()), 0),
    Case("einsum bias elsewhere", lambda: chain((4, 5), B.einsum_heads("e"), BN(axis=2)), 1, ("axis",)),
    Case("einsum not a kernel axis", lambda: chain((4, 5), B.einsum_heads(None), BN(axis=1)), 1, ("axis",)),
    Case("embedding", lambda: chain((5,), L.Embedding(11, 6), BN(), dtype="int32"), 0),
    Case("into another batch norm", lambda: seq((5,), L.ReLU(), BN(), BN(), L.ReLU()), 1, ("activation",)),
    Case("into one without scale", lambda: seq((5,), L.ReLU(), BN(scale=False, center=False), BN()), 1, ("activation",)),
    Case("chain of three", lambda: seq((5,), L.Dense(4), BN(), BN(), BN(), L.ReLU()), 0),
    Case("chain forward", lambda: seq((5,), BN(), BN(), L.Dense(4, activation="relu")), 0),
    Case("lora dense", lora(lambda: L.Dense(4), (5,)), 0),
    Case("lora conv", lora(lambda: L.Conv2D(4, 3), IMAGE), 0),
    Case("constraint and regularizer", lambda: seq((5,), B.constrained(), BN()), 0),
    # on the way back
    Case("dropout", lambda: seq((5,), L.Dense(4), L.Dropout(0.5), BN()), 0),
    Case("spatial dropout", lambda: seq(IMAGE, L.Conv2D(4, 3), L.SpatialDropout2D(0.5), BN()), 0),
    Case("noises", lambda: seq((5,), L.Dense(4), L.GaussianNoise(1.0), L.GaussianDropout(0.5), L.AlphaDropout(0.5), BN()), 0),
    Case("identity", lambda: seq((5,), L.Dense(4), L.Identity(), L.Activation("linear"), BN()), 0),
    Case("average pooling", lambda: seq(IMAGE, L.Conv2D(4, 3), L.AveragePooling2D(2), BN()), 0),
    Case("average pooling same", lambda: seq(IMAGE, L.Conv2D(4, 3), L.AveragePooling2D(4, 3, padding="same"), BN()), 0),
    Case("average pooling 1d", lambda: seq(LINE, L.Conv1D(4, 3), L.AveragePooling1D(2, padding="same"), BN()), 0),
    Case("average pooling 3d", lambda: seq(SPACE, L.Conv3D(4, 2), L.AveragePooling3D(2), BN()), 0),
    Case("cropping", lambda: seq(IMAGE, L.Conv2D(4, 3), L.Cropping2D(((0, 1), (2, 0))), BN()), 0),
    Case("cropping 1d", lambda: seq(LINE, L.Conv1D(4, 3), L.Cropping1D(1), BN()), 0),
    Case("up nearest", lambda: seq(IMAGE, L.Conv2D(4, 3), L.UpSampling2D(2), BN()), 0),
    Case("up bilinear", lambda: seq(IMAGE, L.Conv2D(4, 3), L.UpSampling2D(2, interpolation="bilinear"), BN()), 0),
    Case("up bicubic", lambda: seq(IMAGE, L.Conv2D(4, 3), L.UpSampling2D(2, interpolation="bicubic"), BN()), 0),
    Case("up 1d", lambda: seq(LINE, L.Conv1D(4, 3), L.UpSampling1D(2), BN()), 0),
    Case("global average", lambda: seq(IMAGE, L.Conv2D(4, 3), L.GlobalAveragePooling2D(), BN()), 0),
    Case("global average keepdims", lambda: seq(IMAGE, L.Conv2D(4, 3), L.GlobalAveragePooling2D(keepdims=True), BN()), 0),
    Case("global average channels first", lambda: seq((3, 8, 8), L.Conv2D(4, 3, **FIRST), L.GlobalAveragePooling2D(**FIRST), BN()), 0),
    Case("global average keepdims first", lambda: seq((3, 8, 8), L.Conv2D(4, 3, **FIRST), L.GlobalAveragePooling2D(keepdims=True, **FIRST), BN(axis=1)), 0),
    Case("max pooling", lambda: seq(IMAGE, L.Conv2D(4, 3), L.MaxPooling2D(padding="same"), B.positive(BN())), 0),
    Case("max pooling, negative gamma", lambda: seq(IMAGE, L.Conv2D(4, 3), L.MaxPooling2D(), B.negative(BN()), L.ReLU()), 1, ("sign",)),
    Case("global max pooling", lambda: seq(IMAGE, L.Conv2D(4, 3), L.GlobalMaxPooling2D(), B.positive(BN())), 0),
    Case("zero padding", lambda: seq(IMAGE, L.Conv2D(4, 3), L.ZeroPadding2D(), BN(), L.ReLU()), 1, ("padding",)),
    Case("zero padding, no shift", lambda: seq(IMAGE, L.Conv2D(4, 3), L.ZeroPadding2D(), B.unshifted(BN()), L.ReLU()), 0),
    Case("permute", lambda: seq((7, 5), L.Dense(4), L.Permute((2, 1)), BN(axis=1)), 0),
    Case("permute, wrong axis", lambda: seq((4, 5), L.Dense(4), L.Permute((2, 1)), BN(axis=2)), 1, ("axis",)),
    Case("reshape, as generators do", lambda: seq((5,), L.Dense(4 * 4 * 3), L.Reshape((4, 4, 3)), BN(), L.ReLU()), 0),
    Case("reshape, middle axis", lambda: seq((5,), L.Dense(24), L.Reshape((2, 3, 4)), BN(axis=2), L.ReLU()), 0),
    Case("flatten behind", lambda: seq((4, 5), L.Conv1D(4, 1), L.Flatten(), BN(), L.ReLU()), 1, ("axis",)),
    # merges
    Case("concatenate", lambda: branches(concat, L.Conv2D(4, 1), L.Conv2D(5, 1)), 0),
    Case("concatenate other axis", lambda: branches(lambda a, b: concat(a, b, 1)), 0),
    Case("concatenate, norm on other axis", lambda: net((4, 4, 4), lambda x: L.ReLU()(BN(axis=1)(concat(L.Conv2D(4, 1)(x), L.Conv2D(4, 1)(x))))), 1, ("axis",)),
    Case("concatenate with input", lambda: net(IMAGE, lambda x: L.ReLU()(BN()(concat(x, L.Conv2D(4, 1)(x))))), 1, ("shared",)),
    Case("concatenate twice the same", lambda: net(IMAGE, lambda x: L.ReLU()(BN()(concat(*[L.Conv2D(4, 1)(x)] * 2)))), 1, ("shared",)),
    Case("add", lambda: branches(add), 0),
    Case("add with dropout", lambda: branches(add, after=(L.ReLU(),)), 0),
    Case("plus", lambda: branches(lambda a, b: a + b), 0),
    Case("ops.add", lambda: branches(ops.add), 0),
    Case("ops.concatenate", lambda: branches(lambda a, b: ops.concatenate([a, b], axis=-1)), 0),
    Case("plus a number", lambda: net((5,), lambda x: L.ReLU()(BN()(L.Dense(4)(x) + 1.0))), 0),
    Case("multiply", lambda: branches(lambda a, b: L.Multiply()([a, b])), 1, ("layer",)),
    Case("maximum", lambda: branches(lambda a, b: L.Maximum()([a, b])), 1, ("layer",)),
    Case("add shared branch", sum_with_shared_branch, 1, ("shared",)),
    Case("add with the input", sum_with_input, 1, ("shared",)),
    Case("add with itself", sum_with_itself, 1, ("shared",)),
    Case("add broadcast over space", sum_broadcast_space, 0),
    Case("add broadcast over channels", sum_broadcast_channels, 1, ("axis",)),
    Case("add nested, with a slice", sum_of_three_nested, 0),
    Case("add, one side padded", sum_padding_one_side, 0),
    # passages
    Case("average of two", lambda: branches(lambda a, b: L.Average()([a, b])), 0),
    Case("difference, layer", lambda: branches(lambda a, b: L.Subtract()([a, b])), 0),
    Case("difference, operator", lambda: branches(lambda a, b: a - b), 0),
    Case("difference, first one padded", B.difference_padding_first, 0),
    Case("rescaling", lambda: seq(IMAGE, L.Conv2D(4, 3), L.Rescaling(1 / 127.5, offset=-1), BN(), L.ReLU()), 0),
    Case("rescaling ahead", lambda: seq(IMAGE, BN(), L.Rescaling(3.0, offset=-1), L.Conv2D(4, 3)), 0),
    Case("constants", lambda: net(IMAGE, lambda x: BN()((1 - 2 * L.Conv2D(4, 3)(x)) / 3 - 0.5)), 0),
    Case("constants, negative", lambda: net(IMAGE, lambda x: BN()(-L.Conv2D(4, 3)(x) * np.float32(0.1))), 0),
    Case("constants by channel", lambda: net(IMAGE, lambda x: BN()(L.Conv2D(4, 3)(x) * B.by_channel(4) + B.by_channel(4))), 0),
    Case("constants ahead", lambda: net(IMAGE, lambda x: L.Conv2D(4, 3)(ops.subtract(B.by_channel(3), BN()(x) * B.by_channel(3)))), 0),
    Case("constants by place", lambda: net(IMAGE, lambda x: BN()(L.Conv2D(4, 3)(x) + B.by_place(6))), 1, ("axis",)),
    Case("constant over x", lambda: net(IMAGE, lambda x: BN()(1 / L.Conv2D(4, 3)(x))), 1, ("layer",)),
    Case("times zero", lambda: net(IMAGE, lambda x: BN()(L.Conv2D(4, 3)(x) * 0.0)), 1, ("layer",)),
    Case("transpose", lambda: net(IMAGE, lambda x: BN(axis=1)(ops.transpose(L.Conv2D(4, 3)(x), (0, 3, 1, 2)))), 0),
    Case("swap and move axes", lambda: net(IMAGE, lambda x: BN(axis=2)(ops.moveaxis(ops.swapaxes(L.Conv2D(4, 3)(x), 1, 2), -1, 2))), 0),
    Case("transpose hides the axis", lambda: net((6, 6, 3), lambda x: BN()(ops.transpose(L.Conv2D(6, 1)(x), (0, 3, 1, 2)))), 1, ("axis",)),
    Case("ops.reshape", lambda: net(IMAGE, lambda x: BN()(ops.reshape(L.Conv2D(4, 3)(x), (-1, 36, 4)))), 0),
    Case("ops.reshape of the batch", lambda: net(IMAGE, lambda x: ops.reshape(BN()(ops.reshape(L.Conv2D(4, 3)(x), (-1, 4))), (-1, 36 * 4))), 0),
    Case("pad, reflected", lambda: net(IMAGE, lambda x: BN()(ops.pad(L.Conv2D(4, 3)(x), B.AROUND, mode="reflect"))), 0),
    Case("pad, zeros", lambda: net(IMAGE, lambda x: BN()(ops.pad(L.Conv2D(4, 3)(x), B.AROUND))), 1, ("padding",)),
    Case("pad, zeros, no shift", lambda: net(IMAGE, lambda x: B.unshifted(BN())(ops.pad(L.Conv2D(4, 3)(x), B.AROUND))), 0),
    Case("pad, ones", lambda: net(IMAGE, lambda x: B.unshifted(BN())(ops.pad(L.Conv2D(4, 3)(x), B.AROUND, constant_values=1.0))), 1, ("padding",)),
    Case("slice of places", lambda: net(IMAGE, lambda x: BN()(L.Conv2D(4, 3)(x)[:, 1:-1, ::2])), 0),
    Case("slice of channels", lambda: net(IMAGE, lambda x: BN()(L.Conv2D(6, 3)(x)[..., 1:5])), 0),
    Case("slice of channels ahead", lambda: net(IMAGE, lambda x: L.Conv2D(4, 3)(BN()(x)[..., :2])), 0),
    Case("one place", lambda: net(IMAGE, lambda x: BN()(L.Conv2D(6, 3)(x)[:, 0])), 0),
    Case("split, both normalized", B.split_both, 0),
    Case("split, one normalized", B.split_one, 0),
    Case("split of places, one normalized", B.split_places, 1, ("shared",)),
    Case("split ahead", B.split_ahead, 0),
    Case("mean", lambda: net(IMAGE, lambda x: BN()(ops.mean(L.Conv2D(4, 3)(x), axis=(1, 2)))), 0),
    Case("mean over channels", lambda: net((8, 4, 3), lambda x: BN()(ops.mean(L.Conv2D(4, 1)(x), axis=-1))), 1, ("axis",)),
    Case("max, all scales positive", lambda: net(IMAGE, lambda x: B.positive(BN())(ops.max(L.Conv2D(4, 3)(x), axis=(1, 2)))), 0),
    Case("max", lambda: net(IMAGE, lambda x: B.negative(BN())(ops.max(L.Conv2D(4, 3)(x), axis=(1, 2)))), 1, ("sign",)),
    Case("pool functions", lambda: net(IMAGE, lambda x: BN()(ops.average_pool(L.Conv2D(4, 3)(x), (2, 2), (2, 2)))), 0),
    Case("resize", lambda: net(IMAGE, lambda x: BN()(ops.image.resize(L.Conv2D(4, 3)(x), (9, 9)))), 0),
    Case("flip, roll, repeat, tile", lambda: net(IMAGE, lambda x: BN()(ops.tile(ops.repeat(ops.roll(ops.flip(L.Conv2D(4, 3)(x), -1), 1, 3), 2, 1), (1, 1, 2, 1)))), 0),
    Case("channels repeated", lambda: net(IMAGE, lambda x: BN()(ops.repeat(L.Conv2D(2, 3)(x), 2, -1))), 1, ("axis",)),
    Case("new axis and back", lambda: net((5,), lambda x: BN()(ops.squeeze(ops.expand_dims(L.Dense(4)(x), 1), 1))), 0),
    Case("padding of channels", lambda: net(IMAGE, lambda x: L.Conv2D(4, 3)(ops.pad(BN()(x), [[0, 0], [0, 0], [0, 0], [0, 2]]))), 0),
    Case("open sizes", lambda: net((None, None, 3), lambda x: BN()(ops.transpose(L.Conv2D(4, 3)(x)[:, ::2], (0, 2, 1, 3)))), 0),
    # beside
    Case("identity branch", lambda: B.identity_branch(L.Conv2D(3, 3, padding="same")), 0),
    Case("identity branch, groups", lambda: B.identity_branch(L.Conv2D(6, 3, padding="same", groups=2), 6), 0),
    Case("identity branch, depthwise", lambda: B.identity_branch(L.DepthwiseConv2D(5, padding="same")), 0),
    Case("identity branch, dense", lambda: B.identity_branch(L.Dense(3)), 0),
    Case("identity branch, dilated", lambda: B.identity_branch(L.Conv2D(3, 3, padding="same", dilation_rate=2)), 0),
    Case("identity branch, even window", lambda: B.identity_branch(L.Conv2D(3, 2, padding="same")), 1, ("shared",)),
    Case("identity branch, activation", lambda: B.identity_branch(L.Conv2D(3, 3, padding="same", activation="relu")), 2, ("activation", "shared")),
    Case("identity branch of one conv", B.identity_branch_of_one, 0),
    # several ahead
    Case("one norm, two convs ahead", lambda: net(IMAGE, lambda x: B.two_convs(BN()(x), "valid")), 0),
    Case("one norm, two convs ahead, one padded", lambda: net(IMAGE, lambda x: B.two_convs(BN()(x), "same")), 1, ("shared",)),
    # forward
    Case("norm on the input, dense", lambda: seq((5,), BN(), L.Dense(4, activation="relu")), 0),
    Case("norm on the input, conv valid", lambda: seq(IMAGE, BN(), L.Conv2D(4, 3, activation="relu")), 0),
    Case("norm on the input, conv groups", lambda: seq((8, 8, 6), BN(), L.Conv2D(9, 3, groups=3, strides=2)), 0),
    Case("norm on the input, conv 1x1 same", lambda: seq(IMAGE, BN(), L.Conv2D(4, 1, padding="same", strides=2)), 0),
    Case("norm on the input, conv same", lambda: seq(IMAGE, BN(), L.Conv2D(4, 3, padding="same")), 1, ("padding",)),
    Case("norm on the input, conv same, no shift", lambda: seq(IMAGE, B.unshifted(BN()), L.Conv2D(4, 3, padding="same")), 0),
    Case("norm on the input, causal", lambda: seq(LINE, BN(), L.Conv1D(4, 3, padding="causal")), 1, ("padding",)),
    Case("norm on the input, conv first", lambda: seq((3, 8, 8), BN(axis=1), L.Conv2D(4, 3, **FIRST)), 0),
    Case("norm on the input, wrong axis", lambda: seq((3, 3, 3), BN(axis=1), L.Conv2D(4, 1)), 1, ("axis",)),
    Case("norm on the input, depthwise", lambda: seq(IMAGE, BN(), L.DepthwiseConv2D(3, depth_multiplier=2)), 0),
    Case("norm on the input, separable", lambda: seq(IMAGE, BN(), L.SeparableConv2D(4, 3, depth_multiplier=2, use_bias=False)), 0),
    Case("norm on the input, transpose", lambda: seq(IMAGE, BN(), L.Conv2DTranspose(4, 3)), 1, ("layer",)),
    Case("forward through flatten", lambda: seq((4, 5, 3), BN(), L.Flatten(), L.Dense(4)), 0),
    Case("forward through flatten first", lambda: seq((3, 4, 5), BN(axis=1), L.Flatten(**FIRST), L.Dense(4)), 0),
    Case("forward through dropout, crop", lambda: seq(IMAGE, BN(), L.Dropout(0.1), L.Cropping2D(1), L.Conv2D(4, 3)), 0),
    Case("forward through global average", lambda: seq(IMAGE, L.ReLU(), BN(), L.GlobalAveragePooling2D(), L.Dense(4)), 0),
    Case("forward through reshape, permute", lambda: seq((4, 6), L.ReLU(), BN(), L.Reshape((2, 2, 6)), L.Permute((3, 1, 2)), L.Conv2D(4, 2, **FIRST)), 0),
    Case("after an activation, conv valid", lambda: seq(IMAGE, L.Conv2D(4, 3, activation="relu"), BN(), L.Conv2D(5, 3)), 0),
    Case("after an activation, conv same", lambda: seq(IMAGE, L.Conv2D(4, 3, activation="relu"), BN(), L.Conv2D(5, 3, padding="same")), 1, ("activation",)),
    Case("two users ahead", lambda: net((5,), lambda x: L.Add()([d(BN()(L.ReLU()(x))) for d in (L.Dense(3), L.Dense(3))])), 0),
    Case("one norm, two users ahead", lambda: B.two_users_ahead(), 0),
    Case("both sides of a conv", lambda: seq(IMAGE, BN(), L.Conv2D(4, 3), BN(), L.ReLU()), 0),
    Case("pre-activation", lambda: seq((5,), L.ReLU(), BN(), L.ReLU(), L.Dense(4)), 1, ("activation",)),
    Case("norm is all", lambda: seq((5,), BN()), 1, ("output",)),
    # kept
    Case("dense relu fused", lambda: seq((5,), L.Dense(4, activation="relu"), BN(), L.ReLU()), 1, ("activation",)),
    Case("relu between", lambda: seq((5,), L.Dense(4), L.ReLU(), BN()), 1, ("activation",)),
    Case("prelu between", lambda: seq((5,), L.Dense(4), L.PReLU(), BN()), 1, ("activation",)),
    Case("ops.relu between", lambda: net((5,), lambda x: BN()(ops.relu(L.Dense(4)(x)))), 1, ("activation",)),
    Case("softmax between", lambda: seq((5,), L.Dense(4), L.Softmax(), BN()), 1, ("activation",)),
    Case("layer norm between", lambda: seq((5,), L.Dense(4), L.LayerNormalization(), BN()), 1, ("layer",)),
    Case("square hides the axis, conv", lambda: seq((8, 8, 3), L.Conv2D(8, 1), BN(axis=1), L.ReLU()), 1, ("axis",)),
    Case("square hides the axis, dense", lambda: seq((6, 5), L.Dense(6), BN(axis=1)), 1, ("axis",)),
    Case("square hides the axis, embedding", lambda: chain((6,), L.Embedding(11, 6), BN(axis=1), dtype="int32"), 1, ("axis",)),
    Case("square hides the axis, pooling", lambda: seq((8, 8, 3), L.Conv2D(4, 1), L.MaxPooling2D(), B.positive(BN(axis=2))), 1, ("axis",)),
    Case("channels first, last normalized", lambda: seq((4, 4, 4), L.Conv2D(4, 1, **FIRST), BN(axis=-1)), 1, ("axis",)),
    Case("negative axis", lambda: seq((3, 8, 8), L.Conv2D(4, 1, **FIRST), BN(axis=-3)), 0),
    Case("training call", lambda: net((5,), lambda x: BN()(L.Dense(4)(x), training=True)), 1, ("training",)),
    Case("training call, frozen", lambda: net((5,), lambda x: no_grad(BN())(L.Dense(4)(x), training=True)), 0),
    Case("inference call", lambda: net((5,), lambda x: BN()(L.Dense(4)(x), training=False)), 0),
    Case("dropout always on", lambda: net((5,), lambda x: BN()(L.Dropout(0.0)(L.Dense(4)(x), training=True))), 1, ("training",)),
    Case("frozen", lambda: seq((5,), L.Dense(4), no_grad(BN())), 0),
    Case("variance negative", statistics(_negative_variance), 1, ("statistics",)),
    Case("mean not a number", statistics(_nan_mean), 1, ("statistics",)),
    Case("gamma infinite", statistics(_infinite_gamma), 1, ("statistics",)),
    Case("kernel overflows", half_overflow, 1, ("range",)),
    Case("quantized", quantized, 1, ("quantized",)),
    Case("subclass with its own call", lambda: seq((5,), L.Dense(4), B.OwnCall()), 1, ("custom",)),
    Case("subclass without one", lambda: seq((5,), L.Dense(4), B.OwnDefaults()), 0),
    Case("subclass of conv", lambda: seq(IMAGE, B.MyConv(4, 3), BN()), 1, ("layer",)),
    Case("time distributed dense", lambda: seq((4, 5), L.TimeDistributed(L.Dense(3)), BN()), 0),
    Case("time distributed conv", lambda: seq((4, 8, 8, 3), L.TimeDistributed(L.Conv2D(4, 3)), BN(), L.ReLU(), L.TimeDistributed(L.DepthwiseConv2D(2)), L.TimeDistributed(BN())), 0),
    Case("time distributed conv, open steps", lambda: seq((None, 8, 8, 3), L.TimeDistributed(L.Conv2D(4, 3)), BN()), 1, ("layer",)),
    Case("time distributed dense, open steps", lambda: seq((None, 5), L.TimeDistributed(L.Dense(3)), L.TimeDistributed(BN())), 0),
    Case("time distributed model", lambda: seq((4, 8, 8, 3), L.TimeDistributed(seq(IMAGE, L.Conv2D(4, 3), BN(), L.ReLU(), L.Flatten(), L.Dense(5))), BN()), 0),
    Case("time distributed norm", lambda: seq((4, 5), L.Dense(3), L.TimeDistributed(BN())), 0),
    Case("bidirectional", lambda: seq((4, 5), L.Bidirectional(L.LSTM(3)), BN()), 1, ("layer",)),
    Case("recurrent cell with a norm", lambda: seq((4, 5), L.RNN(B.NormCell(3))), 1, ("opaque",)),
    Case("spectral normalization", lambda: seq((5,), L.SpectralNormalization(L.Dense(4)), BN()), 1, ("layer",)),
    Case("attention", lambda: net((4, 6), lambda x: BN()(L.MultiHeadAttention(2, 3)(x, x))), 1, ("layer",)),
    # shared layers
    Case("conv twice, same norm", shared_conv_same_norm, 0),
    Case("conv twice, two norms", shared_conv_two_norms, 2, ("conflict", "conflict")),
    Case("conv twice, one norm", shared_conv_one_norm, 1, ("conflict",)),
    Case("norm twice, two convs", shared_norm_two_convs, 0),
    Case("norm twice, one foldable", shared_norm_one_foldable, 1, ("activation",)),
    Case("norm twice, target of another", shared_norm_as_target, 3, ("shared", "activation", "conflict")),
    Case("conv is an output", conv_output_is_output, 1, ("output",)),
    Case("conv used twice", conv_used_twice, 1, ("shared",)),
    # outputs, inputs, structures
    Case("norm is an output", lambda: seq(IMAGE, L.Conv2D(4, 3), BN()), 0),
    Case("norm is two outputs", norm_is_two_outputs, 0),
    Case("norm is an output twice", norm_is_same_output_twice, 0),
    Case("an input is an output", input_is_output, 0),
    Case("two inputs", two_inputs, 0),
    Case("dictionaries", dict_inputs_and_outputs, 0),
    Case("optional input", optional_input, 0),
    Case("open sizes", lambda: seq((None, None, 3), L.Conv2D(4, 3), BN(), L.ReLU(), L.GlobalAveragePooling2D(), L.Dense(2), BN()), 0),
    Case("open length", lambda: seq((None, 5), L.Dense(4), BN(), L.LSTM(3)), 0),
    Case("fixed batch", lambda: keras.Sequential([keras.Input(batch_shape=(2, 5)), L.Dense(4), BN()]), 0),
    Case("mask through a norm", mask_through, 0),
    Case("mask and average", mask_average, 0),
    Case("mask given to the norm", explicit_mask, 1, ("custom",)),
    Case("whole numbers", lambda: chain((5,), BN(), L.Dense(3), dtype="int32"), 1, ("input",)),
    Case("no norm", lambda: seq((5,), L.Dense(4), L.ReLU()), 0),
    # nesting and tracing
    Case("nested", nested_functional, 0),
    Case("nested, across", nested_across, 0),
    Case("nested, called twice", nested_twice, 0),
    Case("nested, called twice, across", nested_twice_across, 1, ("conflict",)),
    Case("nested, same names", nested_same_names, 0),
    Case("nested, frozen", nested_frozen_training_false, 0),
    Case("nested, training", nested_training_true, 1, ("training",)),
    Case("nested dictionaries", nested_dict, 0),
    Case("nested sequential", lambda: seq(IMAGE, seq(IMAGE, L.Conv2D(4, 3), BN()), L.ReLU()), 0),
    Case("subclassed", subclassed(B.Subclassed, (2, 8, 8, 3)), 0),
    Case("subclassed, residual", subclassed(B.Residual, (2, 8, 8, 3)), 0),
    Case("subclassed, own weight", subclassed(B.OwnWeight, (2, 5)), 0),
    Case("subclassed, no configuration", lambda: B.without_config(), 0),
    Case("subclassed, positions", subclassed(B.Positions, (2, 6), "int32"), 0),
    Case("weight tying", tied_embedding, 0),
    Case("functional with its own call", lambda: B.FunctionalWithCall(), 0),
    Case("block", lambda: seq(IMAGE, B.Block(4), B.Block(5), L.GlobalAveragePooling2D()), 0),
    Case("block in a block", lambda: seq(IMAGE, B.Outer(4), L.ReLU()), 0),
    Case("block, shared", lambda: B.shared_block(), 0),
    Case("block with a weight of its own", lambda: seq(IMAGE, B.BlockWithWeight(4)), 0),
    Case("block that asks what it is given", lambda: seq((5,), B.TwoFaced(4)), 1, ("opaque",)),
    Case("block in backend code", lambda: seq((5,), B.BackendCode(4)), 1, ("opaque",)),
    Case("block always in training", lambda: seq((5,), B.AlwaysTraining(4)), 1, ("opaque",)),
    Case("block, training by default", lambda: seq((5,), B.TrainingByDefault(4)), 0),
    Case("lambda", lambda: seq((5,), L.Dense(4), L.Lambda(lambda x: x), BN()), 0),
    Case("lambda that scales", lambda: seq((5,), L.Dense(4), L.Lambda(lambda x: x * 2), BN()), 0),
    Case("operators", lambda: net((5,), lambda x: BN()(L.Dense(4)(x[:, :3] * 2 - 1))), 0),
    # types
    Case("mixed float16", mixed("mixed_float16", lambda: L.Conv2D(4, 3), BN, L.ReLU, L.GlobalAveragePooling2D, lambda: L.Dense(3), BN), 0),
    Case("mixed bfloat16", mixed("mixed_bfloat16", lambda: L.Conv2D(4, 3), BN, L.ReLU), 0),
    Case("float32 norm in float16", mixed("mixed_float16", lambda: L.Conv2D(4, 3), lambda: BN(dtype="float32")), 0),
    Case("float16 norm in float32", lambda: seq(IMAGE, L.Conv2D(4, 3), BN(dtype="float16"), L.ReLU()), 0),
    Case("block in mixed float16", mixed("mixed_float16", lambda: B.Block(4)), 0),
]
# fmt: on
