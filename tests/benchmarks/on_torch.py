"""What is measured on torch: eager steps and layers, ours, Keras's, and torch's own."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F

from tests.benchmarks import methods, timing
from tests.benchmarks.timing import Run

Call = Callable[[Any, Any], tuple[Any, Any]]  # (weights, x) -> (y, state)

MODES = ("eager",)


def array(values: Any) -> torch.Tensor:
    """A tensor on the device."""
    return keras.ops.convert_to_tensor(values)


def finished(run: Run) -> Run:
    """`run`, which returns when a CUDA device, where there is one, has done it."""
    if not torch.cuda.is_available():
        return run

    def run_and_wait() -> None:
        run()
        torch.cuda.synchronize()

    return run_and_wait


def triad(elements: int) -> tuple[Run, int]:
    """`timing.triad`, on the device where that is no CPU."""
    if not torch.cuda.is_available():
        return timing.triad(elements)
    a, b, c = (torch.ones(elements, device="cuda") for _ in range(3))
    return finished(lambda: torch.add(b, c, out=a)), 3 * a.nbytes


def optimizer_steps(name: str, gradients: Sequence[Any], mode: str) -> dict[str, Run]:
    """One step over variables of the gradients' shapes: ours, Keras's and torch.optim's."""
    parameters = [torch.ones_like(g, requires_grad=True) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    peer, make = _TORCH_OPTIM[name]
    return {
        "ours": keras_step(methods.our_optimizer(name), gradients, mode),
        "Keras": keras_step(methods.keras_optimizer(name), gradients, mode),
        f"torch.optim {peer}": finished(make(parameters, methods.OPTIMIZERS[name]).step),
    }


def keras_step(optimizer: Any, gradients: Sequence[torch.Tensor], mode: str) -> Run:
    """A Keras optimizer's step, as Keras's own trainer runs it."""
    del mode
    variables = [keras.Variable(torch.ones_like(g)) for g in gradients]
    optimizer.build(variables)

    @torch.no_grad()
    def run() -> None:
        optimizer.apply(gradients, variables)

    return finished(run)


# `fused` where torch has it for the method, else `foreach`.
_TORCH_OPTIM: dict[str, tuple[str, Callable[..., torch.optim.Optimizer]]] = {
    "Nesterov": (
        "fused",
        lambda p, k: torch.optim.SGD(p, k["learning_rate"], k["momentum"], nesterov=True, fused=True),
    ),
    "AdaGrad": (
        "fused",
        lambda p, k: torch.optim.Adagrad(
            p,
            k["learning_rate"],
            initial_accumulator_value=k["initial_accumulator_value"],
            eps=k["epsilon"],
            fused=True,
        ),
    ),
    "RMSProp": (
        "foreach",
        lambda p, k: torch.optim.RMSprop(p, k["learning_rate"], k["rho"], k["epsilon"], foreach=True),
    ),
    "Adam": (
        "fused",
        lambda p, k: torch.optim.Adam(
            p, k["learning_rate"], (k["beta_1"], k["beta_2"]), k["epsilon"], fused=True
        ),
    ),
    "AdamW": (
        "fused",
        lambda p, k: torch.optim.AdamW(
            p, k["learning_rate"], (k["beta_1"], k["beta_2"]), k["epsilon"], k["weight_decay"], fused=True
        ),
    ),
}


def keras_call(layer: Any, x: Any, training: bool) -> tuple[Call, Any]:
    """A Keras layer as a function of its trained weights and the input, and those weights."""
    layer.build(tuple(x.shape))
    extra = {"training": training} if layer._call_has_training_arg else {}
    return lambda weights, x: (layer(x, **extra), ()), [v.value for v in layer.trainable_variables]


def native_calls(name: str, x: Any) -> dict[str, tuple[Call, Any]]:
    """The same for `torch.nn.functional` in a layer, channels last by a change of strides, without a copy.

    In a layer, because from every contender's time a layer's call is taken.
    """
    if name not in _FUNCTIONAL:
        return {}
    channels = x.shape[-1]
    made = [t.requires_grad_() for t in _weights(name, channels, x.device)]
    function = _FUNCTIONAL[name]
    state = torch.zeros(channels, device=x.device), torch.ones(channels, device=x.device)

    layer = keras.layers.Activation(lambda x: function(x.movedim(-1, 1), state, *made).movedim(1, -1))
    return {"torch.nn.functional": (lambda weights, x: (layer(x), ()), made)}


def output(call: Call, weights: Any, x: Any) -> np.ndarray:
    """What the call computes."""
    with torch.no_grad():
        return call(weights, x)[0].cpu().numpy()


def runs(call: Call, weights: Any, x: Any, dy: Any, mode: str) -> tuple[Run, Run]:
    """The forward call, and forward with the gradients of input and weights."""
    del mode
    x_traced = x.detach().clone().requires_grad_()

    @torch.no_grad()
    def forward() -> None:
        call(weights, x)

    def both() -> None:
        y, _ = call(weights, x_traced)
        torch.autograd.grad(y, [x_traced, *weights], dy)

    return finished(forward), finished(both)


def _weights(name: str, channels: int, device: Any) -> list[torch.Tensor]:
    if name.split(",")[0] in methods.NORMS:
        return [torch.ones(channels, device=device), torch.zeros(channels, device=device)]
    return [torch.full((channels,), 0.25, device=device)] if name == "PReLU" else []


_FUNCTIONAL: dict[str, Callable[..., torch.Tensor]] = {
    "PReLU": lambda x, state, alpha: F.prelu(x, alpha),
    "SELU": lambda x, state: F.selu(x),
    "Swish": lambda x, state: F.silu(x),
    "BatchNorm": lambda x, state, w, b: F.batch_norm(x, *state, w, b, True, 0.1, 1e-5),
    "BatchNorm, inference": lambda x, state, w, b: F.batch_norm(x, *state, w, b, False, 0.1, 1e-5),
    "GroupNorm": lambda x, state, w, b: F.group_norm(x, methods.GROUPS, w, b, 1e-5),
    "InstanceNorm": lambda x, state, w, b: F.instance_norm(x, None, None, w, b, True, 0.1, 1e-5),
    "LayerNorm": lambda x, state, w, b: F.layer_norm(x.movedim(1, -1), w.shape, w, b, 1e-5).movedim(-1, 1),
}
