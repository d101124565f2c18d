"""Sparse gradients, as `Embedding` and users give them, step like the dense gradients they stand for."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6.optimizers import AdaGrad, Adam, AdamW, Nesterov, RMSProp

BACKEND = keras.config.backend()
CASES = {
    "nesterov": lambda **k: Nesterov(0.1, **k),
    "adagrad": lambda **k: AdaGrad(0.1, **k),
    "rmsprop": lambda **k: RMSProp(0.1, momentum=0.5, centered=True, **k),
    "adam": lambda **k: Adam(0.1, amsgrad=True, **k),
    "adamw": lambda **k: AdamW(0.1, weight_decay=0.1, **k),
}
# Row 2 comes twice: its gradient is the sum.
INDICES = np.array([0, 2, 4, 2])


def rows(step):
    return np.random.default_rng(step).normal(size=(4, 3)).astype("float32")


def dense(step):
    g = np.zeros((5, 3), "float32")
    np.add.at(g, INDICES, rows(step))
    return ops.convert_to_tensor(g)


def sparse(step):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.IndexedSlices(tf.constant(rows(step)), tf.constant(INDICES), tf.constant([5, 3]))
    if BACKEND == "jax":
        from jax.experimental import sparse as jax_sparse

        return jax_sparse.BCOO((rows(step), INDICES[:, None]), shape=(5, 3))
    import torch

    return torch.sparse_coo_tensor(INDICES[None], rows(step), (5, 3), check_invariants=True)


@pytest.mark.parametrize("arguments", [{}, {"clipnorm": 0.5}, {"clipvalue": 0.3}, {"global_clipnorm": 0.5}])
@pytest.mark.parametrize("name", CASES)
def test_steps_like_the_dense_gradient(name, arguments):
    # Rows 1 and 3 have no gradient and move on by their momentum, as the formula says; clipping sees the
    # summed row 2, not its parts.
    from_sparse, from_dense = (keras.Variable(np.ones((5, 3), "float32")) for _ in range(2))
    one, other = CASES[name](**arguments), CASES[name](**arguments)
    for step in range(4):
        one.apply([sparse(step)], [from_sparse])
        other.apply([dense(step)], [from_dense])
    # The two sums of row 2 may be rounded differently: 6e-8, a few times.
    np.testing.assert_allclose(
        ops.convert_to_numpy(from_sparse), ops.convert_to_numpy(from_dense), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("more", [{}, {"gradient_accumulation_steps": 2}, {"loss_scale_factor": 4.0}])
@pytest.mark.parametrize("name", CASES)
def test_embedding(name, more):
    # The layer's own gradient is sparse on TensorFlow; a product with the one-hot matrix gives a dense one.
    class OneHot(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.table = self.add_weight(shape=(6, 2), initializer="ones", name="table")

        def call(self, x):
            return ops.one_hot(x, 6) @ self.table

    x = np.array([[0, 1, 1], [3, 1, 5]])
    y = np.random.default_rng(0).normal(size=(2, 3, 2)).astype("float32")
    tables = []
    for layer in (keras.layers.Embedding(6, 2, embeddings_initializer="ones"), OneHot()):
        model = keras.Sequential([keras.layers.Input((3,), dtype="int32"), layer])
        model.compile(CASES[name](**more), "mse", jit_compile=False if BACKEND == "tensorflow" else "auto")
        for _ in range(4):
            model.train_on_batch(x, y)
        tables.append(ops.convert_to_numpy(layer.weights[0]))
    # AdaGrad and RMSProp divide tiny gradients by their own size: a rounding of 6e-8 in one shows as such.
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-5, atol=1e-6)
