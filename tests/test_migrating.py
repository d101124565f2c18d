"""docs/migrating.md: each row of its tables is run, left beside right. On torch, because PyTorch's rows need it."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_addons_l6 as l6
from keras_addons_l6 import compat

torch = pytest.importorskip("torch") if keras.config.backend() == "torch" else None
pytestmark = pytest.mark.skipif(
    torch is None, reason="the page's left sides are PyTorch's, or Keras's on any backend"
)

PAGE = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text()
SHAPE = SAMPLES, CHANNELS, HEIGHT, WIDTH = 5, 8, 6, 8
STEPS = 20
# What the rows leave to the reader.
NAMES = {
    **{"channels": CHANNELS, "height": HEIGHT, "width": WIDTH, "groups": 4},
    **{"rate": 0.01, "lr": 0.01, "learning_rate": 0.01, "momentum": 0.9, "rho": 0.9, "decay_rate": 0.9},
    **{"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01},
}
OURS = {name: getattr(l6, name) for name in l6.__all__} | NAMES
# Two float32 implementations of means over at most 8 * 6 * 8 = 384 numbers of size up to 5: 1e-5 is 80 roundings of 1.
TOLERANCE = 1e-5
rng = np.random.default_rng(0)
X = rng.normal(size=SHAPE).astype("float32")
WEIGHTS = rng.normal(size=SHAPE).astype("float32")  # of the outputs in the loss whose gradients are compared


def rows(heading):
    """The cells of the table under a heading: of each the pieces of code, or its words where it has none."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)[2:]
    return [[re.findall(r"`([^`]+)`", cell) or cell.strip() for cell in row.split(" | ")] for row in table]


def single(heading):
    """A table's rows with one piece of code in each cell, named by the first."""
    table = [[cell[0] if isinstance(cell, list) else cell for cell in row] for row in rows(heading)]
    return [pytest.param(*row, id=row[0]) for row in table]


def layers_of(heading, kind):
    """The rows of a table whose left side is of a kind, by name."""
    return [
        row
        for row in single(heading)
        if bool(re.match(r"optim\.|SGD|Ada|RMS", row.values[0])) == (kind == "optimizers")
    ]


def passed(layer, call):
    """Outputs of a layer and the gradient of their weighted sum, in training."""
    x = torch.tensor(X, requires_grad=True)
    y = call(layer, x)
    (y * torch.tensor(WEIGHTS)).sum().backward()
    return y.detach().numpy(), x.grad.numpy()


def in_training(layer, x):
    """Call a Keras layer as `fit` does."""
    return layer(x, training=True)


def assert_alike(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)


def steps_of(optimizer, gradients, start):
    """The parameters after each step of a Keras optimizer."""
    x = keras.Variable(start)
    path = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [x])
        path.append(np.array(keras.ops.convert_to_numpy(x)))
    return np.stack(path)


def gradients_of(size):
    return (size * rng.normal(size=(STEPS, 7))).astype("float32"), rng.normal(size=7).astype("float32")


class TestFromKeras:
    KERAS = vars(keras.layers) | vars(keras.optimizers) | NAMES

    @pytest.mark.parametrize(("theirs", "ours", "same"), layers_of("From Keras", "layers"))
    def test_layer(self, theirs, ours, same):
        default, layer, keras_layer = eval(ours, OURS), eval(same, OURS), eval(theirs, self.KERAS)
        x = torch.tensor(X)
        for each in (default, layer, keras_layer):
            each.build(x.shape)
        random = [rng.uniform(0.5, 1.5, w.shape).astype("float32") for w in keras_layer.get_weights()]
        if random:  # else ours may have a beta of its own, which stays 1
            keras_layer.set_weights(random)
            layer.set_weights(random)
        assert_alike(passed(layer, in_training), passed(keras_layer, in_training))
        assert_alike(layer.get_weights()[: len(random)], keras_layer.get_weights())
        assert default(x).shape == layer(x).shape

    @pytest.mark.parametrize(("theirs", "ours", "same"), layers_of("From Keras", "optimizers"))
    def test_optimizer(self, theirs, ours, same):
        gradients, start = gradients_of(1.0)
        path = steps_of(eval(theirs, self.KERAS), gradients, start)
        assert steps_of(eval(ours, OURS), gradients, start).shape == path.shape
        if same != "none":
            np.testing.assert_allclose(steps_of(eval(same, OURS), gradients, start), path, rtol=0, atol=1e-6)
            return
        small, _ = gradients_of(1e-7)  # as small as epsilon
        ours_moves, theirs_moves = (
            np.abs(steps_of(eval(code, names), small, start)[-1] - start).max()
            for code, names in ((ours, OURS), (theirs, self.KERAS))
        )
        assert ours_moves > 1.5 * theirs_moves


