"""A saved optimizer state is found by name; what does not fit is refused or told by the call at fault."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest

import keras_addons_l6 as l6
from keras_addons_l6.optimizers import saved_state

# Keras turns a torch or JAX variable into an array in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")

NAMES = ["Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW", "LBFGS", "BFGS"]
TWINS = {
    "Nesterov": lambda: keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True),
    "AdaGrad": lambda: keras.optimizers.Adagrad(0.02),
    "RMSProp": lambda: keras.optimizers.RMSprop(0.02),
    "Adam": lambda: keras.optimizers.Adam(0.02),
    "AdamW": lambda: keras.optimizers.AdamW(0.02),
}
SCHEDULE = keras.optimizers.schedules.CosineDecay(0.05, 400)


def network(units=3, inputs=4, names=(None, None)):
    first = keras.layers.Dense(5, activation="tanh", name=names[0])
    return keras.Sequential([keras.Input((inputs,)), first, keras.layers.Dense(units, name=names[1])])


def compiled(optimizer, model=None):
    model = network() if model is None else model
    model.compile(optimizer, "mse")
    return model


def with_state(optimizer, model=None, seed=1):
    """A compiled model as after six steps, with a different number in every component of every slot."""
    model = compiled(optimizer, model)
    fill(model.optimizer, model.trainable_variables, seed)
    return model


def fill(optimizer, variables, seed=1):
    optimizer.build(variables)
    rng = np.random.default_rng(seed)
    for variable in optimizer.variables:
        if "float" in variable.dtype and tuple(variable.shape):
            variable.assign(rng.uniform(0.1, 1.0, tuple(variable.shape)))
    optimizer.variables[0].assign(6)  # the count of steps


def values(optimizer):
    return [np.array(keras.ops.convert_to_numpy(v.value)) for v in optimizer.variables]


def slots(optimizer):
    """Every slot by its name and the last two parts of its variable's path."""
    own = optimizer._own_slots()
    return {(s.name, s.path): np.array(keras.ops.convert_to_numpy(v.value)) for s, v in own}


def slot(optimizer, name, path):
    (found,) = [value for key, value in slots(optimizer).items() if key[0] == name and key[1].endswith(path)]
    return found


def assert_same(ours, expected):
    for one, two in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one, two)


def user_warnings(told):
    """The messages, without Keras's deprecated conversions."""
    return [str(w.message) for w in told if w.category is UserWarning]


def train(model, epochs=1):
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model.fit(x, np.zeros((8, model.output_shape[-1]), "float32"), batch_size=8, epochs=epochs, verbose=0)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "saved.weights.h5"


@pytest.fixture
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


