"""Every layer times every promise."""

import contextlib
import copy
import json
import pickle

import keras
import numpy as np
import pytest
from keras import ops

import keras_addons_l6
from keras_addons_l6.layers import SELU, BatchNorm, GroupNorm, InstanceNorm, LayerNorm, PReLU, Swish
from tests.layers.derivatives import compiled, gradients, pullback

# constructor arguments -> number of trained, and of other, weights
TABLE = [
    (PReLU, {}, 1, 0),
    (PReLU, {"shared_axes": "all"}, 1, 0),
    (PReLU, {"shared_axes": [-1], "alpha_regularizer": "l2", "alpha_constraint": "non_neg"}, 1, 0),
    (SELU, {}, 0, 0),
    (Swish, {}, 1, 0),
    (Swish, {"shared_axes": "spatial", "trainable_beta": False, "beta_regularizer": "l1"}, 0, 1),
    (BatchNorm, {}, 2, 2),
    (BatchNorm, {"axis": 1, "momentum": 0.5, "epsilon": 1e-2, "unbiased_moving_variance": True}, 2, 2),
    (BatchNorm, {"center": False, "scale": False, "moving_mean_initializer": "ones"}, 0, 2),
    (GroupNorm, {"groups": 2}, 2, 0),
    (GroupNorm, {"groups": -1, "axis": 1, "gamma_regularizer": "l2"}, 2, 0),
    (GroupNorm, {"groups": 4, "center": False, "gamma_constraint": "unit_norm"}, 1, 0),
    (InstanceNorm, {}, 2, 0),
    (LayerNorm, {}, 2, 0),
    (LayerNorm, {"axis": [2, -1], "epsilon": 1e-3, "beta_regularizer": "l2"}, 2, 0),
    (LayerNorm, {"axis": 1, "center": False, "gamma_initializer": "ones"}, 1, 0),
    (InstanceNorm, {"axis": -2, "scale": False, "beta_initializer": "random_normal"}, 1, 0),
]
if "renorm" in keras.layers.BatchNormalization().get_config():
    TABLE.append(
        (BatchNorm, {"renorm": True, "renorm_clipping": {"rmax": 2.0}, "renorm_momentum": 0.9}, 2, 5)
    )
IDS = [f"{layer.__name__}({', '.join(arguments)})" for layer, arguments, _, _ in TABLE]
SHAPE = (3, 4, 4)
X = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype("float32")

every_layer = pytest.mark.parametrize(("layer", "arguments"), [row[:2] for row in TABLE], ids=IDS)


def model_of(layer, arguments, shape=SHAPE, **options):
    inputs = keras.Input(shape, name="x")
    return keras.Model(inputs, layer(**arguments, **options)(inputs))


def unlike_at_first(model):
    """Move every weight from its initial value, as training would; variances stay positive."""
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.uniform(0.1, 0.5, w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


def test_the_table_has_every_layer():
    assert {layer.__name__ for layer, *_ in TABLE} == set(keras_addons_l6.layers.__all__)


@pytest.mark.parametrize(("layer", "arguments", "trained", "other"), TABLE, ids=IDS)
def test_weights(layer, arguments, trained, other):
    built = layer(**arguments)
    built.build((None, *SHAPE))
    assert (len(built.trainable_weights), len(built.non_trainable_weights)) == (trained, other)
    assert len(built.losses) == sum("regularizer" in name and trained > 0 for name in arguments)
    built.trainable = False
    assert built.trainable_weights == []


@every_layer
def test_config_is_the_same_before_and_after_build_and_json(layer, arguments):
    made = layer(**arguments)
    before = made.get_config()
    made(X)
    assert made.get_config() == before
    assert json.loads(json.dumps(before)) == before
    again = layer.from_config(before)
    assert again.get_config() == before
    for name, value in arguments.items():
        if not name.endswith(("regularizer", "constraint", "initializer")):
            assert before[name] == value


@every_layer
def test_registered_under_the_package(layer, arguments):
    name = f"keras_addons_l6>{layer.__name__}"
    assert keras.saving.get_registered_name(layer) == name
    assert keras.saving.get_registered_object(name) is layer
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer(**arguments)))
    assert type(revived) is layer


@every_layer
def test_saved_and_loaded(layer, arguments, tmp_path):
    model = unlike_at_first(model_of(layer, arguments))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(X)), ops.convert_to_numpy(model(X)))
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = model_of(layer, arguments)
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(ops.convert_to_numpy(fresh(X)), ops.convert_to_numpy(model(X)))


