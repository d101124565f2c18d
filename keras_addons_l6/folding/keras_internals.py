"""Every use that folding makes of names which Keras keeps private, one function each, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

# `keras.Model(inputs, outputs)` makes a Functional, but no public name leads to that class.
from keras.src.models.functional import Functional

Visit = Callable[..., Any]


def is_functional(operation: keras.Operation) -> bool:
    """Whether the operation is a graph of calls made by `keras.Model(inputs, outputs)`."""
    return isinstance(operation, Functional)


def is_plain_graph(operation: keras.Operation) -> bool:
    """Whether calling the operation does nothing but run its graph of calls."""
    if isinstance(operation, Functional):
        return type(operation).call is Functional.call
    return isinstance(operation, keras.Function) and type(operation).call is keras.Function.call


def is_plain_sequence(operation: keras.Operation) -> bool:
    """Whether calling the operation does nothing but call its layers one after another."""
    return isinstance(operation, keras.Sequential) and type(operation).call is keras.Sequential.call


def run_graph(graph: Any, tensors: list[Any], visit: Visit) -> Any:
    """Call `visit(operation, *args, **kwargs)` for each call in the graph; return the graph's outputs.

    `keras.models.clone_model` is the public caller of such a walk, but it always builds a model of the
    graph's own class around the result, and it hands on the masks that Keras itself put among the
    arguments of the recorded calls; here those are left out, and Keras finds them again.
    """
    values = {id(tensor): value for tensor, value in zip(graph.inputs, tensors, strict=True)}
    for node in _nodes_in_order(graph):
        if all(id(tensor) in values for tensor in node.input_tensors):
            args, kwargs = node.arguments.fill_in(values)
            outputs = visit(node.operation, *args, **_without_own_masks(node, kwargs))
            values.update({id(x): y for x, y in zip(node.outputs, keras.tree.flatten(outputs), strict=True)})
    outputs = [values[id(tensor)] for tensor in graph.outputs]
    return keras.tree.pack_sequence_as(graph._outputs_struct, outputs)


def _nodes_in_order(graph: Any) -> list[Any]:
    by_depth = graph._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in nodes if not node.is_input]


def _without_own_masks(node: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments but for masks that travel with the tensors in the arguments anyway."""
    given = node.arguments.kwargs
    travelling = [mask_of(tensor) for tensor in node.input_tensors]
    own = [
        name
        for name in kwargs
        if name.endswith("mask")
        and all(
            leaf is None or any(_same_value(leaf, mask) for mask in travelling)
            for leaf in keras.tree.flatten(given[name])
        )
    ]
    return {name: value for name, value in kwargs.items() if name not in own}


def _same_value(a: Any, b: Any) -> bool:
    """Whether two symbolic tensors are made by the same operations from the same tensors."""
    if a is b or not (isinstance(a, keras.KerasTensor) and isinstance(b, keras.KerasTensor)):
        return a is b or (type(a) is type(b) and not isinstance(a, keras.KerasTensor) and repr(a) == repr(b))
    if producer_of(a) is None or type(producer_of(a)) is not type(producer_of(b)):
        return False
    x, y = (t._keras_history for t in (a, b))
    pairs = zip(*(keras.tree.flatten(_arguments(t)) for t in (x, y)), strict=False)
    return x.tensor_index == y.tensor_index and not _is_input(x) and all(_same_value(*pair) for pair in pairs)


def _arguments(history: Any) -> Any:
    arguments = history.operation._inbound_nodes[history.node_index].arguments
    return arguments.args, arguments.kwargs


def _is_input(history: Any) -> bool:
    return history.operation._inbound_nodes[history.node_index].is_input


def sublayers(layer: keras.Operation) -> list[keras.Layer]:
    """All layers inside a layer, at any depth; only models make them public, and only their own."""
    flatten = getattr(layer, "_flatten_layers", None)
    return flatten(include_self=False, recursive=True) if flatten is not None else []


def input_structure(model: Any) -> Any:
    """The symbolic inputs in the structure a model takes; a Sequential that was never called has one."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model._inputs_struct


def mask_of(tensor: Any) -> Any:
    """The mask that travels with a tensor; the public `compute_mask` does not read it."""
    return getattr(tensor, "_keras_mask", None)


def without_calls(state: dict[str, Any]) -> dict[str, Any]:
    """An operation's attributes as they were before its first call: no nodes, no bound wrappers.

    Keras wraps `build` and `quantize` in closures over the object itself, so a copy must fall back
    to the methods of its class.
    """
    # on the torch backend `_torch_params` is made again from the variables when it is asked for
    dropped = ("build", "quantize", "_torch_params")
    state = {name: value for name, value in state.items() if name not in dropped}
    return state | {"_inbound_nodes": [], "_outbound_nodes": []}


def takes_training(operation: keras.Operation) -> bool:
    """Whether the operation's `call` has a `training` argument."""
    return bool(getattr(operation, "_call_has_training_arg", False))


def tracker_class(layer: keras.Layer) -> type:
    """The class of the object in which a layer keeps the lists of its variables and sublayers."""
    return type(layer._tracker)


def producer_of(tensor: keras.KerasTensor) -> keras.Operation:
    """The operation, or input layer, whose call made a symbolic tensor."""
    return tensor._keras_history.operation


def converts_inputs(layer: keras.Layer) -> bool:
    """Whether Keras casts the layer's inputs to its own type before `call`; graphs cast by input instead."""
    return bool(getattr(layer, "_convert_input_args", True))


def _operation_behind(tensor: keras.KerasTensor) -> type:
    return type(producer_of(tensor))


# The classes of operations have no public names; a symbolic call of each shows them.
_x = keras.KerasTensor((2, 2))
ADDITION = _operation_behind(keras.ops.add(_x, _x))
CONCATENATION = _operation_behind(keras.ops.concatenate([_x, _x]))
_ACTIVATIONS = (
    *(
        _operation_behind(getattr(keras.ops, name)(_x))
        for name in (
            "relu",
            "relu6",
            "sigmoid",
            "tanh",
            "gelu",
            "silu",
            "elu",
            "selu",
            "softmax",
            "leaky_relu",
        )
    ),
    *(getattr(keras.layers, name) for name in ("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax")),
)


def is_activation(operation: keras.Operation) -> bool:
    """Whether an operation is one of Keras's activations, the linear one aside."""
    if type(operation) is keras.layers.Activation:
        return operation.activation is not keras.activations.linear
    return type(operation) in _ACTIVATIONS


def is_optional(tensor: keras.KerasTensor) -> bool:
    """Whether a symbolic tensor is an input that a caller may leave out."""
    return bool(getattr(producer_of(tensor), "optional", False))


def same_input(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """A new input with everything an old one said; `clone_model` forgets `optional`."""
    layer = producer_of(tensor)
    options = {name: True for name in ("sparse", "ragged", "optional") if getattr(layer, name, False)}
    new = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name, **options)
    # the layer and the tensor of an input that was given no name are named apart
    new.name = tensor.name
    return new
