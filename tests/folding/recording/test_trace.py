"""Recording: `training` as inference says it, blocks laid flat, weights of a `call`'s own, time steps."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

from keras_addons_l6.folding import fold_batch_norm, fold_with_report, inspect_batch_norm, verify_folding
from tests.folding.models import BN, IMAGE, chain, seq
from tests.folding.randomize import batch_norms, randomize
from tests.folding.test_awkward_models import assert_same_outputs


class Steps(L.Layer):
    """A block of layers, one after another, each of which is told `training`."""

    def __init__(self, *steps, tell=True):
        super().__init__()
        self.steps, self.tell = list(steps), tell

    def call(self, x, training=None):
        for step in self.steps:
            x = step(x, training=training) if self.tell else step(x)
        return x


class Scaled(L.Layer):
    """scale * norm(conv(x)) + shift, with a scale and shift of its own."""

    def __init__(self, filters=4):
        super().__init__()
        self.conv, self.norm = L.Conv2D(filters, 3), BN()
        self.filters = filters

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(self.filters,), initializer="random_normal", name="scale")
        self.shift = self.add_weight(
            shape=(1, 1, self.filters), initializer="random_normal", trainable=False, name="shift"
        )

    def call(self, x):
        return self.scale * self.norm(self.conv(x)) + self.shift


def folded_whole(model):
    """The folded model, with nothing left of BatchNorm and the same outputs."""
    model = randomize(model)
    folded = fold_batch_norm(model)
    assert not batch_norms(folded)
    assert_same_outputs(model, folded)
    return folded


@pytest.mark.parametrize(
    "layer", [L.Identity, L.Flatten, L.ReLU, lambda: L.Cropping2D(1), L.GlobalMaxPooling2D]
)
def test_training_is_handed_to_a_layer_whose_call_lacks_it(layer):
    folded_whole(chain(IMAGE, Steps(L.Conv2D(4, 3), BN(), layer())))


def test_training_is_handed_to_a_merging_layer():
    class Residual(L.Layer):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.add = L.Conv2D(3, 1), BN(), L.Add()

        def call(self, x, training=None):
            return self.add([x, self.norm(self.conv(x), training=training)], training=training)

    folded_whole(chain(IMAGE, Residual()))


@pytest.mark.parametrize(
    "layer", [lambda: L.Resizing(6, 6), lambda: L.CenterCrop(5, 5), lambda: L.RandomFlip()]
)
@pytest.mark.parametrize("in_block", [True, False])
def test_a_layer_that_trains_by_default_is_called_in_inference(layer, in_block):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.conv, self.norm = layer(), L.Conv2D(4, 3), BN()

        def call(self, x):
            return self.norm(self.conv(self.first(x)))

    if in_block:
        model = chain(IMAGE, Steps(layer(), L.Conv2D(4, 3), BN(), tell=False))
    else:
        model = Net()
        model(np.ones((1, *IMAGE), "float32"))
    folded_whole(model)


def test_strided_convolutions_in_a_block_of_open_sizes():
    steps = [step for _ in range(3) for step in (L.Conv2D(4, 3, strides=2), BN(), L.ReLU())]
    report = inspect_batch_norm(randomize(chain((None, None, 3), Steps(*steps))))
    assert len(report.folded) == 3


def test_two_inputs_of_a_block_fit_each_other():
    """Random inputs of one open size would be wrong: the second is half as large as the first."""

    class Merge(L.Layer):
        def __init__(self):
            super().__init__()
            self.up, self.conv, self.norm = L.UpSampling2D(2), L.Conv2D(3, 1), BN()

        def call(self, large, small):
            return large + self.norm(self.conv(self.up(small)))

        def compute_output_shape(self, large_shape, small_shape):
            return large_shape

    inputs, merge = keras.Input((None, None, 3)), Merge()
    merge(np.ones((1, 4, 4, 3)), np.ones((1, 2, 2, 3)))
    model = keras.Model(inputs, merge(inputs, L.AveragePooling2D(2)(inputs)))
    assert len(inspect_batch_norm(model).folded) == 1


def test_the_reason_for_a_block_that_is_kept_is_the_true_one():
    class Needs250(L.Layer):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = L.Conv2D(2, 250), BN()

        def call(self, x):
            return self.norm(self.conv(x))

        def compute_output_shape(self, shape):
            return (shape[0], None, None, 2)

    class Eager(L.Layer):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = L.Dense(2), BN()

        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                raise TypeError("no symbols, please")
            return self.norm(self.dense(x))

        def compute_output_shape(self, shape):
            return (*shape[:-1], 2)

    large, eager = Needs250(), Eager()
    large(np.ones((1, 250, 250, 3), "float32"))
    eager(np.ones((1, 3), "float32"))
    for model, words in (
        (chain((None, None, 3), large), "could not be tried on inputs of open sizes from 16 to 224"),
        (chain((3,), eager), "no symbols, please"),
    ):
        (row,) = inspect_batch_norm(model).kept
        assert row.reason.code == "opaque"
        assert words in row.reason.sentence
        assert "Exception encountered when calling" not in row.reason.sentence


def test_a_block_may_ask_its_layers_for_shapes_by_hand():
    """Its own `compute_output_spec` may hand symbolic tensors about that no call made."""

    class Inner(L.Layer):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = L.Dense(4), BN()

        def call(self, x):
            return self.norm(self.dense(x))

    class Outer(L.Layer):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                return keras.KerasTensor((None, 4))
            return self.inner(x)

        def compute_output_spec(self, x):
            return self.inner.compute_output_spec(keras.KerasTensor(x.shape, x.dtype))

    outer = Outer()
    outer(np.ones((1, 3), "float32"))
    (row,) = inspect_batch_norm(randomize(chain((3,), outer))).kept
    assert "a symbolic tensor that no call made" in row.reason.sentence


def test_layers_of_one_name_in_a_block():
    folded = folded_whole(
        chain(IMAGE, Steps(*[L.Conv2D(3, 3, name="conv"), BN(name="norm"), L.Conv2D(3, 3, name="conv")]))
    )
    assert len({layer.name for layer in folded.layers}) == len(folded.layers)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_weight_of_a_blocks_own_stays_a_weight(dtype, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        block = Scaled()
        model = randomize(chain(IMAGE, block, L.ReLU()))
        folded = fold_batch_norm(model)
    finally:
        keras.config.set_dtype_policy(before)
    assert not batch_norms(folded)
    assert_same_outputs(model, folded)
    tables = [layer for layer in folded.layers if isinstance(layer, L.Embedding)]
    assert sorted(len(layer.trainable_weights) for layer in tables) == [0, 1]
    assert all(weight.dtype == "float32" for layer in tables for weight in layer.weights)
    folded.save(tmp_path / "folded.keras")
    assert_same_outputs(model, keras.saving.load_model(tmp_path / "folded.keras"))


USES = {
    "right of a value": lambda y, scale: y * scale,
    "left of a value": lambda y, scale: scale * y,
    "in an operation": lambda y, scale: ops.multiply(scale, y),
    "through an operation": lambda y, scale: ops.sigmoid(scale) * y,
    "reshaped": lambda y, scale: ops.reshape(scale, (1, 1, 1, 4)) * y,
    "indexed": lambda y, scale: scale[None, None] * y,
    "one minus": lambda y, scale: (1 - scale) * y,
    "negative": lambda y, scale: -scale * y,
    "cast": lambda y, scale: ops.cast(scale, y.dtype) * y,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_however_a_call_uses_its_weight(use, dtype):
    class Block(L.Layer):
        def __init__(self):
            super().__init__(dtype=dtype)
            self.conv, self.norm = L.Conv2D(4, 3, dtype=dtype), BN(dtype=dtype)

        def build(self, input_shape):
            self.kept = [self.add_weight(shape=(4,), initializer="random_normal", name="scale")]

        def call(self, x):
            return USES[use](self.norm(self.conv(x)), self.kept[0])

    folded = folded_whole(chain(IMAGE, Block()))
    assert sum(isinstance(layer, L.Embedding) for layer in folded.layers) == 1


def test_a_block_may_use_another_layers_weight():
    """In mixed precision a BatchNorm's own weights stay in float32, and those of a layer do not."""

    class Tied(L.Layer):
        def __init__(self):
            super().__init__(dtype="mixed_bfloat16")
            self.dense, self.norm = L.Dense(3, dtype=self.dtype_policy), BN(dtype=self.dtype_policy)

        def call(self, x):
            y = ops.matmul(self.norm(self.dense(x)), self.dense.kernel)
            return ops.cast(y, "float32") * self.norm.gamma

    folded_whole(chain((3,), Tied()))


