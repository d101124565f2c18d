"""What is measured on JAX: compiled steps and layers, ours, Keras's, and optax's or plain `jax.numpy`'s."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax

from tests.benchmarks import methods, timing
from tests.benchmarks.timing import Run

Call = Callable[[Any, Any], tuple[Any, Any]]  # (weights, x) -> (y, state)

MODES = ("jit",)


def array(values: Any) -> jax.Array:
    """A tensor on the device."""
    return jnp.asarray(values)


def triad(elements: int) -> tuple[Run, int]:
    """`timing.triad`, on the device where that is no CPU."""
    if jax.default_backend() == "cpu":
        return timing.triad(elements)
    b, c = jnp.ones(elements), jnp.ones(elements)
    add = jax.jit(jnp.add)
    return lambda: jax.block_until_ready(add(b, c)), 3 * b.nbytes


def optimizer_steps(name: str, gradients: Sequence[Any], mode: str) -> dict[str, Run]:
    """One step over variables of the gradients' shapes: ours, Keras's and optax's, state donated."""
    del mode
    return {
        "ours": keras_step(methods.our_optimizer(name), gradients),
        "Keras": keras_step(methods.keras_optimizer(name), gradients),
        "optax": _optax_step(_OPTAX[name](methods.OPTIMIZERS[name]), gradients),
    }


def keras_step(optimizer: Any, gradients: Sequence[jax.Array], mode: str = "jit") -> Run:
    """A Keras optimizer's step, as Keras's own trainer runs it."""
    del mode
    variables = [keras.Variable(jnp.ones_like(g)) for g in gradients]
    optimizer.build(variables)
    state = [v.value for v in optimizer.variables]
    values = [v.value for v in variables]
    for v in variables + list(optimizer.variables):
        v._value = None  # the copies here are the only ones, so memory is that of a step
    step = jax.jit(lambda x, s, g: optimizer.stateless_apply(s, g, x), donate_argnums=(0, 1))
    return _carried(step, values, state, gradients)


def _optax_step(transformation: Any, gradients: Sequence[jax.Array]) -> Run:
    def step(x: Any, state: Any, g: Any) -> Any:
        updates, state = transformation.update(g, state, x)
        return optax.apply_updates(x, updates), state

    values = [jnp.ones_like(g) for g in gradients]
    return _carried(jax.jit(step, donate_argnums=(0, 1)), values, transformation.init(values), gradients)


def _carried(step: Callable[..., Any], values: Any, state: Any, gradients: Any) -> Run:
    gradients = list(gradients)

    def run() -> None:
        nonlocal values, state
        values, state = jax.block_until_ready(step(values, state, gradients))

    return run


_OPTAX: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Nesterov": lambda k: optax.sgd(k["learning_rate"], k["momentum"], nesterov=True),
    "AdaGrad": lambda k: optax.adagrad(k["learning_rate"], k["initial_accumulator_value"], k["epsilon"]),
    "RMSProp": lambda k: optax.rmsprop(k["learning_rate"], k["rho"], k["epsilon"], eps_in_sqrt=False),
    "Adam": lambda k: optax.adam(k["learning_rate"], k["beta_1"], k["beta_2"], k["epsilon"]),
    "AdamW": lambda k: optax.adamw(
        k["learning_rate"], k["beta_1"], k["beta_2"], k["epsilon"], weight_decay=k["weight_decay"]
    ),
}


def keras_call(layer: Any, x: Any, training: bool) -> tuple[Call, Any]:
    """A Keras layer as a function of its trained weights and the input, and those weights."""
    layer.build(x.shape)
    fixed = [v.value for v in layer.non_trainable_variables]
    extra = {"training": training} if layer._call_has_training_arg else {}

    def call(weights: Any, x: Any) -> Any:
        return layer.stateless_call(weights, fixed, x, **extra)

    return call, [v.value for v in layer.trainable_variables]


def native_calls(name: str, x: Any) -> dict[str, tuple[Call, Any]]:
    """The same for the backend's own ways of computing the layer, by name."""
    peers = {"jax.nn": _JAX_NN, "jax.numpy, two-pass": _TWO_PASS}
    weights = _weights(name, x)
    return {
        peer: (lambda w, x, f=table[name]: (f(x, *w), ()), weights)
        for peer, table in peers.items()
        if name in table
    }


def output(call: Call, weights: Any, x: Any) -> np.ndarray:
    """What the call computes, compiled."""
    return np.asarray(jax.jit(call)(weights, x)[0])


def runs(call: Call, weights: Any, x: Any, dy: Any, mode: str) -> tuple[Run, Run]:
    """The forward call, and forward with the gradients of input and weights."""
    del mode

    def forward_and_backward(weights: Any, x: Any, dy: Any) -> Any:
        y, pull_back, state = jax.vjp(call, weights, x, has_aux=True)
        return y, state, pull_back(dy.astype(y.dtype))  # Keras's PReLU makes float32 of half precision here

    forward, both = jax.jit(call), jax.jit(forward_and_backward)
    return (
        lambda: jax.block_until_ready(forward(weights, x)),
        lambda: jax.block_until_ready(both(weights, x, dy)),
    )


def _weights(name: str, x: jax.Array) -> tuple[jax.Array, ...]:
    channels = x.shape[-1]
    if name in methods.NORMS:
        return jnp.ones(channels), jnp.zeros(channels)
    return (jnp.full(channels, 0.25),) if name == "PReLU" else ()


def _two_pass(axes: Callable[[int], tuple[int, ...]]) -> Callable[..., jax.Array]:
    def norm(x: jax.Array, gamma: jax.Array, beta: jax.Array) -> jax.Array:
        c = x - x.mean(axes(x.ndim), keepdims=True)
        return c * jax.lax.rsqrt(jnp.square(c).mean(axes(x.ndim), keepdims=True) + 1e-5) * gamma + beta

    return norm


def _group_norm(x: jax.Array, gamma: jax.Array, beta: jax.Array) -> jax.Array:
    grouped = x.reshape(*x.shape[:-1], methods.GROUPS, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    c = grouped - grouped.mean(axes, keepdims=True)
    y = c * jax.lax.rsqrt(jnp.square(c).mean(axes, keepdims=True) + 1e-5)
    return y.reshape(x.shape) * gamma + beta


_JAX_NN: dict[str, Callable[..., jax.Array]] = {
    "SELU": jax.nn.selu,
    "Swish": jax.nn.silu,
    "PReLU": lambda x, alpha: jnp.where(x > 0, x, alpha * x),
}
_TWO_PASS: dict[str, Callable[..., jax.Array]] = {
    "BatchNorm": _two_pass(lambda rank: tuple(range(rank - 1))),
    "InstanceNorm": _two_pass(lambda rank: tuple(range(1, rank - 1))),
    "LayerNorm": _two_pass(lambda rank: (rank - 1,)),
    "GroupNorm": _group_norm,
}