@every_layer
def test_copied_and_pickled(layer, arguments):
    model = unlike_at_first(model_of(layer, arguments))
    expected = ops.convert_to_numpy(model(X))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), keras.models.clone_model(model)):
        twin.set_weights(model.get_weights())
        np.testing.assert_array_equal(ops.convert_to_numpy(twin(X)), expected)


@every_layer
@pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_dtype_policies(layer, arguments, policy):
    made, exact = layer(**arguments, dtype=policy), layer(**arguments)
    for training in (True, False):
        y = made(X, training=True) if training and layer is BatchNorm else made(X)
        expected = exact(X, training=True) if training and layer is BatchNorm else exact(X)
        assert keras.backend.standardize_dtype(y.dtype) == made.compute_dtype
        # the input, the output and at most two weights are rounded, values are of order 4
        digits = 4 * (2**-10 if "bfloat" not in policy else 2**-7)
        if "random_normal" in arguments.values():
            continue
        y, expected = (ops.convert_to_numpy(ops.cast(t, "float32")) for t in (y, expected))
        np.testing.assert_allclose(y, expected, rtol=digits, atol=4 * digits)
    spec = layer(**arguments, dtype=policy).compute_output_spec(keras.KerasTensor((None, *SHAPE)))
    assert spec.dtype == made.compute_dtype
    assert {w.dtype for w in made.trainable_weights} <= {made.variable_dtype}


@every_layer
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_integers_and_booleans_are_computed_in_the_compute_dtype(layer, arguments, dtype):
    """As the same numbers in the compute dtype are, eagerly and as symbols; gradients reach the weights."""
    x = np.random.default_rng(5).integers(0, 256, X.shape).astype(dtype)
    made, training = layer(**arguments), {"training": True} if layer is BatchNorm else {}
    made.build(x.shape)
    weights = [ops.convert_to_numpy(w) for w in made.trainable_weights]
    frozen = [ops.convert_to_tensor(w) for w in made.non_trainable_weights]

    def loss_and_gradients(x):
        def loss(*trained):
            y = made.stateless_call(list(trained), frozen, ops.convert_to_tensor(x), **training)[0]
            return ops.sum(ops.sin(ops.cast(y, "float32")))

        return gradients(loss, *weights) if weights else []

    for tensor in (x, ops.convert_to_tensor(x)):
        y = made(tensor)
        assert keras.backend.standardize_dtype(y.dtype) == "float32"
        expected = ops.convert_to_numpy(made(x.astype("float32")))
        np.testing.assert_allclose(ops.convert_to_numpy(y), expected, rtol=1e-6, atol=1e-6)
    for found, expected in zip(loss_and_gradients(x), loss_and_gradients(x.astype("float32")), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    symbol = keras.Input(SHAPE, dtype=dtype)
    for y in (made(symbol), made.call(symbol)):
        assert y.dtype == "float32"
    np.testing.assert_allclose(
        ops.convert_to_numpy(keras.Model(symbol, made.call(symbol))(x)),
        ops.convert_to_numpy(made(x)),
        rtol=1e-5,
        atol=1e-6,
    )


def remat_model(layer, inside):
    """A layer, made inside a RematScope or not, between two others."""
    inputs = keras.Input(SHAPE)
    x = keras.layers.Dense(4, kernel_initializer="orthogonal")(inputs)
    with keras.RematScope("full") if inside else contextlib.nullcontext():
        x = layer()(x)
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def trained(model):
    """Weights after two steps, from weights that depend on their places alone."""
    rng = np.random.default_rng(1)
    model.set_weights(
        [w + rng.uniform(0.1, 0.5, w.shape).astype(w.dtype) for w in map(np.zeros_like, model.get_weights())]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    model.fit(X, X[..., :1], epochs=2, batch_size=len(X), shuffle=False, verbose=0)
    return model.get_weights()


@every_layer
def test_recomputed_in_the_backward_pass(layer, arguments, backend):
    """`keras.RematScope` changes nothing that is learned, nor how often a batch enters the moving averages."""
    if "random_normal" in arguments.values():
        arguments = {**arguments, "beta_initializer": "zeros"}
    if layer is BatchNorm and backend != "torch":
        # Keras hands its keywords to what computes anew, which takes none in a graph, or makes symbols of them.
        with pytest.raises((ValueError, RuntimeError)):
            trained(remat_model(keras.layers.BatchNormalization, True))
        return
    if "renorm" in arguments:
        return  # what is computed anew sees the averages that the first time has moved
    expected = trained(remat_model(lambda: layer(**arguments), False))
    for found, value in zip(trained(remat_model(lambda: layer(**arguments), True)), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)


@every_layer
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_by_torch(layer, arguments, reentrant, backend):
    if backend != "torch":
        return
    import torch.utils.checkpoint

    made, training = layer(**arguments), {"training": True} if layer is BatchNorm else {}
    made.build(X.shape)
    start = made.get_weights()
    dy = torch.as_tensor(np.random.default_rng(2).normal(size=X.shape).astype("float32"))
    results = []
    for run in (
        lambda f, x: f(x),
        lambda f, x: torch.utils.checkpoint.checkpoint(f, x, use_reentrant=reentrant),
    ):
        made.set_weights(start)
        x = torch.as_tensor(X).requires_grad_()
        for weight in made.trainable_weights:
            weight.value.grad = None
        run(lambda t: made(t, **training), x).backward(dy)
        found = [x.grad, *(w.value.grad for w in made.trainable_weights)]
        results.append([*(g.numpy() for g in found), *made.get_weights()])
    for once, twice in zip(*results, strict=True):
        if "renorm" not in arguments:
            np.testing.assert_allclose(twice, once, rtol=1e-6, atol=1e-6)


@every_layer
def test_float64(float64, layer, arguments):
    made = layer(**arguments, dtype="float64")
    y = made(X.astype("float64"))
    assert keras.backend.standardize_dtype(y.dtype) == "float64"
    assert {w.dtype for w in made.weights} <= {"float64"}


@every_layer
def test_output_shape_and_spec(layer, arguments):
    made = layer(**arguments)
    assert tuple(made.compute_output_shape((None, *SHAPE))) == (None, *SHAPE)
    spec = made.compute_output_spec(keras.KerasTensor((6, *SHAPE)))
    assert (tuple(spec.shape), spec.dtype) == (tuple(made(X).shape), "float32")


@every_layer
def test_symbolic_call(layer, arguments):
    """What folding and `clone_model` do: the code of `call` on a symbolic tensor, no layer around it."""
    made = layer(**arguments)
    made.build((None, *SHAPE))
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, made.call(inputs))
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(X)), ops.convert_to_numpy(made(X)), rtol=1e-5, atol=1e-6
    )