class TestFits:
    @pytest.mark.parametrize("built", [True, False])
    @pytest.mark.parametrize("name", NAMES)
    def test_is_taken_whatever_numbers_the_layers_have(self, name, built, file, no_warning):
        model = with_state(getattr(l6, name)())
        model.save_weights(file)
        other = with_state(getattr(l6, name)(), seed=2) if built else compiled(getattr(l6, name)())
        assert other.trainable_variables[0].path != model.trainable_variables[0].path
        other.load_weights(file)
        other.optimizer.build(other.trainable_variables)
        assert_same(values(other.optimizer), values(model.optimizer))

    @pytest.mark.parametrize("built", [True, False])
    @pytest.mark.parametrize("saved_by", ["twin", "0.1.0"])
    @pytest.mark.parametrize("name", TWINS)
    def test_state_without_names_is_taken_in_order(self, name, saved_by, built, no_warning):
        model = with_state(TWINS[name]() if saved_by == "twin" else getattr(l6, name)(0.02))
        store = {}
        model.optimizer.save_own_variables(store)
        store.pop(saved_state.CONTENTS, None)
        for rate in (0.5, SCHEDULE):
            optimizer = getattr(l6, name)(rate)
            if built:
                optimizer.build(network().trainable_variables)
            optimizer.load_own_variables(store)
            optimizer.build(network().trainable_variables)
            assert_same(values(optimizer)[1 + (rate == 0.5) :], values(model.optimizer)[2:])
            assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == 6

    def test_a_schedule_may_take_the_place_of_the_rate_and_back(self, file, no_warning):
        model = with_state(l6.Adam(0.05))
        model.save_weights(file)
        later = l6.Adam(0.05)
        later.learning_rate = SCHEDULE
        for optimizer in (later, l6.Adam(SCHEDULE)):
            other = compiled(optimizer)
            other.load_weights(file)
            other.optimizer.build(other.trainable_variables)
            assert_same(values(other.optimizer)[1:], values(model.optimizer)[2:])
        other.save_weights(file)
        back = with_state(l6.Adam(0.25), seed=2)
        back.load_weights(file)
        assert_same(values(back.optimizer)[2:], values(model.optimizer)[2:])
        assert float(keras.ops.convert_to_numpy(back.optimizer.learning_rate)) == 0.25

    def test_a_rate_set_between_loading_and_building_stays(self, file, no_warning):
        with_state(l6.Adam(0.05)).save_weights(file)
        other = compiled(l6.Adam(0.01))
        other.load_weights(file)
        assert float(keras.ops.convert_to_numpy(other.optimizer.learning_rate)) == np.float32(0.05)
        other.optimizer.learning_rate = 0.125
        other.optimizer.build(other.trainable_variables)
        assert float(keras.ops.convert_to_numpy(other.optimizer.learning_rate)) == 0.125

    @pytest.mark.parametrize("built", [True, False])
    def test_averages_and_accumulators_too(self, built, file, no_warning):
        def create():
            return l6.RMSProp(
                momentum=0.5, centered=True, use_ema=True, gradient_accumulation_steps=2, name="o"
            )

        model = with_state(create())
        model.save_weights(file)
        other = with_state(create(), seed=2) if built else compiled(create())
        other.load_weights(file)
        other.optimizer.build(other.trainable_variables)
        assert {s.name for s, _ in model.optimizer._own_slots()} >= {"average", "gradient_accumulator"}
        assert_same(values(other.optimizer), values(model.optimizer))

    def test_a_model_saved_before_training_leaves_slots_alone(self, file, no_warning):
        compiled(l6.Adam(0.25)).save_weights(file)
        other = with_state(l6.Adam())
        before = values(other.optimizer)
        other.load_weights(file)
        assert_same(values(other.optimizer)[2:], before[2:])
        assert int(keras.ops.convert_to_numpy(other.optimizer.iterations)) == 0

    def test_subclassed_model_made_twice(self, file, no_warning):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.a, self.z = keras.layers.Dense(4), keras.layers.Dense(4)

            def call(self, x):
                return self.z(self.a(x))

        model, other = Net(), Net()
        for net in (model, other):
            net(np.ones((1, 4), "float32"))
        with_state(l6.Adam(), model).save_weights(file)
        with_state(l6.Adam(), other, seed=2).load_weights(file)
        assert_same(values(other.optimizer), values(model.optimizer))

    def test_variables_of_one_path_are_told_apart(self, no_warning):
        def twins():
            return [keras.Variable(np.ones(3), name="kernel") for _ in range(2)]

        optimizer, other, store = l6.Nesterov(), l6.Nesterov(), {}
        fill(optimizer, twins())
        optimizer.save_own_variables(store)
        other.build(twins())
        other.load_own_variables(store)
        assert_same(values(other), values(optimizer))

    def test_every_store_of_keras_holds_it(self, tmp_path, no_warning):
        model = with_state(l6.Adam())
        model.save_weights(tmp_path / "sharded.weights.json", max_shard_size=6e-7)  # GB: 644 bytes a file
        other = with_state(l6.Adam(), seed=2)
        other.load_weights(tmp_path / "sharded.weights.json")
        assert len(list(tmp_path.glob("*.h5"))) > 1
        assert_same(values(other.optimizer), values(model.optimizer))

    def test_copies_go_on_with_it(self, no_warning):
        model = with_state(l6.Adam())
        for duplicate in (
            pickle.loads(pickle.dumps(model.optimizer)),
            copy.deepcopy(model.optimizer),
            pickle.loads(pickle.dumps(model)).optimizer,
        ):
            duplicate.build(network().trainable_variables)
            assert_same(values(duplicate), values(model.optimizer))

    @pytest.mark.parametrize("wrapped", [True, False])
    def test_inside_keras_wrappers(self, wrapped, file):
        def create():
            if wrapped:
                return keras.optimizers.LossScaleOptimizer(l6.Adam())
            if not hasattr(keras.optimizers, "MultiOptimizer"):
                return l6.Adam()  # that wrapper came with Keras 3.15
            return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(l6.Adam()))

        def inner(optimizer):
            return getattr(optimizer, "inner_optimizer", getattr(optimizer, "optimizers", [optimizer])[0])

        model, other = compiled(create()), compiled(create())
        for one, seed in ((model, 1), (other, 2)):
            one.optimizer.build(one.trainable_variables)
            fill(inner(one.optimizer), one.trainable_variables, seed)
        model.save_weights(file)
        other.load_weights(file)
        assert_same(values(inner(other.optimizer)), values(inner(model.optimizer)))


