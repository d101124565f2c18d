"""A compiled model's training loss over the whole data set, as a function of its trainable values."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.optimizers.quasi_newton import programs
from keras_addons_l6.optimizers.quasi_newton.full_batch_data import Data, rows
from keras_addons_l6.optimizers.quasi_newton.iteration_history import Held
from keras_addons_l6.optimizers.quasi_newton.randomness import warn_if_random
from keras_addons_l6.optimizers.quasi_newton.vectors import working_dtype
from keras_addons_l6.stateless import StatelessModel, loss_of, stateful_layers, states_of

__all__ = ["FullBatch", "Total", "TrainedModel", "worked"]

FEW = 2  # samples of each array on which a model is built and watched once


class Total(NamedTuple):
    """What an evaluation, or its part over some samples, gives."""

    value: Tensor
    gradient: Sequence[Tensor]
    carried: Sequence[Tensor]


class TrainedModel(StatelessModel):
    """A model in training mode as a function of the values of its variables.

    Args:
        model: A compiled model.
        sample: Some of its data, on which what it creates at its first call is created.
    """

    def __init__(self, model: Any, sample: Data) -> None:
        _build(model, sample)
        super().__init__(model)
        # Torch's own modules hold their parameters themselves, so there the values go into the variables.
        self._in_place = keras.backend.backend() == "torch"

    def place(self, trainable: Sequence[Tensor]) -> list[Tensor]:
        """The values as what the loss is differentiated by."""
        if not self._in_place:
            return list(trainable)
        for variable, value in zip(self.trainable, trainable, strict=True):
            variable.assign(value)
        return [v.value for v in self.trainable]

    def carried_after(self, scope: keras.StatelessScope, carried: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The untrained variables after a call; recurrent states begin each evaluation as they were."""
        states = set(map(id, self.states))
        found = zip(self.carried, carried, strict=True)
        return tuple(before if id(v) in states else scope.get_current_value(v) for v, before in found)

    @property
    def is_stateful(self) -> bool:
        """Whether recurrent layers hand their states from one call to the next."""
        return bool(self.states)

    def call(self, batch: Data) -> tuple[Any, Tensor]:
        """The outputs, and the loss."""
        y_pred = self.model(batch.x, training=True)
        return y_pred, self.loss(batch, y_pred)


def _build(model: Any, sample: Data) -> None:
    """Create what the model, its loss and its metrics create when first called; change nothing else."""
    untrained, states = [v for v in model.variables if not v.trainable], states_of(model)
    before = [(v, ops.copy(ops.convert_to_tensor(v))) for v in (*untrained, *states)]
    y_pred = model(sample.x, training=False)
    loss_of(model, sample, y_pred)
    model.compute_metrics(sample.x, sample.y, y_pred, sample.sample_weight)
    model.reset_metrics()
    for variable, value in before:
        variable.assign(value)