@every_layer
def test_sizes_that_are_not_known(layer, arguments):
    if arguments.get("axis") in (1, -2, [2, -1]) or arguments.get("shared_axes") == [-1]:
        return  # the axis of the weights has to be known, and here it is a spatial one
    model = unlike_at_first(model_of(layer, arguments, (None, None, 4)))
    for x in (X, X[:2, :2, :3]):
        fixed = model_of(layer, arguments, x.shape[1:])
        fixed.set_weights(model.get_weights())
        for predict in (lambda f, x: ops.convert_to_numpy(f(x)), lambda f, x: f.predict(x, verbose=0)):
            np.testing.assert_allclose(predict(model, x), predict(fixed, x), rtol=1e-5, atol=1e-6)


class TheMask(keras.layers.Layer):
    def compute_mask(self, x, mask=None):
        return None

    def call(self, x, mask=None):
        return ops.cast(mask, "float32")

    def compute_output_shape(self, input_shape):
        return input_shape[:2]


@every_layer
def test_masks_pass_through(layer, arguments):
    made = layer(**{name: value for name, value in arguments.items() if name != "axis"})
    assert made.supports_masking
    x = X[:, :, 0].copy()
    x[:, 2] = 0.0
    mask = keras.Sequential([keras.Input((3, 4)), keras.layers.Masking(), made, TheMask()])(x)
    np.testing.assert_array_equal(ops.convert_to_numpy(mask), np.tile([1.0, 1.0, 0.0], (6, 1)))


@every_layer
def test_compiled_equals_eager_and_is_traced_once(layer, arguments):
    made = layer(**arguments)
    made.build(X.shape)
    traces = []
    expected = ops.convert_to_numpy(made(X))
    for way, run in compiled(made, lambda: traces.append(1))[1:]:
        first = run(ops.convert_to_tensor(X))
        count = len(traces)
        second = run(ops.convert_to_tensor(X))
        assert len(traces) == count > 0, f"{way} traced again"
        for y in (first, second):
            np.testing.assert_allclose(ops.convert_to_numpy(y), expected, rtol=1e-5, atol=1e-6, err_msg=way)


