"""A compiled model's training loss over the whole data set, as a function of its trainable values."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_addons_l6.backends.portable.arrays import Tensor
from keras_addons_l6.optimizers.quasi_newton import programs
from keras_addons_l6.optimizers.quasi_newton.iteration import working_dtype

Data = tuple[Any, Any, Any]  # x, y, sample weights: each a tensor, a list or dict of tensors, or None


class Total(NamedTuple):
    """What an evaluation, or its part over some batches, gives."""

    value: Tensor
    gradient: tuple[Tensor, ...]
    carried: tuple[Tensor, ...]


class FullBatch:
    """The model's loss over all samples, in training mode, and its metrics.

    With n samples in batches B it is the sum of |B|/n times the loss of B, so that the loss on average over
    samples, with weight penalties counted once. Where a loss divides by something else than the number of
    samples (by the valid time steps under a mask), it is the mean of the batches' losses in that sense.

    Args:
        model: A compiled model.
        data: Its inputs, targets and sample weights.
        batch_size: Samples that go through the model at once; None: all.

    Raises:
        ValueError: where the arrays' lengths differ.
    """

    def __init__(self, model: Any, data: Data, batch_size: int | None) -> None:
        self.model = model
        self.data = keras.tree.map_structure(_as_keras_takes_it, data)
        self._samples = _samples(self.data)
        self._batch = min(batch_size or self._samples, self._samples)
        self._training = _training_argument(model)
        _build(model, self._slice(self.data, 0, 1), self._training)
        self.trainable = list(model.trainable_variables)
        self.carried = list(model.non_trainable_variables)
        # Torch's own modules hold their parameters themselves, so there the values go into the variables.
        self._in_place = keras.backend.backend() == "torch"
        self._differentiated = programs.value_and_gradient(self._loss)
        self._update_metrics = programs.compile_program(self._metrics_of_batch)

    def values(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Current values of the trainable variables, and of the others where they are carried along."""
        trainable = tuple(
            ops.cast(
                ops.copy(ops.convert_to_tensor(v)), working_dtype(keras.backend.standardize_dtype(v.dtype))
            )
            for v in self.trainable
        )
        return trainable, () if self._in_place else tuple(ops.convert_to_tensor(v) for v in self.carried)

    def values_of_all(self) -> tuple[list[Tensor], list[Tensor]]:
        """Copies of the values that `publish` writes, those included that are updated in place."""
        copies = [ops.copy(ops.convert_to_tensor(v)) for v in (*self.trainable, *self.carried)]
        return copies[: len(self.trainable)], copies[len(self.trainable) :]

    def publish(self, trainable: Sequence[Tensor], carried: Sequence[Tensor]) -> None:
        """Write values into the model's variables."""
        for variable, value in zip(self.trainable, trainable, strict=True):
            variable.assign(ops.copy(value))  # JAX's trainers delete the arrays that they take from variables
        # Nothing is carried where the model is updated in place.
        for variable, value in zip(self.carried, carried, strict=False):
            variable.assign(ops.copy(value))

    def evaluate(self, trial: Sequence[Tensor], carried: Sequence[Tensor], data: Data) -> Total:
        """The loss, its gradient, and what the layers' own updates make of the other variables."""
        if self._batch == self._samples:
            return self._of_batch(trial, carried, data, self._samples)
        whole, rest = divmod(self._samples, self._batch)

        def add(i: Any, total: Total) -> Total:
            more = self._of_batch(
                trial, total.carried, self._slice(data, i * self._batch, self._batch), self._batch
            )
            return _sum(total, more)

        _, total = programs.repeat(
            lambda counted: counted[0] < whole,
            lambda counted: (counted[0] + 1, add(*counted)),
            (programs.count_on_device(0), self._nothing(trial, carried)),
        )
        if rest:
            last = self._slice(data, whole * self._batch, rest)
            total = _sum(total, self._of_batch(trial, total.carried, last, rest))
        return total

    def metrics(self) -> dict[str, float]:
        """The compiled metrics over all samples, at the values the model holds now."""
        model = self.model
        if len(model.metrics) <= 1:  # the loss alone
            return {}
        model.reset_metrics()
        values = tuple(ops.convert_to_tensor(v) for v in model.metrics_variables)
        trainable, carried = self.values_of_all()
        for start in range(0, self._samples, self._batch):
            batch = self._slice(self.data, start, min(self._batch, self._samples - start))
            values = self._update_metrics(values, trainable, carried, batch)
        for variable, value in zip(model.metrics_variables, values, strict=True):
            variable.assign(value)
        return {name: float(value) for name, value in model.get_metrics_result().items()}

    def _nothing(self, trial: Sequence[Tensor], carried: Sequence[Tensor]) -> Total:
        dtypes = [working_dtype(keras.backend.standardize_dtype(x.dtype)) for x in trial]
        zeros = tuple(ops.zeros(x.shape, dtype) for x, dtype in zip(trial, dtypes, strict=True))
        return Total(ops.zeros((), _widest(dtypes)), zeros, tuple(carried))

    def _of_batch(
        self, trial: Sequence[Tensor], carried: Sequence[Tensor], batch: Data, samples: int
    ) -> Total:
        """A batch's share of the loss and of its gradient."""
        if self._in_place:
            for variable, value in zip(self.trainable, trial, strict=True):
                variable.assign(value)
            trial = [v.value for v in self.trainable]
        value, gradient, carried = self._differentiated(list(trial), carried, batch)
        share = samples / self._samples
        dtypes = [working_dtype(keras.backend.standardize_dtype(g.dtype)) for g in gradient]
        shares = tuple(ops.cast(g, dtype) * share for g, dtype in zip(gradient, dtypes, strict=True))
        return Total(ops.cast(value, _widest(dtypes)) * share, shares, tuple(carried))

    def _loss(
        self, trainable: Sequence[Tensor], carried: Sequence[Tensor], batch: Data
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The compiled loss of a batch, and the other variables' next values."""
        if self._in_place:
            return ops.reshape(self._call(batch)[1], ()), ()
        mapping = [*zip(self.trainable, trainable, strict=True), *zip(self.carried, carried, strict=True)]
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            loss = self._call(batch)[1]
        return ops.reshape(loss, ()), tuple(scope.get_current_value(v) for v in self.carried)

    def _metrics_of_batch(
        self, values: Sequence[Tensor], trainable: Sequence[Tensor], carried: Sequence[Tensor], batch: Data
    ) -> tuple[Tensor, ...]:
        """The metrics' states after a batch; the model's own are left as they are."""
        variables = (*self.model.metrics_variables, *self.trainable, *self.carried)
        mapping = list(zip(variables, (*values, *trainable, *carried), strict=True))
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            x, y, sample_weight = batch
            self.model.compute_metrics(x, y, self._call(batch)[0], sample_weight)
        return tuple(scope.get_current_value(v) for v in self.model.metrics_variables)

    def _call(self, batch: Data) -> tuple[Any, Tensor]:
        """The model's outputs in training mode, and its loss."""
        x, y, sample_weight = batch
        y_pred = self.model(x, training=True)
        return y_pred, self.model.compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **self._training
        )

    def _slice(self, data: Data, start: Any, length: int) -> Data:
        """Some samples of the data."""

        def rows(x: Any) -> Any:
            rest = tuple(x.shape)[1:]
            # JAX wants the starts of one dtype.
            return ops.slice(x, (start, *[start * 0] * len(rest)), (length, *rest))

        return keras.tree.map_structure(lambda x: None if x is None else rows(x), data)


