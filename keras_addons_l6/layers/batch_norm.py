"""BatchNorm: channels normalized by the statistics of the batch, and of training at test time."""

import math
from typing import Any

import keras
from keras import ops

from keras_addons_l6 import argument_checks, backends
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.backends.portable.layers import Statistics
from keras_addons_l6.keras_private import HAS_RENORM, renorm_of
from keras_addons_l6.layers import arguments, masks
from keras_addons_l6.layers.arguments import Constraint, Initializer, Regularizer, Shape

__all__ = ["BatchNorm"]


@keras.saving.register_keras_serializable(package="keras_addons_l6")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalization.

    While training (`training=True` and the layer is trainable), with the mean and the biased variance over
    the batch and all axes but the channels'::

        y = (x - mean) / sqrt(variance + epsilon) * gamma + beta
        moving_mean = momentum * moving_mean + (1 - momentum) * mean
        moving_variance = momentum * moving_variance + (1 - momentum) * variance

    and otherwise with the moving averages in place of the batch's statistics. Ioffe & Szegedy, "Batch
    Normalization" (2015), Algorithm 1; `renorm=True` is Ioffe, "Batch Renormalization" (2017), Algorithm 1.

    Statistics are computed in at least float32 by the corrected two-pass method, so values with a large mean
    keep their accuracy and a constant input gives beta. The moving averages are kept in at least float32.

    Input shape: any of rank >= 2, all sizes but the channels' known or not; output: the same shape, in the
    compute dtype.

    Args:
        axis: Channel axis, any but the batch's.
        momentum: Share of the old moving average that is kept, from 0 to 1.
        epsilon: Added to the variance.
        center: Whether to add beta.
        scale: Whether to multiply by gamma.
        beta_initializer: Initializer of beta.
        gamma_initializer: Initializer of gamma.
        moving_mean_initializer: Initializer of the moving mean.
        moving_variance_initializer: Initializer of the moving variance.
        beta_regularizer: Regularizer of beta.
        gamma_regularizer: Regularizer of gamma.
        beta_constraint: Constraint on beta.
        gamma_constraint: Constraint on gamma.
        renorm: Whether to correct the batch's statistics towards the running ones (from Keras 3.14 on).
        renorm_clipping: Bounds of that correction, a dictionary with any of `"rmin"`, `"rmax"` and `"dmax"`.
        renorm_momentum: Momentum of the running statistics that `renorm` uses.
        synchronized: Whether replicas share statistics. TensorFlow's only; on JAX they are global already.
        unbiased_moving_variance: Whether the moving average takes the unbiased variance, n / (n - 1) times
            the batch's.
        **kwargs: Base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of rank >= 2.
        training: Whether to use, and record, the statistics of this batch.
        mask: Which values count for the statistics; all are normalized. It covers leading axes of the input,
            one or all of them, with sizes equal or 1. It may leave out the channel axis: `(batch, time)` for
            `(batch, channels, time)` at `axis=1`; where sizes alone do not tell, it is read as `(batch,
            channels)`, so pass `(batch, 1, time)` there. A batch that is masked entirely leaves the moving
            averages alone.

    Raises:
        ValueError: an argument out of range, `synchronized=True` where the backend has none, or `renorm=True`
            where Keras has none, at construction; an axis the input lacks or an unknown number of channels,
            when the layer is built; a mask that does not fit, when it is called.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from keras_addons_l6.layers import BatchNorm
        >>> layer = BatchNorm(momentum=0.875)
        >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
        >>> ops.convert_to_numpy(layer(x, training=True)).round(2).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
        >>> ops.convert_to_numpy(layer.moving_mean).tolist()
        [0.25, 2.5]

    Differs from `keras.layers.BatchNormalization`:
        1. `momentum` is 0.9, not 0.99, and `epsilon` 1e-5, not 1e-3.
        2. The variance is never E[x^2] - E[x]^2, which on the torch backend loses all digits at a mean of
           1e4.
        3. Masks of any rank, with one channel, and with any `axis`; Keras takes rank - 1 at `axis=-1`.
        4. `unbiased_moving_variance`, keyword-only.
        5. Moving averages are at least float32, also under a float16 policy, where a variance soon overflows.
        6. Where no value counts, by mask or by an empty batch, or a channel's statistics are not finite, its
           moving averages stay; Keras moves them towards 0, or to NaN for good.
        7. The input is not rounded to a lower compute dtype before its statistics are taken.
        8. Under gradient checkpointing on torch, which computes the layer twice, a batch counts once.
        9. `axis=0`, arguments out of range, and an unknown number of channels are errors.

    To reproduce Keras pass `momentum=0.99, epsilon=1e-3`: equal within rounding.

    To reproduce PyTorch's `BatchNorm2d(channels)` pass `axis=1, unbiased_moving_variance=True`; its momentum
    is one minus ours.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Initializer = "zeros",
        gamma_initializer: Initializer = "ones",
        moving_mean_initializer: Initializer = "zeros",
        moving_variance_initializer: Initializer = "ones",
        beta_regularizer: Regularizer = None,
        gamma_regularizer: Regularizer = None,
        beta_constraint: Constraint = None,
        gamma_constraint: Constraint = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        *,
        unbiased_moving_variance: bool = False,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        arguments.check_names(name, BatchNorm, kwargs)
        synchronized = argument_checks.flag(name, "synchronized", synchronized)
        renorm = argument_checks.flag(name, "renorm", renorm)
        _check_synchronized(name, synchronized)
        _check_renorm(name, renorm, renorm_clipping)
        renorm_momentum = argument_checks.number(name, "renorm_momentum", renorm_momentum, low=0.0, high=1.0)
        if HAS_RENORM:
            kwargs.update(renorm=renorm, renorm_clipping=renorm_clipping, renorm_momentum=renorm_momentum)
        super().__init__(
            axis=arguments.channel_axis(name, axis),
            momentum=argument_checks.number(name, "momentum", momentum, low=0.0, high=1.0),
            epsilon=argument_checks.number(name, "epsilon", epsilon, low=0.0, bounds="(]"),
            center=argument_checks.flag(name, "center", center),
            scale=argument_checks.flag(name, "scale", scale),
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            synchronized=synchronized,
            **kwargs,
        )
        self.autocast = False  # statistics of the input as it came, not rounded to half precision first
        self.renorm = renorm
        self.unbiased_moving_variance = argument_checks.flag(
            name, "unbiased_moving_variance", unbiased_moving_variance
        )

    def build(self, input_shape: Shape) -> None:
        """Create gamma, beta and the moving averages."""
        arguments.channels(type(self).__name__, self.axis, input_shape)
        super().build(input_shape)

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """Create a weight; what is not trained are statistics, which float16 is too narrow for."""
        if kwargs.get("trainable") is False:
            kwargs["dtype"] = backends.layers.statistics_dtype(self.variable_dtype)
        return super().add_weight(*args, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        """Normalize the channels."""
        x = ops.cast(inputs, backends.layers.statistics_dtype(inputs.dtype, self.compute_dtype))
        gamma = None if self.gamma is None else ops.convert_to_tensor(self.gamma)
        beta = None if self.beta is None else ops.convert_to_tensor(self.beta)
        if not (training and self.trainable):
            outputs = self._normalize_by_moving_averages(x, gamma, beta)
        elif self.renorm:
            outputs = self._renormalize(x, mask, gamma, beta)
        else:
            outputs, batch = self._normalize_by_batch(x, mask, gamma, beta)
            if not backends.layers.is_recomputed(x):
                self._update_averages(_finite(batch))
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output: that of the input."""
        arguments.resolved_axis(type(self).__name__, self.axis, input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {**super().get_config(), "unbiased_moving_variance": self.unbiased_moving_variance}

    def _normalize_by_moving_averages(self, x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        mean, variance = ops.convert_to_tensor(self.moving_mean), ops.convert_to_tensor(self.moving_variance)
        return backends.layers.normalize(
            x, mean, variance, gamma, beta, axis=self.axis % len(x.shape), epsilon=self.epsilon
        )

    def _normalize_by_batch(
        self, x: Tensor, mask: Tensor | None, gamma: Tensor | None, beta: Tensor | None
    ) -> tuple[Tensor, Statistics]:
        axis = self.axis % len(x.shape)
        if mask is not None:
            mask = masks.aligned(type(self).__name__, mask, x, axis)
        if self.synchronized:
            mask = ops.ones([1] * len(x.shape), dtype="bool") if mask is None else mask
            return backends.layers.synchronized_batch_norm(
                x, mask, gamma, beta, axis=axis, epsilon=self.epsilon
            )
        if mask is not None:
            return backends.layers.masked_batch_norm(x, mask, gamma, beta, axis=axis, epsilon=self.epsilon)
        return backends.layers.batch_norm(x, gamma, beta, axis=axis, epsilon=self.epsilon)

    def _renormalize(
        self, x: Tensor, mask: Tensor | None, gamma: Tensor | None, beta: Tensor | None
    ) -> Tensor:
        """Ioffe (2017), Algorithm 1: y = (x_hat * r + d) * gamma + beta, r and d without gradient."""
        normalized, batch = self._normalize_by_batch(x, mask, None, None)
        r, d = self._renorm_correction(batch)
        if not backends.layers.is_recomputed(x):
            self._update_renorm_averages(_finite(batch))
        shape = [-1 if a == self.axis % len(x.shape) else 1 for a in range(len(x.shape))]
        outputs = normalized * ops.reshape(r, shape) + ops.reshape(d, shape)
        if gamma is not None:
            outputs = outputs * ops.reshape(ops.cast(gamma, x.dtype), shape)
        if beta is not None:
            outputs = outputs + ops.reshape(ops.cast(beta, x.dtype), shape)
        return outputs

    def _renorm_correction(self, batch: Statistics) -> tuple[Tensor, Tensor]:
        """Compute r = deviation / its running mean, d = (mean - its own) / the same, both clipped."""
        smallest = self.epsilon**0.5  # the running deviation starts at 0 where its initializer says so
        running = renorm_of(self)
        bounds = running.clipping
        running_deviation = ops.clip(ops.cast(running.deviation, batch.mean.dtype), smallest, math.inf)
        r = ops.sqrt(batch.variance + self.epsilon) / running_deviation
        d = (batch.mean - ops.cast(running.mean, batch.mean.dtype)) / running_deviation
        r = ops.clip(r, bounds.get("rmin", 0.0), bounds.get("rmax", math.inf))
        dmax = bounds.get("dmax", math.inf)
        return r, ops.clip(d, -dmax, dmax)

    def _update_averages(self, batch: Statistics) -> None:
        self._move(self.moving_mean, batch.mean, self.momentum, batch.count)
        self._move(self.moving_variance, self._recorded_variance(batch), self.momentum, batch.count)

    def _update_renorm_averages(self, batch: Statistics) -> None:
        deviation = ops.sqrt(batch.variance + self.epsilon)
        recorded = ops.sqrt(self._recorded_variance(batch) + self.epsilon)
        running = renorm_of(self)
        self._move(running.mean, batch.mean, running.momentum, batch.count)
        self._move(running.deviation, deviation, running.momentum, batch.count)
        self._move(self.moving_mean, batch.mean, self.momentum, batch.count)
        self._move(running.moving_deviation, recorded, self.momentum, batch.count)
        moving_deviation = ops.convert_to_tensor(running.moving_deviation)
        self.moving_variance.assign(ops.clip(ops.square(moving_deviation) - self.epsilon, 0.0, math.inf))

    def _recorded_variance(self, batch: Statistics) -> Tensor:
        """The variance that the moving average takes: the batch's, or n / (n - 1) times it."""
        if not self.unbiased_moving_variance:
            return batch.variance
        return batch.variance * (batch.count / ops.clip(batch.count - 1.0, 1.0, math.inf))

    def _move(self, average: keras.Variable, value: Tensor, momentum: float, count: Tensor) -> None:
        """Assign average = momentum * average + (1 - momentum) * value, unless no value was counted."""
        old = ops.cast(average, value.dtype)
        average.assign(ops.where(count > 0, old * momentum + value * (1.0 - momentum), old))


def _finite(batch: Statistics) -> Statistics:
    """The statistics, of no value where they are not finite: one such batch would stay in the averages for good."""
    finite = ops.isfinite(batch.mean) & ops.isfinite(batch.variance)
    return batch._replace(count=ops.where(finite, batch.count, ops.zeros_like(batch.count)))


def _check_synchronized(layer: str, synchronized: bool) -> None:
    backend = keras.config.backend()
    if synchronized and backend != "tensorflow":
        mend = {"jax": "On JAX under jit statistics are global already: leave it out."}
        raise ValueError(
            f"{layer}: synchronized=True is TensorFlow's, and the backend is {backend}. "
            + mend.get(backend, "Leave it out, or normalize per sample: GroupNorm needs no synchronization.")
        )


def _check_renorm(layer: str, renorm: bool, clipping: dict[str, float] | None) -> None:
    if renorm and not HAS_RENORM:
        raise ValueError(
            f"{layer}: renorm=True needs Keras 3.14 or later; this is Keras {keras.__version__}."
        )
    if clipping is None:
        return
    if not isinstance(clipping, dict) or not all(argument_checks.is_number(v) for v in clipping.values()):
        raise ValueError(
            f"{layer}: `renorm_clipping` must be None or a dictionary of numbers, such as "
            f"{{'rmax': 3.0, 'rmin': 0.3, 'dmax': 5.0}}. Received: renorm_clipping={clipping!r}"
        )
    unknown = set(clipping) - {"rmin", "rmax", "dmax"}
    if unknown:
        raise ValueError(
            f"{layer}: `renorm_clipping` may hold 'rmin', 'rmax' and 'dmax'. "
            f"Received: renorm_clipping={clipping}"
        )
    if clipping.get("rmin", 0.0) > clipping.get("rmax", math.inf) or clipping.get("dmax", 0.0) < 0.0:
        raise ValueError(
            f"{layer}: `renorm_clipping` must have rmin <= rmax and dmax >= 0. "
            f"Received: renorm_clipping={clipping}"
        )
