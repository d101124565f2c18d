"""A look at a model: one program of the backend measures all, and a record keeps it."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_addons_l6 import keras_private
from keras_addons_l6.backends import programs
from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.health import arithmetic, measures
from keras_addons_l6.health.batch import Batch
from keras_addons_l6.health.calls import calls_of, has_own_call, watched
from keras_addons_l6.health.forward import Forward, LayerCall, Measured, NormCall, Seen
from keras_addons_l6.health.packing import Packing
from keras_addons_l6.health.records import BatchNormHealth, LayerHealth, Look, VariableHealth
from keras_addons_l6.stateless import StatelessModel

__all__ = ["Looker"]


class _Found(NamedTuple):
    """What the program measures, as tensors and, once fetched, as arrays."""

    calls: Measured
    weight_norms: Any
    gradient_norms: Any  # empty without a loss
    changes: Any  # norms over the components that are sampled
    sizes: Any  # the same of what was before
    output_gap: Any


class Looker:
    """Looks at a built model on one batch, by a program that is compiled at the first look.

    Args:
        model: A built model.
        batch: What it is looked at on.
        names: The layers to look at, by name; None: all.
        slope: See `limits_of`.
    """

    def __init__(self, model: Any, batch: Batch, names: Iterable[str] | None, slope: float) -> None:
        self._model, self._batch, self._slope = model, batch, slope
        every = calls_of(model)
        _check_names(model, every, names)
        self._operations = {k: v for k, v in every.items() if names is None or _is_named(k, names)}
        self._chosen = None if names is None else {id(o) for o in self._operations.values()}
        self._stateless = StatelessModel(model)
        # a block comes before what is in it, whose name is the nearer one
        self._owner = {id(v): k for k, o in every.items() for v in getattr(o, "trainable_variables", ())}
        self._variables = self._chosen_variables()
        # watched though not chosen, so that they normalize by the batch
        self._norms = {k: v for k, v in every.items() if _moves_averages(v)}
        self._with_loss = batch.y is not None or bool(getattr(model, "losses", ()))
        self._program = _compiled(model, self._measure)
        self._sample = _compiled(model, measures.sampled)
        self._seen: Seen | None = None
        self._packing = Packing()
        self._notes = _notes(model, every)

    def is_current(self) -> bool:
        """Whether the model still trains the variables that it trained when this was made."""
        return [*map(id, self._stateless.trainable)] == [*map(id, self._model.trainable_variables)]

    def sample(self) -> tuple[Tensor, ...]:
        """Of each variable what the epoch's change is measured on; it stays where training takes place."""
        trainable = self._stateless.trainable
        values = tuple(programs.value_of(trainable[i]) for i in self._variables)
        with programs.beside_training():
            return self._sample(values)

    def not_watched(self) -> list[str]:
        """What of the model can't be looked into."""
        hidden = () if self._seen is None else dict.fromkeys(self._seen.hidden)
        return [*self._notes, *(f"{name}: it runs inside a loop or branch of the backend" for name in hidden)]

    def frozen(self) -> list[tuple[str, int]]:
        """The layers that are not trained, with the number of weights that would be."""
        return [
            (name, sum(math.prod(v.shape) for v in layer.weights))
            for name, layer in self._operations.items()
            if isinstance(layer, keras.Layer) and not layer.trainable and _holds_weights(layer)
        ]

    def look(self, before: Sequence[Tensor] | None, epoch: int, steps: int, total_steps: int) -> Look:
        """Measure everything now.

        Args:
            before: `sample` at the epoch's beginning; None where there was none.
            epoch: The epoch, from 1; 0 is before the first.
            steps: Optimizer steps since `before`.
            total_steps: Optimizer steps since training began.

        Raises:
            ValueError: if the model can't be run on the batch.
        """
        with programs.beside_training():
            found = self._run(self.sample() if before is None else tuple(before))
        if self._seen is None:
            raise RuntimeError("The program ran before it was traced.")
        return Look(
            epoch=epoch,
            steps=steps,
            total_steps=total_steps,
            samples=self._batch.samples,
            layers=_layers(self._seen.layers, found.calls),
            variables=self._variable_health(found, is_first=before is None),
            batch_norms=_norms(self._seen.norms, found.calls),
            output_gap=float(found.output_gap),
        )

    def _run(self, before: tuple[Tensor, ...]) -> _Found:
        """Run the program; a model whose loss can't be had of the batch is looked at without its gradient."""
        try:
            return self._call(before)
        except Exception as error:
            if not self._with_loss:
                raise _cannot_run(self._model, error) from error
            self._with_loss = False
            self._program = _compiled(self._model, self._measure)
            try:
                found = self._call(before)
            except Exception:
                raise _cannot_run(self._model, error) from error
            self._notes.append(f"gradients: the model's loss on `batch` failed ({_first_line(error)})")
            return found

    def _call(self, before: tuple[Tensor, ...]) -> _Found:
        scale = programs.argument(self._loss_scale(), "float32")
        parts = (self._stateless.trainable, self._stateless.carried)
        values = (tuple(map(programs.value_of, part)) for part in parts)
        return self._packing.opened(self._program(*values, self._batch, scale, before))

    def _loss_scale(self) -> float:
        """What the optimizer multiplies the loss by, without which half-precision gradients vanish."""
        optimizer = getattr(self._model, "optimizer", None)
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            return 1.0
        return float(ops.convert_to_numpy(optimizer.scale_loss(ops.ones(()))))

    def _measure(
        self,
        trainable: Sequence[Tensor],
        carried: Sequence[Tensor],
        batch: Batch,
        scale: Tensor,
        before: Sequence[Tensor],
    ) -> Tensor:
        """The program: one pass as in training with its gradient, and one as in testing where they differ."""
        batch = Batch(*batch)
        if self._with_loss and trainable:

            def loss(values: Sequence[Tensor]) -> tuple[Tensor, Any]:
                return self._pass(values, carried, batch, scale)

            _, gradients, (calls, outputs) = programs.value_and_gradient(loss, part=True)(tuple(trainable))
        else:
            _, (calls, outputs) = self._pass(trainable, carried, batch, scale)
            gradients = []
        weights = [trainable[i] for i in self._variables]
        gradients = [gradients[i] for i in self._variables] if gradients else []
        pairs = zip(before, measures.sampled(weights), strict=True)
        changes = [measures.wide(new) - measures.wide(old) for old, new in pairs]
        found = _Found(
            calls=calls,
            weight_norms=measures.norms(weights),
            gradient_norms=measures.norms(gradients) / scale,
            changes=measures.norms(changes),
            sizes=measures.norms(before),
            output_gap=self._output_gap(trainable, carried, batch, outputs),
        )
        return self._packing.packed(found)

    def _pass(
        self, trainable: Sequence[Tensor], carried: Sequence[Tensor], batch: Batch, scale: Tensor
    ) -> tuple[Tensor, tuple[Measured, Any]]:
        """The scaled loss, and beside it what was measured and the outputs."""
        stateless = self._stateless
        variables = (*stateless.trainable, *stateless.carried)
        values = {id(v): x for v, x in zip(variables, (*trainable, *carried), strict=True)}
        inputs = [x for x in keras.tree.flatten(batch) if x is not None]
        forward = Forward(
            lambda variable: values[id(variable)],
            [*inputs, *trainable],
            self._slope,
            self._operations.__contains__,
        )
        with stateless.scope(trainable, carried), watched(self._operations | self._norms, forward.watch):
            y_pred = self._model(batch.x, training=False)
            self._seen, calls = forward.end(y_pred)
            value = stateless.loss(batch, y_pred) if self._with_loss else scale
        outputs = keras.tree.map_structure(ops.stop_gradient, y_pred)
        return ops.cast(value, "float32") * scale, (calls, outputs)

    def _output_gap(
        self, trainable: Sequence[Tensor], carried: Sequence[Tensor], batch: Batch, outputs: Any
    ) -> Tensor:
        if not self._norms:
            return ops.zeros((), "float32")
        with self._stateless.scope(trainable, carried):
            return measures.relative_difference(outputs, self._model(batch.x, training=False))

    def _chosen_variables(self) -> list[int]:
        """The places of the variables to look at among the trainable ones."""
        every = range(len(self._stateless.trainable))
        if self._chosen is None:
            return list(every)
        mine = {id(v) for o in self._operations.values() for v in getattr(o, "trainable_variables", ())}
        return [i for i in every if id(self._stateless.trainable[i]) in mine]

    def _variable_health(self, found: _Found, *, is_first: bool) -> tuple[VariableHealth, ...]:
        gradients = found.gradient_norms if len(found.gradient_norms) else [math.nan] * len(self._variables)
        pairs = zip(found.changes, found.sizes, strict=True)
        ratios = [math.nan if is_first else arithmetic.update_ratio(*pair) for pair in pairs]
        rows = zip(self._variables, found.weight_norms, gradients, ratios, strict=True)
        return tuple(
            self._variable(self._stateless.trainable[i], float(weight), float(gradient), ratio)
            for i, weight, gradient, ratio in rows
        )

    def _variable(self, variable: Any, weight: float, gradient: float, ratio: float) -> VariableHealth:
        layer = self._owner.get(id(variable), self._model.name)
        return VariableHealth(
            variable.path, layer, math.prod(variable.shape), len(variable.shape), weight, gradient, ratio
        )


