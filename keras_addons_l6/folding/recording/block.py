"""Blocks: layers with a `call` of their own, and the graphs of calls that their `call` makes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_addons_l6 import keras_private
from keras_addons_l6.folding import registered
from keras_addons_l6.folding.errors import one_line
from keras_addons_l6.folding.recording.shadow import Shadows
from keras_addons_l6.folding.recording.variable_view import show_symbols, symbols_for
from keras_addons_l6.folding.tape import replace_tensors, tensors_in

__all__ = ["BlockGraphs", "Graph", "Untraceable", "cast_by", "distinct", "graph_of_function", "is_block"]

# A weight that a `call` uses by itself, behind the symbolic tensor that stands for it.
Weight = tuple[keras.KerasTensor, keras.Variable]

# Whose layers are never replaced by the calls they make: stock layers, and those with kernels of their own.
_LEAF_PACKAGES = ("keras", "keras_addons_l6")


class Untraceable(Exception):
    """A call that cannot be replaced by the calls it makes; it stays one call."""


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """The calls between some symbolic tensors.

    Attributes:
        inputs: The tensors that are given, each once.
        outputs: A structure of the tensors that are made.
        nodes: Keras's own records of the calls.
        weights: Weights that take part, each with the symbolic tensor that stands for it.
    """

    inputs: list[keras.KerasTensor]
    outputs: Any
    nodes: list[Any]
    weights: list[Weight]

    @classmethod
    def between(cls, inputs: list[keras.KerasTensor], outputs: Any, weights: Sequence[Weight] = ()) -> Graph:
        """The graph that leads from inputs to outputs; an error where another graph takes part."""
        given = [*inputs, *(symbol for symbol, _ in weights)]
        nodes, used = keras_private.nodes_between(given, outputs)
        return cls(inputs, outputs, nodes, [each for each in weights if any(each[0] is x for x in used)])

    def run(self, tensors: list[Any], visit: keras_private.Visit) -> Any:
        """Call `visit(operation, *args, **kwargs)` for each call; return the outputs.

        Args:
            tensors: What takes the place of the inputs, and of the weights behind them.
            visit: The function.

        Returns:
            The outputs.
        """
        inputs = [*self.inputs, *(symbol for symbol, _ in self.weights)]
        return keras_private.run_nodes(self.nodes, inputs, self.outputs, tensors, visit)


class BlockGraphs:
    """Runs the `call` of a block on fresh symbolic tensors, once for each kind of arguments.

    While one `call` runs, the blocks inside it are answered from here as well. Keras would trace each of
    them in its backend, again at every level, and JAX's symbolic sizes take seconds for a few strides.

    Args:
        may_be_symbol: Whether a weight, in a type, can become a symbolic tensor of the graph.

    Attributes:
        shadows: The shadows on which all of it runs.
    """

    def __init__(self, may_be_symbol: Callable[[keras.Variable, str], bool]) -> None:
        self._may_be_symbol = may_be_symbol
        self.shadows = Shadows(prepare=self._answer_for)
        self._known: dict[tuple[int, str], Graph | Untraceable] = {}
        self._serial = itertools.count()

    def of(self, operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> Graph:
        """The graph of an operation's `call` at test time, on tensors like those among the arguments.

        Args:
            operation: A layer, or the shadow of one.
            args: Positional arguments.
            kwargs: Keyword arguments.

        Returns:
            The graph; its inputs stand for the tensors among the arguments, each once.

        Raises:
            Untraceable: When the `call` fails on symbolic tensors, or uses some of another graph.
        """
        shadow = self.shadows.of(operation)
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        key = (id(shadow), self._kind_of((args, kwargs)))
        if key not in self._known:
            graph = _trace(shadow, args, kwargs, self._may_be_symbol)
            if isinstance(graph, Untraceable):  # what a weight has, and a symbolic tensor lacks, may be why
                graph = _trace(shadow, args, kwargs, lambda variable, dtype: False)
            self._known[key] = graph
        graph = self._known[key]
        if isinstance(graph, Untraceable):
            raise graph
        return graph

    def _answer_for(self, shadow: Any) -> None:
        if _has_own_call(shadow):
            show_symbols(shadow)
            vars(shadow)["compute_output_spec"] = functools.partial(self._output_spec, shadow)

    def _output_spec(self, shadow: Any, *args: Any, **kwargs: Any) -> Any:
        """What Keras asks a layer for when it is called on symbolic tensors."""
        if is_block(shadow, args, kwargs):
            try:
                outputs = self.of(shadow, args, kwargs).outputs
            except Untraceable:
                pass  # it stays one call, whose shapes the backend finds
            else:
                return keras.tree.map_structure(_spec, outputs)
        return type(shadow).compute_output_spec(shadow, *args, **kwargs)

    def _kind_of(self, structure: Any) -> str:
        """What of arguments decides which graph is made; arrays and objects are each of their own kind."""
        places: dict[int, int] = {}

        def describe(leaf: Any) -> str:
            if isinstance(leaf, keras.KerasTensor):
                place = places.setdefault(id(leaf), len(places))
                return f"{place} {leaf.shape} {leaf.dtype} {leaf.sparse}"
            plain = leaf is None or isinstance(leaf, (bool, int, float, str))
            return repr(leaf) if plain else f"object {next(self._serial)}"

        return repr(keras.tree.map_structure(describe, structure))


def _trace(
    shadow: Any, args: tuple, kwargs: dict[str, Any], may_be_symbol: Callable[[keras.Variable, str], bool]
) -> Graph | Untraceable:
    fresh = {id(x): _fresh_tensor(x, cast_by(shadow, x)) for x in distinct((args, kwargs))}
    args, kwargs = replace_tensors((args, kwargs), fresh)
    quiet = {"training": False} if keras_private.takes_training(shadow) else {}
    weights: list[Weight] = []

    def symbol_of(variable: keras.Variable) -> keras.KerasTensor | None:
        dtype = _seen_type(variable, _policy(shadow))
        if may_be_symbol(variable, dtype):
            weights.append((keras.Input(batch_shape=variable.shape, dtype=dtype), variable))
            return weights[-1][0]
        return None

    try:
        with symbols_for(shadow, symbol_of):
            outputs = _in_inference(lambda: shadow.call(*args, **kwargs | quiet), _policy(shadow))
        return Graph.between(distinct((args, kwargs)), outputs, weights)
    except Exception as error:  # whatever a user's own `call` may raise on symbolic tensors
        return Untraceable(f"its `call` fails on symbolic tensors ({one_line(error, limit=160)})")


def graph_of_function(function: Callable[..., Any], *tensors: keras.KerasTensor) -> Graph:
    """The graph of a function of symbolic tensors.

    Args:
        function: A function of as many tensors.
        tensors: Symbolic tensors, whose shapes and types count.

    Returns:
        The graph.
    """
    fresh = [_fresh_tensor(tensor, tensor.dtype) for tensor in tensors]
    return Graph.between(fresh, function(*fresh))


class _InInference(keras.Layer):
    """Runs a function where Keras takes it to be inside a call with `training=False`.

    Layers called in it without `training` are handed False down, as `model(x, training=False)` does,
    whatever their own default (that of Resizing and RandomFlip is True), and variables have the type
    that the policy casts them to.
    """

    def __init__(self, function: Callable[[], None], policy: Any) -> None:
        super().__init__(dtype=policy, autocast=False)
        self.function = function

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return inputs

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        self.function()
        return inputs


def _in_inference(function: Callable[[], Any], policy: Any) -> Any:
    results: list[Any] = []
    problems: list[Exception] = []

    def run() -> None:
        try:
            results.append(function())
        except Exception as error:  # Keras would say that it comes from this layer
            problems.append(error)

    _InInference(run, policy)(keras.KerasTensor((1,)), training=False)
    if problems:
        raise problems[0]
    return results[0]


def _policy(layer: Any) -> Any:
    policy = layer.dtype_policy
    return policy[layer.path] if isinstance(policy, keras.dtype_policies.DTypePolicyMap) else policy


def _seen_type(variable: keras.Variable, policy: Any) -> str:
    """The type in which a `call` sees a weight: in mixed precision, that of the results."""
    mixed = policy.compute_dtype != policy.variable_dtype
    floats = map(keras.backend.is_float_dtype, (variable.dtype, policy.compute_dtype))
    return (
        policy.compute_dtype if mixed and all(floats) and keras_private.is_cast(variable) else variable.dtype
    )


def _fresh_tensor(tensor: keras.KerasTensor, dtype: str) -> keras.KerasTensor:
    return keras.Input(batch_shape=tensor.shape, dtype=dtype, sparse=tensor.sparse)


def _spec(leaf: Any) -> Any:
    is_tensor = isinstance(leaf, keras.KerasTensor)
    return keras.KerasTensor(leaf.shape, leaf.dtype, sparse=leaf.sparse) if is_tensor else leaf


def distinct(structure: Any) -> list[keras.KerasTensor]:
    """The symbolic tensors of a structure, each once."""
    return list({id(tensor): tensor for tensor in tensors_in(structure)}.values())


def is_block(operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether to try to replace a call by the calls its own `call` makes."""
    tensors = tensors_in((args, kwargs))
    return (
        _has_own_call(operation)
        and not kwargs.get("training")
        and kwargs.get("mask") is None
        # what the block does without an optional input, or with a mask, the recorded calls would not show
        and not any(keras_private.mask_of(tensor) is not None for tensor in tensors)
        and not any(keras_private.is_optional(tensor) for tensor in tensors)
    )


def _has_own_call(operation: Any) -> bool:
    stock = type(operation).__module__.split(".")[0] in _LEAF_PACKAGES
    return (
        isinstance(operation, keras.Layer)
        and (not stock or type(operation) is keras.layers.Lambda)
        and not registered.is_registered(type(operation))
        and not isinstance(operation, keras.layers.BatchNormalization)
        and type(operation).__call__ is keras.Layer.__call__
        and operation.quantization_mode is None
    )


def cast_by(layer: Any, tensor: keras.KerasTensor) -> str:
    """The type in which a layer's `call` sees a tensor."""
    converts = getattr(layer, "autocast", False) and keras_private.converts_inputs(layer)
    dtype = getattr(layer, "input_dtype", tensor.dtype)
    floats = map(keras.backend.is_float_dtype, (tensor.dtype, dtype))
    return dtype if converts and all(floats) else tensor.dtype
