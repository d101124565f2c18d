"""The one door to Keras's insides: each hook is missed by name, and nothing goes in elsewhere."""

import ast
import functools
import importlib
import importlib.util
import inspect
import re
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest

import keras_addons_l6
from keras_addons_l6 import keras_private
from keras_addons_l6.folding.recording.shadow import Shadows
from keras_addons_l6.layers import BatchNorm
from keras_addons_l6.optimizers import LBFGS, Adam

PACKAGE = Path(keras_addons_l6.__file__).parent
DOOR = PACKAGE / "keras_private.py"


def imported_anew():
    """The module as a new process would import it, with nothing remembered."""
    spec = importlib.util.spec_from_file_location("keras_private_anew", DOOR)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its annotations are looked up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def delete(monkeypatch, owner, name):
    """Delete a name from a module, or from a class and all that it derives from."""
    holders = [cls for cls in owner.__mro__ if name in vars(cls)] if isinstance(owner, type) else [owner]
    assert holders, f"{owner} has no {name}: the test would try nothing"
    for holder in holders:
        monkeypatch.delattr(holder, name)


class Renamed:
    """An attribute that Keras goes on using under another name: only the door no longer finds it."""

    def __init__(self, name, default):
        self.name, self.default, self.misses = name, default, 0

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        if sys._getframe(1).f_globals["__name__"].startswith(("keras_private_anew", "keras_addons_l6")):
            self.misses += 1
            raise AttributeError(self.name)
        if self.name in getattr(instance, "__dict__", {}):
            return vars(instance)[self.name]
        if self.default is None:
            raise AttributeError(self.name)
        return self.default.__get__(instance, owner)

    def __set__(self, instance, value):
        vars(instance)[self.name] = value


def rename(monkeypatch, owner, name):
    renamed = Renamed(name, getattr(owner, name, None))
    monkeypatch.setattr(owner, name, renamed, raising=False)
    return renamed


def missed(hook):
    words = re.escape(hook) + r"`.*Keras " + re.escape(keras.__version__) + r"\..*3\.10 to 3\.15"
    return pytest.raises(keras_private.MissingHook.__base__, match=words)


AT_IMPORT = [
    (keras.optimizers.Optimizer, "_backend_update_step"),
    (keras.optimizers.Optimizer, "_apply_weight_decay"),
    (keras.optimizers.Optimizer, "_get_variable_index"),
    ("backend", "in_stateless_scope"),
]


@pytest.mark.parametrize(("owner", "name"), AT_IMPORT)
def test_the_import_misses(owner, name, monkeypatch):
    where = importlib.import_module(f"keras.src.{owner}") if isinstance(owner, str) else owner
    delete(monkeypatch, where, name)
    with missed(name):
        imported_anew()


def test_the_import_misses_a_call_of_an_overridden_method(monkeypatch):
    """Were the name kept but not called, Keras's decay would run beside ours."""

    def apply_gradients(self, grads, trainable_variables):
        self._decay_otherwise(trainable_variables)
        self._backend_update_step(grads, trainable_variables, self.learning_rate)

    monkeypatch.setattr(keras.optimizers.Optimizer, "_backend_apply_gradients", apply_gradients)
    with missed_call("_apply_weight_decay"):
        imported_anew()


def missed_call(hook):
    return pytest.raises(RuntimeError, match=rf"{hook}` is no longer called in the installed Keras")


@pytest.mark.parametrize("name", ["renorm_clipping", "renorm_momentum"])
def test_the_import_misses_an_argument(name, monkeypatch):
    others = ({"renorm", "renorm_clipping", "renorm_momentum"} - {name}) | {"axis"}
    parameters = [inspect.Parameter(other, inspect.Parameter.KEYWORD_ONLY) for other in sorted(others)]
    init = functools.partialmethod(lambda self: None).__get__(None, keras.layers.BatchNormalization)
    init.__signature__ = inspect.Signature(parameters)
    monkeypatch.setattr(keras.layers.BatchNormalization, "__init__", init)
    with missed(f"BatchNormalization(..., {name}=...)"):
        imported_anew()