def test_a_weight_that_must_be_one_becomes_a_constant():
    """A `call` may ask a weight for what no symbolic tensor has."""

    class Asks(Scaled):
        def call(self, x):
            assert self.scale.trainable
            return self.scale - self.norm(self.conv(x)) * self.scale

    folded_whole(chain(IMAGE, Asks()))


def test_a_block_with_a_weight_and_nothing_to_fold_stays_whole():
    class Gate(L.Layer):
        def build(self, input_shape):
            self.gate = self.add_weight(shape=(3,), name="gate")

        def call(self, x):
            return x * self.gate

        def get_config(self):
            return super().get_config()

    folded = fold_batch_norm(randomize(chain(IMAGE, L.Conv2D(3, 1), BN(), Gate())))
    assert type(folded.layers[-1]) is Gate


def test_a_model_with_blocks_is_known_again():
    """What a `call` makes anew has another name at each recording; each fold is compared all the same."""

    class Resized(Scaled):
        def call(self, x):
            return ops.relu(super().call(L.Resizing(6, 6)(x)))

    model = randomize(chain(IMAGE, Resized()))
    check = verify_folding(model, fold_batch_norm(model))
    assert len(check.folds) == 1
    assert not check.outputs_only


def test_time_steps_are_merged_once():
    inner = seq(IMAGE, L.Conv2D(4, 3), BN(), L.ReLU(), L.Conv2D(4, 1), BN())
    model = chain((4, *IMAGE), L.TimeDistributed(inner), L.ReLU(), L.TimeDistributed(L.Conv2D(3, 1)), BN())
    folded = folded_whole(model)
    assert sum(isinstance(layer, L.Conv2D) for layer in folded.layers) == 3
    # into the batch at the front, and off it at the end
    assert [type(each).__name__ for each in folded.operations].count("Reshape") == 2


