"""A model as a function of its variables' values, for programs that must leave nothing behind in it."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_addons_l6.backends.portable import Tensor
from keras_addons_l6.keras_private import sublayers

__all__ = ["StatelessModel", "loss_of", "stateful_layers", "states_of"]


class StatelessModel:
    """A built model whose variables have the values that a program gives them.

    Args:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.trainable = list(model.trainable_variables)
        # Keras keeps recurrent states out of a model's variables.
        self.states = states_of(model)
        self.carried = [*model.non_trainable_variables, *self.states]

    def scope(self, trainable: Sequence[Tensor], carried: Sequence[Tensor]) -> keras.StatelessScope:
        """A scope in which the model's variables have these values."""
        mapping = list(zip((*self.trainable, *self.carried), (*trainable, *carried), strict=True))
        return keras.StatelessScope(state_mapping=mapping, collect_losses=True)

    def loss(self, batch: Any, y_pred: Any) -> Tensor:
        """The model's loss for outputs, as a number; within a scope."""
        return loss_of(self.model, batch, y_pred)


def loss_of(model: Any, batch: Any, y_pred: Any) -> Tensor:
    """A training model's loss for its outputs on (x, y, sample_weight), as a number."""
    x, y, sample_weight = batch
    parameters = inspect.signature(model.compute_loss).parameters
    asks = "training" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    training = {"training": True} if asks else {}
    loss = model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **training)
    return ops.reshape(loss, ())


def stateful_layers(model: Any) -> list[Any]:
    """The recurrent layers that hand their states on."""
    return [layer for layer in sublayers(model) if isinstance(layer, keras.layers.RNN) and layer.stateful]


def states_of(model: Any) -> list[Any]:
    """The variables that hold recurrent states, of the layers that are built."""
    return [v for layer in stateful_layers(model) if layer.built for v in _leaves(layer.states)]


def _leaves(states: Any) -> list[Any]:
    """The variables in nested lists; to Keras's trees the lists that a layer tracks are leaves."""
    return [v for part in states for v in _leaves(part)] if isinstance(states, list | tuple) else [states]
