"""Recording a model as a tape of calls, on shadows of its layers, with nested models laid flat."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_addons_l6 import keras_private
from keras_addons_l6.folding import registered
from keras_addons_l6.folding.errors import FoldingError
from keras_addons_l6.folding.recording.probe import same_on_random_input
from keras_addons_l6.folding.recording.shadow import Shadows
from keras_addons_l6.folding.recording.signature import model_input, symbolic_arguments, with_whole_numbers
from keras_addons_l6.folding.tape import Call, Tape, replace_tensors, tensors_in

# Whose layers are never replaced by the calls they make: stock layers, and those with kernels of their own.
_LEAF_PACKAGES = ("keras", "keras_addons_l6")


class Untraceable(Exception):
    """A call that cannot be replaced by the calls it makes; it stays one call."""


@dataclasses.dataclass(frozen=True)
class _Frame:
    """Where a call stands: in which models and blocks, and what those say about their calls."""

    path: str = ""
    training: bool | None = None
    # a block's own weight used in its `call` would become a constant, out of reach of `model.weights`
    may_capture: bool = True
    # Keras lets `predict` override a recorded `training=True`, but not one written in a `call`
    may_train: bool = True

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
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.shadows = Shadows()
        self.probed: dict[tuple, bool] = {}

    def graph_tape(self, model: keras.Model) -> Tape:
        inputs = keras.tree.map_structure(keras_private.same_input, keras_private.input_structure(model))
        names = [keras_private.producer_of(tensor).name for tensor in model.outputs]
        outputs = self.run(model, keras.tree.flatten(inputs), _Frame())
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
        frame = _Frame(may_train=False)
        try:
            graph, _ = self.trace(model, (), arguments)
            outputs = keras_private.run_graph(graph, tensors_in(arguments), self.visitor(frame))
        except Untraceable as error:
            raise FoldingError(
                f"Model '{model.name}' cannot be traced: {error}. Write its `call` in layers and "
                "`keras.ops`, or build it as a Functional model."
            ) from error
        names = [keras_private.producer_of(tensor).name for tensor in graph.outputs]
        return self.tape(model, model_input(arguments), outputs, names, tuple(arguments))

    def tape(
        self, model: keras.Model, inputs: Any, outputs: Any, names: list[str], arguments: tuple[str, ...] = ()
    ) -> Tape:
        return Tape(
            model.name, inputs, _live(self.calls, outputs), outputs, names, model.trainable, arguments
        )

    def visitor(self, frame: _Frame) -> Callable[..., Any]:
        return lambda operation, *args, **kwargs: self.visit(frame, operation, args, kwargs)

    def visit(self, frame: _Frame, operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Record one call, or the calls it consists of; return its symbolic outputs."""
        if frame.training is not None and _hears_training(operation):
            kwargs = kwargs | {"training": frame.training}
        if kwargs.get("training") and not frame.may_train and not _is_frozen_batch_norm(operation):
            raise Untraceable(
                f"it calls '{operation.name}' with `training=True`, which no graph of calls keeps"
            )
        mark = len(self.calls)
        try:
            if keras_private.is_plain_graph(operation) or keras_private.is_plain_sequence(operation):
                return self.run_nested(frame, operation, args, kwargs)
            if _is_block(operation, args, kwargs):
                return self.run_block(frame, operation, args, kwargs)
            return self.leaf(frame, operation, args, kwargs)
        except Untraceable as refusal:
            # a leaf that may not stand here raises once more, and the block around it stays whole
            del self.calls[mark:]
            return self.leaf(frame, operation, args, kwargs, str(refusal))

    def run_nested(self, frame: _Frame, model: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Record the calls of a nested model."""
        tensors = _graph_arguments(model, args, kwargs)
        return self.run(model, tensors, frame.inside(model.name, training=kwargs.get("training")))

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
        inside = frame.inside(block.name, training=None, may_capture=False, may_train=False)
        tensors = [self.cast(frame, x, _cast_by(block, x)) for x in _distinct((args, kwargs))]
        graph, inputs = self.trace(block, args, kwargs)
        outputs = keras_private.run_graph(graph, tensors, self.visitor(inside))
        key = (id(self.shadows.of(block)), tuple((x.shape, x.dtype) for x in tensors))
        if key not in self.probed:
            self.probed[key] = same_on_random_input(self.shadows.of(block), graph, *inputs)
        if not self.probed[key]:
            raise Untraceable(f"the calls of '{block.name}' do not compute what the block computes")
        return outputs

    def trace(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[keras.Function, Any]:
        """Run an operation's `call` on fresh symbolic tensors: the graph it makes, and its inputs."""
        shadow = self.shadows.of(operation)
        fresh = {id(x): _fresh_tensor(x, _cast_by(operation, x)) for x in _distinct((args, kwargs))}
        args, kwargs = replace_tensors((args, kwargs), fresh)
        quiet = {"training": False} if keras_private.takes_training(operation) else {}
        try:
            outputs = shadow.call(*args, **kwargs | quiet)
            graph = keras.Function(_distinct((args, kwargs)), outputs)
        except Exception as error:  # whatever a user's own `call` may raise on symbolic tensors
            raise Untraceable(f"its `call` fails on symbolic tensors ({error})") from error
        return graph, (args, kwargs)

    def leaf(
        self, frame: _Frame, operation: keras.Operation, args: tuple, kwargs: dict[str, Any], why: str = ""
    ) -> Any:
        """Record a call that stays one call; `why` is the reason where it might have been several."""
        if frame.may_capture:
            args, kwargs = keras.tree.map_structure(_constant, (args, kwargs))
        if any(_is_captured(leaf) for leaf in keras.tree.flatten((args, kwargs))):
            raise Untraceable(f"its `call` uses a weight or a tensor of its own in '{operation.name}'")
        shadow = self.shadows.of(operation)
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


def _fresh_tensor(tensor: keras.KerasTensor, dtype: str) -> keras.KerasTensor:
    return keras.Input(batch_shape=tensor.shape, dtype=dtype, sparse=tensor.sparse)


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


def _distinct(structure: Any) -> list[keras.KerasTensor]:
    """The symbolic tensors of a structure, each once."""
    return list({id(tensor): tensor for tensor in tensors_in(structure)}.values())


def _hears_training(operation: keras.Operation) -> bool:
    return keras_private.takes_training(operation) or bool(keras_private.sublayers(operation))


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


def _is_block(operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether to try to replace a call by the calls its own `call` makes."""
    tensors = tensors_in((args, kwargs))
    stock = type(operation).__module__.split(".")[0] in _LEAF_PACKAGES and not _is_lambda(operation)
    return (
        isinstance(operation, keras.Layer)
        and not stock
        and not registered.is_registered(type(operation))
        and not isinstance(operation, keras.layers.BatchNormalization)
        and type(operation).__call__ is keras.Layer.__call__
        and operation.quantization_mode is None
        and not kwargs.get("training")
        and "mask" not in kwargs
        # what the block does without an optional input, or with a mask, the recorded calls would not show
        and not any(keras_private.mask_of(tensor) is not None for tensor in tensors)
        and not any(keras_private.is_optional(tensor) for tensor in tensors)
    )


def _is_frozen_batch_norm(operation: keras.Operation) -> bool:
    """Whether this is a BatchNorm that uses its moving statistics even in training."""
    return isinstance(operation, keras.layers.BatchNormalization) and not operation.trainable


def _is_lambda(operation: keras.Operation) -> bool:
    return type(operation) is keras.layers.Lambda


def _cast_by(layer: Any, tensor: keras.KerasTensor) -> str:
    """The type in which a layer's `call` sees a tensor."""
    converts = getattr(layer, "autocast", False) and keras_private.converts_inputs(layer)
    dtype = getattr(layer, "input_dtype", tensor.dtype)
    return dtype if converts and _both_float(tensor.dtype, dtype) else tensor.dtype


def _is_captured(leaf: Any) -> bool:
    if isinstance(leaf, keras.KerasTensor):
        return False
    return isinstance(leaf, keras.Variable) or keras.ops.is_tensor(leaf)


def _constant(leaf: Any) -> Any:
    """A weight or tensor that a graph's own call uses, as an array that can be saved with the graph."""
    return np.array(keras.ops.convert_to_numpy(leaf)) if _is_captured(leaf) else leaf
