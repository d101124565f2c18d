"""Each layer beside Keras's and the backend's own kernel, forward and both ways, without the call's cost.

BatchNorm has rows of its own for inference; the other normalizations compute then what they do forward.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tests.benchmarks import methods, timing
from tests.benchmarks.engines import engine
from tests.benchmarks.rows import KERAS, OURS, Row
from tests.benchmarks.timing import Effort, Run

SHAPES = ((16, 56, 56, 64), (32, 128, 768))
LARGE_IMAGES, TRANSFORMER = (8, 256, 256, 32), (8, 1024, 1024)
WITH_PEERS = tuple(name for name in methods.OUR_LAYERS if name in methods.KERAS_LAYERS)
BUT_LAYER_NORM = tuple(name for name in WITH_PEERS if name != "LayerNorm")
MIXED = ("mixed_float16", "mixed_bfloat16")
MIXED_SHAPE = (32, 128, 768)
IDENTITY = "identity"
# DESIGN: N(mu, 1) in float32 has to normalize to within this of the float64 answer.
ALLOWED = {1e2: 1e-5, 1e3: 1e-4, 1e4: 1e-3}
SHOWN = 1e3  # the mean whose error is printed


def rows(
    input_shapes: Sequence[tuple[int, ...]],
    effort: Effort,
    names: Sequence[str] = WITH_PEERS,
    policy: str = "float32",
) -> Iterator[Row]:
    """Two rows, forward and forward+backward, for each layer, shape and mode; the latter alone in a mixed policy."""
    for shape in input_shapes:
        for name in names:
            found = {} if policy in MIXED else accuracy(name, shape)
            errors = {peer: e for peer, (e, passes) in found.items() if not passes}
            for mode in engine().MODES:
                yield from _rows(name, shape, mode, effort, errors, policy)


def mixed_rows(effort: Effort) -> Iterator[Row]:
    """The same for one shape, beside Keras's alone, in the mixed policies."""
    for policy in MIXED:
        yield from rows([MIXED_SHAPE], effort, policy=policy)


def accuracy(name: str, shape: tuple[int, ...]) -> dict[str, tuple[float, bool]]:
    """Each contender's error at the shown mean, and whether it passes at every mean; of norms in training."""
    if name not in methods.NORMS:
        return {}
    found: dict[str, dict[float, float]] = {}
    for mean in ALLOWED:
        samples = shape[0] if name == "BatchNorm" else min(shape[0], 2)  # of norms by the sample few tell
        values = np.random.default_rng(1).normal(mean, 1.0, (samples, *shape[1:])).astype(np.float32)
        expected = normalized(name, values)
        for peer, (call, weights) in _calls(name, engine().array(values)).items():
            error = np.abs(engine().output(call, weights, engine().array(values)) - expected).max()
            found.setdefault(peer, {})[mean] = float(error)
    return {
        peer: (by_mean[SHOWN], all(by_mean[mean] <= limit for mean, limit in ALLOWED.items()))
        for peer, by_mean in found.items()
        if peer != IDENTITY
    }


def normalized(name: str, x: np.ndarray) -> np.ndarray:
    """The norm's answer in float64."""
    grouped = x.astype(np.float64)
    if name == "GroupNorm":
        grouped = grouped.reshape(*x.shape[:-1], methods.GROUPS, -1)
    axes = {
        "BatchNorm": tuple(range(x.ndim - 1)),
        "InstanceNorm": tuple(range(1, x.ndim - 1)),
        "LayerNorm": (x.ndim - 1,),
        "GroupNorm": (*range(1, x.ndim - 1), x.ndim),
    }[name]
    centred = grouped - grouped.mean(axes, keepdims=True)
    return (centred / np.sqrt(np.square(centred).mean(axes, keepdims=True) + 1e-5)).reshape(x.shape)


def _rows(
    name: str, shape: tuple[int, ...], mode: str, effort: Effort, errors: dict[str, float], policy: str
) -> Iterator[Row]:
    forward, both = _runs(name, shape, mode, policy)
    directions = {"forward": forward, "forward+backward": both}
    if not methods.is_training(name):
        del directions["forward+backward"]
    elif policy in MIXED:
        del directions["forward"]
    how = f"{policy}, " if policy in MIXED else ""
    for direction, contenders in directions.items():
        seconds, resolution = without_the_call(timing.readings(contenders, effort))
        subject = f"{name}, {_show(shape)}, {how}{direction}"
        yield Row(subject, mode, seconds, errors=errors, resolution=resolution)


def without_the_call(readings: dict[str, list[float]]) -> tuple[dict[str, float], float]:
    """Medians less the identity's, and what they are uncertain by: two standard errors of the difference."""
    call = statistics.median(readings[IDENTITY])
    errors = {peer: timing.median_error(values) for peer, values in readings.items()}
    resolution = 2 * max(math.hypot(error, errors[IDENTITY]) for error in errors.values())
    net = {peer: statistics.median(values) - call for peer, values in readings.items() if peer != IDENTITY}
    return {peer: max(seconds, resolution) for peer, seconds in net.items()}, resolution


def _runs(
    name: str, shape: tuple[int, ...], mode: str, policy: str = "float32"
) -> tuple[dict[str, Run], dict[str, Run]]:
    random = np.random.default_rng(2)
    dtype = keras.dtype_policies.get(policy).compute_dtype
    x, dy = (
        keras.ops.cast(engine().array(random.standard_normal(shape, np.float32)), dtype) for _ in range(2)
    )
    runs = {peer: engine().runs(*call, x, dy, mode) for peer, call in _calls(name, x, policy).items()}
    return {peer: run[0] for peer, run in runs.items()}, {peer: run[1] for peer, run in runs.items()}


def _calls(name: str, x: Any, policy: str = "float32") -> dict[str, Any]:
    rank, training = len(x.shape), methods.is_training(name)
    default = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    layers = {OURS: methods.OUR_LAYERS[name](rank), IDENTITY: keras.layers.Identity()}
    if name in methods.KERAS_LAYERS:
        layers[KERAS] = methods.KERAS_LAYERS[name](rank)
    calls = {peer: engine().keras_call(layer, x, training) for peer, layer in layers.items()}
    keras.config.set_dtype_policy(default)
    return calls if policy in MIXED else {**calls, **engine().native_calls(name, x)}


def _show(shape: tuple[int, ...]) -> str:
    return "(" + ",".join(map(str, shape)) + ")"
