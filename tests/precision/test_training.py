"""Training in true float64: every number of it, and L-BFGS to where float32 can't go."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_addons_l6 import LBFGS, Adam, StopWhenConverged, disable_float64, fit_full_batch, float64, minimize
from tests.precision.test_values import DECAY, TARGET, X, network, numpy_network, weights

pytestmark = pytest.mark.usefixtures("true_float64")


def dtypes_of(variables):
    kinds = {keras.backend.standardize_dtype(v.value.dtype) for v in variables}
    return {kind for kind in kinds if not kind.startswith(("int", "uint"))}


@pytest.mark.parametrize("jit", [False, "auto"])
def test_fit_takes_the_steps_of_numpy(jit):
    """Gradient descent, ten steps of it: each loss and the weights at the end."""
    model = network()
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", jit_compile=jit)
    history = model.fit(X, TARGET, batch_size=len(X), shuffle=False, epochs=10, verbose=0).history
    w, losses = weights(), []
    for _ in range(10):
        _, loss, gradients = numpy_network(w)
        losses.append(loss)
        w = [a - 0.1 * g for a, g in zip(w, gradients, strict=True)]
    np.testing.assert_allclose(history["loss"], losses, 1e-13)  # ten steps of 1e-14
    for found, expected in zip(model.get_weights(), w, strict=True):
        np.testing.assert_allclose(found, expected, 1e-13, 1e-13)


@pytest.mark.parametrize("create", [Adam, keras.optimizers.Adam, LBFGS])
def test_everything_that_trains_is_float64(create):
    model = network()
    model.compile(optimizer=create(), loss="mse", metrics=["mae"])
    # what came in float32 is cast to floatx, as Keras does
    model.fit(X.astype("float32"), TARGET, batch_size=len(X), shuffle=False, epochs=2, verbose=0)
    assert dtypes_of(model.variables) == {"float64"}
    assert dtypes_of(model.optimizer.variables) == {"float64"}
    assert dtypes_of(model.metrics_variables) == {"float64"}


# Far enough that float32 can't follow: with rounding alone its gradients end between 1e-8 and 1e-7.
TIGHT = {"gradient_tolerance": 1e-10, "change_tolerance": 0.0, "history_size": 50}
STEPS = 500


def gradient_norm(model_weights):
    """The largest component of NumPy's gradient."""
    return max(np.abs(g).max() for g in numpy_network(model_weights)[2])


def test_l_bfgs_in_fit_goes_there():
    model = network()
    model.compile(optimizer=LBFGS(**TIGHT), loss="mse")
    stop = [StopWhenConverged()]
    model.fit(X, TARGET, batch_size=len(X), shuffle=False, epochs=STEPS, verbose=0, callbacks=stop)
    assert model.optimizer.converged
    assert gradient_norm(model.get_weights()) < 1e-10


def test_fit_full_batch_goes_there_too():
    model = network()
    model.compile(optimizer=LBFGS(**TIGHT), loss="mse")
    fit_full_batch(model, X, TARGET, max_iterations=STEPS, verbose=0)
    assert model.optimizer.converged
    assert gradient_norm(model.get_weights()) < 1e-10


def loss_in_operations(w):
    """The network's loss in `keras.ops`, where Keras rounds without the switch."""
    h = ops.tanh(ops.matmul(ops.convert_to_tensor(X, w[0].dtype), w[0]) + w[1])
    h = ops.tanh(ops.matmul(h, w[2]) + w[3])
    error = ops.matmul(h, w[4]) + w[5] - ops.convert_to_tensor(TARGET, w[0].dtype)
    return ops.mean(ops.square(error)) + DECAY * sum(ops.sum(ops.square(k)) for k in w[::2])


def test_minimize_goes_there_too_and_float32_cannot():
    start = [ops.convert_to_tensor(w) for w in weights()]
    result = minimize(loss_in_operations, start, max_iterations=STEPS, **TIGHT)
    assert result.converged, result.status
    assert gradient_norm([ops.convert_to_numpy(w) for w in result.x]) < 1e-10
    single = [ops.cast(w, "float32") for w in start]
    result = minimize(loss_in_operations, single, max_iterations=STEPS, **TIGHT)
    assert not result.converged
    assert gradient_norm([ops.convert_to_numpy(w).astype("float64") for w in result.x]) > 1e-9


def test_a_model_is_exact_again_in_the_next_block():
    model = network()
    with float64():
        disable_float64()
        assert dtypes_of(model.variables) == {"float64"}
        with float64():
            found = ops.convert_to_numpy(model(X))
    np.testing.assert_allclose(found, numpy_network(weights())[0], 1e-13)


def test_the_example_of_the_docs_runs(capsys):
    page = (Path(__file__).parents[2] / "docs" / "float64.md").read_text()
    example = page.split("```python\n")[1].split("```")[0]
    with float64():
        disable_float64()
        exec(compile(example, "docs/float64.md", "exec"), {"__name__": "example"})
    lines = capsys.readouterr().out.strip().splitlines()[-2:]
    before, after = (float(line.rpartition(":")[2]) for line in lines)
    assert before > 1e-10 > after
