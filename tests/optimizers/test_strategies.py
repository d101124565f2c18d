"""What first-order optimizers refuse inside a `tf.distribute` strategy; what works there, `tests/distribution` shows."""

import keras
import numpy as np
import pytest

from keras_addons_l6.optimizers import Adam, Nesterov


@pytest.mark.parametrize("create", [Adam, Nesterov])
def test_accumulation_gets_a_sentence(create, backend):
    """And nothing has changed then: neither weights nor the optimizer."""
    if backend != "tensorflow":
        return  # TensorFlow's own
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(create(0.1, gradient_accumulation_steps=2), "mse")
    before = model.get_weights()
    x = np.ones((8, 3), "float32")
    with pytest.raises(
        ValueError, match=rf"{create.__name__}: `gradient_accumulation_steps` does not work inside"
    ):
        model.fit(x, x[:, :1], batch_size=4, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert int(model.optimizer.iterations) == 0
