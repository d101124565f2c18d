"""The callback in `fit`: what it finds, what it leaves alone, and what models and trainings it takes."""

import random
import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_addons_l6 as l6
from keras_addons_l6 import TrainingHealth
from tests.health import sick

# Keras's TensorFlow trainer warns of it, too, and of nothing else in these trainings.
pytestmark = pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")

# After an epoch or two BatchNorm's averages do hold much of their start.
SHORT = pytest.mark.filterwarnings("ignore:TrainingHealth. .*the averages still hold:UserWarning")


def warned_by(train):
    """What a training warns of by `TrainingHealth`, and what it returns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train()
    ours = [str(each.message) for each in caught if str(each.message).startswith("TrainingHealth: ")]
    return ours, result


class TestFindings:
    @pytest.mark.parametrize("make", sick.SICK, ids=lambda make: make.__name__)
    def test_a_planted_fault_comes_first(self, make):
        training = make()
        caught, (health, _) = warned_by(lambda: sick.watched(training))
        worst = health.report().findings[0]
        assert worst.kind == training.kind
        assert training.name in (None, worst.name)
        if worst.kind == "frozen":  # information
            assert not worst.sure
            assert not caught
            assert health.report().is_healthy
        else:
            assert caught[0].startswith(f"TrainingHealth: {worst.name}: ")
            assert len(caught) == len(set(caught)) >= 1
            assert not health.report().is_healthy

    @pytest.mark.parametrize("seed", range(3))
    def test_a_healthy_training_raises_no_alarm(self, seed):
        keras.utils.set_random_seed(seed)
        caught, (health, history) = warned_by(lambda: sick.watched(sick.healthy()))
        assert history.history["loss"][-1] < history.history["loss"][0]
        assert not caught
        assert health.report().findings == ()

    def test_with_momentum_as_keras_has_it_a_short_training_is_told_at_its_end(self):
        training = sick.momentum_too_high(layers.BatchNormalization)
        caught, _ = warned_by(lambda: sick.watched(training))
        assert "the averages still hold 100% of their start" in caught[0]
        assert len(caught) == 1

    def test_a_diverged_training_blames_the_rate_not_a_layer(self):
        model = sick.compiled(sick.plain(), keras.optimizers.SGD(1e30))
        _, (health, _) = warned_by(lambda: sick.watched(sick.Training(model, epochs=1)))
        worst = health.report().findings[0]
        assert worst.kind == "not_finite"
        assert "became infinite or NaN in epoch 1" in worst.sentence
        assert "learning rate too high" in worst.sentence

    def test_units_count_as_dead_only_where_they_are_on_all_of_the_last_looks(self):
        class Revive(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                bias = self.model.get_layer("second").bias
                bias.assign(ops.full((32,), 1.0 if epoch == 1 else -10.0))

        training = sick.dead()._replace(epochs=3)
        health = TrainingHealth(sick.looked_at())
        x, y = sick.digits()
        training.model.fit(x, y, epochs=3, verbose=0, callbacks=[Revive(), health])
        assert [layer.dead for look in health.history for layer in look.layers if layer.name == "second"] == [
            *(1.0, 1.0, pytest.approx(0, abs=0.3), 1.0)
        ]
        assert "dead" not in [finding.kind for finding in health.report()]


def random_network(norm):
    """A network with BatchNorm, Dropout with and without a seed, and a metric."""
    return [
        *(layers.Reshape((8, 8, 1)), layers.Conv2D(4, 3, use_bias=False), norm(), layers.ReLU()),
        *(layers.SpatialDropout2D(0.2), layers.Flatten(), layers.GaussianNoise(0.1, seed=3)),
        *(layers.Dense(16, use_bias=False), norm(), l6.Swish(), layers.Dropout(0.3)),
    ]


def trained(norm, optimizer, callbacks, **compile_arguments):
    keras.utils.set_random_seed(4)
    model = keras.Sequential([keras.Input((64,)), *random_network(norm), layers.Dense(10, "softmax")])
    model.compile(optimizer(), "sparse_categorical_crossentropy", metrics=["accuracy"], **compile_arguments)
    x, y = sick.digits()
    arguments = dict(batch_size=64, epochs=2, verbose=0, validation_split=0.1)
    history = model.fit(x, y, callbacks=callbacks, **arguments).history
    after = [random.random(), *np.ravel(ops.convert_to_numpy(keras.random.normal((2,))))]
    state = {
        i: ops.convert_to_numpy(ops.convert_to_tensor(v))
        for i, v in enumerate([*model.variables, *model.optimizer.variables])
    }
    return state, {k: v for k, v in history.items() if not k.startswith("health/")}, after


@SHORT
class TestTheTrainingItself:
    @pytest.mark.parametrize(
        ("norm", "optimizer"),
        [(layers.BatchNormalization, keras.optimizers.SGD), (l6.BatchNorm, l6.Adam)],
        ids=["keras", "ours"],
    )
    def test_is_the_same_to_the_bit(self, norm, optimizer):
        state, history, after = trained(norm, optimizer, [])
        health = TrainingHealth(sick.looked_at())
        watched_state, watched_history, watched_after = trained(norm, optimizer, [health])
        assert len(health.history) == 3
        assert watched_state.keys() == state.keys()
        for place, value in state.items():
            np.testing.assert_array_equal(watched_state[place], value, err_msg=place)
        assert watched_history == history
        assert watched_after == after

    def test_leaves_no_trace_on_the_layers(self):
        model = sick.compiled(random_network(l6.BatchNorm))
        x, y = sick.digits()
        model.fit(x, y, epochs=1, verbose=0, callbacks=[TrainingHealth(sick.looked_at())])
        assert not [layer.name for layer in model.layers if "call" in vars(layer)]


@SHORT
class TestLogs:
    TOTALS = {"health/dead", "health/saturated", "health/update_ratio", "health/batch_norm_gap"}

    def test_get_the_totals_which_later_callbacks_use(self, tmp_path):
        model = sick.healthy().model
        log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
        stop = keras.callbacks.EarlyStopping("health/update_ratio", mode="max", patience=0)
        x, y = sick.digits()
        health = TrainingHealth(sick.looked_at())
        history = model.fit(x, y, epochs=3, verbose=0, callbacks=[health, log, stop]).history
        assert set(history) >= self.TOTALS
        assert {type(value) for name in self.TOTALS for value in history[name]} == {
            float
        }  # as TensorBoard takes it
        assert history["health/update_ratio"] == [
            look.totals()["health/update_ratio"] for look in health.history[1:]
        ]
        assert len(history["loss"]) == 2  # the ratio falls, as the learning rate's steps get used up
        assert "health/dead" in (tmp_path / "log.csv").read_text().splitlines()[0]

    def test_repeat_the_last_totals_where_no_look_is_taken(self):
        health, history = sick.watched(sick.healthy()._replace(epochs=5), every=2)
        assert [look.epoch for look in health.history] == [0, 1, 3, 5]
        ratios = history.history["health/update_ratio"]
        assert ratios[1] == ratios[0] != ratios[2] == ratios[3]

    def test_the_ratio_is_of_the_last_epoch_alone(self):
        health, _ = sick.watched(sick.healthy()._replace(epochs=3), every=2)
        assert [look.steps for look in health.history[1:]] == [10, 10]


class Scaled(layers.Layer):
    """A layer of a user's own, with a weight of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(16, "relu", name="inner")

    def build(self, shape):
        self.inner.build(shape)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return self.scale * self.inner(x)


