"""Functions as TensorFlow traces them: captured tensors and variables become arguments, and the graph is compared."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_addons_l6.backends.portable.traces import Same, Trace
from keras_addons_l6.backends.tensorflow import private
from keras_addons_l6.backends.tensorflow.programs import complete

__all__ = ["trace"]


def trace(
    fun: Callable[..., Any], x: Sequence[Any], args: Sequence[Any], differentiate: Callable[..., Any]
) -> Trace:
    """The function traced once; with its gradient only where its graph has functions or gradients of its own.

    Args:
        fun: From the lists x and args to a value and something extra.
        x: Tensors.
        args: Tensors.
        differentiate: `value_and_gradient`.
    """
    concrete = _traced(fun, x, args)
    graph = concrete.graph.as_graph_def()
    if not graph.library.function and not any(map(private.has_own_gradient, graph.node)):
        call = _as_function(concrete, graph)
        return Trace(
            graph.SerializeToString(deterministic=True), concrete.captured_inputs, _with_gradient(call)
        )
    concrete = _traced(differentiate(fun), x, args)
    graph = concrete.graph.as_graph_def()
    if not graph.library.function:
        return Trace(_nameless(graph), concrete.captured_inputs, _as_function(concrete, graph))
    # Loops, branches and functions of its own live only with their function, and so does what it captured.
    captured = tuple(map(Same, concrete.captured_inputs))
    return Trace((_nameless(graph), captured), (), lambda x, args, constants: concrete(list(x), list(args)))


def _traced(fun: Callable[..., Any], x: Sequence[Any], args: Sequence[Any]) -> Any:
    """The function's graph, traced anew, which TensorFlow does for a function it has not seen."""
    signature = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), (list(x), list(args)))
    return tf.function(lambda x, args: fun(x, args), autograph=False).get_concrete_function(*signature)


def _as_function(concrete: Any, graph: Any) -> Callable[..., Any]:
    """A function of x, args and captured tensors that puts the graph where it is called."""
    names = [tensor.name for tensor in concrete.inputs]
    fed = {tensor.op.name for tensor in concrete.inputs}
    results = [tensor.name for tensor in concrete.outputs]
    # Without the tensors, whose graph holds what it captured: what is kept must not hold data.
    structure = tf.nest.map_structure(lambda tensor: 0, concrete.structured_outputs, expand_composites=True)
    inner = type(graph)()
    inner.CopyFrom(graph)
    del inner.node[:]
    inner.node.extend(node for node in graph.node if node.name not in fed)  # XLA knows no placeholders

    def call(x: Sequence[Any], args: Sequence[Any], constants: Sequence[Any]) -> Any:
        # Of this graph, were it the body of a loop.
        inputs = [tf.identity(tensor) for tensor in (*x, *args, *constants)]
        given = {n: t for n, t in zip(names, inputs, strict=True) if _is_read(inner, n)}
        found = tf.graph_util.import_graph_def(
            inner, input_map=given, return_elements=[n for n in results if n not in names], name=""
        )
        rest = iter(found)
        outputs = [dict(zip(names, inputs, strict=True))[n] if n in names else next(rest) for n in results]
        return tf.nest.pack_sequence_as(structure, outputs)

    return call


def _is_read(graph: Any, tensor: str) -> bool:
    """Whether some node of a graph reads a tensor of another's."""
    node = tensor.split(":")[0]
    return any(source.lstrip("^").split(":")[0] == node for reader in graph.node for source in reader.input)


def _with_gradient(call: Callable[..., Any]) -> Callable[..., Any]:
    """The value, its gradient and what comes extra; no tape sees what is put into a graph as a whole."""

    def evaluate(x: Sequence[Any], args: Sequence[Any], constants: Sequence[Any]) -> Any:
        x = [tf.identity(leaf) for leaf in x]
        value, extra = call(x, args, constants)
        return value, complete(tf.gradients(value, x), x), extra

    return evaluate


def _nameless(graph: Any) -> bytes:
    """A graph's bytes without what differs from trace to trace: its functions' names, and gradients already in it."""
    bare = type(graph)()
    bare.CopyFrom(graph)
    library = {function.signature.name: function for function in bare.library.function}
    places: dict[str, str] = {}
    _name_by_place(bare.node, library, places)
    for name, place in places.items():
        library[name].signature.name = place
        for argument in library[
            name
        ].signature.input_arg:  # "while_cond_17___redundant_placeholder0", which nothing reads
            argument.name = re.sub(r"_\d+___redundant", "___redundant", argument.name)
    functions = [library[name] for name in places]
    parts = (tf.compat.v1.GraphDef(node=bare.node), *functions)
    return b"".join(part.SerializeToString(deterministic=True) for part in parts)


def _name_by_place(nodes: Any, library: dict[str, Any], places: dict[str, str]) -> None:
    """Call the functions that nodes call by the order in which they are first called."""
    for node in nodes:
        private.without_own_gradient(node)
        for key in sorted(node.attr):
            for called in (node.attr[key].func, *node.attr[key].list.func):
                if called.name in library:
                    if called.name not in places:
                        places[called.name] = f"function_{len(places)}"
                        _name_by_place(library[called.name].node_def, library, places)
                    called.name = places[called.name]