REFUSED = {
    "a slot is missing": (lambda: l6.Adam(), lambda: l6.Adam(amsgrad=True), "nothing was saved for .*velocity_hat"),
    "a slot too many": (lambda: l6.RMSProp(momentum=0.5), lambda: l6.RMSProp(), "'momentum' was saved for"),
    "averages are missing": (lambda: l6.Adam(), lambda: l6.Adam(use_ema=True), "nothing was saved for .*average"),
    "another history": (lambda: l6.LBFGS(history_size=5), lambda: l6.LBFGS(history_size=3), "_rings'"),
}  # fmt: skip
OF_ANOTHER_CLASS = {
    "of the same shapes": (lambda: l6.Adam(), lambda: l6.RMSProp(momentum=0.9)),
    "a subclass": (lambda: l6.Adam(), lambda: l6.AdamW()),
    "another method": (lambda: l6.Adam(), lambda: l6.LBFGS()),
    "fewer slots": (lambda: l6.AdaGrad(), lambda: l6.Adam()),
}


class TestRefused:
    @pytest.mark.parametrize("case", REFUSED)
    def test_by_the_load_where_it_is_built(self, case, file):
        saved, loading, named = REFUSED[case]
        with_state(saved()).save_weights(file)
        model = with_state(loading(), seed=2)
        before = values(model.optimizer)
        with pytest.raises(ValueError, match=named):
            model.load_weights(file)
        assert_same(values(model.optimizer), before)

    @pytest.mark.parametrize("case", REFUSED)
    def test_told_at_build_where_it_is_not(self, case, file):
        saved, loading, named = REFUSED[case]
        source = with_state(saved())
        source.save_weights(file)
        model = compiled(loading())
        model.load_weights(file)
        with pytest.warns(UserWarning, match=named):
            model.optimizer.build(model.trainable_variables)
        assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 6
        if not isinstance(model.optimizer, l6.LBFGS):
            kind = (
                "velocity" if "velocity" in {s.name for s, _ in source.optimizer._own_slots()} else "momentum"
            )
            fitted = slot(model.optimizer, kind, f"{model.layers[0].name}/kernel")
            np.testing.assert_array_equal(
                fitted, slot(source.optimizer, kind, f"{source.layers[0].name}/kernel")
            )

    @pytest.mark.parametrize("built", [True, False])
    @pytest.mark.parametrize("case", OF_ANOTHER_CLASS)
    def test_of_another_class_by_the_load(self, case, built, file):
        saved, loading = OF_ANOTHER_CLASS[case]
        with_state(saved()).save_weights(file)
        model = with_state(loading(), seed=2) if built else compiled(loading())
        before = values(model.optimizer)
        name = type(model.optimizer).__name__
        with pytest.raises(ValueError, match=rf"(?s)that of 'keras_addons_l6>A.*of 'keras_addons_l6>{name}'"):
            model.load_weights(file)
        assert_same(values(model.optimizer), before)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.optimizer.build(model.trainable_variables)  # nothing waits

    @pytest.mark.parametrize("built", [True, False])
    def test_of_another_format(self, built, monkeypatch):
        optimizer, other, store = l6.Adam(), l6.Adam(), {}
        fill(optimizer, network().trainable_variables)
        optimizer.save_own_variables(store)
        if built:
            other.build(network().trainable_variables)
        monkeypatch.setattr(l6.Adam, "state_format", 2)
        with pytest.raises(ValueError, match=r"\(format 1\).*\(format 2\)"):
            other.load_own_variables(store)

    def test_a_variable_of_another_shape(self):
        optimizer, other, store = l6.Adam(), l6.Adam(name="other"), {}
        fill(optimizer, network(names=("a", "b")).trainable_variables)
        optimizer.save_own_variables(store)
        other.build(network(inputs=6, names=("a", "b")).trainable_variables)
        before = values(other)
        with pytest.raises(ValueError, match=r"a_kernel_momentum' has shape \(6, 5\).*for it \(4, 5\)"):
            other.load_own_variables(store)
        assert_same(values(other), before)
        late = l6.Adam(name="late")
        late.load_own_variables(store)
        with pytest.warns(UserWarning, match=r"a_kernel_momentum' has shape \(6, 5\)"):
            late.build(network(inputs=6, names=("a", "b")).trainable_variables)
        assert not slot(late, "momentum", "a/kernel").any()
        np.testing.assert_array_equal(
            slot(late, "momentum", "b/kernel"), slot(optimizer, "momentum", "b/kernel")
        )

    def test_state_without_names_of_another_number_or_shape(self):
        optimizer, store = l6.Adam(), {}
        fill(optimizer, network().trainable_variables)
        optimizer.save_own_variables(store)
        del store[saved_state.CONTENTS]
        for other, told in (
            (l6.Adam(amsgrad=True), "has shape"),
            (l6.Nesterov(), "has shape|the last slot"),
        ):
            other.build(network().trainable_variables)
            before = values(other)
            with pytest.raises(ValueError, match=told):
                other.load_own_variables(store)
            assert_same(values(other), before)
        late = l6.Nesterov()
        late.load_own_variables(store)
        with pytest.warns(UserWarning, match="does not fit"):
            late.build(network().trainable_variables)
        assert not any(array.any() for array in values(late)[2:])


