"""The loss of a full batch whose samples go through the model in pieces, by the chain rule.

The loss is L(W, z_1 ... z_k) + sum over layers of their own losses, z_i being the outputs of piece i. A first pass finds
all outputs, which are few beside what a model keeps for its gradient. L is differentiated by them at once, whatever it
divides by: samples, weights, valid steps. A second pass takes each piece's gradient of <dL/dz_i, z_i(W)>. So the
result is that of one piece but for rounding, at the price of one forward pass more.

What a layer adds by `add_loss` or an activity regularizer, and what a model's own `compute_loss` gives, is a mean or a
sum over samples; which, is measured on a few samples. What is neither, and outputs that depend on other samples
(BatchNormalization's), cannot be cut.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.keras_private import mask_of, with_mask
from keras_addons_l6.optimizers.quasi_newton import programs
from keras_addons_l6.optimizers.quasi_newton.full_batch_data import Data, rows
from keras_addons_l6.optimizers.quasi_newton.full_batch_loss import Total, TrainedModel, worked

__all__ = ["Cut", "evaluation_in_pieces"]

PROBED = 12  # samples on which it is measured how losses add up
AGREEMENT = 1e-3  # of the largest magnitude: far above rounding, far below what another rule gives
MEAN, SUM = "mean", "sum"

NOT_CUT = (
    "`fit_full_batch(batch_size={batch_size})` would minimize another function than it does in one piece: {why}. Leave "
    "`batch_size` out"
)


class Cut(NamedTuple):
    """How samples are cut into pieces."""

    samples: int
    batch: int

    def over(self, step: Callable[[Any, int, Any], Any], carry: Any) -> Any:
        """step(start, length, carry) -> carry over all pieces: a loop, and the shorter rest."""
        whole, rest = divmod(self.samples, self.batch)
        _, carry = programs.repeat(
            lambda counted: counted[0] < whole,
            lambda counted: (counted[0] + 1, step(counted[0] * self.batch, self.batch, counted[1])),
            (programs.count_on_device(0), carry),
        )
        return step(programs.count_on_device(whole * self.batch), rest, carry) if rest else carry


class Outputs(NamedTuple):
    """A model's outputs and the masks that travel with them, leaf by leaf; None where there is no mask."""

    tensors: Sequence[Tensor]
    masks: Sequence[Any]

    def there(self) -> list[Tensor]:
        """Outputs, then masks; a compiled loop carries no None."""
        return [*self.tensors, *(mask for mask in self.masks if mask is not None)]

    def filled(self, there: Sequence[Tensor]) -> "Outputs":
        """Others of this structure, from what `there` gives."""
        count = len(self.tensors)
        masks = iter(there[count:])
        return Outputs(there[:count], [None if mask is None else next(masks) for mask in self.masks])


def evaluation_in_pieces(model: TrainedModel, data: Data, cut: Cut) -> Callable[..., Total]:
    """From the trial, the other variables and the data to value, gradient and the other variables' next values.

    Raises:
        ValueError: where pieces would have another minimum.
    """
    probe = _Probe(model, data, cut)
    if type(model.model).compute_loss is keras.Model.compute_loss:
        return _ByOutputs(model, cut, probe.penalties(), probe.outputs()).evaluate
    return _ByLosses(model, cut, probe.whole_loss()).evaluate


class _ByLosses:
    """An evaluation by the losses of the pieces, which a model with its own `compute_loss` gives.

    Args:
        model: The model.
        cut: Into which pieces.
        rule: How the losses add up.
    """

    def __init__(self, model: TrainedModel, cut: Cut, rule: str) -> None:
        self._model, self._cut, self._rule = model, cut, rule
        self._differentiated = programs.value_and_gradient(self._loss)

    def evaluate(self, trial: Sequence[Tensor], carried: Sequence[Tensor], data: Data) -> Total:
        """The loss, its gradient, and the other variables' next values."""

        def add(start: Any, length: int, total: Total) -> Total:
            piece = rows(data, start, length)
            value, gradient, after = self._differentiated(trial, total.carried, piece)
            return _sum(total, value, gradient, after, _share(self._rule, length, self._cut.samples))

        return Total(*self._cut.over(add, _nothing(trial, carried)))

    def _loss(
        self, trainable: Sequence[Tensor], carried: Sequence[Tensor], piece: Data
    ) -> tuple[Tensor, Sequence[Tensor]]:
        with self._model.scope(trainable, carried) as scope:
            loss = self._model.call(piece)[1]
        return loss, self._model.carried_after(scope, carried)


