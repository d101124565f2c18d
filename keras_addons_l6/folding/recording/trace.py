"""Recording: a model as a tape of calls, on shadows of its layers, with nested models laid flat."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding.errors import FoldingError
from keras_addons_l6.folding.recording.block import (
    BlockGraphs,
    Untraceable,
    cast_by,
    distinct,
    graph_of_function,
    is_block,
)
from keras_addons_l6.folding.recording.own_weight import may_be_table, table_of, type_in_call
from keras_addons_l6.folding.recording.signature import model_input, symbolic_arguments, with_whole_numbers
from keras_addons_l6.folding.recording.time_steps import (
    merged_shape,
    require_plain_steps,
    split_shape,
    takes_any_rank,
)
from keras_addons_l6.folding.recording.trial import Trials
from keras_addons_l6.folding.tape import Call, Tape, tensors_in

__all__ = ["record"]


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Where a call stands: in which models and blocks, and what those say about their calls."""

    path: str = ""
    training: bool | None = None
    # where nothing can fold, a block with weights of its own is better off whole
    may_capture: bool = True
    # Keras lets `predict` override a recorded `training=True`, but not one written in a `call`
    may_train: bool = True
    # the type to which a `call` in mixed precision casts the weights of its own layer
    weight_dtype: str | None = None

    def inside(self, name: str, **changes: Any) -> _Frame:
        return dataclasses.replace(self, path=f"{self.path}{name}/", **changes)


def record(model: keras.Model, input_signature: Any = None) -> Tape:
    """Record a model as a tape of calls, without touching it.

    Sequential and Functional models are walked along their graphs, nested ones with them. A model
    with a `call` of its own is run once on symbolic tensors, and so are blocks inside it whose
    recorded calls compute the same numbers as the block.

    Args:
        model: A built model.
        input_signature: Shapes and types of what a subclassed model takes; see `fold_batch_norm`.

    Returns:
        The tape.

    Raises:
        FoldingError: When the model is not built, or its `call` cannot run on symbolic tensors.
    """
    if not isinstance(model, keras.Model):
        raise FoldingError(f"Expected a `keras.Model`, but got {model!r} of type {type(model).__name__}.")
    keras_private.check_folding()  # here, where no error of it is taken for one of the model's
    recorder = _Recorder()
    sequence = keras_private.is_plain_sequence(model) and getattr(model, "inputs", None) is not None
    if keras_private.is_plain_graph(model) or sequence:
        return recorder.graph_tape(model)
    return recorder.traced_tape(model, input_signature)


