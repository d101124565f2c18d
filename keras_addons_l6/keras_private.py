"""The one door to what Keras does not promise: each private or unpromised use of it, and why no public way serves.

A hook that is missing raises `MissingHook` instead of being passed over: those of optimizers and of `BatchNormalization`
when this package is imported, those of graphs and layers when `check_folding` first tries them on a small graph, and
each again where it is used.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import keras

from keras_addons_l6.backends import rules

__all__ = [
    "HAS_RENORM",
    "SUPPORTED",
    "AllVariablesOptimizer",
    "Entry",
    "MissingHook",
    "Renorm",
    "check_folding",
    "compiled_as",
    "compute_in",
    "converts_inputs",
    "default_policy",
    "direct_sublayers",
    "gradient_accumulators",
    "has_operation",
    "held",
    "in_stateless_scope",
    "input_structure",
    "is_activation",
    "is_cast",
    "is_functional",
    "is_made",
    "is_optional",
    "is_plain_graph",
    "is_plain_sequence",
    "library_of_conversions",
    "loading_skips_mismatches",
    "mask_of",
    "moving_averages",
    "nodes_between",
    "operation_class",
    "operation_of_backend",
    "optimizers_inside",
    "producer_of",
    "rate_variables",
    "renorm_of",
    "replica_count",
    "run_graph",
    "run_nodes",
    "run_on",
    "same_input",
    "schedule_of",
    "seed_states",
    "set_default_policy",
    "step_count",
    "sublayers",
    "takes_training",
    "tracker_class",
    "type_tables",
    "variables_of_build",
    "with_mask",
    "without_calls",
]

SUPPORTED = "3.10 to 3.15"

Visit = Callable[..., Any]


class MissingHook(RuntimeError):
    """Something of Keras that this package needs, and that Keras does not promise, is not there."""

    def __init__(self, hook: str, problem: str = "is missing") -> None:
        super().__init__(
            f"`{hook}` {problem} in the installed Keras {keras.__version__}. keras_addons_l6 relies on it and "
            f"supports Keras {SUPPORTED}: install one of these, or a newer keras_addons_l6."
        )


def _of(owner: Any, name: str) -> Any:
    """An attribute that Keras does not promise."""
    try:
        return getattr(owner, name)
    except AttributeError as error:
        kind = owner if isinstance(owner, type) else type(owner)
        raise MissingHook(f"{kind.__name__}.{name}") from error


@functools.cache
def _from(module: str, name: str) -> Any:
    """What has no name outside `keras.src`."""
    try:
        return getattr(importlib.import_module(f"keras.src.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise MissingHook(f"keras.src.{module}.{name}") from error


def _check_called(owner: type, name: str) -> None:
    """Raise unless Keras has a method of this name and calls it: an override that nobody calls would be silent."""
    _of(owner, name)
    methods = (getattr(owner, key) for key in dir(owner) if key != name and not key.startswith("__"))
    if not any(_names(method, name) for method in methods):
        raise MissingHook(f"{owner.__name__}.{name}", "is no longer called")


def _names(method: Any, name: str) -> bool:
    """Whether a function's code, or that of a function inside it, names an attribute."""
    method = inspect.unwrap(method) if callable(method) else method
    return isinstance(method, FunctionType) and any(name in c.co_names for c in _codes(method.__code__))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


# --- optimizers -------------------------------------------------------------------------------------------------------

# Overridden below. Were `_apply_weight_decay` renamed, Keras would decay once and `update_steps` again.
for _name in ("_backend_update_step", "_apply_weight_decay"):
    _check_called(keras.optimizers.Optimizer, _name)
_of(keras.optimizers.Optimizer, "_get_variable_index")

# `keras.StatelessScope` is public, but not the question whether one is open, and values go there, not into variables.
in_stateless_scope: Callable[[], bool] = _from("backend", "in_stateless_scope")


# `load_weights` tells neither layers nor optimizers of its public argument `skip_mismatch`, and warns of what raises.
_LOAD_WEIGHTS: CodeType = inspect.unwrap(keras.saving.load_weights).__code__
if "skip_mismatch" not in _LOAD_WEIGHTS.co_varnames:
    raise MissingHook("keras.saving.load_weights(skip_mismatch=...)")


