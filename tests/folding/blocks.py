"""Layers and models with a `call` of their own, for the table of awkward models."""

import keras
import numpy as np
from keras import layers as L
from keras import ops


def renorm():
    """Batch renormalization, where the installed Keras has it."""
    try:
        return L.BatchNormalization(renorm=True)
    except (TypeError, ValueError):
        return L.BatchNormalization()


def einsum_heads(bias_axes):
    return L.EinsumDense("abc,cde->abde", (4, 2, 3), bias_axes=bias_axes)


def constrained():
    return L.Dense(4, kernel_constraint="non_neg", kernel_regularizer="l2", bias_regularizer="l1")


def positive(norm):
    """A BatchNorm whose scales `randomize` leaves above zero."""
    norm.test_signs = (1.0,)
    return norm


def negative(norm):
    norm.test_signs = (-1.0,)
    return norm


def unshifted(norm):
    """A BatchNorm whose map leaves zero where it is."""
    norm.test_unshifted = True
    return norm


AROUND = [[0, 0], [1, 1], [1, 1], [0, 0]]


def by_channel(channels):
    return np.linspace(0.5, 2, channels, dtype="float32")


def by_place(size):
    return np.linspace(0.5, 2, size * size, dtype="float32").reshape(1, size, size, 1)


def difference_padding_first():
    """The first term lets no shift through, so the second takes it, with the other sign."""
    inputs = keras.Input((8, 8, 3))
    first = L.ZeroPadding2D(1)(L.Conv2D(4, 3)(inputs))
    second = L.Conv2D(4, 3, padding="same")(inputs)
    return keras.Model(inputs, L.BatchNormalization()(L.Subtract()([first, second])))


def split_both():
    inputs = keras.Input((8, 8, 3))
    first, second = ops.split(L.Conv2D(6, 3)(inputs), [2], axis=-1)
    return keras.Model(inputs, [L.BatchNormalization()(first), L.ReLU()(L.BatchNormalization()(second))])


def split_one():
    inputs = keras.Input((8, 8, 3))
    first, second = ops.split(L.Conv2D(6, 3)(inputs), 2, axis=-1)
    return keras.Model(inputs, [L.BatchNormalization()(first), L.ReLU()(second)])


def split_places():
    inputs = keras.Input((8, 8, 3))
    first, second = ops.split(L.Conv2D(6, 3)(inputs), 2, axis=1)
    return keras.Model(inputs, [L.BatchNormalization()(first), L.ReLU()(second)])


def split_ahead():
    inputs = keras.Input((8, 8, 4))
    first, second = ops.split(L.BatchNormalization()(inputs), 2, axis=-1)
    return keras.Model(inputs, [L.Conv2D(3, 3)(first), L.Conv2D(3, 1)(second)])


def identity_branch(conv, channels=3):
    """RepVGG's block in training: a convolution, a smaller one, and the input itself, each normalized, all added."""
    inputs = keras.Input((8, 8, channels))
    x = L.ReLU()(inputs)
    small = L.Conv2D(channels, 1)
    parts = [L.BatchNormalization()(conv(x)), L.BatchNormalization()(small(x)), L.BatchNormalization()(x)]
    total = L.Add()(
        parts[::2] if conv.name.startswith("depthwise") else [parts[0], L.ReLU()(parts[1]), parts[2]]
    )
    return keras.Model(inputs, L.ReLU()(total))


def identity_branch_of_one():
    """Where only one term is left there is nothing to add."""
    inputs = keras.Input((8, 8, 3))
    x = L.ReLU()(inputs)
    return keras.Model(inputs, L.BatchNormalization()(x) + L.Conv2D(3, 3, padding="same")(x))


def two_convs(x, padding):
    return [L.Conv2D(2, 3)(x), L.Conv2D(4, 3, padding=padding)(x)]


def two_users_ahead():
    inputs = keras.Input((5,))
    y = L.BatchNormalization()(L.ReLU()(inputs))
    return keras.Model(inputs, L.Add()([L.Dense(3)(y), L.Dense(3)(y)]))


@keras.saving.register_keras_serializable(package="tests")
class AddIfThere(L.Layer):
    """The first input, plus the second where it is given."""

    def call(self, inputs):
        first, second = inputs
        return first if second is None else first + second

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable(package="tests")
class OwnCall(L.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask) * 2


@keras.saving.register_keras_serializable(package="tests")
class OwnDefaults(L.BatchNormalization):
    def __init__(self, epsilon=0.1, **kwargs):
        super().__init__(epsilon=epsilon, **kwargs)


@keras.saving.register_keras_serializable(package="tests")
class MyConv(L.Conv2D):
    def call(self, inputs):
        return ops.square(super().call(inputs))