class _Recorder:
    """One recording: the calls so far, and what they run on."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.inputs: list[keras.KerasTensor] = []
        self.graphs = BlockGraphs(lambda variable, dtype: may_be_table(variable, dtype, self.inputs))
        self.shadows = self.graphs.shadows
        # weights that a `call` uses by itself: their calls hang on nothing but the inputs
        self.first: list[Call] = []
        self.trials = Trials(self.inputs, lambda: [*self.first, *self.calls])
        # why a block stays whole, empty where it does not, by the id of its graph
        self.problems: dict[int, str] = {}
        self.weights: dict[tuple[int, str], keras.KerasTensor] = {}
        # tensors with their time steps merged into the batch, by the id of what they were split into
        self.merged: dict[int, tuple[keras.KerasTensor, keras.KerasTensor]] = {}

    def graph_tape(self, model: keras.Model) -> Tape:
        inputs = keras.tree.map_structure(keras_private.same_input, keras_private.input_structure(model))
        names = [keras_private.producer_of(tensor).name for tensor in model.outputs]
        self.inputs += keras.tree.flatten(inputs)
        outputs = self.run(model, self.inputs, _Frame())
        return self.tape(model, inputs, outputs, names)

    def traced_tape(self, model: keras.Model, input_signature: Any) -> Tape:
        _require_built(model)
        arguments = symbolic_arguments(model, input_signature)
        tape = self.tape_of_call(model, arguments)
        indices = _only_looked_up(tape) if input_signature is None else set()
        if not indices:
            return tape
        return _Recorder().tape_of_call(model, with_whole_numbers(arguments, indices))

    def tape_of_call(self, model: keras.Model, arguments: dict[str, Any]) -> Tape:
        self.inputs += distinct(arguments)
        frame = _Frame(may_train=False, weight_dtype=type_in_call(model, None))
        try:
            graph = self.graphs.of(model, (), arguments)
            weights = [self.weight(frame, variable, symbol.dtype) for symbol, variable in graph.weights]
            outputs = graph.run([*self.inputs, *weights], self.visitor(frame))
        except Untraceable as error:
            raise FoldingError(
                f"Model '{model.name}' cannot be traced: {error}. Write its `call` in layers and "
                "`keras.ops`, or build it as a Functional model."
            ) from error
        names = [keras_private.producer_of(tensor).name for tensor in keras.tree.flatten(graph.outputs)]
        return self.tape(model, model_input(arguments), outputs, names, tuple(arguments))

    def tape(
        self, model: keras.Model, inputs: Any, outputs: Any, names: list[str], arguments: tuple[str, ...] = ()
    ) -> Tape:
        calls = _live([*self.first, *self.calls], outputs)
        return Tape(model.name, inputs, calls, outputs, names, model.trainable, arguments)

    def visitor(self, frame: _Frame) -> Callable[..., Any]:
        return lambda operation, *args, **kwargs: self.visit(frame, operation, args, kwargs)

    def visit(self, frame: _Frame, operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Record one call, or the calls it consists of; return its symbolic outputs."""
        kwargs = _with_training(frame, operation, kwargs)
        if kwargs.get("training") and not frame.may_train and not _is_frozen_batch_norm(operation):
            raise Untraceable(
                f"it calls '{operation.name}' with `training=True`, which no graph of calls keeps"
            )
        mark = len(self.calls)
        try:
            if keras_private.is_plain_graph(operation) or keras_private.is_plain_sequence(operation):
                return self.run_nested(frame, operation, args, kwargs)
            if type(operation) is keras.layers.TimeDistributed:
                return self.run_steps(frame, operation, args, kwargs)
            if self.may_stay_merged(operation, args, kwargs):
                return self.run_merged(frame, operation, args[0])
            if is_block(operation, args, kwargs):
                return self.run_block(frame, operation, args, kwargs)
            return self.leaf(frame, operation, args, kwargs)
        except Untraceable as refusal:
            # a leaf that may not stand here raises once more, and the block around it stays whole
            del self.calls[mark:]
            return self.leaf(frame, operation, args, kwargs, str(refusal))

    def may_stay_merged(self, operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> bool:
        """Whether a call may as well be made before the time steps are split off again."""
        alone = len(args) == 1 and id(args[0]) in self.merged and not kwargs.get("training")
        return alone and takes_any_rank(operation)

    def run_nested(self, frame: _Frame, model: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Record the calls of a nested model."""
        tensors = _graph_arguments(model, args, kwargs)
        # it tells its layers itself, so what a `call` around it says no longer stands back
        inside = frame.inside(model.name, training=kwargs.get("training"), may_train=True)
        return self.run(model, tensors, inside)

    def run(self, graph: Any, tensors: list[keras.KerasTensor], frame: _Frame) -> Any:
        """Record the calls of a nested model on these tensors."""
        tensors = [self.cast(frame, x, dtype) for x, dtype in zip(tensors, _input_dtypes(graph), strict=True)]
        visit = self.visitor(frame)
        if not keras_private.is_plain_sequence(graph):
            return keras_private.run_graph(graph, tensors, visit)
        (value,) = tensors
        for layer in graph.layers:
            value = visit(layer, value)
        return value

    def run_block(self, frame: _Frame, block: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Record the calls that a block's own `call` makes."""
        inside = frame.inside(
            block.name,
            training=kwargs.get("training"),
            may_capture=_holds_batch_norm(block),
            may_train=False,
            weight_dtype=type_in_call(block, frame.weight_dtype),
        )
        graph = self.graphs.of(block, args, kwargs)
        if graph.weights and not inside.may_capture:
            raise Untraceable("its `call` uses a weight of its own, and no BatchNorm is in it")
        tensors = [self.cast(frame, x, cast_by(block, x)) for x in distinct((args, kwargs))]
        weights = [self.weight(frame, variable, symbol.dtype) for symbol, variable in graph.weights]
        outputs = graph.run([*tensors, *weights], self.visitor(inside))
        if id(graph) not in self.problems:  # one graph for each kind of arguments, and it lives on
            self.problems[id(graph)] = self.trials.problem(self.shadows.of(block), args, kwargs, outputs)
        if self.problems[id(graph)]:
            raise Untraceable(self.problems[id(graph)])
        return outputs

    def run_steps(self, frame: _Frame, wrapper: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Record the calls of a TimeDistributed layer, once for all time steps."""
        (given,) = distinct((args, kwargs))
        require_plain_steps(wrapper, given, kwargs)
        inside = frame.inside(wrapper.name, training=kwargs.get("training"))
        if id(given) not in self.merged and takes_any_rank(wrapper.layer):
            return self.visit(inside, wrapper.layer, (given,), {})
        return self.run_merged(inside, wrapper.layer, given)

    def run_merged(self, frame: _Frame, layer: Any, given: keras.KerasTensor) -> keras.KerasTensor:
        """Record the calls of a layer on a tensor whose time steps are merged into the batch."""
        merged = self.merged[id(given)][1] if id(given) in self.merged else None
        if merged is None:
            merged = self.reshaped(frame, given, merged_shape(given))
        output = self.visit(frame, layer, (merged,), {})
        split = self.reshaped(frame, output, split_shape(given, output))
        self.merged[id(split)] = split, output
        return split

    def reshaped(self, frame: _Frame, tensor: keras.KerasTensor, shape: tuple[int, ...]) -> keras.KerasTensor:
        graph = graph_of_function(lambda x: keras.ops.reshape(x, shape), tensor)
        return graph.run([tensor], self.visitor(frame))

    def leaf(
        self, frame: _Frame, operation: keras.Operation, args: tuple, kwargs: dict[str, Any], why: str = ""
    ) -> Any:
        """Record a call that stays one call; `why` is the reason where it might have been several."""
        args, kwargs = keras.tree.map_structure(
            lambda leaf: self.captured(frame, operation, leaf), (args, kwargs)
        )
        shadow = self.shadows.of(operation)
        if takes_any_rank(operation) and isinstance(operation, keras.layers.BatchNormalization):
            # what it was built for had other axes, before its time steps were merged, or split off
            shadow.input_spec = None
        was_built = getattr(operation, "built", True)
        outputs = shadow(*args, **kwargs)
        if not was_built and shadow.weights:
            raise FoldingError(
                f"Layer '{operation.name}' has no weights yet. Call the model on data before folding."
            )
        original = self.shadows.original(shadow)
        path = f"{frame.path}{operation.name}"
        self.calls.append(Call(shadow, original, args, kwargs, tensors_in(outputs), path, why))
        return outputs

    def captured(self, frame: _Frame, operation: keras.Operation, leaf: Any) -> Any:
        """What takes the place of a weight, or of a tensor, that a `call` uses without being given it."""
        if isinstance(leaf, keras.KerasTensor) or not (
            isinstance(leaf, keras.Variable) or keras.ops.is_tensor(leaf)
        ):
            return leaf
        if not frame.may_capture:
            raise Untraceable(f"its `call` uses a weight or a tensor of its own in '{operation.name}'")
        found = None
        if isinstance(leaf, keras.Variable):
            dtype = frame.weight_dtype if keras_private.is_cast(leaf) else None
            found = self.weight(frame, leaf, dtype)
        # an array can be saved with the graph
        return np.array(keras.ops.convert_to_numpy(leaf)) if found is None else found

    def weight(self, frame: _Frame, variable: keras.Variable, dtype: str | None) -> keras.KerasTensor | None:
        """The tensor that takes the place of a weight; its calls are recorded at the first use."""
        table = table_of(variable, dtype, self.inputs)
        if table is None:
            return None
        key = (id(variable), table.dtype)
        if key not in self.weights:
            mark = len(self.calls)
            self.weights[key] = table.graph.run([table.anchor], self.visitor(frame))
            self.first += self.calls[mark:]
            del self.calls[mark:]
        return self.weights[key]

    def cast(self, frame: _Frame, tensor: keras.KerasTensor, dtype: str) -> keras.KerasTensor:
        """Record the cast that Keras makes at the door of a nested model or block."""
        if tensor.dtype == dtype:
            return tensor
        return self.leaf(frame, keras.layers.Identity(dtype=dtype), (tensor,), {})


def _require_built(model: keras.Model) -> None:
    if not model.built:
        raise FoldingError(
            f"Model '{model.name}' is not built: it has no weights yet. Call it on data, or call "
            "`model.build(input_shape)`, before folding."
        )


def _live(calls: list[Call], outputs: Any) -> list[Call]:
    """The calls on which an output depends; Keras would leave the others out of the model too."""
    needed = {id(tensor) for tensor in tensors_in(outputs)}
    live = []
    for call in reversed(calls):
        if any(id(tensor) in needed for tensor in call.outputs):
            live.append(call)
            needed |= {id(tensor) for tensor in call.inputs}
    return live[::-1]


def _only_looked_up(tape: Tape) -> set[int]:
    """The ids of the inputs that only embeddings use, and that are no whole numbers yet."""
    floats = {id(x) for x in tensors_in(tape.inputs) if keras.backend.is_float_dtype(x.dtype)}
    elsewhere = {
        id(tensor)
        for call in tape.calls
        for tensor in call.inputs
        if not isinstance(call.operation, keras.layers.Embedding)
    }
    used = {id(tensor) for call in tape.calls for tensor in call.inputs}
    return (floats & used) - elsewhere - {id(tensor) for tensor in tensors_in(tape.outputs)}


def _input_dtypes(graph: Any) -> list[str]:
    return [tensor.dtype for tensor in graph.inputs]


def _graph_arguments(graph: Any, args: tuple, kwargs: dict[str, Any]) -> list[keras.KerasTensor]:
    """The tensors for a nested model's inputs, in its order."""
    given, inputs = args[0] if len(args) == 1 else None, graph.inputs
    if isinstance(given, dict) and not isinstance(keras_private.input_structure(graph), dict):
        given = [given.get(tensor.name) for tensor in inputs]
    tensors = keras.tree.flatten(given)
    if set(kwargs) - {"training"} or len(tensors) != len(inputs) or not all(map(_fits, tensors, inputs)):
        raise Untraceable("it is called on tensors that do not have the shapes and types of its inputs")
    return tensors


def _fits(given: Any, expected: keras.KerasTensor) -> bool:
    if not isinstance(given, keras.KerasTensor) or len(given.shape) != len(expected.shape):
        return False
    return given.dtype == expected.dtype or _both_float(given.dtype, expected.dtype)


def _both_float(a: str, b: str) -> bool:
    return keras.backend.is_float_dtype(a) and keras.backend.is_float_dtype(b)


def _is_frozen_batch_norm(operation: keras.Operation) -> bool:
    """Whether this is a BatchNorm that uses its moving statistics even in training."""
    return isinstance(operation, keras.layers.BatchNormalization) and not operation.trainable


def _with_training(frame: _Frame, operation: keras.Operation, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call with `training` as the models around it say.

    A layer whose `call` has no such argument hands it to the layers inside; where it has none, or where
    it says what inference says anyway, it is left out: Keras refuses it when it only looks at shapes.
    """
    takes, inside = keras_private.takes_training(operation), keras_private.sublayers(operation)
    if frame.training is not None and (takes or inside):
        said = {"training": frame.training}
        # a nested model overrides what its graph recorded, a `call` is overridden by what is written in it
        kwargs = kwargs | said if frame.may_train else said | kwargs
    if takes or (inside and kwargs.get("training")):
        return kwargs
    return {name: value for name, value in kwargs.items() if name != "training"}


def _holds_batch_norm(layer: Any) -> bool:
    return any(isinstance(each, keras.layers.BatchNormalization) for each in keras_private.sublayers(layer))