class _ByOutputs:
    """An evaluation by the chain rule, where the loss is Keras's own function of the outputs.

    Args:
        model: The model.
        cut: Into which pieces.
        rules: How the losses that layers add add up, one each.
        sample: The outputs for some samples: structure, shapes and dtypes.
    """

    def __init__(self, model: TrainedModel, cut: Cut, rules: Sequence[str], sample: Any) -> None:
        self._model, self._cut, self._rules, self._structure = model, cut, rules, sample
        self._some = outputs_of(sample)
        self._of_outputs = programs.value_and_gradient(self._loss_of_outputs, part=True)
        self._of_piece = programs.value_and_gradient(self._pulled_back)

    def evaluate(self, trial: Sequence[Tensor], carried: Sequence[Tensor], data: Data) -> Total:
        """The loss, its gradient, and the other variables' next values."""
        outputs = self._forward(trial, carried, data)
        value, gradient, _ = self._of_outputs([*trial, *outputs.tensors], carried, outputs.masks, data)
        value, own = worked(value, gradient[: len(trial)])
        pulls = list(gradient[len(trial) :])

        def add(start: Any, length: int, total: Total) -> Total:
            piece, pull = rows(data, start, length), rows(pulls, start, length)
            shares = [_share(rule, length, self._cut.samples) for rule in self._rules]
            _, gradient, (penalty, after) = self._of_piece(trial, total.carried, piece, pull, shares)
            return _sum(total, penalty, gradient, after, 1.0)

        return Total(*self._cut.over(add, Total(value, own, tuple(carried))))

    def _forward(self, trial: Sequence[Tensor], carried: Sequence[Tensor], data: Data) -> Outputs:
        """The outputs for all samples; nothing is kept for a gradient."""

        def write(start: Any, length: int, done: tuple[list[Tensor], Any]) -> tuple[list[Tensor], Any]:
            buffers, before = done
            with self._model.scope(trial, before) as scope:
                found = outputs_of(self._model.model(rows(data.x, start, length), training=True))
            written = [_written(b, x, start) for b, x in zip(buffers, found.there(), strict=True)]
            return written, self._model.carried_after(scope, before)

        empty = [ops.zeros((self._cut.samples, *x.shape[1:]), x.dtype) for x in self._some.there()]
        return self._some.filled(self._cut.over(write, (empty, tuple(carried)))[0])

    def _loss_of_outputs(
        self, variables: Sequence[Tensor], carried: Sequence[Tensor], masks: Sequence[Any], data: Data
    ) -> tuple[Tensor, tuple[()]]:
        """The compiled loss and the penalties on weights, given the outputs: no layer is called."""
        count = len(self._model.trainable)
        with self._model.scope(variables[:count], carried):
            leaves = map(with_mask, variables[count:], masks)
            y_pred = keras.tree.pack_sequence_as(self._structure, list(leaves))
            return self._model.loss(Data(None, data.y, data.sample_weight), y_pred), ()

    def _pulled_back(
        self,
        trainable: Sequence[Tensor],
        carried: Sequence[Tensor],
        piece: Data,
        pulls: Sequence[Tensor],
        shares: Sequence[float],
    ) -> tuple[Tensor, tuple[Tensor, Sequence[Tensor]]]:
        """<dL/dz, z> and the layers' own losses; of these the value, too, and the other variables' next values."""
        with self._model.scope(trainable, carried) as scope:
            outputs = outputs_of(self._model.model(piece.x, training=True))
            losses = layer_losses(self._model)
            penalty = sum((share * x for share, x in zip(shares, losses, strict=True)), ops.zeros(()))
        products = (ops.sum(pull * x) for pull, x in zip(pulls, outputs.tensors, strict=True))
        total = penalty + sum(ops.cast(product, penalty.dtype) for product in products)
        return total, (ops.stop_gradient(penalty), self._model.carried_after(scope, carried))


