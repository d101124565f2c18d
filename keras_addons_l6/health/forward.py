"""One forward pass of a model under watch: what its layers gave, reduced to a few numbers each while it runs."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_addons_l6.backends import programs
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.health import measures
from keras_addons_l6.health.activations import Limits, activation_of, limits_of

__all__ = ["Forward", "LayerCall", "Measured", "NormCall", "Seen"]

NEIGHBOURS = 9
"""A place and those around it, which a convolution sees together."""


class LayerCall(NamedTuple):
    """A call of a layer, as a program's results are read."""

    name: str
    activation: str | None
    limits: Limits
    is_output: bool


class NormCall(NamedTuple):
    """A call of a BatchNorm, as a program's results are read."""

    name: str
    momentum: float
    epsilon: float
    values: int
    """Values of a channel that are as good as independent."""


class Seen(NamedTuple):
    """What is known of a pass without its tensors."""

    layers: list[LayerCall]
    norms: list[NormCall]
    hidden: list[str]  # layers that ran inside a loop or branch of the backend


class Measured(NamedTuple):
    """What a program gives of each call, as tensors: as many as fit the calls that were seen."""

    finite: list[Tensor]
    values: list[Tensor]  # mean, deviation and saturated share, of layers with an activation
    ranges: list[tuple[Tensor, Tensor]]  # of layers whose units can die
    norms: list[tuple[Tensor, ...]]  # batch's mean and variance, moving mean and variance, gamma


@dataclasses.dataclass
class Forward:
    """Watches one forward pass in which BatchNorm normalizes by the batch and nothing else knows of training.

    Args:
        value_of: A variable's value before the pass: BatchNorm moves its averages on the way.
        beside: Tensors of the program in which the pass runs.
        slope: See `limits_of`.
        is_chosen: Whether a layer of this name is to be measured.
    """

    value_of: Callable[[keras.Variable], Tensor]
    beside: Sequence[Tensor]
    slope: float
    is_chosen: Callable[[str], bool]
    closed: bool = False

    def __post_init__(self) -> None:
        self._seen = Seen([], [], [])
        self._count: Counter[str] = Counter()
        self._outputs: list[Any] = []
        self._measured = Measured([], [], [], [])

    def watch(
        self, name: str, operation: Any, call: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
    ) -> Any:
        """Run one call, and measure what it is given and what it gives."""
        is_norm = isinstance(operation, keras.layers.BatchNormalization)
        if is_norm and operation.trainable:  # a frozen one uses its averages in training, too
            kwargs = {**kwargs, "training": True}
        outputs = call(*args, **kwargs)
        output = next((x for x in keras.tree.flatten(outputs) if _is_float(x)), None)
        if output is None or self.closed or not self.is_chosen(name):  # checkpointing calls once more
            return outputs
        if not programs.of_one_program(output, self.beside):
            self._seen.hidden.append(name)
            return outputs
        self._count[name] += 1
        label = name if self._count[name] == 1 else f"{name} (call {self._count[name]})"
        self._measure(label, operation, output)
        if is_norm:
            self._measure_norm(label, operation, args[0] if args else kwargs["inputs"], kwargs.get("mask"))
        return outputs

    def end(self, outputs: Any) -> tuple[Seen, Measured]:
        """Mark which calls made the model's outputs; which calls were seen, and what was measured of them."""
        self.closed = True
        final = {id(x) for x in keras.tree.flatten(outputs)}
        made = zip(self._seen.layers, self._outputs, strict=True)
        layers = [layer._replace(is_output=id(x) in final) for layer, x in made]
        return self._seen._replace(layers=layers), self._measured

    def _measure(self, label: str, operation: Any, output: Tensor) -> None:
        activation = activation_of(operation)
        limits = Limits() if activation is None else limits_of(activation, self.slope)
        self._seen.layers.append(LayerCall(label, activation, limits, is_output=False))
        self._outputs.append(output)
        self._measured.finite.append(measures.finite_share(output))
        if activation is not None:
            self._measured.values.append(measures.values_of_activation(output, limits))
        if limits.can_die:
            self._measured.ranges.append(measures.unit_range(output, _unit_axis(operation, output)))

    def _measure_norm(self, label: str, layer: Any, inputs: Tensor, mask: Tensor | None) -> None:
        found = measures.moments(inputs, layer.axis, mask)
        mean, variance = self.value_of(layer.moving_mean), self.value_of(layer.moving_variance)
        gamma = self.value_of(layer.gamma) if layer.scale else ops.ones_like(variance)
        self._seen.norms.append(
            NormCall(
                label, float(layer.momentum), float(layer.epsilon), _values_of_channel(inputs, layer.axis)
            )
        )
        self._measured.norms.append((*found, mean, variance, gamma))


def _values_of_channel(x: Tensor, axis: int) -> int:
    """How many values of a channel count towards its statistics: at a place's neighbours are much the same ones."""
    samples = int(x.shape[0])
    places = math.prod(x.shape) // x.shape[axis] // samples
    return samples * -(-places // NEIGHBOURS)


def _is_float(x: Any) -> bool:
    return ops.is_tensor(x) and keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))


def _unit_axis(operation: Any, output: Tensor) -> int:
    """The axis of a layer's units: of a convolution's channels, else the last."""
    first = getattr(operation, "data_format", None) == "channels_first" and len(output.shape) > 2
    return 1 if first else -1
