"""Names under which older packages saved their layers: after importing this, `load_model` reads their files.

| saved by | as | loads as |
|---|---|---|
| TensorFlow Addons | `Addons>InstanceNormalization` | `InstanceNormalization`, an `InstanceNorm` |
| TensorFlow Addons | `Addons>GroupNormalization` | `GroupNormalization`, a `GroupNorm` |
| TensorFlow Addons | `Addons>AdamW` | `AddonsAdamW`, an `AdamW(decouple_lr=True)` |
| keras-contrib | `InstanceNormalization` | `ContribInstanceNormalization` |
| keras-contrib | `GroupNormalization` | `ContribGroupNormalization` |

The old names only load. What is saved afterwards carries the names on the right, under this package, and what
`keras_addons_l6`'s own classes save keeps theirs.

Example:
    >>> import keras_addons_l6.compat
    >>> saved = {"class_name": "Addons>InstanceNormalization", "config": {"groups": 8, "axis": -1}}
    >>> type(keras.layers.deserialize(saved)).__name__
    'InstanceNormalization'
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.keras_private import rate_variables
from keras_addons_l6.layers import GroupNorm, InstanceNorm
from keras_addons_l6.optimizers import AdamW
from keras_addons_l6.optimizers.variable_pairing import path_of

__all__ = [
    "ALIASES",
    "AddonsAdamW",
    "Alias",
    "Config",
    "ContribGroupNormalization",
    "ContribInstanceNormalization",
    "ContribNormalization",
    "GroupNormalization",
    "InstanceNormalization",
]

Config = dict[str, Any]

_CONTRIB_INITIALIZERS = {"beta_initializer": "zeros", "gamma_initializer": "ones"}


class ContribNormalization(keras.layers.Layer):
    """What the two layers of keras-contrib share: their arguments and weights."""

    def __init__(
        self, axis: int | None, epsilon: float, center: bool = True, scale: bool = True, **kwargs: Any
    ) -> None:
        arguments = {
            f"{weight}_{kind}": kwargs.pop(f"{weight}_{kind}", _CONTRIB_INITIALIZERS.get(f"{weight}_{kind}"))
            for weight in ("beta", "gamma")
            for kind in ("initializer", "regularizer", "constraint")
        }
        super().__init__(**kwargs)
        if axis == 0:
            raise ValueError("`axis` must not be 0, the samples'. Received: axis=0. Expected another axis.")
        self.supports_masking = True
        self.axis, self.epsilon, self.center, self.scale = axis, epsilon, center, scale
        self._arguments = arguments

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create gamma and beta, one value a channel, or one in all where `axis` is None."""
        shape: tuple[int | None, ...] = (1,) if self.axis is None else (input_shape[self.axis],)
        self.gamma = self._add("gamma", shape) if self.scale else None
        self.beta = self._add("beta", shape) if self.center else None
        super().build(input_shape)

    def _add(self, name: str, shape: tuple[int | None, ...]) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=keras.initializers.get(self._arguments[f"{name}_initializer"]),
            regularizer=keras.regularizers.get(self._arguments[f"{name}_regularizer"]),
            constraint=keras.constraints.get(self._arguments[f"{name}_constraint"]),
        )

    def affine(self, y: Tensor, shape: list[int]) -> Tensor:
        """Return gamma y + beta, the weights reshaped to `shape`."""
        if self.gamma is not None:
            y = y * ops.cast(ops.reshape(self.gamma, shape), y.dtype)
        if self.beta is not None:
            y = y + ops.cast(ops.reshape(self.beta, shape), y.dtype)
        return y

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape stays."""
        return input_shape

    def get_config(self) -> Config:
        """Return the arguments."""
        own = {"axis": self.axis, "epsilon": self.epsilon, "center": self.center, "scale": self.scale}
        return {**super().get_config(), **own, **self._arguments}


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class ContribInstanceNormalization(ContribNormalization):
    """keras-contrib's `InstanceNormalization`, formula for formula.

    y = gamma * (x - mean) / (deviation + epsilon) + beta, mean and deviation of each sample over all its
    axes but `axis`; over all of them, with one gamma and one beta, where `axis` is None. `InstanceNorm` has
    epsilon under the root, as the paper (Ulyanov et al. 2017); use that in new models.

    Args:
        axis: Axis of the channels, or `None`.
        epsilon: Added to the deviation.
        center: Whether there is a beta.
        scale: Whether there is a gamma.
        **kwargs: Initializers, regularizers and constraints of beta and gamma, and Keras's own arguments.

    Raises:
        ValueError: When `axis` is 0.
    """

    def __init__(self, axis: int | None = None, epsilon: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(axis=axis, epsilon=epsilon, **kwargs)

    def call(self, inputs: Tensor) -> Tensor:
        """Normalize each sample."""
        ndim = len(inputs.shape)
        channels = None if self.axis is None else self.axis % ndim
        axes = [a for a in range(1, ndim) if a != channels]
        mean = ops.mean(inputs, axis=axes, keepdims=True)
        deviation = ops.std(inputs, axis=axes, keepdims=True)
        shape = [-1 if a == channels else 1 for a in range(ndim)]
        return self.affine((inputs - mean) / (deviation + self.epsilon), shape)


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class ContribGroupNormalization(ContribNormalization):
    """keras-contrib's `GroupNormalization`, formula for formula.

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta. keras-contrib cuts the tensor into groups along
    axis 1 whichever axis the channels are, so that with channels last its groups are of positions and
    channels mixed. Trained weights expect that, which is why it is kept here; `GroupNorm` groups channels,
    as the paper (Wu & He 2018).

    Args:
        groups: Number of groups.
        axis: Axis of the channels.
        epsilon: Added to the variance.
        **kwargs: `center`, `scale`, initializers, regularizers and constraints of beta and gamma, and
            Keras's own.

    Raises:
        ValueError: When `axis` is 0, or the channels cannot be divided into the groups.
    """

    def __init__(self, groups: int = 32, axis: int = -1, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(axis=axis, epsilon=epsilon, **kwargs)
        self.groups, self.channel_axis = groups, axis

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create gamma and beta, one value a channel."""
        channels = input_shape[self.channel_axis]
        if channels is None or channels % self.groups:
            raise ValueError(
                f"The number of channels must be a multiple of groups={self.groups}. Received an input of "
                f"shape {input_shape} with {channels} channels on axis {self.axis}."
            )
        super().build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        """Normalize each group of each sample."""
        axis = self.channel_axis % len(inputs.shape)
        part = inputs.shape[axis] // self.groups
        lengths = [part if a == axis else size for a, size in enumerate(ops.shape(inputs))]
        weights = [part if a == axis else 1 for a in range(len(lengths))]
        x = ops.reshape(inputs, [-1, self.groups, *lengths[1:]])
        axes = list(range(2, len(x.shape)))
        mean = ops.mean(x, axis=axes, keepdims=True)
        variance = ops.var(x, axis=axes, keepdims=True)
        y = (x - mean) / ops.sqrt(variance + self.epsilon)
        return ops.reshape(self.affine(y, [1, self.groups, *weights[1:]]), ops.shape(inputs))

    def get_config(self) -> Config:
        """Return the arguments."""
        return {**super().get_config(), "groups": self.groups}


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class InstanceNormalization(InstanceNorm):
    """`InstanceNorm` under the class name of TensorFlow Addons, by which `.keras` files name its weights."""


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class GroupNormalization(GroupNorm):
    """`GroupNorm` under the class name of TensorFlow Addons, by which `.keras` files name its weights."""


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class AddonsAdamW(AdamW):
    """`AdamW` that also takes the state which TensorFlow Addons saved: the step, then all m, then all v.

    What it excludes from weight decay are patterns for whole names, like `dense/kernel:0`, as there.
    """

    state_of_addons = False

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the slots, once there are variables: Keras's loader of `.h5` files first gives none."""
        if variables:
            super().build(variables)

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Set the state, now or when `build` creates the slots it belongs to."""
        state = self._in_own_order(weights) if self.state_of_addons else weights
        self.load_own_variables({str(i): value for i, value in enumerate(state)})

    def _in_own_order(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        step, slots = weights[0], weights[1:]
        kinds = 3 if self.amsgrad else 2  # all m, all v, and with amsgrad all of the largest v
        count = max(1, len(slots) // kinds)
        columns = [slots[first : first + count] for first in range(0, len(slots), count)]
        rate = [variable.numpy() for variable in rate_variables(self)]
        return [step, *rate, *(slot for row in zip(*columns, strict=True) for slot in row)]

    def _searched(self, variable: keras.Variable) -> Sequence[str]:
        """Addons searched its patterns in the whole name, which ended in ":0"."""
        return [f"{path_of(variable)}:0"]

    def load_own_variables(self, store: Any) -> None:
        """Set the state; a `.keras` file of Keras 2 holds none, and training then starts with a fresh one."""
        if store.keys():
            super().load_own_variables(store)
        else:
            warnings.warn(
                f"The file holds no state of optimizer '{self.name}': it starts afresh.", stacklevel=2
            )


class Alias(NamedTuple):
    """What Keras asks `from_config` of when it meets an old name."""

    load: Callable[..., Any]

    def from_config(self, config: Config, custom_objects: Config | None = None) -> Any:
        """Return the object that an old configuration stands for."""
        del custom_objects  # none of these has parts of its own
        return self.load(**config)


def _instance_norm(groups: int = -1, **config: Any) -> InstanceNormalization:
    del groups  # TensorFlow Addons writes the number of channels there
    return InstanceNormalization(**config)


def _adamw(
    learning_rate: Any,
    decay: float = 0.0,
    exclude_from_weight_decay: Sequence[str] | None = None,
    **config: Any,
) -> AddonsAdamW:
    """Addons' AdamW takes weight_decay * x off at each step, whatever the learning rate."""
    if isinstance(learning_rate, dict):
        learning_rate = keras.optimizers.schedules.deserialize(learning_rate)
    if decay:
        learning_rate = keras.optimizers.schedules.InverseTimeDecay(learning_rate, 1, decay)
    if isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        warnings.warn(
            "TensorFlow Addons' AdamW kept its weight decay while the rate followed a schedule; here "
            "the decay follows it too, as in Loshchilov & Hutter (2019).",
            stacklevel=2,
        )
    for legacy in ("jit_compile", "is_legacy_optimizer"):
        config.pop(legacy, None)
    optimizer = AddonsAdamW(learning_rate, decouple_lr=True, **config)
    optimizer.state_of_addons = True
    if exclude_from_weight_decay:
        optimizer.exclude_from_weight_decay(var_names=exclude_from_weight_decay)
    return optimizer


def _contrib_group_normalization(**config: Any) -> ContribGroupNormalization:
    if "dtype" in config and config.get("axis", -1) != 1:
        warnings.warn(
            f"Layer '{config.get('name')}' was saved as 'GroupNormalization', a name that both keras-contrib "
            "and, since Keras 2.11, Keras itself gave; with channels last their formulas differ. "
            "keras-contrib's is taken. If Keras wrote the file, pass "
            "custom_objects={'GroupNormalization': keras.layers.GroupNormalization}.",
            stacklevel=2,
        )
    return ContribGroupNormalization(**config)


ALIASES: dict[str, Alias] = {
    "Addons>InstanceNormalization": Alias(_instance_norm),
    "Addons>GroupNormalization": Alias(GroupNormalization),
    "Addons>AdamW": Alias(_adamw),
    "InstanceNormalization": Alias(ContribInstanceNormalization),
    "GroupNormalization": Alias(_contrib_group_normalization),
}

# Into the look-up alone: registering would also change the name that a class is saved under.
keras.saving.get_custom_objects().update(ALIASES)
