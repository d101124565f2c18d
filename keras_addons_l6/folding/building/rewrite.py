"""Building the folded model: the tape played again into fresh stock layers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.building.naming import free_name, unique_names
from keras_addons_l6.folding.building.origin import describe, remember
from keras_addons_l6.folding.errors import FoldingError
from keras_addons_l6.folding.planning.absorb import Weights
from keras_addons_l6.folding.planning.plan import NewLayer, Plan
from keras_addons_l6.folding.recording.shadow import Shadows
from keras_addons_l6.folding.tape import Call, Played, replace_tensors, tensors_in

__all__ = ["build", "copy_state", "dropped_settings", "new_operation", "own_state", "set_weights"]

# What a layer's configuration says about training, and a folded kernel no longer obeys.
_OF_TRAINING = ("regularizer", "constraint")
_LORA = ("lora_rank", "lora_alpha")


def build(plan: Plan) -> keras.Model:
    """Build the model that a plan describes, with weights of its own.

    Args:
        plan: The decisions about a tape.

    Returns:
        A Functional model with the inputs, outputs, names and types of the tape.

    Raises:
        FoldingError: When a layer made anew from its configuration is not like the old one.
    """
    return _Builder(plan).build()


def dropped_settings(config: dict[str, Any]) -> list[str]:
    """The names of the constraints and regularizers that a layer loses by taking something up."""
    return [name for name, value in config.items() if value is not None and name.endswith(_OF_TRAINING)]


class _Builder:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tape = plan.tape
        self.folded = {id(decision.call) for decision in plan.decisions if decision.folded}
        self.names = unique_names(plan.tape, self.folded)
        inputs = {tensor.name for tensor in tensors_in(plan.tape.inputs)}
        self.taken = {*self.names.values(), *plan.tape.output_names, *inputs}
        self.operations: dict[int, keras.Operation] = {}
        self.loaded: set[int] = set()
        # what was called for each call of the tape, for the check that follows
        self.played: list[list[Call]] = []

    def build(self) -> keras.Model:
        inputs = keras.tree.map_structure(keras_private.same_input, self.tape.inputs)
        old, new = keras.tree.flatten(self.tape.inputs), keras.tree.flatten(inputs)
        values = {id(tensor): value for tensor, value in zip(old, new, strict=True)}
        for call in self.tape.calls:
            self.play(call, values)
        outputs = self.named_outputs(values)
        model = keras.Model(inputs, outputs, name=self.tape.name)
        remember(model, describe(self.plan, self.as_played(new, values)))
        # `trainable` set on the model would reach every layer; each has its own already
        if not self.tape.trainable:
            model.trainable = False
        return model

    def as_played(self, inputs: list[keras.KerasTensor], values: dict[int, Any]) -> Played:
        """What was called for each call of the tape, and what stands for each of its tensors."""
        tensors = [[values[id(tensor)] for tensor in call.outputs] for call in self.tape.calls]
        outputs = [values[id(tensor)] for tensor in keras.tree.flatten(self.tape.outputs)]
        return Played(inputs, self.played, tensors, outputs)

    def play(self, call: Call, values: dict[int, Any]) -> None:
        """Make one call again, or pass a folded BatchNorm's input on."""
        self.played.append([])
        args, kwargs = replace_tensors((call.args, call.kwargs), values)
        if id(call) in self.folded:
            values[id(call.outputs[0])] = self.passed_on(call, values[id(call.inputs[0])])
            return
        if id(call) in self.plan.without:
            kept = [
                values[id(tensor)] for tensor in call.inputs if id(tensor) not in self.plan.without[id(call)]
            ]
            if len(kept) == 1:
                values[id(call.outputs[0])] = self.passed_on(call, kept[0])
                return
            args, kwargs = (kept,), {}
        operation = self.operation(call)
        with _no_random_start(operation):
            made = self.called(operation, args, kwargs)
        self.load(call)
        made = [leaf for leaf in keras.tree.flatten(made) if isinstance(leaf, keras.KerasTensor)]
        values.update({id(tensor): value for tensor, value in zip(call.outputs, made, strict=True)})

    def passed_on(self, call: Call, value: keras.KerasTensor) -> keras.KerasTensor:
        """A folded BatchNorm's input, in the type of its output."""
        dtype = call.outputs[0].dtype
        if value.dtype == dtype:
            return value
        name = free_name(call.path, call.operation.name, self.taken)
        self.taken.add(name)
        return self.called(keras.layers.Identity(name=name, dtype=dtype), (value,), {})

    def called(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call an operation for the call of the tape that is being played. Every call goes through here."""
        outputs = operation(*args, **kwargs)
        made = Call(operation, operation, args, kwargs, tensors_in(outputs), operation.name)
        self.played[-1].append(made)
        return outputs

    def operation(self, call: Call) -> keras.Operation:
        """The new operation for a call's; the same one each time a shared layer is called."""
        key = id(call.operation)
        if key not in self.operations:
            edited = self.plan.new_layers.get(key)
            self.operations[key] = new_operation(call.original, edited, self.names[key])
        return self.operations[key]

    def load(self, call: Call) -> None:
        """Give a new layer its weights, once, after the call that built it."""
        key = id(call.operation)
        if key in self.loaded:
            return
        self.loaded.add(key)
        edited = self.plan.new_layers.get(key)
        if edited is not None:
            set_weights(self.operations[key], edited.weights)
        elif isinstance(call.original, keras.Layer):
            copy_state(call.original, self.operations[key])

    def named_outputs(self, values: dict[int, Any]) -> Any:
        """The outputs, each behind a layer with the name it had.

        A shared layer makes several outputs of one name (both embeddings of a siamese network, say), so
        where something else makes one of them now, one Identity is called on all of them.
        """
        flat = [values[id(tensor)] for tensor in keras.tree.flatten(self.tape.outputs)]
        pairs = list(zip(flat, self.tape.output_names, strict=True))
        foreign = {name for value, name in pairs if keras_private.producer_of(value).name != name}
        identities = _Identities(self.taken)
        outputs = [identities(value, name) if name in foreign else value for value, name in pairs]
        return keras.tree.pack_sequence_as(self.tape.outputs, outputs)


class _Identities:
    """Identity layers by name and type: an Identity has one type, and casts to it."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken
        self.layers: dict[tuple[str, str], keras.Layer] = {}
        self.made: dict[tuple[int, str], keras.KerasTensor] = {}

    def __call__(self, value: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """The value behind the Identity of a name; the same tensor for the same value."""
        if (id(value), name) not in self.made:
            self.made[id(value), name] = self.layer(name, value.dtype)(value)
        return self.made[id(value), name]

    def layer(self, name: str, dtype: str) -> keras.Layer:
        if (name, dtype) not in self.layers:
            first = not any(name == other for other, _ in self.layers)
            own = name if first else free_name(name, name, self.taken)
            self.taken.add(own)
            self.layers[name, dtype] = keras.layers.Identity(name=own, dtype=dtype)
        return self.layers[name, dtype]


def new_operation(old: Any, edited: NewLayer | None, name: str) -> keras.Operation:
    """An operation like an old one, or like what it has become, from its configuration.

    What has none that works (a Lambda, an operation over a function, a layer whose constructor takes
    objects) is copied with its attributes; what such a model lacks for saving, it lacked before.
    """
    if isinstance(old, keras.Layer):
        try:
            config = _plain_config(old, edited) | {"name": name}
            # a layer whose configuration holds its own weights would be made with them, not with copies
            if not any(isinstance(leaf, keras.Variable) for leaf in keras.tree.flatten(config)):
                return type(old).from_config(config)
        except Exception:  # whatever a user's own class may raise
            if edited is not None:
                raise
    copy = Shadows(with_variables=True).of(old)
    copy.name = name
    return copy


@contextlib.contextmanager
def _no_random_start(operation: Any) -> Iterator[None]:
    """Let a layer that is about to be built start from zeros; drawing numbers would take most of the time."""
    drawn = {
        name: value
        for name, value in vars(operation).items()
        if name.endswith("_initializer") and isinstance(value, keras.initializers.Initializer)
    }
    try:
        for name in drawn:
            setattr(operation, name, _ZerosOfTheHost())
        yield
    finally:
        for name, value in drawn.items():
            setattr(operation, name, value)


class _ZerosOfTheHost(keras.initializers.Zeros):
    """Zeros by way of NumPy: where operations are compiled one by one, Keras's would be a program for each shape."""

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None, **_: Any) -> Any:
        return keras.ops.convert_to_tensor(np.zeros(shape, "float32"), dtype)