@keras.saving.register_keras_serializable(package="tests")
class NormCell(L.Layer):
    """A recurrent cell with a BatchNorm inside."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units
        self.dense, self.norm = L.Dense(units), L.BatchNormalization()

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.norm.build((None, self.units))

    def call(self, inputs, states):
        output = ops.tanh(self.norm(self.dense(inputs)) + states[0])
        return output, [output]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="tests")
class Block(L.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.steps = [L.Conv2D(filters, 3, padding="same", use_bias=False), L.BatchNormalization(), L.ReLU()]

    def call(self, x, training=None):
        for step in self.steps:
            x = step(x, training=training) if isinstance(step, L.BatchNormalization) else step(x)
        return x

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="tests")
class Outer(L.Layer):
    """Blocks in a dictionary, a residual by `+`."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.parts = {"a": Block(filters), "b": L.Conv2D(filters, 1)}
        self.norm = L.BatchNormalization()

    def call(self, x):
        return self.norm(self.parts["b"](x)) + self.parts["a"](x)


def shared_block():
    inputs = keras.Input((8, 8, 3))
    block = Block(3)
    return keras.Model(inputs, block(block(inputs)))


@keras.saving.register_keras_serializable(package="tests")
class BlockWithWeight(L.Layer):
    """A weight of the block's own would fall out of the folded model's weights."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv, self.norm = L.Conv2D(filters, 1), L.BatchNormalization()

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.norm.build((*input_shape[:-1], self.filters))
        self.gate = self.add_weight(shape=(self.filters,), initializer="ones", name="gate")

    def call(self, x):
        return self.norm(self.conv(x)) * self.gate

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="tests")
class TwoFaced(L.Layer):
    """Computes something else on symbolic tensors than on numbers."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.norm = L.Dense(units), L.BatchNormalization()
        self.units = units

    def call(self, x):
        y = self.norm(self.dense(x))
        return y if isinstance(x, keras.KerasTensor) else y * 3

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="tests")
class BackendCode(TwoFaced):
    """Cannot run on symbolic tensors."""

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("this block wants a tensor of the backend")
        return self.norm(self.dense(x))


@keras.saving.register_keras_serializable(package="tests")
class AlwaysTraining(TwoFaced):
    def call(self, x):
        return self.norm(self.dense(x), training=True)


@keras.saving.register_keras_serializable(package="tests")
class TrainingByDefault(TwoFaced):
    def call(self, x, training=True):
        return self.norm(self.dense(x), training=training)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.stem = keras.Sequential([L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU()])
        self.blocks = [Block(4), Block(5)]
        self.head = L.Dense(3)
        self.norm = L.BatchNormalization()

    def call(self, x, training=None):
        x = self.stem(x, training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return self.norm(self.head(ops.mean(x, axis=(1, 2))), training=training)


class Residual(keras.Model):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = L.Conv2D(3, 3, padding="same"), L.Conv2D(3, 1), L.BatchNormalization()

    def call(self, inputs):
        return {"y": ops.relu(self.norm(self.a(inputs) + self.b(inputs))), "x": inputs}


class OwnWeight(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.norm = L.Dense(4), L.BatchNormalization()

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(4,), initializer="random_normal", name="scale")
        self.dense.build(input_shape)
        self.norm.build((None, 4))

    def call(self, x):
        return self.norm(self.dense(x)) * self.scale


class Positions(keras.Model):
    def __init__(self):
        super().__init__()
        self.words, self.places = L.Embedding(11, 4), L.Embedding(6, 4)
        self.norm, self.head = L.BatchNormalization(), L.Dense(2)

    def call(self, x):
        return self.head(ops.relu(self.norm(self.words(x))) + self.places(ops.arange(6)))


class WithoutConfig(keras.Model):
    """Its constructor takes what no configuration can hold."""

    def __init__(self, layers, activation):
        super().__init__()
        self.steps, self.function = layers, activation

    def call(self, x):
        for step in self.steps:
            x = self.function(step(x))
        return x


def without_config():
    pair = keras.Sequential([L.Dense(4), L.BatchNormalization()])
    model = WithoutConfig([pair, L.Dense(3)], lambda x: ops.tanh(x))
    model(np.zeros((2, 5), "float32"))
    return model


class FunctionalWithCall(keras.Model):
    """A Functional model that does more than its graph."""

    def __init__(self):
        inputs = keras.Input((5,), name="x")
        super().__init__(inputs, L.BatchNormalization()(L.Dense(4)(inputs)))
        self.more = L.Dense(4)
        self.more.build((None, 4))

    def call(self, inputs, training=None, mask=None):
        y = super().call(inputs, training=training)
        return self.more(y) * 2
