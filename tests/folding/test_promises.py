"""What a folded model promises: plain, saved and loaded, folded again; and what a check that fails says."""

import json

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_addons_l6.folding import FoldingError, fold_batch_norm, fold_with_report, inspect_batch_norm
from keras_addons_l6.folding.planning import plan as planning
from keras_addons_l6.folding.planning.affine import Affine, Placed
from keras_addons_l6.folding.proving.comparison import measure
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.report import shortened
from keras_addons_l6.layers import BatchNorm
from tests.folding import blocks as B
from tests.folding.models import BN, CASES, IMAGE, seq
from tests.folding.randomize import batch_norms, randomize
from tests.folding.test_awkward_models import as_array, assert_same_outputs, inputs_of
from tests.reference import folding as reference

# whose folded models hold nothing but stock layers, though the originals do not
TRACED = [
    "subclassed",
    "subclassed, residual",
    "subclassed, own weight",
    "subclassed, positions",
    "weight tying",
]
TRACED += ["block in a block", "lambda that scales", "functional with its own call", "block, shared"]
TRACED += ["nested dictionaries", "dictionaries", "conv2d groups", "mask through a norm", "mixed float16"]


def built(name):
    return randomize(next(case for case in CASES if case.name == name).build())


def simple():
    return randomize(seq(IMAGE, L.Conv2D(4, 3, name="conv"), BN(name="norm"), L.ReLU(name="relu")))


@pytest.mark.parametrize("name", TRACED)
def test_saved_and_loaded_without_the_users_classes(name, tmp_path):
    model = built(name)
    folded = fold_batch_norm(model)
    assert all(type(layer).__module__.startswith("keras.") for layer in folded.layers)
    folded.save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    assert_same_outputs(folded, loaded)
    assert_same_outputs(model, loaded)


@pytest.mark.parametrize(
    "name", [*TRACED, "conv twice, two norms", "pre-activation", "no norm", "two inputs"]
)
def test_folding_again_changes_nothing(name):
    folded = fold_batch_norm(built(name), verify=False)
    again = fold_batch_norm(folded, verify=False)
    assert not inspect_batch_norm(folded).folded
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in folded.layers]
    assert [layer.name for layer in again.layers] == [layer.name for layer in folded.layers]
    for a, b in zip(folded.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "name",
    [
        "conv2d",
        "dictionaries",
        "two inputs",
        "norm is an output",
        "nested",
        "an input is an output",
    ],
)
def test_names_structure_and_types_stay(name):
    model = built(name)
    folded = fold_batch_norm(model, verify=False)
    assert folded.name == model.name
    assert [x.name for x in folded.inputs] == [x.name for x in model.inputs]
    assert [(x.shape, x.dtype) for x in folded.outputs] == [(x.shape, x.dtype) for x in model.outputs]
    if hasattr(model, "output_names"):
        assert folded.output_names == model.output_names


