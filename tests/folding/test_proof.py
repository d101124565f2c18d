"""No wrong fold passes the check: faults planted in folded models, whatever hides them downstream."""

import gc
import itertools
import weakref

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_addons_l6.folding import FoldingError, fold, fold_batch_norm, fold_with_report, verify_folding
from keras_addons_l6.folding.building.rewrite import build
from keras_addons_l6.folding.proving.comparison import judge, measure, worst
from tests.folding.randomize import batch_norms, randomize

DTYPES = ("float32", "mixed_float16", "mixed_bfloat16")
# what the last layer makes of its input: how its kernel is scaled, and its activation
HEADS = {
    "linear": (1.0, None),
    "softmax": (1.0, "softmax"),
    "saturated": (1e3, "softmax"),
    "constant": (0.0, "softmax"),
}
CALLS = (10, 50, 150)


def net(calls=10, head="linear", dtype="float32", forward=False):
    """A chain of `calls` calls: convolution, BatchNorm, ReLU, and a head; `forward` puts a BatchNorm before it."""
    policy = keras.DTypePolicy(dtype)
    inputs = keras.Input((6, 6, 3))
    x = inputs
    for _ in range((calls - 2) // 3):
        x = L.Conv2D(4, 3, padding="same", use_bias=False, dtype=policy)(x)
        x = L.ReLU(dtype=policy)(L.BatchNormalization(dtype=policy)(x))
    x = L.GlobalAveragePooling2D(dtype=policy)(x)
    if forward:
        x = L.BatchNormalization(dtype=policy)(x)
    gain, activation = HEADS[head]
    dense = L.Dense(5, activation=activation, dtype=policy, name="head")
    model = randomize(keras.Model(inputs, dense(x)))
    for norm in batch_norms(model):  # scales of one sign, so that activations neither die out nor grow
        norm.gamma.assign(np.abs(keras.ops.convert_to_numpy(norm.gamma)))
        norm.moving_mean.assign(0.1 * keras.ops.convert_to_numpy(norm.moving_mean))
    dense.kernel.assign(gain * keras.ops.convert_to_numpy(dense.kernel))
    return model


def middle(folded):
    convs = [layer for layer in folded.layers if isinstance(layer, L.Conv2D)]
    return convs[len(convs) // 2]


def _changed(variable, change):
    values = keras.ops.convert_to_numpy(variable).astype("float32")
    variable.assign(change(values))


def kernel_zeroed(folded, model):
    _changed(middle(folded).kernel, np.zeros_like)


def kernel_five_percent_off(folded, model):
    _changed(middle(folded).kernel, lambda kernel: 1.05 * kernel)


def shift_lost(folded, model):
    _changed(middle(folded).bias, np.zeros_like)


def gamma_ignored(folded, model):
    norms = batch_norms(model)
    place = [layer for layer in folded.layers if isinstance(layer, L.Conv2D)].index(middle(folded))
    gamma = keras.ops.convert_to_numpy(norms[place].gamma)
    _changed(middle(folded).kernel, lambda kernel: kernel / gamma)


def channels_swapped(folded, model):
    for variable in (middle(folded).kernel, middle(folded).bias):
        _changed(variable, lambda values: values[..., [1, 0, 2, 3]])


def last_bias_off(folded, model):
    _changed(folded.get_layer("head").bias, lambda bias: bias + 0.1)


FAULTS = (
    kernel_zeroed,
    kernel_five_percent_off,
    shift_lost,
    gamma_ignored,
    channels_swapped,
    last_bias_off,
)
# a sample for every change; the whole table is long
QUICK = {
    (10, "linear", "float32"),
    (10, "constant", "float32"),
    (10, "saturated", "mixed_bfloat16"),
    (10, "softmax", "mixed_float16"),
}
TABLE = [
    pytest.param(*row, marks=() if row in QUICK else pytest.mark.full)
    for row in itertools.product(CALLS, HEADS, DTYPES)
]


@pytest.mark.parametrize(("calls", "head", "dtype"), TABLE)
def test_every_planted_fault_is_refused(calls, head, dtype):
    model = net(calls, head, dtype)
    folded = fold_batch_norm(model)
    weights = folded.get_weights()
    assert verify_folding(model, folded).accepted
    for fault in FAULTS:
        fault(folded, model)
        with pytest.raises(FoldingError, match=r"past the tolerance|has other weights"):
            verify_folding(model, folded)
            pytest.fail(f"{fault.__name__} was accepted")
        folded.set_weights(weights)
    assert verify_folding(model, folded).accepted


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("head", ["saturated", "constant"])
def test_fold_batch_norm_refuses_what_its_builder_got_wrong(fault, head, monkeypatch):
    def wrong(plan):
        folded = build(plan)
        fault(folded, model)
        return folded

    model = net(10, head)
    monkeypatch.setattr(fold, "build", wrong)
    with pytest.raises(FoldingError, match=r"past the tolerance|has other weights"):
        fold_batch_norm(model)


@pytest.mark.parametrize("head", ["linear", "saturated"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_head_that_took_up_a_norm_is_compared_before_its_activation(head, dtype):
    """The BatchNorm before a dense layer moves into it; behind its softmax nothing might be seen."""
    model = net(10, head, dtype, forward=True)
    folded = fold_batch_norm(model)
    assert not batch_norms(folded)
    for name in ("kernel", "bias"):
        variable = getattr(folded.get_layer("head"), name)
        before = keras.ops.convert_to_numpy(variable)
        _changed(variable, lambda values: 1.05 * values)
        with pytest.raises(FoldingError, match="past the tolerance"):
            verify_folding(model, folded)
        variable.assign(before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_stored_in_half_are_folded_again_without_the_cast(dtype):
    model = net(10, "saturated", dtype)
    folding = fold_with_report(model)
    # float32's rounding, though half precision's is a thousand times as much
    assert max(row.error for row in folding.verification.folds) < 1e-4
    assert folding.verification.half
    weights = folding.model.get_weights()
    for fault in FAULTS:
        fault(folding.model, model)
        with pytest.raises(FoldingError, match=r"past the tolerance|has other weights"):
            verify_folding(model, folding.model)
        folding.model.set_weights(weights)


def test_half_precision_is_reported_beside_the_float32_copies():
    folding = fold_with_report(net(50, "linear", "mixed_bfloat16"))
    assert folding.verification.error < 1e-4
    assert folding.verification.half[0].error > 1e-4
    assert "in half precision the outputs differ by" in " ".join(str(folding.report).split())
    assert all(row.tolerance <= 0.05 for row in folding.verification.folds)


def test_where_a_map_moved_forward_those_who_take_it_in_are_compared():
    inputs = keras.Input((5,))
    x = L.ReLU()(L.Dense(4, name="first")(inputs))
    model = randomize(keras.Model(inputs, L.Dense(3, name="second")(L.BatchNormalization(name="norm")(x))))
    folding = fold_with_report(model)
    (row,) = folding.report.folded
    assert (row.into, row.check.at) == (("second",), "second")
    _changed(folding.model.get_layer("second").bias, lambda bias: bias + 0.1)
    with pytest.raises(FoldingError, match="for norm, at 'second'"):
        verify_folding(model, folding.model)


def dead():
    """Nothing passes the first activation, whatever comes in."""
    inputs = keras.Input((6, 6, 3))
    first = L.Conv2D(4, 3, activation="relu", bias_initializer=keras.initializers.Constant(-100.0))
    x = L.BatchNormalization(name="norm")(L.Conv2D(4, 3)(first(inputs)))
    return keras.Model(inputs, L.ReLU()(x))


def test_what_is_constant_is_not_seen_and_asks_for_inputs():
    with pytest.raises(FoldingError, match="saw nothing.*`inputs=`"):
        fold_batch_norm(randomize_norms(dead()))
    folded = fold_batch_norm(
        randomize_norms(dead()), inputs=1e3 * np.random.default_rng(0).normal(size=(4, 6, 6, 3))
    )
    assert not batch_norms(folded)
    assert fold_batch_norm(randomize_norms(dead()), verify=False) is not None


def randomize_norms(model):
    bias = next(layer.bias for layer in model.layers if isinstance(layer, L.Conv2D))
    kept = keras.ops.convert_to_numpy(bias)
    randomize(model)
    bias.assign(kept)
    return model


def test_rows_that_were_not_seen_are_marked_and_counted():
    inputs = keras.Input((6, 6, 3))
    x = L.ReLU()(L.BatchNormalization(name="seen")(L.Conv2D(4, 3)(inputs)))
    x = L.Conv2D(4, 1, activation="relu", bias_initializer=keras.initializers.Constant(-1e4))(x)
    x = L.BatchNormalization(name="blind")(L.Conv2D(4, 3)(x))
    model = keras.Model(inputs, x)
    for norm in batch_norms(model):
        norm.set_weights([np.random.default_rng(0).uniform(0.5, 1.5, w.shape) for w in norm.get_weights()])
    report = fold_with_report(model).report
    assert [row.check.seen for row in report.folded] == [True, False]
    text = " ".join(str(report).split())
    assert "not seen on" in text
    assert "1 of 2 folds not seen on these inputs" in text
    data = report.to_dict()
    assert [row["check"]["seen"] for row in data["rows"]] == [True, False]
    assert data["check"]["not_seen"] == 1


def test_dead_channels_are_counted():
    model = net(10)
    first = batch_norms(model)[0]
    gamma = keras.ops.convert_to_numpy(first.gamma).copy()
    gamma[1] = 0.0
    first.gamma.assign(gamma)
    row = fold_with_report(model).report.folded[0]
    assert (row.check.unseen, row.check.channels) == (1, 4)
    assert "1 of 4 channels not seen" in str(row.check)


def test_a_model_from_a_file_is_compared_by_its_outputs_and_says_so(tmp_path):
    model = net(10)
    fold_batch_norm(model).save(tmp_path / "folded.keras")
    loaded = keras.saving.load_model(tmp_path / "folded.keras")
    found = verify_folding(model, loaded)
    assert found.accepted
    assert not found.folds
    assert "only outputs were compared" in str(found)
    kernel_zeroed(loaded, model)
    with pytest.raises(FoldingError, match="past the tolerance"):
        verify_folding(model, loaded)


@pytest.mark.parametrize("head", ["saturated", "constant"])
def test_outputs_alone_behind_a_blind_head_ask_for_inputs(head, tmp_path):
    model = net(10, "constant" if head == "constant" else "softmax")
    if head == "saturated":
        _changed(model.get_layer("head").bias, lambda bias: 1e3 * np.arange(5.0))
    fold_batch_norm(model).save(tmp_path / "folded.keras")
    with pytest.raises(FoldingError, match="saw nothing.*`inputs=`.*[Oo]nly outputs"):
        verify_folding(model, keras.saving.load_model(tmp_path / "folded.keras"))


def test_another_model_is_refused():
    with pytest.raises(FoldingError, match="past the tolerance"):
        verify_folding(net(10), fold_batch_norm(net(50)))
    two = keras.Input((6, 6, 3))
    with pytest.raises(FoldingError, match="was not folded from"):
        verify_folding(net(10), keras.Model(two, [L.ReLU()(two), two]))
    with pytest.raises(FoldingError, match="Expected a `keras.Model`"):
        verify_folding(net(10), None)


def test_weights_of_the_original_that_changed_since_are_seen():
    model = net(10)
    folded = fold_batch_norm(model)
    _changed(batch_norms(model)[0].beta, lambda beta: beta + 0.1)
    with pytest.raises(FoldingError, match="past the tolerance"):
        verify_folding(model, folded)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (np.zeros((2, 5, 5, 3)), r"array of shape \(None, 6, 6, 3\)"),
        ([np.zeros((2, 6, 6, 3))] * 2, "1 arrays"),
        (np.zeros((0, 6, 6, 3)), "got an array of shape"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, words):
    with pytest.raises(ValueError, match=words):
        fold_batch_norm(net(10), inputs=inputs)


@pytest.mark.parametrize("as_dict", [True, False])
def test_inputs_as_predict_takes_them(as_dict):
    a, b = keras.Input((4,), name="a"), keras.Input((5,), name="b")
    x = L.BatchNormalization()(L.Add()([L.Dense(3)(a), L.Dense(3)(b)]))
    model = randomize(keras.Model({"a": a, "b": b} if as_dict else [a, b], x))
    arrays = {"a": np.ones((7, 4)), "b": np.arange(35.0).reshape(7, 5)}
    folded = fold_batch_norm(model, inputs=arrays if as_dict else list(arrays.values()))
    assert not batch_norms(folded)


def test_a_folded_model_holds_on_to_nothing():
    model = net(10)
    folded = fold_batch_norm(model)
    alive = weakref.ref(model), weakref.ref(folded)
    del model
    gc.collect()
    assert alive[0]() is None
    del folded
    gc.collect()
    assert alive[1]() is None


def test_progress_ends_with_the_numbers(capsys):
    fold_batch_norm(net(10), verbose=1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 4  # off a terminal, one line a stage
    assert "2 folded, 0 kept. Largest error" in lines[-1]


def test_one_scale_for_each_channel():
    """A channel a millionth the size of its neighbour is measured by its own spread."""
    expected = np.random.default_rng(0).normal(size=(64, 2)) * [1.0, 1e-6]
    found = expected.copy()
    found[:, 1] *= 1.05
    row = judge("x", "x", measure(expected.astype("float32"), found.astype("float32"), 1), 1e-6)
    assert row.refused
    # reported on the scale of the whole
    assert row.error < 1e-6


@pytest.mark.parametrize(("times", "refused"), [(11, False), (21, True)])
def test_a_right_fold_may_come_to_some_times_the_noise(times, refused):
    expected = np.random.default_rng(0).normal(size=(64, 1))
    row = judge("x", "x", measure(expected, expected + times * 1e-4, 1), 1e-6, noise=np.array([1e-4]))
    assert (row.refused, row.seen) == (refused, True)


def test_no_tolerance_beyond_the_limit_is_taken():
    expected = np.random.default_rng(0).normal(size=(64, 1))
    loud = judge("x", "x", measure(expected, 1.2 * expected, 1), 1e-6, noise=np.array([10.0]))
    assert (loud.refused, loud.seen) == (False, False)
    quiet = judge("x", "x", measure(expected, 1.2 * expected, 1), 10.0)
    assert quiet.refused
    assert worst([loud, quiet]) is quiet


def test_terms_that_cancel_behind_a_dead_channel_are_no_fault():
    """Where x is zero, BatchNorm gives beta - mean s: a small difference of two numbers that are rounded."""
    inputs = keras.Input((6, 6, 3))
    dead = L.Conv2D(4, 1, activation="relu", bias_initializer=keras.initializers.Constant([-1e3, 0, 0, 0]))
    norm = L.BatchNormalization()
    model = keras.Model(inputs, norm(L.DepthwiseConv2D(3, use_bias=False)(dead(inputs))))
    scale = np.float32(1.0) / np.sqrt(np.float32(0.3) + np.float32(norm.epsilon))
    mean = np.array([7.0 / 3.0, 0.1, 0.2, 0.3], "float32")
    norm.set_weights([np.ones(4), mean * scale, mean, np.full(4, 0.3)])
    assert fold_with_report(model).verification.folds[0].unseen == 1