def test_a_mask_keeps_time_distributed_whole():
    model = chain((4, 5), L.Masking(), L.TimeDistributed(seq((5,), L.Dense(3), BN())))
    (row,) = inspect_batch_norm(randomize(model)).kept
    assert "mask" in row.reason.sentence


def test_blocks_are_traced_in_proportion_to_their_calls():
    """Each `call` is run on symbolic tensors once, however deep it lies, and by nothing but its trials else."""
    runs = []

    class Nest(L.Layer):
        def __init__(self, inside):
            super().__init__()
            self.inside = inside

        def call(self, x):
            runs.append(isinstance(x, keras.KerasTensor))
            return self.inside(x)

    nest = L.Conv2D(3, 1)
    for _ in range(5):
        nest = Nest(nest)
    model = chain(IMAGE, nest, BN())
    runs.clear()
    assert len(inspect_batch_norm(model).folded) == 1
    assert sum(runs) == 5
    # the trial of a block runs the blocks inside it
    assert len(runs) - sum(runs) == 5 + 4 + 3 + 2 + 1


def test_a_block_that_draws_numbers_stays_whole():
    class Noisy(L.Layer):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = L.Dense(3), BN()
            self.seeds = keras.random.SeedGenerator(0)

        def call(self, x):
            return self.norm(self.dense(x)) + keras.random.normal((3,), seed=self.seeds)

    (row,) = inspect_batch_norm(randomize(chain((3,), Noisy()))).kept
    assert row.reason.code == "opaque"