@every_layer
def test_gradients_reach_everything_that_is_trained(layer, arguments):
    made = layer(**arguments)
    made.build(X.shape)
    weights = [ops.convert_to_numpy(w) for w in made.trainable_weights]
    frozen = [ops.convert_to_tensor(w) for w in made.non_trainable_weights]
    training = {"training": True} if layer is BatchNorm else {}
    cotangent = np.random.default_rng(2).normal(size=X.shape).astype("float32")

    def call(x, *trained):
        return made.stateless_call(list(trained), frozen, x, **training)[0]

    for gradient in pullback(call, cotangent, X, *weights):
        assert np.isfinite(gradient).all()
        assert (gradient != 0).any()


@every_layer
@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_lowers_the_loss(layer, arguments, jit_compile, backend):
    if backend == "torch" and jit_compile:
        jit_compile = "auto"  # torch.compile of a whole train step wants a C++ compiler
    model = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Dense(4), layer(**arguments), keras.layers.Flatten()]
    )
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit_compile)
    target = X.sum(axis=(1, 2, 3))
    history = model.fit(X, target, epochs=8, batch_size=6, shuffle=False, verbose=0)
    assert history.history["loss"][-1] < 0.9 * history.history["loss"][0]
    assert all(np.isfinite(w).all() for w in model.get_weights())


class Inside(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


@every_layer
def test_all_three_kinds_of_model(layer, arguments):
    functional = unlike_at_first(model_of(layer, arguments))
    sequential = keras.Sequential([keras.Input(SHAPE), layer(**arguments)])
    subclassed = Inside(layer(**arguments))
    subclassed(X)
    expected = functional.predict(X, verbose=0)
    for model in (sequential, subclassed):
        model.set_weights(functional.get_weights())
        np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-6, atol=1e-6)


@every_layer
def test_wrong_input_after_build(layer, arguments):
    made = layer(**arguments)
    made(X)
    if made.input_spec is None:
        return  # no weight, or one for all elements
    with pytest.raises(ValueError, match="ncompatible"):
        made(X[:, :2, :3, :3])


@every_layer
def test_repr_has_class_and_name(layer, arguments):
    assert repr(layer(**arguments, name="mine")) == f"<{layer.__name__} name=mine, built=False>"


# Keras warns of each layer that it leaves alone.
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method implemented:UserWarning")
def test_quantization_leaves_ours_alone():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    for layer, arguments in [
        (PReLU, {}),
        (SELU, {}),
        (Swish, {}),
        (BatchNorm, {}),
        (GroupNorm, {"groups": 2}),
        (LayerNorm, {}),
    ]:
        model.add(layer(**arguments))
    before = [layer.get_config() for layer in model.layers[1:]]
    model.quantize("int8")
    assert [layer.get_config() for layer in model.layers[1:]] == before
    assert np.isfinite(ops.convert_to_numpy(model(X[0, 0]))).all()


def all_in_one():
    model = keras.Sequential(
        [keras.Input((4, 4, 3), batch_size=None), keras.layers.Conv2D(4, 3, padding="same")]
    )
    for layer in (BatchNorm(), PReLU(), GroupNorm(2), SELU(), InstanceNorm(), Swish(), LayerNorm()):
        model.add(layer)
    model.add(keras.layers.Conv2D(2, 3))
    return unlike_at_first(model)


def test_exported_and_reloaded(tmp_path, backend):
    model, x = all_in_one(), np.random.default_rng(3).normal(size=(2, 4, 4, 3)).astype("float32")
    expected = ops.convert_to_numpy(model(x))
    if backend == "torch":  # Keras has no SavedModel on torch with NumPy 2
        import torch

        exported = torch.export.export(model, (torch.from_numpy(x),))
        found = exported.module()(torch.from_numpy(x)).detach().numpy()
    else:
        tf = pytest.importorskip("tensorflow", reason="Keras writes a SavedModel by TensorFlow, on JAX too")
        model.export(tmp_path / "saved", verbose=False)
        loaded = tf.saved_model.load(tmp_path / "saved")
        found = loaded.serve(tf.constant(x)).numpy()
    # a dozen layers in float32, in another order of operations
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