@keras.saving.register_keras_serializable("tests.health")
class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.norm, self.last = (
            Scaled(name="block"),
            l6.BatchNorm(name="norm"),
            layers.Dense(10, name="last"),
        )

    def call(self, x, training=None):
        return ops.softmax(self.last(self.norm(self.block(x), training=training)))


def shared():
    image = keras.Input((64,))
    first, twice = layers.Dense(16, "relu", name="first"), layers.Dense(16, "tanh", name="twice")
    return keras.Model(image, layers.Dense(10, "softmax", name="last")(twice(twice(first(image)))))


def nested():
    image = keras.Input((64,))
    inner = keras.Sequential(
        [keras.Input((64,)), layers.Dense(16, "relu", name="deep"), l6.BatchNorm(name="norm")]
    )
    inner.name = "inner"
    return keras.Model(image, layers.Dense(10, "softmax", name="last")(ops.relu(inner(image))))


def recurrent():
    image = keras.Input((64,))
    x = layers.Reshape((8, 8), name="rows")(image)
    x = layers.TimeDistributed(layers.Dense(8, "relu"), name="each")(x)
    x = layers.LSTM(8, name="lstm")(x)
    return keras.Model(image, layers.Dense(10, "softmax", name="last")(x))


MODELS = {
    "shared": (shared, {"first": "relu", "twice": "tanh", "twice (call 2)": "tanh", "last": "softmax"}),
    "nested": (nested, {"inner/deep": "relu", "relu": "relu", "last": "softmax"}),
    "subclassed": (Subclassed, {"block/inner": "relu"}),
    "recurrent": (recurrent, {"each": "relu", "last": "softmax"}),
}


def fitted(model, optimizer=None, health=None, epochs=1, batch_size=64, **arguments):
    model.compile(optimizer or l6.Adam(), "sparse_categorical_crossentropy", **arguments)
    x, y = sick.digits()
    health = health or TrainingHealth(sick.looked_at())
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[health])
    return health