def _compiled(model: Any, program: Callable[..., Any]) -> Callable[..., Any]:
    """The program as the model's own steps run: compiled, unless its `compile` asked for `run_eagerly`."""
    return program if getattr(model, "run_eagerly", False) else programs.compile_for_few_runs(program)


def _check_names(model: Any, operations: Iterable[str], names: Iterable[str] | None) -> None:
    unknown = [each for each in names or () if not any(_is_named(k, [each]) for k in operations)]
    if unknown:
        raise ValueError(
            f"TrainingHealth: the model '{model.name}' has no layer {', '.join(map(repr, unknown))}. It has "
            f"{', '.join(operations)}."
        )


def _is_named(name: str, names: Iterable[str]) -> bool:
    """Whether a layer, or a model or block that it is in, is among those named."""
    parts = name.split("/")
    inside = {"/".join(parts[: i + 1]) for i in range(len(parts))} | {parts[-1]}
    return bool(inside & set(names))


def _holds_weights(layer: keras.Layer) -> bool:
    """Whether a layer, not a block around others, has weights that training would change."""
    inner = {id(v) for each in keras_private.sublayers(layer) for v in each.weights}
    own = [v for v in layer.weights if id(v) not in inner]
    return bool(own) and any(keras.backend.is_float_dtype(v.dtype) for v in own)