class _Probe:
    """What a few samples tell of a model: whether its outputs depend on others, and how its losses add up.

    The weights are moved a little, since at their initial values many a loss is zero.

    Args:
        model: The model.
        data: All samples.
        cut: Into which pieces they shall be cut.

    Raises:
        ValueError: where the outputs for a sample depend on other samples.
    """

    def __init__(self, model: TrainedModel, data: Data, cut: Cut) -> None:
        self._model, self._batch = model, cut.batch
        if model.is_stateful:
            raise self._refusal("recurrent layers hand their states from one piece to the next")
        some = min(PROBED, cut.samples)
        first = max(some // 3, 1)
        self._parts = (rows(data, 0, some), rows(data, 0, first), rows(data, first, some - first))
        self._sizes = (first, some - first)
        placed = [ops.copy(ops.convert_to_tensor(v)) for v in model.trainable]
        try:
            self._trial = model.place(self._moved(placed))
            self._outputs = [self._call(part) for part in self._parts]
        finally:
            model.place(placed)
        self._check_outputs()

    def outputs(self) -> Any:
        """The outputs for some samples."""
        return self._outputs[0][0]

    def penalties(self) -> list[str]:
        """How each loss that a layer adds adds up."""
        columns = zip(*(found[1] for found in self._outputs), strict=True)
        return [self._rule(values, "a loss that a layer adds") for values in columns]

    def whole_loss(self) -> str:
        """How the model's own loss adds up."""
        return self._rule([found[2] for found in self._outputs], "its `compute_loss`")

    def _call(self, part: Data) -> tuple[Any, list[float], float]:
        """Outputs, the layers' own losses and the whole loss for some samples."""
        carried = tuple(map(ops.convert_to_tensor, self._model.carried))
        with self._model.scope(self._trial, carried):
            y_pred, loss = self._model.call(part)
            losses = [_number(x) for x in layer_losses(self._model)]
        return y_pred, losses, _number(loss)

    def _moved(self, values: Sequence[Tensor]) -> list[Tensor]:
        rng = np.random.default_rng(0)
        moved = []
        for x in map(ops.convert_to_numpy, values):
            steps = 0.01 * (1 + np.abs(x.astype("float64"))) * rng.normal(size=x.shape)
            moved.append(ops.convert_to_tensor(x + steps.astype(x.dtype)))
        return moved

    def _check_outputs(self) -> None:
        whole, first, second = (outputs_of(found[0]).tensors for found in self._outputs)
        for a, b, c in zip(whole, first, second, strict=True):
            if "float" not in keras.backend.standardize_dtype(a.dtype) or len(a.shape) == 0:
                raise self._refusal("it has an output that is no real number for each sample")
            together, apart = _array(a), np.concatenate([_array(b), _array(c)])
            same = together.shape == apart.shape and _agree(together, apart)
            if not same and np.isfinite(together).all():
                raise self._refusal(
                    "its outputs for a sample depend on the others that go through the model with it, as those of "
                    "BatchNormalization in training do, or are random"
                )

    def _rule(self, values: Sequence[float], name: str) -> str:
        """Whether a loss of two parts together is their mean or their sum."""
        together, *parts = values
        mean = float(np.average(parts, weights=self._sizes))
        scale = max(map(abs, values))
        if not np.isfinite(scale):  # the run will say so
            return MEAN
        rules = [
            rule
            for rule, value in ((MEAN, mean), (SUM, sum(parts)))
            if abs(value - together) <= AGREEMENT * scale
        ]
        if len(rules) != 1:
            known = "zero on the first samples" if rules else "neither a mean nor a sum over samples"
            raise self._refusal(f"{name} is {known}, so how pieces of it add up is not known")
        return rules[0]

    def _refusal(self, why: str) -> ValueError:
        return ValueError(NOT_CUT.format(batch_size=self._batch, why=why) + ".")


def outputs_of(y_pred: Any) -> Outputs:
    """A model's outputs and their masks."""
    leaves = keras.tree.flatten(y_pred)
    return Outputs(leaves, [mask_of(x) for x in leaves])


def layer_losses(model: TrainedModel) -> list[Tensor]:
    """What layers added to the loss when they were last called, without the penalties on weights."""
    losses = model.model.losses
    penalties = sum(v.regularizer is not None for v in model.trainable)
    return [ops.sum(ops.cast(x, keras.config.floatx())) for x in losses[: len(losses) - penalties]]


def _written(buffer: Tensor, x: Tensor, start: Any) -> Tensor:
    """A buffer with the rows of a piece, from its start on."""
    place = (start, *[start * 0] * (len(buffer.shape) - 1))
    return ops.slice_update(buffer, place, ops.cast(ops.stop_gradient(x), buffer.dtype))


def _nothing(trial: Sequence[Tensor], carried: Sequence[Tensor]) -> Total:
    zeros = [ops.zeros_like(x) for x in trial]
    return Total(*worked(ops.zeros(()), zeros), tuple(carried))


def _sum(
    total: Total, value: Tensor, gradient: Sequence[Tensor], carried: Sequence[Tensor], share: float
) -> Total:
    """A total with a piece's share added; what is carried along is the later one's."""
    value, gradient = worked(value, gradient)
    added = tuple(g + h * share for g, h in zip(total.gradient, gradient, strict=True))
    return Total(total.value + ops.cast(value, total.value.dtype) * share, added, tuple(carried))


def _share(rule: str, length: int, samples: int) -> float:
    return length / samples if rule == MEAN else 1.0


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.max(np.abs(a - b), initial=0) <= AGREEMENT * np.max(np.abs(a), initial=0))


def _array(x: Tensor) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(ops.cast(x, "float32")), "float64")


def _number(x: Tensor) -> float:
    return float(ops.convert_to_numpy(x))