def test_the_import_misses_how_statistics_are_made(monkeypatch):
    monkeypatch.setattr(
        keras.layers.BatchNormalization, "build", lambda self, shape: self.add_variable(shape)
    )
    with pytest.raises(RuntimeError, match="use of `add_weight`"):
        imported_anew()


OPERATIONS = [
    keras_private.operation_class(name)
    for name in (
        *(*keras_private._ACTIVATIONS, *keras_private._IN_NUMPY),
        *(*keras_private._IN_CORE, *keras_private._IN_IMAGE),
    )
    if keras_private.has_operation(name)
]
IN_MODULES = [
    ("backend", "get_keras_mask"),
    ("backend", "set_keras_mask"),
    ("models.functional", "Functional"),
    *dict.fromkeys((cls.__module__.removeprefix("keras.src."), cls.__name__) for cls in OPERATIONS),
]


@pytest.mark.parametrize(("module", "name"), IN_MODULES)
def test_folding_misses_at_first_use(module, name, monkeypatch):
    anew = imported_anew()

    def without(path):  # Keras itself goes on finding it
        found = dict(vars(importlib.import_module(path)))
        if path == f"keras.src.{module}":
            del found[name]
        return SimpleNamespace(**found)

    monkeypatch.setattr(anew, "importlib", SimpleNamespace(import_module=without))
    with missed(f"keras.src.{module}.{name}"):
        anew.check_folding()


FOR_FLOAT64 = [
    ("backend.common.dtypes", "BIT64_TO_BIT32_DTYPE", lambda door: door.type_tables()),
    ("backend.common.dtypes", "PYTHON_DTYPES_MAP", lambda door: door.type_tables()),
    ("backend.common.global_state", "get_global_attribute", lambda door: door.default_policy()),
    ("backend.common.global_state", "set_global_attribute", lambda door: door.set_default_policy(None)),
    ("backend", "core", lambda door: door.library_of_conversions("np")),
    ("backend", "nn", lambda door: door.operation_of_backend("gelu")),
]


@pytest.mark.parametrize(("module", "name", "use"), FOR_FLOAT64, ids=[row[1] for row in FOR_FLOAT64])
def test_float64_misses(module, name, use, monkeypatch):
    anew = imported_anew()
    use(anew)  # and finds what is there
    anew._from.cache_clear()
    monkeypatch.delattr(importlib.import_module(f"keras.src.{module}"), name)
    with missed(f"keras.src.{module}.{name}"):
        use(anew)


@pytest.mark.parametrize(
    ("part", "name", "use"),
    [
        ("core", "tf", keras_private.library_of_conversions),
        ("nn", "gelu", keras_private.operation_of_backend),
        ("nn", "dot_product_attention", keras_private.operation_of_backend),
    ],
)
def test_float64_misses_a_name_of_the_backend(part, name, use, monkeypatch):
    monkeypatch.delattr(getattr(importlib.import_module("keras.src.backend"), part), name, raising=False)
    with missed(f"{part}.{name}"):
        use(name)


def test_float64_misses_where_the_policy_is_kept(monkeypatch):
    kept = importlib.import_module("keras.src.backend.common.global_state")
    monkeypatch.setattr(kept, "get_global_attribute", lambda name, *rest: None)
    with pytest.raises(RuntimeError, match="`dtype_policy`.*is no longer kept in the installed Keras"):
        imported_anew().default_policy()


def classes_of_graphs():
    inputs = keras.Input((2,))
    layer = keras.layers.Identity()
    outputs = layer(inputs)
    model = keras.Model(inputs, outputs)
    node = layer._inbound_nodes[0]
    return {
        "Function": type(model),
        "Layer": keras.layers.Identity,
        "InputLayer": keras.layers.InputLayer,
        "KerasTensor": keras.KerasTensor,
        "KerasHistory": type(outputs._keras_history),
        "Node": type(node),
        "SymbolicArguments": type(node.arguments),
        "Variable": keras.Variable,
    }