class TestFromPyTorch:
    @property
    def names(self):
        parameter = torch.nn.Parameter(torch.zeros(7))
        return NAMES | {"nn": torch.nn, "optim": torch.optim, "parameters": [parameter]}

    @pytest.mark.parametrize(("theirs", "ours"), layers_of("From PyTorch", "layers"))
    def test_layer(self, theirs, ours):
        module, layer = eval(theirs, self.names), eval(ours, OURS)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.uniform_(0.5, 1.5)
        layer.build(SHAPE)
        if list(module.parameters()):
            port()(module, layer)
        assert_alike(passed(layer, in_training), passed(module, lambda m, x: m(x)))
        moved = [v.numpy() for name, v in module.named_buffers() if name.startswith("running")]
        assert_alike(
            [w.numpy() for w in layer.non_trainable_weights if w.dtype == "float32"][: len(moved)], moved
        )

    @pytest.mark.parametrize("module", ["nn.Conv2d(8, 3, 3)", "nn.Linear(8, 3)"])
    def test_port_of_layers_with_kernels(self, module):
        theirs = eval(module, self.names)
        is_convolution = "Conv" in module
        ours = (
            keras.layers.Conv2D(3, 3, data_format="channels_first")
            if is_convolution
            else keras.layers.Dense(3)
        )
        ours.build(SHAPE)
        port()(theirs, ours)
        with torch.no_grad():
            assert_alike([ours(torch.tensor(X)).numpy()], [theirs(torch.tensor(X)).numpy()])

    @pytest.mark.parametrize(("theirs", "ours"), layers_of("From PyTorch", "optimizers"))
    def test_optimizer(self, theirs, ours):
        names = self.names
        (parameter,) = names["parameters"]
        gradients, start = gradients_of(1.0)
        with torch.no_grad():
            parameter.copy_(torch.tensor(start))
        optimizer = eval(theirs, names)
        if "LBFGS" in ours:
            self.check_minimum(optimizer, parameter, eval(ours, OURS))
            return
        path = []
        for gradient in gradients:
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
            path.append(parameter.detach().numpy().copy())
        np.testing.assert_allclose(steps_of(eval(ours, OURS), gradients, start), path, rtol=0, atol=1e-6)

    def check_minimum(self, optimizer, parameter, ours):
        """Both find the least squares of a line through points."""
        a, y = X.reshape(-1, 8)[:, :7], X.reshape(-1, 8)[:, 7:]

        def closure():
            optimizer.zero_grad()
            loss = ((torch.tensor(a) @ parameter[:, None] - torch.tensor(y)) ** 2).mean()
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
        model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(1, use_bias=False)])
        model.compile(ours, "mse")
        model.fit(a, y, batch_size=len(a), shuffle=False, epochs=30, verbose=0)
        solution = np.linalg.lstsq(a, y, rcond=None)[0][:, 0]
        # At the gradient tolerance of both, 1e-5, x is off by that over the least curvature, 2 * 0.7.
        for found in (parameter.detach().numpy(), model.get_weights()[0][:, 0]):
            np.testing.assert_allclose(found, solution, rtol=0, atol=2e-5)


class TestFromOldPackages:
    @pytest.mark.parametrize(("saved", "loads", "notes"), rows("From TensorFlow Addons and keras-contrib"))
    def test_name(self, saved, loads, notes):
        config = {"learning_rate": 0.1, "weight_decay": 0.1} if "Adam" in saved[0] else {"axis": -1}
        found = compat.ALIASES[saved[0]].from_config(config)
        expected = loads[0].partition("(")[0]
        assert expected in [cls.__name__ for cls in type(found).__mro__]
        assert "decouple_lr" not in loads[0] or found.decouple_lr


class TestFromTheLecture:
    @pytest.mark.parametrize(("code", "ours"), rows("From the lecture's NumPy"))
    def test_rule(self, code, ours):
        if "running_mean" in code[0]:
            self.check_running_mean(code[0], eval(ours[0], OURS))
            return
        if "weight_decay" in code[0]:  # "the first four lines of Adam, then"
            adam = next(
                cells[0] for cells in rows("From the lecture's NumPy") if cells[1][0].startswith("Adam(")
            )
            code = adam[:4] + code
        gradients, start = gradients_of(1.0)
        names = NAMES | {"np": np, "x": start.astype("float64")}
        names |= {"v": np.zeros(7), "m": np.zeros(7), "grad_squared": np.zeros(7)}
        path = []
        for t, gradient in enumerate(gradients, start=1):
            names |= {"t": t, "dx": gradient.astype("float64")}
            exec("\n".join(code), names)
            path.append(names["x"].copy())
        # 20 steps in float32, each rounding numbers of size up to 3 a few times: 1e-5 is 28 roundings of 3.
        np.testing.assert_allclose(steps_of(eval(ours[0], OURS), gradients, start), path, rtol=0, atol=1e-5)

    def check_running_mean(self, code, layer):
        names = {"running_mean": np.zeros(7), "x": rng.normal(3.0, size=(9, 7)).astype("float32")}
        for _ in range(3):
            exec(code, names)
            layer(names["x"], training=True)
        np.testing.assert_allclose(layer.moving_mean.numpy(), names["running_mean"], rtol=1e-6)


def port():
    """The page's own function that copies weights."""
    (code,) = re.findall(r"```python\n(import numpy as np\n.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(code, names)
    return names["port"]
