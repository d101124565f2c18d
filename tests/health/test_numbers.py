"""What a look says of a network, against float64 NumPy; what it holds on to; and from where on a number is a finding."""

import gc

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_addons_l6 as l6
from keras_addons_l6 import TrainingHealth
from keras_addons_l6.health import BatchNormHealth, LayerHealth, Look, VariableHealth
from tests.health import sick

# After an epoch or two BatchNorm's averages do hold much of their start.
pytestmark = pytest.mark.filterwarnings("ignore:TrainingHealth. .*the averages still hold:UserWarning")

# Sums of at most 64 products in float32, three layers deep, and back; BatchNorm's gradient is what two means leave of it.
ROUNDING = 1e-4


class Recorded(keras.callbacks.Callback):
    """The weights at the beginning of each epoch."""

    def on_train_begin(self, logs=None):
        self.before = []

    def on_epoch_begin(self, epoch, logs=None):
        self.before.append([np.array(w, "float64") for w in self.model.get_weights()])


@pytest.fixture(scope="module")
def seen():
    """A network after two epochs under watch: its last look, its weights before the second, and its weights now."""
    keras.utils.set_random_seed(2)
    image = keras.Input((64,))
    x = layers.Dense(32, "relu", name="first")(image)
    x = layers.Dropout(0.5, seed=1)(l6.BatchNorm(name="norm")(x))
    model = keras.Model(image, layers.Dense(10, name="last")(x))
    model.compile(l6.Adam(0.01), "mse")
    x, y = sick.digits()
    batch = x[: sick.LOOKED_AT], np.eye(10, dtype="float32")[y[: sick.LOOKED_AT]]
    # twice the weight, twice the gradient
    health, recorded = TrainingHealth((*batch, np.full(sick.LOOKED_AT, 2.0, "float32"))), Recorded()
    targets = np.eye(10, dtype="float32")[y]
    model.fit(x, targets, batch_size=64, epochs=2, verbose=0, callbacks=[recorded, health])
    weights = [np.array(w, "float64") for w in model.get_weights()]
    return health.history[-1], recorded.before[-1], weights, batch


class Reference:
    """The same network in float64: y = W' z + b', z = gamma r + beta, r = (h - mean) / s, h = max(W x + b, 0)."""

    EPSILON = 1e-5

    def __init__(self, weights, batch):
        w, b, gamma, beta, self.moving_mean, self.moving_variance, w2, b2 = weights
        x, targets = (part.astype("float64") for part in batch)
        self.h = np.maximum(x @ w + b, 0)
        self.mean, self.variance = self.h.mean(axis=0), self.h.var(axis=0)
        s, t = np.sqrt(self.variance + self.EPSILON), np.sqrt(self.moving_variance + self.EPSILON)
        r = (self.h - self.mean) / s
        z = gamma * r + beta
        tested = gamma * (self.h - self.moving_mean) / t + beta
        y, y_tested = z @ w2 + b2, tested @ w2 + b2
        self.norm_gap = size(z - tested) / size(z - beta)
        self.output_gap = size(y - y_tested) / size(y)
        self.y = y
        dy = 2 * 2 * (y - targets) / y.size  # the mean square, samples weighing 2
        dz = dy @ w2.T
        dr = dz * gamma
        dh = (dr - dr.mean(axis=0) - r * (dr * r).mean(axis=0)) / s * (self.h > 0)
        self.gradients = [
            *(x.T @ dh, dh.sum(axis=0)),
            *((dz * r).sum(axis=0), dz.sum(axis=0)),
            *(z.T @ dy, dy.sum(axis=0)),
        ]


def size(x):
    return np.sqrt(np.mean(np.square(x)))


def trainable(weights):
    return [*weights[:4], *weights[6:]]


