"""Derivatives and compilation by the active backend, so that tests need not name it."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

Function = Callable[..., object]


def compiled(function: Function, traced: Callable[[], object] = lambda: None) -> list[tuple[str, Function]]:
    """`function` in each way the backend runs it; `traced` is called each time it is compiled anew."""
    backend = keras.config.backend()
    if backend == "torch":
        return [("eager", function), ("compile", _torch_compiled(function, traced))]

    def body(*tensors: object) -> object:
        traced()  # Python runs the body while tracing only
        return function(*tensors)

    if backend == "jax":
        import jax

        return [("eager", function), ("jit", jax.jit(body))]
    import tensorflow as tf

    return [("eager", function), ("graph", tf.function(body)), ("xla", tf.function(body, jit_compile=True))]


def _torch_compiled(function: Function, traced: Callable[[], object]) -> Function:
    import torch

    # "aot_eager" traces forward and backward as every torch.compile does, and needs no C++ compiler.
    compile_graph = torch._dynamo.lookup_backend("aot_eager")

    def backend(graph: object, inputs: object) -> object:
        traced()
        return compile_graph(graph, inputs)

    return torch.compile(function, backend=backend, dynamic=False)


def in_one_piece(function: Function) -> Function:
    """`function` under jit on JAX, which compiles an eager operation at a time, slowly; itself elsewhere."""
    if keras.config.backend() != "jax":
        return function
    import jax

    return jax.jit(function)


def gradients(function: Function, *arrays: np.ndarray) -> list[np.ndarray]:
    """Gradients of the scalar `function(*tensors)` for each array."""
    tensors = [ops.convert_to_tensor(a) for a in arrays]
    return [_numpy(g) for g in in_one_piece(lambda *t: backend_gradient(function, t))(*tensors)]


def pullback(function: Function, cotangent: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """Gradients of sum(cotangent * function(*tensors))."""
    return gradients(lambda *t: ops.sum(function(*t) * ops.cast(cotangent, t[0].dtype)), *arrays)


def finite_differences(function: Function, array: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of a scalar function of a float64 array: error of order step^2 + 1e-16 / step."""
    function, result = in_one_piece(function), np.zeros_like(array)
    for index in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[index] += step
        below[index] -= step
        rise = float(function(ops.convert_to_tensor(above))) - float(function(ops.convert_to_tensor(below)))
        result[index] = rise / (2 * step)
    return result


def forward_derivative(function: Function, x: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Directional derivative by forward mode."""
    x, v = ops.convert_to_tensor(x), ops.convert_to_tensor(direction)
    return _numpy(in_one_piece(lambda x, v: _jvp(function, x, v))(x, v))


def hessian_products(function: Function, x: np.ndarray, direction: np.ndarray) -> dict[str, np.ndarray]:
    """Hessian of the scalar `function` times `direction`, by every order of modes that the backend has."""

    def all_orders(x: object, v: object) -> dict[str, object]:
        def gradient(t: object) -> object:
            return transformed_gradient(function, [t])[0]

        return {
            "forward over reverse": _jvp(gradient, x, v),
            "reverse over forward": transformed_gradient(lambda t: _jvp(function, t, v), [x])[0],
            "reverse over reverse": transformed_gradient(lambda t: ops.sum(gradient(t) * v), [x])[0],
            **{name: ops.tensordot(h, v, axes=len(v.shape)) for name, h in _hessians(function, x).items()},
        }

    products = in_one_piece(all_orders)(ops.convert_to_tensor(x), ops.convert_to_tensor(direction))
    return {name: _numpy(product) for name, product in products.items()}


def _numpy(tensor: object) -> np.ndarray:
    # torch.func answers a zero with a tensor without memory; adding one with memory makes it ordinary.
    return ops.convert_to_numpy(tensor + ops.zeros(tensor.shape, dtype=tensor.dtype))


def backend_gradient(function: Function, tensors: Sequence) -> list:
    """Gradients of a scalar function, as tensors, as the backend's trainer takes them."""
    if keras.config.backend() != "torch":
        return transformed_gradient(function, tensors)
    import torch

    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    return list(torch.autograd.grad(function(*leaves), leaves, materialize_grads=True))


def transformed_gradient(function: Function, tensors: Sequence) -> list:
    """Gradients of a scalar function by a transformation of it, which other transformations may surround."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return list(jax.grad(function, argnums=tuple(range(len(tensors))))(*tensors))
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return tape.gradient(value, tensors, unconnected_gradients="zero")
    import torch

    return list(torch.func.grad(function, argnums=tuple(range(len(tensors))))(*tensors))


def _jvp(function: Function, x: object, v: object) -> object:
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.jvp(function, (x,), (v,))[1]
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.autodiff.ForwardAccumulator(x, v) as accumulator:
            value = function(x)
        return accumulator.jvp(value, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    import torch

    return torch.func.jvp(function, (x,), (v,))[1]


def _hessians(function: Function, x: object) -> dict[str, object]:
    """By the transformations of functions that JAX and torch name alike, and TensorFlow lacks."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax as transforms
    elif backend == "torch":
        from torch import func as transforms
    else:
        return {}
    forward, reverse = transforms.jacfwd, transforms.jacrev
    return {
        "hessian": transforms.hessian(function)(x),
        "jacrev of jacfwd": reverse(forward(function))(x),
        "jacfwd of jacfwd": forward(forward(function))(x),
    }