class TestSkipMismatch:
    """Keras's own warning is all there is."""

    @pytest.mark.parametrize("built", [True, False])
    @pytest.mark.parametrize("create", [l6.Adam, lambda: l6.RMSProp(momentum=0.9), l6.LBFGS])
    def test_of_another_model_or_optimizer(self, create, built, file):
        with_state(l6.Adam(), network(units=3)).save_weights(file)
        model = with_state(create(), network(units=2)) if built else compiled(create(), network(units=2))
        with pytest.warns(UserWarning, match="objects could not be loaded") as told:
            model.load_weights(file, skip_mismatch=True)
        assert len(user_warnings(told)) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.optimizer.build(model.trainable_variables)

    def test_of_the_same_model_in_part(self, file, no_warning):
        with_state(l6.Adam()).save_weights(file)
        model = network()
        model.layers[0].trainable = False
        with_state(l6.Adam(), model, seed=2).load_weights(file, skip_mismatch=True)


class TestOtherVariables:
    """Models that were frozen, thawed, quantized, given LoRA or other layers since they were trained."""

    def changed(self, change, create=l6.Adam):
        model = with_state(create())
        change(model)
        return model

    def saved_and_loaded(self, model, tmp_path, told):
        model.save(tmp_path / "model.keras")
        with pytest.warns(UserWarning, match="takes the saved state in part") as warned:
            loaded = keras.saving.load_model(tmp_path / "model.keras")
        messages = [str(w.message) for w in warned if "takes the saved state in part" in str(w.message)]
        assert len(messages) == 1
        for word in told:
            assert word in messages[0]
        assert int(keras.ops.convert_to_numpy(loaded.optimizer.iterations)) == 6
        return loaded

    @pytest.mark.parametrize("name", ["Nesterov", "AdaGrad", "RMSProp", "Adam", "AdamW"])
    def test_frozen_in_part(self, name, tmp_path):
        model = self.changed(lambda m: setattr(m.layers[0], "trainable", False), getattr(l6, name))
        first, last = (layer.name for layer in model.layers)
        loaded = self.saved_and_loaded(model, tmp_path, [f"{first}/kernel", f"{first}/bias"])
        before = {key: v for key, v in slots(model.optimizer).items() if f"{last}/" in key[1]}
        for (kind, path), value in before.items():
            np.testing.assert_array_equal(
                slot(loaded.optimizer, kind, path.removeprefix(f"{model.name}/")), value
            )
        train(loaded)

    def test_thawed(self, tmp_path):
        model = network()
        model.layers[0].trainable = False
        with_state(l6.Adam(use_ema=True), model)
        model.layers[0].trainable = True
        loaded = self.saved_and_loaded(model, tmp_path, [f"{model.layers[0].name}/kernel"])
        path = f"{model.layers[0].name}/kernel"
        assert not slot(loaded.optimizer, "momentum", path).any()
        # An average that starts late starts at its variable: at 0 `fit` would write it there at its end.
        kernel = keras.ops.convert_to_numpy(loaded.layers[0].kernel.value)
        np.testing.assert_array_equal(slot(loaded.optimizer, "average", path), kernel)

    def test_low_rank_adaptation(self, tmp_path):
        model = self.changed(lambda m: m.layers[0].enable_lora(2))
        loaded = self.saved_and_loaded(model, tmp_path, ["lora_kernel_a", f"{model.layers[0].name}/kernel"])
        for path in (f"{model.layers[0].name}/bias", f"{model.layers[1].name}/kernel"):
            np.testing.assert_array_equal(
                slot(loaded.optimizer, "velocity", path), slot(model.optimizer, "velocity", path)
            )
        train(loaded)

    @pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`:UserWarning")
    def test_quantized(self, tmp_path):
        model = self.changed(lambda m: m.quantize("int8"))
        loaded = self.saved_and_loaded(model, tmp_path, [f"{model.layers[1].name}/kernel"])
        for layer in model.layers:
            path = f"{layer.name}/bias"
            np.testing.assert_array_equal(
                slot(loaded.optimizer, "velocity", path), slot(model.optimizer, "velocity", path)
            )

    def test_frozen_in_a_new_model_of_other_numbers(self, file):
        source = with_state(l6.Adam())
        source.save_weights(file)
        model = network()
        model.layers[0].trainable = False
        compiled(l6.Adam(), model).load_weights(file)
        with pytest.warns(UserWarning, match="belongs to no variable trained here") as told:
            model.optimizer.build(model.trainable_variables)
        assert len(user_warnings(told)) == 1
        assert_same(values(model.optimizer)[2:], values(source.optimizer)[6:])

    def test_a_replaced_layer(self):
        source, model, store = l6.Adam(), l6.Adam(), {}
        fill(source, network(names=("body", "old_head")).trainable_variables)
        source.save_own_variables(store)
        model.build(network(units=2, names=("body", "new_head")).trainable_variables)
        with pytest.warns(UserWarning, match=r"saved for '.*new_head/kernel'.*saved for '.*old_head/kernel'"):
            model.load_own_variables(store)
        np.testing.assert_array_equal(
            slot(model, "momentum", "body/kernel"), slot(source, "momentum", "body/kernel")
        )
        assert not slot(model, "momentum", "head/kernel").any()

    def test_a_method_of_all_variables_together_starts_afresh(self, tmp_path):
        model = self.changed(lambda m: setattr(m.layers[0], "trainable", False), l6.LBFGS)
        loaded = self.saved_and_loaded(model, tmp_path, ["only all together"])
        assert not slot(loaded.optimizer, "rings", "/kernel").any()
        train(loaded)

    def test_evaluating_and_predicting_never_fail(self, file):
        with_state(l6.Adam(amsgrad=True)).save_weights(file)
        model = compiled(l6.Adam())
        model.load_weights(file)
        with pytest.warns(UserWarning, match="'velocity_hat' was saved for"):
            model.evaluate(np.ones((2, 4)), np.ones((2, 3)), verbose=0)
            model.predict(np.ones((2, 4)), verbose=0)
            train(model)  # where Keras builds the optimizer no earlier


class TestLeftOut:
    """What a method can make anew need not be in its files."""

    def test_slots_left_out_are_not_missed(self, no_warning):
        class Lean(l6.Adam):
            def slots_left_out(self):
                return frozenset({"velocity"})

        keras.saving.register_keras_serializable("test_saved_state")(Lean)
        optimizer, store = Lean(), {}
        fill(optimizer, network().trainable_variables)
        optimizer.save_own_variables(store)
        assert len(store) == 2 + 4 + 1
        other = Lean()
        fill(other, network().trainable_variables, seed=2)
        kept = values(other)[3]
        other.load_own_variables(store)
        np.testing.assert_array_equal(values(other)[3], kept)
        np.testing.assert_array_equal(values(other)[2], values(optimizer)[2])