class TestALook:
    def test_gives_the_activations_values_of_the_training_mode(self, seen):
        look, _, weights, batch = seen
        h = Reference(weights, batch).h
        first = next(layer for layer in look.layers if layer.name == "first")
        assert first.activation == "relu"
        assert (first.not_finite, first.saturated) == (0, 0)
        assert (first.mean, first.deviation) == pytest.approx((h.mean(), h.std()), rel=ROUNDING)
        np.testing.assert_array_equal(first.silent, h.max(axis=0) == 0)

    def test_gives_the_norms_of_weights_and_of_the_gradient_without_dropout(self, seen):
        look, _, weights, batch = seen
        found = [(v.weight_norm, v.gradient_norm) for v in look.variables]
        gradients = Reference(weights, batch).gradients
        expected = [
            (np.linalg.norm(w), np.linalg.norm(g)) for w, g in zip(trainable(weights), gradients, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=ROUNDING)
        assert [v.layer for v in look.variables] == ["first", "first", "norm", "norm", "last", "last"]

    def test_gives_the_last_epochs_change_over_the_weights(self, seen):
        look, before, weights, _ = seen
        expected = [
            size(new - old) / size(old)
            for old, new in zip(trainable(before), trainable(weights), strict=True)
        ]
        np.testing.assert_allclose([v.update_ratio for v in look.variables], expected, rtol=ROUNDING)

    def test_gives_what_testing_differs_by(self, seen):
        look, _, weights, batch = seen
        exact = Reference(weights, batch)
        (norm,) = look.batch_norms
        s = np.sqrt(exact.variance + exact.EPSILON)
        assert norm.mean_distance == pytest.approx(size((exact.moving_mean - exact.mean) / s), rel=ROUNDING)
        ratios = (exact.moving_variance + exact.EPSILON) / (exact.variance + exact.EPSILON)
        assert norm.variance_ratio == pytest.approx(np.exp(np.log(ratios).mean()), rel=ROUNDING)
        assert norm.output_gap == pytest.approx(exact.norm_gap, rel=ROUNDING)
        assert look.output_gap == pytest.approx(exact.output_gap, rel=ROUNDING)


def living_bytes():
    """Bytes of all the backend's tensors that something still refers to."""
    gc.collect()
    if keras.backend.backend() == "jax":
        import jax

        return sum(array.nbytes for array in jax.live_arrays())
    if keras.backend.backend() == "torch":
        import torch

        kinds = (torch.Tensor, torch.nn.Parameter)  # not what a compiler has left over, which has no memory
        storages = [x.untyped_storage() for x in gc.get_objects() if type(x) in kinds]
        return sum({s.data_ptr(): s.nbytes() for s in storages}.values())
    import tensorflow as tf

    kind = type(tf.constant(0))  # an eager tensor's
    return sum(x.numpy().nbytes for x in gc.get_objects() if type(x) is kind and x.dtype.is_floating)


class Living(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.bytes = []

    def on_epoch_end(self, epoch, logs=None):
        self.bytes.append(living_bytes())


@pytest.mark.parametrize("run_eagerly", [False, pytest.param(True, marks=pytest.mark.full)])
def test_nothing_of_a_look_lives_on_but_the_batch_and_what_changes_are_measured_on(run_eagerly):
    """On a batch whose activations would be seen: half a megabyte each, beside weights of 17 kB."""
    living, wide = Living(), layers.Dense(64, "relu")
    model = keras.Sequential([keras.Input((2, 64)), wide, l6.BatchNorm(), layers.ReLU(), layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    x = np.random.default_rng(0).normal(size=(1024, 2, 64)).astype("float32")
    health = TrainingHealth((x, np.zeros((1024, 2, 1), "float32")))
    few = x[:64], np.zeros((64, 2, 1), "float32")
    model.fit(*few, epochs=2, verbose=0, callbacks=[living])
    alone = living.bytes[-1]
    model.fit(*few, epochs=3, verbose=0, callbacks=[health, living])
    assert max(living.bytes) - min(living.bytes[1:]) < 1e4  # nothing is added from look to look
    batch = x.nbytes + 1024 * 2 * 4
    parameters = sum(int(np.prod(v.shape)) * 4 for v in model.variables)
    assert living.bytes[-1] - alone <= batch + 4 * parameters + 1e4


def made(**changes):
    """A look at three layers of a healthy training, but for what `changes`."""
    few = np.arange(10)
    numbers = {"dead": 0.3, "saturated": 0.4, "ratio": 0.01, "gap": 0.2, **changes}
    layer = LayerHealth("relu", "relu", 0.0, silent=few < 10 * numbers["dead"])
    flat = LayerHealth("tanh", "tanh", 0.0, saturated=numbers["saturated"])
    kernel = VariableHealth("dense/kernel", "dense", 100, 2, 1.0, 1.0, numbers["ratio"])
    norm = BatchNormHealth("norm", 0.9, 0.1, 1.1, numbers["gap"], noise=0.0)
    return Look(1, 16, 1000, 32, (layer, flat), (kernel,), (norm,), 0.0)


class TestThresholds:
    @pytest.mark.parametrize(
        ("arguments", "kind"),
        [
            ({}, None),
            ({"dead": 0.3}, "dead"),
            ({"saturated": 0.4}, "saturated"),
            ({"update_ratio": (0.001, 0.3)}, "update_too_small"),  # 0.01 in 16 steps
            ({"update_ratio": (5e-5, 0.002)}, "update_too_large"),  # 0.01 / sqrt(16)
            ({"batch_norm_gap": 0.19}, "batch_norm"),
        ],
    )
    def test_are_arguments(self, arguments, kind):
        health = TrainingHealth(sick.looked_at(), **arguments, patience=2)
        health.history = [made(), made()]
        findings = health.report().findings
        assert [finding.kind for finding in findings] == ([] if kind is None else [kind])
        assert all(finding.sure for finding in findings)

    @pytest.mark.parametrize("change", [{"dead": 0.5}, {"saturated": 0.6}, {"ratio": 1e-4}])
    def test_a_finding_is_sure_once_it_has_held_for_as_long_as_patience_asks(self, change):
        health = TrainingHealth(sick.looked_at(), patience=3)
        sure = []
        for _ in range(3):
            health.history = [*health.history, made(**change)]
            (finding,) = health.report().findings
            sure.append(finding.sure)
        assert sure == [False, False, True]

    def test_the_worst_of_a_kind_comes_first(self):
        look = made(dead=0.5)
        worse = look.layers[0].__class__("worse", "relu", 0.0, silent=np.arange(10) < 9)
        health = TrainingHealth(sick.looked_at(), patience=1)
        health.history = [look.__class__(**{**vars(look), "layers": (*look.layers, worse)})]
        assert [finding.name for finding in health.report()] == ["worse", "relu"]


class TestFigure:
    @pytest.fixture
    def panels(self):
        import matplotlib

        matplotlib.use("Agg")
        health = TrainingHealth(sick.looked_at(), dead=0.45, saturated=0.55, batch_norm_gap=0.35)
        before = made(ratio=np.nan)
        looks = [before.__class__(**{**vars(before), "epoch": 0}), made(dead=0.5, gap=0.4)]
        health.history = looks
        figure = health.plot()
        yield looks, figure.axes
        matplotlib.pyplot.close(figure)

    def test_shows_the_numbers_over_epochs(self, panels):
        _, (dead, saturated, updates, gaps) = panels
        drawn = [dict(zip(*line.get_data(), strict=True)) for line in (p.lines[0] for p in (dead, gaps))]
        assert drawn == [{0: 0.3, 1: 0.5}, {0: 0.2, 1: 0.4}]
        assert {line.get_label(): list(line.get_ydata()) for line in saturated.lines[:2]} == {
            "relu": [0, 0],
            "tanh": [0.4, 0.4],
        }
        assert updates.lines[0].get_data()[0].tolist() == [1]
        assert updates.lines[0].get_data()[1].tolist() == [0.01 / 16]

    def test_shows_from_where_on_they_are_findings(self, panels):
        _, (dead, saturated, updates, gaps) = panels
        levels = [panel.lines[-1].get_ydata()[0] for panel in (dead, saturated, gaps)]
        assert levels == [0.45, 0.55, 0.35]
        low, high = (line.get_ydata()[0] for line in updates.lines[-2:])
        assert (low, high) == (5e-5, 0.3 / 4)  # by the square root of 16 steps


def test_a_batch_of_tensors_will_do():
    x, y = sick.looked_at()
    given = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    health, _ = sick.watched(sick.healthy()._replace(epochs=1), TrainingHealth(given))
    assert np.isfinite([v.gradient_norm for v in health.history[-1].variables]).all()