def loading_skips_mismatches() -> bool:
    """Whether a `load_weights(skip_mismatch=True)` is under way, on the stack above."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not _LOAD_WEIGHTS:
        frame = frame.f_back
    return frame is not None and bool(frame.f_locals["skip_mismatch"])


class AllVariablesOptimizer(keras.optimizers.Optimizer):
    """A Keras optimizer that updates all variables in one call of `update_steps`, where Keras allows it."""

    def update_steps(self, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Take one step of every variable."""
        raise NotImplementedError

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Take one step of one variable (Keras's public hook)."""
        self.update_steps([gradient], [variable], learning_rate)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        # The public hook is called once a variable: on torch a loop of small kernels. Under tf.distribute
        # Keras's own version merges the replicas and calls the public hook in each one's context.
        if rules.in_distribution_strategy():
            super()._backend_update_step(grads, trainable_variables, learning_rate)
        else:
            self.update_steps(grads, trainable_variables, learning_rate)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        # Keras decays in a pass of its own before the step; `update_steps` does it on the way, in the same
        # order. On torch Keras's version also fails where every variable is excluded.
        del variables

    def _index(self, variable: Any) -> int:
        # Under tf.distribute `variable` is one replica's part, which only Keras can map back.
        return self._get_variable_index(variable)


def variables_of_build(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """The variables that an optimizer was built for; `variables` are its own, and `apply` needs not be given any."""
    return _of(optimizer, "_trainable_variables")


def step_count(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """The variable that counts train steps; the public `iterations` is divided where gradients are accumulated."""
    return _of(optimizer, "_iterations")


def rate_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """What follows the count of steps in an optimizer's state: a constant rate's variable, or nothing.

    The public `learning_rate` is a schedule's value where there is one, and does not say which.
    """
    rate = _of(optimizer, "_learning_rate")
    return [rate] if isinstance(rate, keras.Variable) else []


def gradient_accumulators(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The variables in which a built optimizer adds gradients up; in the public `variables` nothing marks them."""
    return list(_of(optimizer, "_accumulated_gradients")) if optimizer.gradient_accumulation_steps else []


def schedule_of(
    optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.schedules.LearningRateSchedule | None:
    """The schedule of an optimizer's rate; the public `learning_rate` is its value at the count of train steps."""
    rate = _of(optimizer, "_learning_rate")
    return rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None


def moving_averages(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable | None]:
    """The averages that a built optimizer with `use_ema` keeps; in the public `variables` nothing marks them."""
    return list(_of(optimizer, "_model_variables_moving_average"))


def optimizers_inside(optimizer: Any) -> list[Any]:
    """The optimizer itself, or those that it runs; the wrappers document their arguments, not what they keep."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = _of(optimizer, "inner_optimizer")
    several = vars(keras.optimizers).get("MultiOptimizer")  # from Keras 3.15 on
    if several is not None and isinstance(optimizer, several):
        return [optimizer, *_of(optimizer, "optimizers")]
    return [optimizer]


def compiled_as(model: keras.Model) -> Any:
    """The object that each `compile` makes anew; of what is public, nothing tells that a model was compiled again."""
    return _of(model, "_compile_config")


def replica_count(model: keras.Model) -> int:
    """How many copies of a model train at once; its strategy of TensorFlow is undocumented."""
    if keras.backend.backend() != "tensorflow":
        return 1
    return _of(model, "distribute_strategy").num_replicas_in_sync


def seed_states(model: keras.Model) -> list[keras.Variable]:
    """The states of the seed generators in a model, which only their name tells from other variables."""
    return [v for v in model.non_trainable_variables if v.name == _name_of_seed_state()]


@functools.cache
def _name_of_seed_state() -> str:
    return _of(keras.random.SeedGenerator(seed=0, name="keras_addons_l6_probe"), "state").name


# --- BatchNormalization -----------------------------------------------------------------------------------------------

_BATCH_NORM = keras.layers.BatchNormalization
_ARGUMENTS = inspect.signature(_BATCH_NORM.__init__).parameters

HAS_RENORM = "renorm" in _ARGUMENTS
"""Whether Keras's layer knows batch renormalization, as it does from 3.14 on."""

for _name in ("renorm_clipping", "renorm_momentum") if HAS_RENORM else ():
    if _name not in _ARGUMENTS:
        raise MissingHook(f"BatchNormalization(..., {_name}=...)")

# The subclass gives statistics another dtype where it makes its weights; else they would stay in half precision.
if not _names(_BATCH_NORM.build, "add_weight"):
    raise MissingHook("BatchNormalization.build's use of `add_weight`")


class Renorm(NamedTuple):
    """Arguments and variables of batch renormalization."""

    clipping: dict[str, float]
    momentum: float
    mean: keras.Variable
    deviation: keras.Variable
    moving_deviation: keras.Variable
    """At test time."""


def renorm_of(layer: keras.layers.BatchNormalization) -> Renorm:
    """What Keras's layer keeps for batch renormalization; its documentation names the arguments alone."""
    return Renorm(
        clipping=_of(layer, "renorm_clipping") or {},
        momentum=_of(layer, "renorm_momentum"),
        mean=_of(layer, "renorm_mean"),
        deviation=_of(layer, "renorm_stddev"),
        moving_deviation=_of(layer, "moving_stddev"),
    )


# --- graphs of calls --------------------------------------------------------------------------------------------------


@functools.cache
def check_folding() -> None:
    """Try every hook of graphs and layers on a small graph, once a process.

    Raises:
        MissingHook: naming the first that is not there.
    """
    inputs = keras.Input((2,), name="keras_addons_l6_probe_input")
    layer = keras.layers.Identity(name="keras_addons_l6_probe_layer")
    model = keras.Model(inputs, layer(inputs), name="keras_addons_l6_probe")
    _check_called(_functional(), "_run_through_graph")
    for name in (*_ACTIVATIONS, *_IN_NUMPY, *_IN_CORE, *_IN_IMAGE):
        if has_operation(name):
            operation_class(name)
    run_graph(model, [inputs], lambda operation, *args, **kwargs: args[0])
    nodes_between(model.inputs, model.outputs)
    _same_value(*(layer(inputs) for _ in range(2)))
    for value in (input_structure(model), *model.inputs):
        is_optional(value)
        same_input(value)
    mask_of(with_mask(inputs, None))
    takes_training(layer)
    converts_inputs(layer)
    is_cast(keras.Variable(0.0))
    sublayers(model)
    tracker_class()
    _check_kept_calls(layer)
    compute_in(layer, layer.dtype_policy)


@functools.cache
def _functional() -> type:
    """The class of `keras.Model(inputs, outputs)`, to which no public name leads."""
    return _from("models.functional", "Functional")


def is_functional(operation: keras.Operation) -> bool:
    """Whether the operation is a graph of calls made by `keras.Model(inputs, outputs)`."""
    return isinstance(operation, _functional())


def is_plain_graph(operation: keras.Operation) -> bool:
    """Whether calling the operation does nothing but run its graph of calls."""
    if is_functional(operation):
        return type(operation).call is _of(_functional(), "call")
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
    outputs = keras.tree.pack_sequence_as(_of(graph, "_outputs_struct"), graph.outputs)
    return run_nodes(_nodes_in_order(graph), graph.inputs, outputs, tensors, visit)


def run_nodes(
    nodes: list[Any], inputs: list[keras.KerasTensor], outputs: Any, tensors: list[Any], visit: Visit
) -> Any:
    """Call `visit(operation, *args, **kwargs)` for each node; return the outputs."""
    values = {id(tensor): value for tensor, value in zip(inputs, tensors, strict=True)}
    for node in nodes:
        if all(id(tensor) in values for tensor in _of(node, "input_tensors")):
            args, kwargs = _of(_of(node, "arguments"), "fill_in")(values)
            made = visit(_of(node, "operation"), *args, **_without_own_masks(node, kwargs))
            values.update(zip(map(id, _of(node, "outputs")), keras.tree.flatten(made), strict=True))
    return keras.tree.map_structure(lambda tensor: values[id(tensor)], outputs)


def nodes_between(inputs: list[keras.KerasTensor], outputs: Any) -> tuple[list[Any], list[keras.KerasTensor]]:
    """The nodes that lead from the inputs to the outputs, each behind those it needs, and the inputs that count.

    `keras.Function(inputs, outputs)` finds them, too, but refuses layers of one name, which the layers
    inside a `call` may well have.
    """
    given = {id(tensor) for tensor in inputs}
    ordered: dict[int, Any] = {}
    reached: dict[int, keras.KerasTensor] = {}
    waiting = [(tensor, False) for tensor in reversed(keras.tree.flatten(outputs))]
    while waiting:
        tensor, ready = waiting.pop()
        if id(tensor) in given:
            reached[id(tensor)] = tensor
            continue
        if not is_made(tensor) and is_made(keras.Input(())):
            raise ValueError("it gives a symbolic tensor that no call made")
        node = _node(_of(tensor, "_keras_history"))
        if _of(node, "is_input"):
            raise ValueError(f"it uses '{tensor.name}', which is no input of it")
        if ready:
            ordered[id(node)] = node
        elif id(node) not in ordered:
            waiting.append((tensor, True))
            waiting += [(each, False) for each in reversed(_of(node, "input_tensors"))]
    return list(ordered.values()), list(reached.values())


def _nodes_in_order(graph: Any) -> list[Any]:
    by_depth = _of(graph, "_nodes_by_depth")
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in nodes if not _of(node, "is_input")]


def _without_own_masks(node: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments but for masks that travel with the tensors in the arguments anyway."""
    given = _of(_of(node, "arguments"), "kwargs")
    travelling = [mask_of(tensor) for tensor in _of(node, "input_tensors")]
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
    x, y = (_of(t, "_keras_history") for t in (a, b))
    pairs = zip(*(keras.tree.flatten(_arguments(t)) for t in (x, y)), strict=False)
    same_place = _of(x, "tensor_index") == _of(y, "tensor_index")
    return same_place and not _of(_node(x), "is_input") and all(_same_value(*pair) for pair in pairs)


def _arguments(history: Any) -> Any:
    arguments = _of(_node(history), "arguments")
    return _of(arguments, "args"), _of(arguments, "kwargs")


def _node(history: Any) -> Any:
    """The recorded call that made a tensor, among all of its operation's."""
    return _of(_of(history, "operation"), "_inbound_nodes")[_of(history, "node_index")]


def input_structure(model: Any) -> Any:
    """The symbolic inputs in the structure a model takes, where the public `inputs` are flat; a Sequential has one."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else _of(model, "_inputs_struct")


def producer_of(tensor: keras.KerasTensor) -> keras.Operation:
    """The operation, or input layer, whose call made a symbolic tensor, of which it says nothing in public."""
    return _of(_of(tensor, "_keras_history"), "operation")


def mask_of(tensor: Any) -> Any:
    """The mask that travels with a tensor; the public `compute_mask` does not read it."""
    return _from("backend", "get_keras_mask")(tensor)


def with_mask(tensor: Any, mask: Any) -> Any:
    """The tensor with a mask that layers and losses find on it; no public function puts one there."""
    _from("backend", "set_keras_mask")(tensor, mask)
    return tensor


def is_optional(tensor: keras.KerasTensor) -> bool:
    """Whether a symbolic tensor is an input that a caller may leave out; its layer does not document that it knows."""
    if not is_made(tensor):
        return False
    layer = producer_of(tensor)
    return isinstance(layer, keras.layers.InputLayer) and bool(_of(layer, "optional"))


def is_made(tensor: keras.KerasTensor) -> bool:
    """Whether a call, or an input layer, made a symbolic tensor; a shape that a layer's own code asks about, none did."""
    return hasattr(tensor, "_keras_history")


def same_input(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """A new input with everything an old one said; `clone_model` forgets `optional`."""
    layer = producer_of(tensor)
    options = {name: True for name in ("sparse", "ragged", "optional") if _of(layer, name)}
    new = keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name, **options)
    # the layer and the tensor of an input that was given no name are named apart
    new.name = tensor.name
    return new


def run_on(copy: Any, graph: Any, replace: Callable[[Any], Any]) -> None:
    """Let a graph's copy run the graph on replaced operations; `super().call` in a model's own `call` ends there.

    A copy names the operations that the graph names, and `keras.models.clone_model` needs a configuration.
    """

    def run(inputs: Any, operation_fn: Callable = lambda op: op, call_fn: Callable | None = None) -> Any:
        return _of(graph, "_run_through_graph")(
            inputs, operation_fn=lambda operation: operation_fn(replace(operation)), call_fn=call_fn
        )

    vars(copy)["_run_through_graph"] = run


# --- layers -----------------------------------------------------------------------------------------------------------


def sublayers(layer: keras.Operation) -> list[keras.Layer]:
    """All layers inside a layer, at any depth; only models make them public, and only their own."""
    if not isinstance(layer, keras.Layer):
        return []
    return _of(layer, "_flatten_layers")(include_self=False, recursive=True)


def direct_sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers that a layer holds itself; only models make them public."""
    return _of(layer, "_flatten_layers")(include_self=False, recursive=False)


def takes_training(operation: keras.Operation) -> bool:
    """Whether the operation's `call` has a `training` argument, as Keras sees it, who passes it on."""
    return isinstance(operation, keras.Layer) and bool(_of(operation, "_call_has_training_arg"))


def converts_inputs(layer: keras.Layer) -> bool:
    """Whether Keras casts the layer's inputs to its own type before `call`; graphs cast by input, which shows nowhere."""
    return bool(_of(layer, "_convert_input_args"))


def is_cast(variable: keras.Variable) -> bool:
    """Whether a layer in mixed precision sees a variable in half; the argument `autocast` is kept under no public name."""
    return bool(_of(variable, "_autocast"))


def held(variable: keras.Variable) -> Any:
    """The backend's own variable; `value` asks for three scopes first, which on torch takes longer than a small one's step."""
    return _of(variable, "_value")


@functools.cache
def tracker_class() -> type:
    """The class of the object in which a layer keeps the lists of its variables and sublayers; it is nowhere public."""
    return type(_of(keras.layers.Identity(name="keras_addons_l6_probe"), "_tracker"))


# Keras wraps these methods in closures over the object itself, so a copy must fall back to those of its class.
_BOUND = ("build", "quantize")
_CALLS = ("_inbound_nodes", "_outbound_nodes")


def without_calls(state: dict[str, Any]) -> dict[str, Any]:
    """An operation's attributes as they were before its first call; Keras copies layers by configuration alone."""
    state = {name: value for name, value in state.items() if name not in _BOUND}
    if keras.backend.backend() == "torch" and "_modules" in state:
        # Among torch's modules of a layer are its parameters, which are made again from the copy's variables.
        state["_modules"] = {k: v for k, v in state["_modules"].items() if k != "_torch_params"}
    return state | {name: [] for name in _CALLS}


def compute_in(layer: keras.Layer, policy: keras.DTypePolicy) -> None:
    """Let a layer compute by another policy; the public setter writes into a map that other layers share."""
    _of(layer, "_dtype_policy")
    vars(layer)["_dtype_policy"] = policy


def _check_kept_calls(layer: keras.Layer) -> None:
    """Raise unless a layer keeps what `without_calls` drops."""
    for name in _CALLS:
        _of(layer, name)
    for name in _BOUND:
        if name not in vars(layer):
            raise MissingHook(f"{type(layer).__name__}.{name}", "is not wrapped for the layer")
    if keras.backend.backend() == "torch":
        _of(layer, "torch_params")
        if "_torch_params" not in vars(layer)["_modules"]:
            raise MissingHook(f"{type(layer).__name__}._torch_params")


# The classes of operations have no public names, only the functions that make them.
_ACTIVATIONS = ("relu", "relu6", "sigmoid", "tanh", "gelu", "silu", "elu", "selu", "softmax", "leaky_relu")
# Where `keras.ops` has its functions from, but for those of `ops.nn`.
_IN_NUMPY = (
    *("add", "broadcast_to", "concatenate", "divide", "expand_dims", "flip", "get_item", "max", "mean"),
    *("moveaxis", "multiply", "negative", "pad", "repeat", "reshape", "roll", "split", "squeeze"),
    *("subtract", "swapaxes", "tanh", "tile", "transpose", "true_divide"),
)
_IN_CORE = ("slice", "unstack")
_IN_IMAGE = ("resize",)


@functools.cache
def operation_class(name: str) -> type:
    """The class of the operation that `keras.ops.name` records in a graph; looked up, for a call would use a name up."""
    places = {"ops.numpy": _IN_NUMPY, "ops.core": _IN_CORE, "ops.image": _IN_IMAGE}
    module = next((module for module, names in places.items() if name in names), "ops.nn")
    return _from(module, name.title().replace("_", ""))


def has_operation(name: str) -> bool:
    """Whether this Keras has an operation at all; `keras.ops.get_item` has no name of its own, `x[...]` records it."""
    return name == "get_item" or hasattr(keras.ops.image if name in _IN_IMAGE else keras.ops, name)


@functools.cache
def _activation_classes() -> tuple[type, ...]:
    layers = keras.layers
    return (
        *map(operation_class, _ACTIVATIONS),
        *(layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU, layers.Softmax),
    )


def is_activation(operation: keras.Operation) -> bool:
    """Whether an operation is one of Keras's activations, the linear one aside."""
    if type(operation) is keras.layers.Activation:
        return operation.activation is not keras.activations.linear
    return type(operation) in _activation_classes()


# --- float64 ----------------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """One name of a table or module of Keras's, and what stands there."""

    table: dict[Any, Any]
    key: Any
    value: Any

    def put(self) -> None:
        """Let the value stand there."""
        self.table[self.key] = self.value

    def now(self) -> Entry:
        """The entry with what stands there now."""
        return self._replace(value=self.table[self.key])


# Types that Keras makes narrower, by the table in which it does; `keras.backend.result_type` reads both tables, and
# nothing public changes them. A version that lacks one of the entries does not make that type narrower.
_NARROWER: dict[str, dict[Any, str]] = {
    "BIT64_TO_BIT32_DTYPE": {"float64": "float64", "complex128": "complex128"},
    "PYTHON_DTYPES_MAP": {float: "float64", complex: "complex128"},
}


def type_tables() -> list[Entry]:
    """The entries of Keras's tables of types that say 32 bits of 64, each with the 64 bits it should say."""
    tables = [(_from("backend.common.dtypes", name), wide) for name, wide in _NARROWER.items()]
    return [Entry(table, key, value) for table, wide in tables for key, value in wide.items() if key in table]


def library_of_conversions(name: str) -> Entry:
    """The library that Keras's conversions of Python's numbers look up; no setting tells them the type to make."""
    return _entry(_module_of_backend("core"), name)


def operation_of_backend(name: str) -> Entry:
    """Where Keras finds the backend's own operation of neural networks; the public `keras.ops` calls it there."""
    return _entry(_module_of_backend("nn"), name)


def _module_of_backend(part: str) -> ModuleType:
    package = importlib.import_module("keras.src.backend")
    package = getattr(package, "ops", package)  # where they lie in Keras's nightly
    if not hasattr(package, part):
        raise MissingHook(f"{package.__name__}.{part}")
    return getattr(package, part)


def _entry(module: ModuleType, name: str) -> Entry:
    if not hasattr(module, name):
        raise MissingHook(f"{module.__name__}.{name}")
    return Entry(vars(module), name, getattr(module, name))


def default_policy() -> keras.DTypePolicy | None:
    """The policy of layers that are given none, or `None` as long as it follows `floatx`; asking for it publicly fixes it."""
    kept = _global_attribute("get")("dtype_policy")
    asked = keras.config.dtype_policy()
    if _global_attribute("get")("dtype_policy") is not asked:
        raise MissingHook("keras.src.backend.common.global_state's `dtype_policy`", "is no longer kept")
    set_default_policy(kept)
    return kept


def set_default_policy(policy: keras.DTypePolicy | None) -> None:
    """Set what `default_policy` returns; the public setter knows no way back to `None`."""
    _global_attribute("set")("dtype_policy", policy)


def _global_attribute(do: str) -> Callable[..., Any]:
    return _from("backend.common.global_state", f"{do}_global_attribute")