def _sum(total: Total, more: Total) -> Total:
    """Shares added up; what is carried along is the later one's."""
    gradient = tuple(g + h for g, h in zip(total.gradient, more.gradient, strict=True))
    return Total(total.value + more.value, gradient, more.carried)


def _widest(dtypes: Sequence[str]) -> str:
    return "float64" if "float64" in dtypes else "float32"


def _training_argument(model: Any) -> dict[str, bool]:
    """What tells a model's `compute_loss` that it trains, if it wants to know."""
    parameters = inspect.signature(model.compute_loss).parameters
    named = "training" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {"training": True} if named else {}


def _build(model: Any, sample: Data, training: dict[str, bool]) -> None:
    """Create what the model, its loss and its metrics create when first called."""
    x, y, sample_weight = sample
    y_pred = model(x, training=False)
    model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **training)
    model.compute_metrics(x, y, y_pred, sample_weight)
    model.reset_metrics()


def _as_keras_takes_it(array: Any) -> Any:
    """An array as `fit` would hand it to the model: a tensor, real numbers in `keras.config.floatx()`."""
    if array is None:
        return None
    if not ops.is_tensor(array):
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise ValueError(
                "`fit_full_batch` takes arrays, or lists or dicts of arrays. For a dataset or a generator "
                f"use `fit` with `LBFGS(gradient_accumulation_steps=...)`. Received dtype: {array.dtype}."
            )
    is_real = "float" in keras.backend.standardize_dtype(array.dtype)
    tensor = ops.convert_to_tensor(array, keras.config.floatx() if is_real else None)
    distribution = keras.distribution.distribution() if keras.backend.backend() == "jax" else None
    if distribution is None:
        return tensor
    return keras.distribution.distribute_tensor(tensor, distribution.get_data_layout(tuple(tensor.shape)))


def _samples(data: Data) -> int:
    """The common length of the arrays."""
    arrays = [x for x in keras.tree.flatten(data) if x is not None]
    if not arrays or any(len(x.shape) == 0 for x in arrays):
        raise ValueError("`fit_full_batch` needs arrays with samples along their first axis.")
    lengths = {int(x.shape[0]) for x in arrays}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"All arrays must have the same number of samples, and at least one. Received: {sorted(lengths)}."
        )
    return lengths.pop()
