"""Where an operation puts the channels of its input, found out by running it."""

import keras
import numpy as np
import pytest

from keras_addons_l6.folding import fold_with_report, inspect_batch_norm
from keras_addons_l6.folding.planning import channels


@pytest.mark.parametrize(("gamma", "kept"), [(2.0, 0), (0.0, 1), (-2.0, 1)])
def test_padding_of_minus_infinity(gamma, kept):
    """A maximum that never is the padding: it stays what it is under a positive scale, and no warning is raised."""
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 1)(inputs)
    x = keras.ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    norm = keras.layers.BatchNormalization(gamma_initializer=keras.initializers.Constant(gamma))
    model = keras.Model(inputs, keras.layers.MaxPooling2D(2)(norm(x)))
    norm.beta.assign(np.linspace(-1, 1, 4))
    # 0 times infinity is no number, and minus its double is the maximum: there is nothing to compare
    report = fold_with_report(model).report if gamma > 0 else inspect_batch_norm(model)
    assert len(report.kept) == kept


@pytest.mark.parametrize("between", [0.5, np.nan, np.inf])
def test_what_is_no_channel_s_number_was_mixed(between):
    numbered = np.array([[1.0, 2.0], [3.0, between]])
    assert channels._content([], numbered, np.zeros((2, 2))) is None


def test_channels_and_constants_are_told_apart():
    content = channels._content([], np.array([[2.0, 1.0, -np.inf]]), np.array([[0.0, 0.0, -np.inf]]))
    np.testing.assert_array_equal(content.channels, [[1, 0, -1]])
    np.testing.assert_array_equal(content.constants, [[0.0, 0.0, -np.inf]])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "pooling", ["GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D", "AveragePooling2D"]
)
def test_what_mixes_an_axis_lets_none_of_its_maps_through(pooling, size):
    """The average of 1, 2 and 3 is 2, and their maximum is 3: numbers of channels, though of a mixture of them."""
    inputs = keras.Input((size, size, 4))
    norm = keras.layers.BatchNormalization(axis=1)
    arguments = () if pooling.startswith("Global") else (size,)
    x = getattr(keras.layers, pooling)(*arguments)(norm(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    norm.set_weights([w + 1 + np.arange(size) for w in norm.get_weights()])
    result = fold_with_report(model)  # which compares the models
    assert len(result.report.kept) == (size > 1)