class FullBatch:
    """The loss over all samples, in training mode, and the metrics.

    Args:
        model: A compiled model.
        data: Of the shapes and dtypes that all later data have.
        samples: How many there are; None: sets of points of different lengths.
        in_pieces: From the stateless model to the evaluation of an objective whose samples go through the
            model in pieces; None: they go through it at once.
        batch_size: Samples of a piece.
    """

    def __init__(
        self,
        model: Any,
        data: Data,
        samples: int | None,
        batch_size: int | None,
        in_pieces: Callable[["TrainedModel"], programs.Evaluate] | None = None,
    ) -> None:
        self._samples = samples
        self._batch = samples if samples is None or batch_size is None else min(batch_size, samples)
        few = _few(model, data, self._batch)
        self._stateless = TrainedModel(model, few)
        self.trainable, self.carried = self._stateless.trainable, self._stateless.carried
        self._pieces = None if in_pieces is None else in_pieces(self._stateless)
        self._differentiated = programs.value_and_gradient(self._loss)
        self._update_metrics = programs.compile_program(self._metrics_of_batch)
        warn_if_random(model, self.carried, lambda: self._loss(*self.values(), few))

    def values(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Copies of the values of the trainable variables, in their working dtypes, and of the others."""
        trainable = tuple(
            ops.cast(
                ops.copy(ops.convert_to_tensor(v)), working_dtype(keras.backend.standardize_dtype(v.dtype))
            )
            for v in self.trainable
        )
        return trainable, tuple(ops.copy(ops.convert_to_tensor(v)) for v in self.carried)

    def publish(self, trainable: Sequence[Tensor], carried: Sequence[Tensor]) -> None:
        """Write values into the model's variables."""
        variables = (*self.trainable, *self.carried)
        for variable, value in zip(variables, (*trainable, *carried), strict=True):
            variable.assign(ops.copy(value))  # JAX's trainers delete the arrays that they take from variables

    def evaluate(self, trial: Sequence[Tensor], held: Held, data: Data) -> Total:
        """The loss, its gradient, and what the layers' own updates make of the other variables."""
        trial = self._stateless.place(trial)
        if self._pieces is not None:
            return Total(*self._pieces(trial, held.carried, data))
        value, gradient, carried = self._differentiated(trial, held.carried, data)
        return Total(*worked(value, gradient), carried)

    def metrics(self, data: Data) -> dict[str, float]:
        """The compiled metrics over all samples, at the values the model holds now."""
        model = self._stateless.model
        if len(model.metrics) <= 1:  # the loss alone
            return {}
        model.reset_metrics()
        values = tuple(ops.convert_to_tensor(v) for v in model.metrics_variables)
        trainable, carried = (
            tuple(map(ops.convert_to_tensor, part)) for part in (self.trainable, self.carried)
        )
        for batch in self._batches(data):
            values = self._update_metrics(values, trainable, carried, batch)
        for variable, value in zip(model.metrics_variables, values, strict=True):
            variable.assign(value)
        return {name: float(value) for name, value in model.get_metrics_result().items()}

    def _batches(self, data: Data) -> list[Data]:
        """The data as they go through the model."""
        if self._samples is None or self._batch is None or self._batch == self._samples:
            return [data]
        starts = range(0, self._samples, self._batch)
        return [rows(data, start, min(self._batch, self._samples - start)) for start in starts]

    def _loss(
        self, trainable: Sequence[Tensor], carried: Sequence[Tensor], data: Data
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The compiled loss, and the other variables' next values."""
        with self._stateless.scope(trainable, carried) as scope:
            loss = self._stateless.call(data)[1]
        return loss, self._stateless.carried_after(scope, carried)

    def _metrics_of_batch(
        self, values: Sequence[Tensor], trainable: Sequence[Tensor], carried: Sequence[Tensor], batch: Data
    ) -> tuple[Tensor, ...]:
        """The metrics' states after a batch; the model's own are left as they are."""
        model = self._stateless.model
        variables = (*model.metrics_variables, *self.trainable, *self.carried)
        mapping = list(zip(variables, (*values, *trainable, *carried), strict=True))
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            y_pred, _ = self._stateless.call(batch)
            model.compute_metrics(batch.x, batch.y, y_pred, batch.sample_weight)
        return tuple(scope.get_current_value(v) for v in model.metrics_variables)


def worked(value: Tensor, gradient: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A value and its gradient in the dtypes that the method works in."""
    dtypes = [working_dtype(keras.backend.standardize_dtype(g.dtype)) for g in gradient]
    widest = "float64" if "float64" in dtypes else "float32"
    typed = tuple(ops.cast(g, dtype) for g, dtype in zip(gradient, dtypes, strict=True))
    return ops.cast(value, widest), typed


def _few(model: Any, data: Data, batch: int | None) -> Data:
    """A few samples of each array; those of a piece, or all, where the model knows how many there must be."""
    shapes = [x.shape for x in getattr(model, "inputs", None) or ()]
    is_fixed = stateful_layers(model) or any(shape[0] is not None for shape in shapes if len(shape))
    if is_fixed and batch is None:
        return data
    most = batch if is_fixed and batch is not None else FEW

    def some(x: Any) -> Any:
        return None if x is None else rows(x, 0, min(most, int(x.shape[0])))

    return Data(*(keras.tree.map_structure(some, part) for part in data))
