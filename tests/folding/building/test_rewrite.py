"""Building: outputs keep their names where one layer made several, and nothing collides with a user's names."""

import keras
import pytest
from keras import layers as L

from keras_addons_l6.folding import fold_batch_norm
from tests.folding.models import BN, IMAGE, seq
from tests.folding.randomize import batch_norms, randomize
from tests.folding.test_awkward_models import assert_same_outputs


class Pyramid(L.Layer):
    """Two levels out of one block."""

    def __init__(self):
        super().__init__()
        self.convs, self.norms = [L.Conv2D(4, 3), L.Conv2D(4, 3, strides=2)], [BN(), BN()]

    def call(self, x):
        first = self.norms[0](self.convs[0](x))
        return {"p2": first, "p3": self.norms[1](self.convs[1](first))}


def siamese():
    encoder = seq(IMAGE, L.Conv2D(4, 3), BN())
    a, b = keras.Input(IMAGE), keras.Input(IMAGE)
    return keras.Model([a, b], [encoder(a), encoder(b)])


def siamese_in_a_structure():
    encoder = seq(IMAGE, L.Conv2D(4, 3), BN(), L.ReLU())
    a, b = keras.Input(IMAGE, name="a"), keras.Input(IMAGE, name="b")
    return keras.Model({"a": a, "b": b}, {"left": [encoder(a)], "right": encoder(b)})


def one_norm_after_two():
    inputs, norm = keras.Input(IMAGE), BN(name="norm")
    return keras.Model(inputs, [norm(L.Conv2D(4, 3)(inputs)), norm(L.Conv2D(4, 5)(inputs))])


def one_norm_inside_and_at_the_end():
    inputs, norm = keras.Input(IMAGE), BN(name="norm")
    first = norm(L.Conv2D(4, 1)(inputs))
    return keras.Model(inputs, [first, norm(L.Conv2D(4, 1)(L.ReLU()(first)))])


def pyramid():
    inputs = keras.Input(IMAGE)
    return keras.Model(inputs, Pyramid()(inputs))


def three_calls_of_one_layer():
    inputs, conv = keras.Input((8, 8, 4)), L.Conv2D(4, 1, name="conv")
    y = conv(inputs)
    z = conv(L.ReLU()(y))
    return keras.Model(inputs, [y, z, BN()(L.Conv2D(2, 1)(z))])


def several_states():
    inputs = keras.Input((6, 5))
    return keras.Model(inputs, list(L.SimpleRNN(3, return_state=True)(BN()(L.Dense(4)(inputs)))))


MODELS = [siamese, siamese_in_a_structure, one_norm_after_two, one_norm_inside_and_at_the_end, pyramid]
MODELS += [three_calls_of_one_layer, several_states]


@pytest.mark.parametrize("make", MODELS)
def test_several_outputs_of_one_layer(make, tmp_path):
    model = randomize(make())
    folded = fold_batch_norm(model)
    assert not batch_norms(folded)
    assert_same_outputs(model, folded)
    assert folded.output_names == model.output_names
    assert len({layer.name for layer in folded.layers}) == len(folded.layers)
    folded.save(tmp_path / "folded.keras")
    assert_same_outputs(model, keras.saving.load_model(tmp_path / "folded.keras"))


def test_one_call_kept_and_one_folded_share_their_output_name():
    """Which calls fold is decided apart; the one that stays must leave the name to the Identity."""
    inputs, norm = keras.Input(IMAGE), BN(name="norm")
    model = randomize(keras.Model(inputs, [norm(L.Conv2D(3, 1)(inputs)), norm(L.ReLU()(inputs))]))
    folded = fold_batch_norm(model)
    assert len(batch_norms(folded)) == 1
    assert folded.output_names == ["norm", "norm"]
    assert_same_outputs(model, folded)


class Remembers(L.Layer):
    """A layer whose configuration holds what `build` put in an argument's place: its own weight."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(), initializer=keras.initializers.Constant(self.factor))

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def test_a_weight_in_a_configuration_is_not_shared():
    inputs = keras.Input((3,))
    layer = Remembers(0.5)
    model = randomize(keras.Model(inputs, layer(BN()(L.Dense(4)(inputs)))))
    folded = fold_batch_norm(model)
    assert not batch_norms(folded)
    assert_same_outputs(model, folded)
    assert not {id(weight) for weight in folded.weights} & {id(weight) for weight in model.weights}


def test_a_cast_takes_no_name_of_the_users():
    inputs = keras.Input(IMAGE)
    keras.utils.clear_session()
    y = L.Conv2D(4, 3, dtype="float16")(inputs)
    y = L.Identity(name="identity")(BN(name="norm")(y))
    model = randomize(keras.Model(inputs, L.Conv2D(4, 3, name="identity_1")(y)))
    keras.utils.clear_session()
    folded = fold_batch_norm(model)
    assert not batch_norms(folded)
    assert_same_outputs(model, folded)