def _moves_averages(operation: Any) -> bool:
    return isinstance(operation, keras.layers.BatchNormalization) and operation.trainable


def _layers(calls: Sequence[LayerCall], found: Measured) -> tuple[LayerHealth, ...]:
    values, ranges = iter(found.values), iter(found.ranges)
    return tuple(
        _layer(call, finite, values, ranges) for call, finite in zip(calls, found.finite, strict=True)
    )


def _layer(call: LayerCall, finite: Any, values: Any, ranges: Any) -> LayerHealth:
    mean, deviation, saturated = next(values) if call.activation is not None else (math.nan, math.nan, 0.0)
    lowest, highest = next(ranges) if call.limits.can_die else (np.zeros(0), np.zeros(0))
    return LayerHealth(
        name=call.name,
        activation=call.activation,
        not_finite=1 - float(finite),
        saturated=float(saturated),
        silent=arithmetic.silent(lowest, highest, call.limits),
        mean=float(mean),
        deviation=float(deviation),
        is_output=call.is_output,
    )


def _norms(calls: Sequence[NormCall], found: Measured) -> tuple[BatchNormHealth, ...]:
    return tuple(_norm(call, *arrays) for call, arrays in zip(calls, found.norms, strict=True))


def _norm(call: NormCall, mean: Any, variance: Any, moving: Any, moving_variance: Any, gamma: Any) -> Any:
    return BatchNormHealth(
        name=call.name,
        momentum=call.momentum,
        mean_distance=arithmetic.distance_of_means(mean, variance, moving, call.epsilon),
        variance_ratio=arithmetic.ratio_of_variances(variance, moving_variance, call.epsilon),
        output_gap=arithmetic.batch_norm_gap(mean, variance, moving, moving_variance, gamma, call.epsilon),
        noise=arithmetic.noise_of_gap(call.values),
    )


def _notes(model: Any, operations: dict[str, Any]) -> list[str]:
    """What of the model is not looked into."""
    own = {model.name: model, **operations}
    return [
        f"{name}: what its own `call` computes beside calling layers"
        for name, operation in own.items()
        if has_own_call(operation) and keras_private.sublayers(operation)
    ]


def _cannot_run(model: Any, error: Exception) -> ValueError:
    return ValueError(
        f"TrainingHealth: the model '{model.name}' can't be run on `batch`: {_first_line(error)}. Pass inputs, or (inputs, "
        "targets), as `fit` takes them, and of the same shapes but for the number of samples."
    )


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    return textwrap.shorten(line, 200, placeholder=" ...")