ON_GRAPHS = [
    *(("Function", name) for name in ("_inputs_struct", "_outputs_struct", "_nodes_by_depth")),
    *(("Layer", name) for name in ("_inbound_nodes", "_outbound_nodes", "_tracker", "_convert_input_args")),
    ("Layer", "_call_has_training_arg"),
    ("Variable", "_autocast"),
    *(("InputLayer", name) for name in ("optional", "sparse", "ragged")),
    ("KerasTensor", "_keras_history"),
    *(("KerasHistory", name) for name in ("operation", "node_index", "tensor_index")),
    *(("Node", name) for name in ("operation", "outputs", "is_input", "input_tensors", "arguments")),
    *(("SymbolicArguments", name) for name in ("fill_in", "args", "kwargs")),
    ("Function", "_flatten_layers"),
]


@pytest.mark.parametrize(("kind", "name"), ON_GRAPHS)
def test_folding_misses_on_its_probe(kind, name, monkeypatch):
    anew = imported_anew()
    renamed = rename(monkeypatch, classes_of_graphs()[kind], name)
    with missed(name):
        anew.check_folding()
    assert renamed.misses


@pytest.mark.parametrize("name", ["build", "quantize"])
def test_folding_misses_the_wrappers_that_a_copy_must_not_have(name):
    layer = keras.layers.Identity()
    del vars(layer)[name]
    with pytest.raises(RuntimeError, match=f"{name}` is not wrapped for the layer"):
        keras_private._check_kept_calls(layer)


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="torch's modules alone hold parameters of their own"
)
def test_a_copied_layer_has_parameters_of_its_own():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    copy = Shadows(with_variables=True).of(layer)
    assert {id(p) for p in copy.parameters()} == {id(v.value) for v in copy.variables}
    assert not {id(p) for p in copy.parameters()} & {id(p) for p in layer.parameters()}


def compiled(optimizer, dropout=False):
    layers = [keras.layers.Dropout(0.5)] if dropout else []
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse")
    return model


def renormalizing():
    layer = BatchNorm(renorm=True)
    layer.build((None, 2))
    return layer


def accumulating():
    optimizer = LBFGS(gradient_accumulation_steps=2)
    optimizer.build([keras.Variable([1.0])])
    return optimizer


OPTIMIZER = keras.optimizers.Optimizer


def averaging():
    optimizer = Adam(use_ema=True)
    optimizer.build([keras.Variable(keras.ops.ones(1))])
    keras_private.moving_averages(optimizer)


ON_INSTANCES = [
    (OPTIMIZER, "_trainable_variables", lambda: Adam().apply([keras.ops.ones(1)])),
    (OPTIMIZER, "_iterations", lambda: keras_private.step_count(LBFGS())),
    (OPTIMIZER, "_learning_rate", lambda: keras_private.rate_variables(Adam())),
    (OPTIMIZER, "_accumulated_gradients", accumulating),
    (keras.Variable, "_value", lambda: keras_private.held(keras.Variable([1.0]))),
    (OPTIMIZER, "_model_variables_moving_average", averaging),
    (
        keras.Layer,
        "_dtype_policy",
        lambda: keras_private.compute_in(keras.layers.Identity(), keras.DTypePolicy("float64")),
    ),
    (keras.Model, "_compile_config", lambda: keras_private.compiled_as(compiled("sgd"))),
    (keras.random.SeedGenerator, "state", lambda: imported_anew().seed_states(compiled("sgd", dropout=True))),
    (
        keras.optimizers.LossScaleOptimizer,
        "inner_optimizer",
        lambda: keras_private.optimizers_inside(keras.optimizers.LossScaleOptimizer(LBFGS())),
    ),
]
if keras_private.HAS_RENORM:
    ON_INSTANCES += [
        (
            keras.layers.BatchNormalization,
            name,
            lambda: renormalizing()(keras.ops.ones((3, 2)), training=True),
        )
        for name in ("renorm_clipping", "renorm_momentum", "renorm_mean", "renorm_stddev", "moving_stddev")
    ]
if keras.backend.backend() == "tensorflow":
    ON_INSTANCES += [
        (keras.Model, "distribute_strategy", lambda: keras_private.replica_count(compiled("sgd")))
    ]
if "MultiOptimizer" in vars(keras.optimizers):
    ON_INSTANCES += [
        (
            keras.optimizers.MultiOptimizer,
            "optimizers",
            lambda: keras_private.optimizers_inside(keras.optimizers.MultiOptimizer(Adam())),
        )
    ]