def test_predict_and_fit_leave_the_other_model_alone():
    """On JAX `predict` and `fit` donate buffers; a shared one would be gone afterwards."""
    model = simple()
    folded = fold_batch_norm(model)
    x = np.random.default_rng(0).normal(size=(4, *IMAGE)).astype("float32")
    before = model.predict(x, verbose=0)
    np.testing.assert_allclose(folded.predict(x, verbose=0), before, atol=1e-5)
    folded.compile("sgd", "mse")
    folded.fit(x, before, verbose=0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_a_model_without_batch_norm_comes_back_equal():
    model = randomize(seq((5,), L.Dense(4, activation="relu", kernel_regularizer="l2"), L.Dense(3)))
    folding = fold_with_report(model)
    assert len(folding.report) == 0
    assert str(folding.report) == f"Model '{model.name}': 0 BatchNorm calls, 0 folded, 0 kept."
    assert [layer.get_config() for layer in folding.model.layers[1:]] == [
        layer.get_config() for layer in model.layers
    ]
    for a, b in zip(model.get_weights(), folding.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert folding.verification.error == 0


def test_float64_within_1e_12_of_numpy(float64):
    """Keras itself computes BatchNormalization in float32 on JAX and torch, so NumPy is the judge."""
    model = randomize(
        seq(IMAGE, L.Conv2D(4, 3), BN(), L.ReLU(), L.DepthwiseConv2D(2), BN(epsilon=0.01), L.ReLU())
    )
    conv, first, _, depthwise, second, _ = model.layers
    x = np.random.default_rng(0).normal(size=(2, *IMAGE))

    y = np.maximum(norm_in_numpy(first, reference.conv(x, *map(as_array, conv.weights))), 0)
    y = np.maximum(norm_in_numpy(second, reference.depthwise(y, *map(as_array, depthwise.weights))), 0)

    folding = fold_with_report(model)
    assert not folding.report.kept
    found = as_array(folding.model(x, training=False))
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-12 * np.abs(y).max())


def norm_in_numpy(layer, x):
    weights = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    return reference.batch_norm(x, *map(as_array, weights), layer.epsilon, layer.axis)


def test_our_batch_norm_folds():
    model = randomize(
        seq(
            IMAGE,
            L.Conv2D(4, 3),
            BatchNorm(),
            L.ReLU(),
            L.Conv2D(4, 3, padding="same"),
            BatchNorm(epsilon=0.1),
        )
    )
    folding = fold_with_report(model)
    assert not folding.report.kept
    assert not batch_norms(folding.model)


def test_our_batch_norm_that_stays_takes_up_another():
    model = randomize(seq((5,), L.ReLU(), BatchNorm(scale=False), BN(), L.ReLU()))
    folded = fold_batch_norm(model)
    (norm,) = batch_norms(folded)
    assert type(norm) is BatchNorm


def test_the_report_reads_as_a_table_and_as_data():
    model = randomize(
        seq(
            IMAGE,
            B_conv := L.Conv2D(4, 3, kernel_regularizer="l2", name="conv"),
            BN(name="first"),
            L.ReLU(),
            BN(name="second"),
            L.ReLU(),
        )
    )
    report = inspect_batch_norm(model)
    (folded,), (kept,) = report.folded, report.kept
    assert (folded.layer, folded.into, folded.reason.code) == ("first", ("conv",), "back")
    assert folded.notes == ("kernel_regularizer of 'conv' dropped",)
    assert (kept.layer, kept.into, kept.reason.code) == ("second", (), "activation")
    assert B_conv.name in str(report)
    assert kept.reason.code in str(report)
    data = json.loads(json.dumps(report.to_dict()))
    assert [row["folded"] for row in data["rows"]] == [True, False]
    assert fold_with_report(model).report == report
    assert max(map(len, str(report).splitlines())) <= 80


def test_only_a_layer_that_took_something_up_loses_its_regularizer():
    model = randomize(
        seq((5,), L.Dense(4, kernel_regularizer="l2"), BN(), L.ReLU(), L.Dense(3, kernel_regularizer="l2"))
    )
    dense = [layer for layer in fold_batch_norm(model).layers if isinstance(layer, L.Dense)]
    assert dense[0].kernel_regularizer is None
    assert dense[1].kernel_regularizer is not None


def test_trainable_stays():
    model = seq((5,), L.Dense(4), L.Dense(3), BN())
    model.layers[0].trainable = False
    folded = fold_batch_norm(model)
    assert [layer.trainable for layer in folded.layers if isinstance(layer, L.Dense)] == [False, True]
    model.trainable = False
    assert not fold_batch_norm(model).trainable


def test_preprocessing_keeps_its_state():
    data = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 5)).astype("float32")
    normalization = L.Normalization()
    normalization.adapt(data)
    model = randomize(seq((5,), normalization, L.Dense(4), BN()))
    assert fold_with_report(model).verification.error < 1e-5