def test_a_block_that_asks_for_its_size_is_found_out():
    class Sized(L.Layer):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = L.Dense(3), BN()

        def call(self, x):
            y = self.norm(self.dense(x))
            return ops.relu(y) if (x.shape[1] or 0) > 16 else y

        def compute_output_shape(self, shape):
            return shape

    sized = Sized()
    sized(np.ones((1, 2, 3), "float32"))
    (row,) = inspect_batch_norm(randomize(chain((None, 3), sized))).kept
    assert "do not compute" in row.reason.sentence


def test_each_kind_of_arguments_is_tried():
    class Switched(L.Layer):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = L.Dense(3), BN()

        def call(self, x, honest):
            y = self.norm(self.dense(x))
            return y if honest or isinstance(x, keras.KerasTensor) else y * 3

    inputs, block = keras.Input((3,)), Switched()
    model = keras.Model(inputs, block(block(inputs, honest=True), honest=False))
    report = inspect_batch_norm(randomize(model))
    assert [row.reason.code for row in report.kept] == ["opaque"]


def test_dead_values_do_not_blind_the_trial():
    class TwoFaced(L.Layer):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = L.Dense(3, use_bias=False), BN(center=False)

        def call(self, x):
            y = self.norm(self.dense(x))
            return y if isinstance(x, keras.KerasTensor) else y * 3

    inputs = keras.Input((3,))
    model = keras.Model(inputs, TwoFaced()(ops.zeros_like(inputs)))
    (row,) = inspect_batch_norm(model).kept
    assert row.reason.code == "opaque"


def test_a_subclassed_models_own_weight_stays_a_weight():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = L.Dense(4), BN()

        def build(self, input_shape):
            self.scale = self.add_weight(shape=(4,), initializer="random_normal", name="scale")

        def call(self, x):
            return self.norm(self.dense(x)) * self.scale

    model = Own()
    model(np.zeros((2, 5), "float32"))
    folding = fold_with_report(randomize(model))
    assert not folding.report.kept
    assert sorted(tuple(w.shape) for w in folding.model.trainable_weights) == [(1, 4), (4,), (5, 4)]


class Whole(L.Layer):
    """A block that cannot be recorded, with a BatchNorm in it."""

    def __init__(self):
        super().__init__()
        self.dense, self.norm = L.Dense(4), BN()

    def call(self, x):
        y = self.norm(self.dense(x))
        return ops.cast(y if isinstance(x, keras.KerasTensor) else y * 3, "float32")


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_a_block_that_stays_whole_keeps_its_numbers_in_mixed_precision(dtype):
    """Its BatchNorm's weights are not cast to half, and its float32 output does not hide what it computes in."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        model = randomize(chain((5,), Whole()))
    finally:
        keras.config.set_dtype_policy(before)
    folding = fold_with_report(model)
    assert [row.reason.code for row in folding.report.kept] == ["opaque"]
    x = np.random.default_rng(0).standard_normal((16, 5)).astype("float32")
    expected, found = (ops.convert_to_numpy(each(x, training=False)) for each in (model, folding.model))
    np.testing.assert_array_equal(found, expected)
    assert folding.verification.half, "its outputs are float32, and its numbers are half"


def test_a_block_whose_calls_say_another_type_stays_whole():
    """Keras's symbolic tensors tell float32 on torch where the numbers are float64."""

    class Wide(L.Layer):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = L.Dense(4), BN()
            self.shift = keras.Variable(np.arange(4.0))

        def call(self, x):
            return ops.add(self.norm(self.dense(x)), self.shift)

    model = randomize(chain((5,), Wide()))
    assert_same_outputs(model, fold_batch_norm(model))