@pytest.mark.parametrize(("owner", "name", "use"), ON_INSTANCES, ids=[row[1] for row in ON_INSTANCES])
def test_the_first_use_misses(owner, name, use, monkeypatch):
    renamed = rename(monkeypatch, owner, name)
    with missed(name):
        use()
    assert renamed.misses


def test_every_hook_is_tried():
    """What the door asks `_of` for by name is renamed above, or is a class's `call`."""
    asked = {
        node.args[1].value
        for node in ast.walk(ast.parse(DOOR.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "_of"
        and isinstance(node.args[1], ast.Constant)
    }
    tried = {name for _, name in (*AT_IMPORT, *ON_GRAPHS)} | {name for _, name, _ in ON_INSTANCES}
    only_where_there = {
        "distribute_strategy",
        "optimizers",
        "_run_through_graph",
        "call",
        "torch_params",
    }
    only_where_there |= {
        "renorm_clipping",
        "renorm_momentum",
        "renorm_mean",
        "renorm_stddev",
        "moving_stddev",
    }
    assert asked <= tried | only_where_there
    assert len(asked) > 25, "nothing was found to compare"


# What looks private and is no use of Keras, each with its reason.
EXCEPTIONS = {
    "_replace": "a named tuple's public method",
    "_fields": "likewise",
    "_asdict": "likewise",
    **dict.fromkeys(("_initializer", "_regularizer", "_constraint", "_shape"), "the ends of public names"),
    "_getframe": "Python's own, of `sys`",
    "_SubParsersAction": "argparse has no public name for the type that an annotation needs",
}
OTHER_DOORS = tuple(f"backends/{backend}/private.py" for backend in ("torch", "jax", "tensorflow"))
PRIVATE = re.compile(r"_[a-zA-Z]\w*")


def own_names(trees):
    """Names with an underscore that the package itself defines: functions, methods, and attributes of `self`."""
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def findings(source, own=frozenset()):
    """What a file uses of what others keep private: paths of `keras.src`, attributes, and names of them in strings."""
    found = set(re.findall(r"keras\.src[\w.]*", source)) | set(re.findall(r"from keras import src\b", source))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        else:
            continue
        if PRIVATE.fullmatch(name) and name not in own and name not in EXCEPTIONS:
            found.add(name)
    return found


def sources():
    doors = {DOOR, *(PACKAGE / door for door in OTHER_DOORS)}
    return {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py")) if path not in doors}


def test_nothing_goes_in_but_through_the_door():
    texts = sources()
    own = own_names(ast.parse(text) for text in texts.values()) | {"_is_decayed", "_index"}  # the door's own
    found = {str(path.relative_to(PACKAGE)): findings(text, own) for path, text in texts.items()}
    assert {path: names for path, names in found.items() if names} == {}


def test_no_name_of_ours_hides_one_of_kerass():
    """A private method or attribute of ours by the name of one of Keras's would override it unseen."""
    public = [getattr(keras_addons_l6, name) for name in keras_addons_l6.__all__]
    classes = {
        c
        for p in public
        if isinstance(p, type)
        for c in p.__mro__
        if c.__module__.startswith("keras_addons_l6.")
    }
    classes.remove(keras_private.AllVariablesOptimizer)
    own = own_names(ast.parse(textwrap.dedent(inspect.getsource(c))) for c in classes)
    objects = [keras.optimizers.Adam(), keras.layers.BatchNormalization(), keras.callbacks.Callback()]
    keras_names = {
        name
        for thing in objects
        for cls in type(thing).__mro__
        if cls.__module__.startswith("keras.")
        for name in (*vars(cls), *vars(thing))
        if PRIVATE.fullmatch(name)
    }
    assert min(len(classes), len(keras_names)) > 10, "nothing was found to compare"
    assert not own & keras_names


@pytest.mark.parametrize(
    "source",
    [
        "from keras.src.backend import in_stateless_scope",
        "import keras.src.ops",
        "from keras import src",
        "keras.src.backend.get_keras_mask(x)",
        "layer._tracker",
        "self._trainable_variables",
        'getattr(layer, "_call_has_training_arg", False)',
        'vars(layer)["_run_through_graph"] = run',
        "super()._backend_update_step(x)",
    ],
)
def test_a_way_past_the_door_is_seen(source):
    assert findings(source)