def test_lookup_keeps_its_vocabulary():
    try:
        lookup = L.IntegerLookup(vocabulary=[7, 9, 11])
    except ImportError as error:  # from Keras 3.16 on lookups are TensorFlow's on every backend
        pytest.skip(str(error))
    inputs = keras.Input((4,), dtype="int32")
    model = randomize(keras.Model(inputs, BN()(L.Embedding(5, 3)(lookup(inputs)))))
    folded = fold_batch_norm(model)
    x = np.array([[7, 9, 11, 5]])
    np.testing.assert_allclose(as_array(folded(x)), as_array(model(x)), atol=1e-5)


def test_lora_is_merged():
    folded = fold_batch_norm(built("lora dense"))
    assert [w.name for w in folded.weights] == ["kernel", "bias"]
    unfolded = randomize(seq((5,), L.Dense(4)))
    unfolded.layers[0].enable_lora(2)
    randomize(unfolded)
    merged = fold_batch_norm(unfolded)
    assert [w.name for w in merged.weights] == ["kernel", "bias"]


def test_layer_without_a_configuration_is_copied():
    class Odd(L.Layer):
        """Has a weight, so it is not traced, and a constructor that no configuration can serve."""

        def __init__(self, function):
            super().__init__()
            self.function, self.inner = function, L.Dense(4)

        def build(self, input_shape):
            self.inner.build(input_shape)
            self.gate = self.add_weight(shape=(4,), initializer="random_normal")

        def call(self, x):
            return self.function(self.inner(x)) * self.gate

    model = randomize(seq((5,), L.Dense(4), BN(), Odd(lambda x: x + 1), L.Dense(3), BN()))
    folded = fold_batch_norm(model)
    assert not batch_norms(folded)
    assert not {id(v) for v in model.variables} & {id(v) for v in folded.variables}
    x = np.ones((2, 5), "float32")
    before = as_array(folded(x))
    model.layers[2].gate.assign(np.zeros(4))
    np.testing.assert_array_equal(as_array(folded(x)), before)


@pytest.mark.parametrize(
    ("signature", "names"),
    [
        ([keras.KerasTensor((None, 4)), keras.KerasTensor((None, 5))], ["x", "y"]),
        ([(None, 4), (None, 5)], ["x", "y"]),
    ],
)
def test_input_signature(signature, names):
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm = L.Dense(3), L.Dense(3), BN()

        def call(self, x, y, scale=2.0, training=None):
            return self.norm(self.a(x) + self.b(y), training=training) * scale

    model = Two()
    model(np.ones((2, 4)), np.ones((2, 5)))
    with pytest.raises(FoldingError, match="input_signature"):
        fold_batch_norm(randomize(model))
    folded = fold_batch_norm(model, input_signature=signature)
    assert not batch_norms(folded)
    assert list(folded.input) == names


def test_input_signature_of_one_argument():
    model = B.Residual()
    model(np.zeros((2, 8, 8, 3), "float32"))
    folded = fold_batch_norm(randomize(model), input_signature=keras.KerasTensor((None, None, None, 3)))
    assert folded.input.shape == (None, None, None, 3)
    assert fold_batch_norm(model, input_signature=[(None, 16, 16, 3)]).input.shape == (None, 16, 16, 3)


def test_indices_of_a_subclassed_model_are_whole_numbers():
    folded = fold_batch_norm(built("subclassed, positions"))
    assert folded.input.dtype == "int32"


class Branching(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.norm = L.Dense(4), BN()

    def call(self, x):
        if as_array(x).sum() > 0:
            return self.norm(self.dense(x))
        return x


class MonteCarlo(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.norm, self.dropout = L.Dense(4), BN(), L.Dropout(0.5)

    def call(self, x):
        return self.dropout(self.norm(self.dense(x)), training=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: keras.Sequential([L.Dense(3), BN()]), "not built"),
        (lambda: B.Subclassed(), "not built"),
        (lambda: L.Dense(3), "Expected a `keras.Model`"),
        (lambda: None, "Expected a `keras.Model`"),
        (lambda: called(Branching()), "cannot be traced|are not known"),
        (lambda: called(MonteCarlo()), "training=True"),
    ],
)
def test_what_cannot_be_folded_is_an_error(make, words):
    model = make()
    for function in (inspect_batch_norm, fold_batch_norm):
        with pytest.raises(FoldingError, match=words):
            function(model)