def _plain_config(layer: Any, edited: NewLayer | None) -> dict[str, Any]:
    """A layer's configuration, LoRA merged, and free of what a folded kernel no longer obeys."""
    config = dict(layer.get_config() if edited is None else edited.config)
    if type(layer).__module__.startswith("keras."):
        config = {name: value for name, value in config.items() if name not in _LORA}
    if isinstance(layer.dtype_policy, keras.dtype_policies.DTypePolicyMap):
        config["dtype"] = layer.dtype_policy[layer.path]
    if edited is None:
        return config
    return config | {name: None for name in config if name.endswith(_OF_TRAINING)}


def set_weights(layer: Any, weights: Weights) -> None:
    """Give a layer float64 weights, each in the type of its variable: the one rounding of the whole fold."""
    for name, value in weights.items():
        variable = getattr(layer, name)
        # the backends take bfloat16 from float32 themselves
        dtype = "float32" if variable.dtype == "bfloat16" else variable.dtype
        variable.assign(value.astype(dtype))


def copy_state(old: Any, new: Any) -> None:
    """Copy weights and all else a layer saves, through NumPy: no buffer is shared.

    Args:
        old: A built layer.
        new: A layer of the same class and configuration, built.

    Raises:
        FoldingError: When the new layer has other parts than the old one.
    """
    olds, news = ([layer, *keras_private.sublayers(layer)] for layer in (old, new))
    if [type(layer) for layer in olds] != [type(layer) for layer in news]:
        raise FoldingError(
            f"Layer '{old.name}' ({type(old).__name__}), made anew from its configuration, has other layers "
            "inside. Give its class a `get_config` that returns the arguments of its constructor."
        )
    for source, target in zip(olds, news, strict=True):
        _copy_own_state(source, target)


def _copy_own_state(old: Any, new: Any) -> None:
    store: dict[str, Any] = {}
    old.save_own_variables(store)
    if store:
        new.load_own_variables({name: _array(value) for name, value in store.items()})
    if hasattr(old, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)


def own_state(layer: Any) -> list[dict[str, np.ndarray]]:
    """What a layer, and each layer inside it, saves of its own, as arrays."""
    stores = []
    for each in (layer, *keras_private.sublayers(layer)):
        store: dict[str, Any] = {}
        each.save_own_variables(store)
        stores.append({name: _array(value) for name, value in store.items()})
    return stores


def _array(value: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(value))
