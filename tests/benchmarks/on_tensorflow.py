"""What is measured on TensorFlow: steps and layers as graphs and under XLA, ours, Keras's, and its own."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.benchmarks import methods, timing
from tests.benchmarks.timing import Run

Call = Callable[[Any, Any], tuple[Any, Any]]  # (weights, x) -> (y, state)

MODES = ("graph", "XLA")
triad = timing.triad


def array(values: Any) -> tf.Tensor:
    """A tensor on the device."""
    return tf.convert_to_tensor(values)


def compiled(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """A graph of the function, or an XLA program."""
    return tf.function(function, jit_compile=mode == "XLA")


def optimizer_steps(name: str, gradients: Sequence[Any], mode: str) -> dict[str, Run]:
    """One step over variables of the gradients' shapes: ours, Keras's, and TensorFlow's own kernel's."""
    return {
        "ours": keras_step(methods.our_optimizer(name), gradients, mode),
        "Keras": keras_step(methods.keras_optimizer(name), gradients, mode),
        "ResourceApply": _raw_step(_RAW[name], methods.OPTIMIZERS[name], gradients, mode),
    }


def keras_step(optimizer: Any, gradients: Sequence[tf.Tensor], mode: str) -> Run:
    """A Keras optimizer's step, as Keras's own trainer runs it."""
    variables = [keras.Variable(tf.ones_like(g)) for g in gradients]
    optimizer.build(variables)
    step = compiled(lambda g: optimizer.apply(g, variables), mode)
    gradients = list(gradients)
    return lambda: step(gradients)


def _raw_step(kernel: Callable[..., None], k: dict[str, Any], gradients: Sequence[Any], mode: str) -> Run:
    variables = [[tf.Variable(tf.ones_like(g)) for _ in range(3)] for g in gradients]
    powers = tf.Variable(k.get("beta_1", 0.0)), tf.Variable(k.get("beta_2", 0.0))

    def apply(gradients: Sequence[tf.Tensor]) -> None:
        for (x, *slots), g in zip(variables, gradients, strict=True):
            kernel(k, x.handle, [s.handle for s in slots], g, *powers)
        for power, name in zip(powers, ("beta_1", "beta_2"), strict=True):
            power.assign(power * k.get(name, 0.0))

    step = compiled(apply, mode)
    return lambda: step(list(gradients))


def _adam(k: dict[str, Any], x: Any, slots: Any, g: Any, beta1_power: Any, beta2_power: Any) -> None:
    tf.raw_ops.ResourceApplyAdam(
        var=x,
        m=slots[0],
        v=slots[1],
        beta1_power=beta1_power,
        beta2_power=beta2_power,
        lr=k["learning_rate"],
        beta1=k["beta_1"],
        beta2=k["beta_2"],
        epsilon=k["epsilon"],
        grad=g,
    )


def _adamw(k: dict[str, Any], x: Any, slots: Any, g: Any, *powers: Any) -> None:
    decay = k["learning_rate"] * k["weight_decay"]
    tf.raw_ops.AssignSubVariableOp(
        resource=x, value=tf.raw_ops.ReadVariableOp(resource=x, dtype=g.dtype) * decay
    )
    _adam(k, x, slots, g, *powers)


def _adagrad(k: dict[str, Any], x: Any, slots: Any, g: Any, *powers: Any) -> None:
    tf.raw_ops.ResourceApplyAdagradV2(
        var=x, accum=slots[0], lr=k["learning_rate"], epsilon=k["epsilon"], grad=g
    )


def _rmsprop(k: dict[str, Any], x: Any, slots: Any, g: Any, *powers: Any) -> None:
    tf.raw_ops.ResourceApplyRMSProp(
        var=x,
        ms=slots[0],
        mom=slots[1],
        lr=k["learning_rate"],
        rho=k["rho"],
        momentum=0.0,
        epsilon=k["epsilon"],
        grad=g,
    )


def _nesterov(k: dict[str, Any], x: Any, slots: Any, g: Any, *powers: Any) -> None:
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=x, accum=slots[0], lr=k["learning_rate"], grad=g, momentum=k["momentum"], use_nesterov=True
    )


_RAW: dict[str, Callable[..., None]] = {
    "Nesterov": _nesterov,
    "AdaGrad": _adagrad,
    "RMSProp": _rmsprop,
    "Adam": _adam,
    "AdamW": _adamw,
}


def keras_call(layer: Any, x: Any, training: bool) -> tuple[Call, Any]:
    """A Keras layer as a function of its trained weights and the input, and those weights."""
    layer.build(tuple(x.shape))
    extra = {"training": training} if layer._call_has_training_arg else {}
    return lambda weights, x: (layer(x, **extra), ()), [v.value for v in layer.trainable_variables]


def native_calls(name: str, x: Any) -> dict[str, tuple[Call, Any]]:
    """The same for `tf.nn`'s kernels, by name."""
    if name not in _TF_NN:
        return {}
    channels = x.shape[-1]
    weights = [tf.Variable(tf.ones(channels)), tf.Variable(tf.zeros(channels))]
    state = tf.zeros(channels), tf.ones(channels)
    peer, function = _TF_NN[name]
    weights = weights if name.split(",")[0] in methods.NORMS else []
    return {peer: (lambda w, x: (function(x, state, *w), ()), weights)}


def output(call: Call, weights: Any, x: Any) -> np.ndarray:
    """What the call computes, as a graph."""
    return tf.function(lambda x: call(weights, x)[0])(x).numpy()


def runs(call: Call, weights: Any, x: Any, dy: Any, mode: str) -> tuple[Run, Run]:
    """The forward call, and forward with the gradients of input and weights."""

    def forward_and_backward(x: Any, dy: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, _ = call(weights, x)
        return y, tape.gradient(y, [x, *weights], dy)

    forward, both = compiled(lambda x: call(weights, x)[0], mode), compiled(forward_and_backward, mode)
    return lambda: forward(x), lambda: both(x, dy)


def _fused_batch_norm(training: bool) -> Callable[..., tf.Tensor]:
    def norm(x: tf.Tensor, state: Any, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
        image = tf.reshape(x, (-1, 1, 1, x.shape[-1])) if len(x.shape) < 4 else x
        mean, variance = (None, None) if training else state
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(
            image, gamma, beta, mean, variance, epsilon=1e-5, is_training=training
        )
        return tf.reshape(y, x.shape)

    return norm


_TF_NN: dict[str, tuple[str, Callable[..., tf.Tensor]]] = {
    "SELU": ("tf.nn", lambda x, state: tf.nn.selu(x)),
    "Swish": ("tf.nn", lambda x, state: tf.nn.silu(x)),
    "BatchNorm": ("fused_batch_norm", _fused_batch_norm(True)),
    "BatchNorm, inference": ("fused_batch_norm", _fused_batch_norm(False)),
}