def called(model):
    model(np.ones((2, 4), "float32"))
    return model


def test_a_wrong_fold_is_found(monkeypatch):
    """One channel's shift is off by a thousandth of the output."""
    true_map = planning.placed_map

    def wrong_map(call):
        placed = true_map(call)
        shift = placed.affine.shift.copy()
        shift[0] += 1e-3 * np.abs(shift).max()
        return Placed(Affine(placed.affine.scale, shift), placed.axis)

    model = simple()
    monkeypatch.setattr(planning, "placed_map", wrong_map)
    with pytest.raises(FoldingError, match=r"past the tolerance of \d.*; the model's own noise .* is \d"):
        fold_batch_norm(model)
    assert fold_batch_norm(model, tolerance=1.0) is not None
    assert fold_batch_norm(model, verify=False) is not None


def test_tolerance_is_kept():
    with pytest.raises(FoldingError, match=r"past the tolerance of 0\.00e"):
        fold_batch_norm(simple(), tolerance=0.0)


def test_a_chaotic_model_is_measured_by_its_own_noise():
    """x -> 4 x (1 - x), forty times, doubles any rounding each time."""

    def function(x):
        x = keras.ops.sigmoid(BN()(L.Dense(64)(x)))
        for _ in range(40):
            x = 4.0 * x * (1.0 - x)
        return x

    inputs = keras.Input((5,))
    folding = fold_with_report(randomize(keras.Model(inputs, function(inputs))))
    (outputs,) = folding.verification.outputs
    assert outputs.noise > 1e-3
    assert not outputs.seen  # the fold itself, before the chaos, decides
    assert folding.verification.accepted
    assert folding.verification.error < 1e-5


def test_nothing_not_a_number_appears_or_goes():
    nan = np.array([[1.0, np.nan]], "float32")
    pairs = [(nan, np.ones_like(nan)), (np.ones_like(nan), nan), (nan, nan.astype("float64"))]
    assert measure(nan, nan).difference == 0
    assert all(measure(a, b).difference == np.inf for a, b in pairs)
    assert measure(np.array([3]), np.array([4])).difference == np.inf


def test_names_are_shortened_in_the_middle_and_stay_apart():
    names = [
        f"backbone/stage{i}/block{j}/bottleneck/conv{k}_bn"
        for i in range(9)
        for j in range(9)
        for k in range(9)
    ]
    short = shortened([*names, "norm"], 22)
    assert short["norm"] == "norm"
    assert max(map(len, short.values())) == 22
    assert len(set(short.values())) == len(short)


def test_a_reason_has_one_of_the_codes():
    with pytest.raises(ValueError, match="'because' is no reason"):
        Reason("because", "it is so")


def test_statistics_that_are_not_numbers_do_not_stop_the_rest():
    model = randomize(seq((5,), L.Dense(4), BN(name="good"), L.ReLU(), L.Dense(4), BN(name="bad")))
    model.layers[-1].moving_variance.assign(np.full(4, -1.0))
    folding = fold_with_report(model)
    assert [row.layer for row in folding.report.folded] == ["good"]
    assert [row.reason.code for row in folding.report.kept] == ["statistics"]


def test_progress(capsys):
    fold_batch_norm(simple(), verbose=1)
    captured = capsys.readouterr()
    assert "building the folded model" in captured.err
    assert captured.out == ""
    fold_batch_norm(simple(), verbose=0)
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="verbose"):
        fold_batch_norm(simple(), verbose="loud")


def test_inputs_without_optional_ones_are_compared():
    (full, partial) = inputs_of(fold_batch_norm(built("optional input")))
    assert full[1] is not None
    assert partial[1] is None
