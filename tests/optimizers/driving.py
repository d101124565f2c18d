"""Takes steps with an optimizer, eagerly or compiled, the same way on every backend."""

import keras
import numpy as np

BACKEND = keras.config.backend()
EAGER = "eager"
COMPILED = {"jax": ["jit"], "tensorflow": ["graph", "xla"], "torch": ["compile"]}[BACKEND]
# torch.compile takes seconds for each optimizer, and gains nothing over many steps of so few numbers.
MODES = [EAGER] if BACKEND == "torch" else [EAGER, *COMPILED]
FASTEST = MODES[-1]


def follow(optimizer, x0, gradients, mode=EAGER, dtype=None):
    """Return x after each step, as one array of shape (steps, *x0.shape)."""
    x = keras.Variable(x0, dtype=dtype or keras.config.floatx())  # or it would take x0's dtype
    optimizer.build([x])
    gradients = np.asarray(gradients, dtype=x.dtype)
    runs = {EAGER: _eager, "compile": _torch_compile, "jit": _jit, "graph": _graph, "xla": _xla}
    return runs[mode](optimizer, x, gradients)


def _eager(optimizer, x, gradients, apply=None):
    path = []
    for g in gradients:
        (apply or optimizer.apply)([keras.ops.convert_to_tensor(g)], [x])
        path.append(np.array(keras.ops.convert_to_numpy(x)))
    return np.stack(path)


def _torch_compile(optimizer, x, gradients):
    import torch

    # "aot_eager" traces and functionalizes as the default does, and leaves out only the C++ compiler.
    return _eager(optimizer, x, gradients, torch.compile(optimizer.apply, backend="aot_eager"))


def _jit(optimizer, x, gradients):
    import jax

    def body(state, g):
        (new_x,), slots = optimizer.stateless_apply(state[1], [g], [state[0]])
        return (new_x, slots), new_x

    state = (x.value, [v.value for v in optimizer.variables])
    _, path = jax.jit(lambda s, gs: jax.lax.scan(body, s, gs))(state, gradients)
    return np.asarray(path)


def _xla(optimizer, x, gradients):
    return _graph(optimizer, x, gradients, jit_compile=True)


def _graph(optimizer, x, gradients, jit_compile=False):
    import tensorflow as tf

    @tf.function(jit_compile=jit_compile)
    def run(gs):
        path = tf.TensorArray(gs.dtype, size=len(gradients), element_shape=x.shape)
        for i in tf.range(len(gradients)):
            optimizer.apply([gs[i]], [x])
            path = path.write(i, x.value)
        return path.stack()

    return run(tf.constant(gradients)).numpy()
