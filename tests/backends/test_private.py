"""The doors to what torch, JAX and TensorFlow do not promise: what is missing is missed by name."""

import importlib
import re
import sys

import keras
import pytest

BACKEND = keras.backend.backend()
TORCH = [
    "_foreach_add",
    "_foreach_add_",
    "_foreach_copy_",
    "_foreach_div",
    "_foreach_maximum",
    "_foreach_mul",
]
TORCH += ["_foreach_sqrt", "_foreach_sub", "_fused_adam_", "_fused_adagrad_", "_fused_sgd_"]


@pytest.mark.skipif(BACKEND != "torch", reason="torch's door opens on its own backend alone")
@pytest.mark.parametrize(
    "name", [*TORCH, "_C._current_graph_task_id", "_C._functorch.is_functorch_wrapped_tensor"]
)
def test_torch_misses(name, monkeypatch):
    import torch

    *folders, last = name.split(".")
    owner = torch
    for folder in folders:
        owner = getattr(owner, folder)
    monkeypatch.delattr(owner, last)
    door = "keras_addons_l6.backends.torch.private"
    monkeypatch.delitem(sys.modules, door, raising=False)
    with pytest.raises(RuntimeError, match=rf"torch\.{name}` is missing in the installed torch \d.*2\.6"):
        importlib.import_module(door)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX's door opens on its own backend alone")
def test_jax_misses_the_trace(monkeypatch):
    import jax

    from keras_addons_l6.backends.jax import private

    def asked(x):
        monkeypatch.setattr(private, "_TRACE", "_moved")
        return x if private.of_one_trace(x, [x]) else 0 * x

    with pytest.raises(RuntimeError, match=r"_moved` is missing in the installed JAX \d.*0\.5"):
        jax.jit(asked)(1.0)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX's door opens on its own backend alone")
def test_jax_tells_traces_apart():
    import jax

    from keras_addons_l6.backends.jax import private

    answers = []

    def outer(x):
        kept = []
        jax.jit(lambda y: kept.append(y) or y)(x)
        answers.append((private.of_one_trace(x, [x]), private.of_one_trace(kept[0], [x])))
        return x

    jax.jit(outer)(1.0)
    assert answers == [(True, False)]
    assert private.of_one_trace(1.0, [])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's own")
def test_tensorflow_misses_the_mark_of_an_own_gradient(monkeypatch):
    import tensorflow as tf

    from keras_addons_l6.backends.tensorflow import private

    private._check.cache_clear()
    monkeypatch.setattr(private, "_OWN_GRADIENT", "_moved")
    with pytest.raises(RuntimeError, match=f"`_moved` is missing .* TensorFlow {re.escape(tf.__version__)}"):
        private.has_own_gradient(tf.compat.v1.NodeDef())
    monkeypatch.undo()
    assert not private.has_own_gradient(tf.compat.v1.NodeDef())