def assert_complete(health):
    """All of a look's numbers are there, and finite after an epoch."""
    look = health.history[-1]
    assert all(layer.not_finite == 0 for layer in look.layers)
    numbers = [(v.weight_norm, v.gradient_norm) for v in look.variables]
    assert np.isfinite(numbers).all()
    assert max(v.gradient_norm for v in look.variables) > 0
    assert np.isfinite(list(look.totals().values())).all()


@SHORT
class TestModels:
    @pytest.mark.parametrize("name", MODELS)
    def test_calls_are_found_by_name(self, name):
        make, expected = MODELS[name]
        health = fitted(make())
        found = {layer.name: layer.activation for layer in health.history[-1].layers if layer.activation}
        assert found.items() >= expected.items()
        if health.history[0].epoch == 0:  # a model that its first batch builds has no beginning
            assert_complete(health)

    def test_what_a_model_computes_itself_is_named(self):
        notes = fitted(Subclassed()).report().not_watched
        assert any(note.startswith("block: what its own `call` computes") for note in notes)
        assert fitted(shared()).report().not_watched == ()

    def test_a_loop_of_the_backend_is_named_not_leaked(self):
        class Looped(layers.Layer):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.cell = layers.Dense(16, "relu", name="cell")

            def build(self, shape):
                self.cell.build((None, 16))

            def call(self, x):
                return ops.fori_loop(0, 3, lambda i, y: self.cell(y), x)

        if keras.backend.backend() == "jax":  # whose loops without a fixed length have no gradient
            Looped.call = lambda self, x: ops.scan(lambda y, _: (self.cell(y), 0.0), x, ops.zeros((3,)))[0]
        model = keras.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(16),
                Looped(name="looped"),
                layers.Dense(10, "softmax", name="last"),
            ]
        )
        health = fitted(model)
        names = [layer.name for layer in health.history[-1].layers]
        assert "last" in names
        hidden = [
            note for note in health.report().not_watched if note.startswith("looped/cell: it runs inside")
        ]
        assert bool(hidden) != ("looped/cell" in names)  # torch's loops are Python's
        assert_complete(health)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    def test_half_precision(self, policy):
        keras.config.set_dtype_policy(policy)
        health = fitted(nested(), epochs=2)
        assert_complete(health)
        assert {finding.kind for finding in health.report()} <= {
            "batch_norm"
        }  # whose averages have just begun

    @pytest.mark.parametrize(
        "arguments", [{"jit_compile": True}, {"jit_compile": False}, {"run_eagerly": True}]
    )
    def test_however_the_model_is_compiled(self, arguments):
        if keras.backend.backend() == "torch" and arguments == {"jit_compile": True}:
            pytest.skip("torch.compile needs a C++ compiler, and minutes")
        assert_complete(fitted(nested(), **arguments))

    @pytest.mark.parametrize("update", [l6.LBFGS, l6.BFGS])
    def test_quasi_newton(self, update):
        x, _ = sick.digits()
        model = keras.Sequential([keras.Input((64,)), layers.Dense(4, "tanh"), layers.Dense(10, "softmax")])
        health = fitted(model, update(), epochs=3, batch_size=len(x))
        assert_complete(health)
        assert not {"update_too_large", "update_too_small"} & {finding.kind for finding in health.report()}

    def test_fit_full_batch(self):
        model = keras.Sequential([keras.Input((64,)), layers.Dense(4, "tanh"), layers.Dense(10, "softmax")])
        model.compile(l6.LBFGS(), "sparse_categorical_crossentropy")
        health = TrainingHealth(sick.looked_at())
        l6.fit_full_batch(model, *sick.digits(), max_iterations=20, verbose=0, callbacks=[health])
        assert [look.epoch for look in health.history] == [0, 1, 2]
        assert_complete(health)

    def test_several_outputs_inputs_and_losses(self):
        left, right = keras.Input((32,), name="left"), keras.Input((32,), name="right")
        x = layers.Dense(16, "relu")(layers.Concatenate()([left, right]))
        outputs = {
            "digit": layers.Dense(10, "softmax", name="digit")(x),
            "half": layers.Dense(1, name="half")(x),
        }
        model = keras.Model({"left": left, "right": right}, outputs)
        model.compile("adam", {"digit": "sparse_categorical_crossentropy", "half": "mse"})
        x, y = sick.digits()
        x = {"left": x[:, :32], "right": x[:, 32:]}
        y = {"digit": y, "half": (y > 4).astype("float32")}
        few = keras.tree.map_structure(lambda a: a[:16], (x, y))
        health = TrainingHealth(few)
        model.fit(x, y, epochs=1, verbose=0, callbacks=[health])
        assert_complete(health)
        assert [layer.is_output for layer in health.history[-1].layers if layer.name in outputs] == [
            True,
            True,
        ]

    def test_thawing_layers_on_the_way_is_followed(self):
        class Thaw(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 1 and keras.backend.backend() == "torch":
                    self.model.get_layer("second").trainable = False

        model = sick.compiled(sick.plain())
        health = TrainingHealth(sick.looked_at())
        x, y = sick.digits()
        model.fit(x, y, epochs=2, verbose=0, callbacks=[Thaw(), health])
        expected = 4 if keras.backend.backend() == "torch" else 6
        assert len(health.history[-1].variables) == expected


@SHORT
class TestArguments:
    def test_layers_by_name_and_as_layers(self):
        model = sick.compiled(normal := sick.normalized())
        for layers_ in (["norm", normal[0]], ["norm", "first"]):
            health = TrainingHealth(sick.looked_at(), layers=layers_)
            sick.watched(sick.Training(model, epochs=1), health)
            look = health.history[-1]
            assert [layer.name for layer in look.layers] == ["first", "norm"]
            assert {v.layer for v in look.variables} == {"first", "norm"}
            assert [norm.name for norm in look.batch_norms] == ["norm"]

    def test_inputs_alone_give_everything_but_gradients(self):
        x, _ = sick.looked_at()
        health = TrainingHealth(x)
        sick.watched(sick.healthy()._replace(epochs=1), health)
        look = health.history[-1]
        assert np.isnan([v.gradient_norm for v in look.variables]).all()
        assert look.output_gap > 0
        assert np.isfinite(list(look.totals().values())).all()

    def test_a_loss_that_fails_on_the_batch_is_named(self):
        x, _ = sick.looked_at()
        health = TrainingHealth((x, np.zeros((len(x), 3), "float32")))
        sick.watched(sick.healthy()._replace(epochs=1), health)
        assert np.isnan([v.gradient_norm for v in health.history[-1].variables]).all()
        assert any(note.startswith("gradients: the model's loss") for note in health.report().not_watched)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"every": 0}, "`every` must be an integer >= 1. Received: every=0"),
            ({"dead": 0}, "`dead` must be a number in"),
            ({"saturated_slope": 1}, "`saturated_slope` must be a number in"),
            ({"update_ratio": 0.1}, "`update_ratio` must be two numbers"),
            ({"update_ratio": (1.0, 0.1)}, "`update_ratio` must be a lower and a higher number"),
            ({"patience": 0}, "`patience` must be an integer >= 1"),
            ({"layers": []}, "`layers` must be layers, or names of layers"),
            (
                {"batch": (np.zeros((3, 2)), np.zeros(2))},
                "all of as many samples. Received arrays of [2, 3] samples",
            ),
        ],
    )
    def test_wrong_ones_are_refused_at_once(self, arguments, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            TrainingHealth(**{"batch": sick.looked_at(), **arguments})

    def test_a_batch_that_does_not_fit_is_refused_before_the_first_epoch(self):
        health = TrainingHealth(np.zeros((4, 3), "float32"))
        with pytest.raises(ValueError, match="can't be run on `batch`"):
            sick.watched(sick.healthy(), health)
        assert health.history == []

    def test_a_name_that_no_layer_has_is_refused(self):
        with pytest.raises(
            ValueError, match="no layer 'secnd'. It has first, norm, relu, dropout, second, digit"
        ):
            sick.watched(sick.healthy(), layers=["secnd"])

    def test_plot_and_report_before_fit(self):
        health = TrainingHealth(sick.looked_at())
        assert "nothing found in 0 looks" in str(health.report())
        with pytest.raises(ValueError, match="call `plot` after `fit`"):
            health.plot()


@SHORT
class TestReport:
    def test_as_a_table_and_as_data(self):
        _, (health, _) = warned_by(lambda: sick.watched(sick.dead()))
        report = health.report()
        text = str(report)
        assert text.startswith("Model 'sequential")
        assert "second  dead units" in text
        assert "100% of its 32 units have been 0 in all of the last 3 looks" in text
        assert max(map(len, text.splitlines())) <= 100
        data = report.to_dict()
        assert data["findings"][0]["kind"] == "dead"
        assert len(report) == len(data["findings"]) == len(list(report))

    def test_a_figure_with_a_panel_for_each_number(self):
        import matplotlib

        matplotlib.use("Agg")
        health, _ = sick.watched(sick.healthy()._replace(epochs=2))
        figure = health.plot()
        assert len(figure.axes) == 4
        assert all(panel.lines for panel in figure.axes)
        matplotlib.pyplot.close(figure)
