"""The operations under test, each with float64 data and its NumPy reference."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.reference import layers as reference

EPSILON = 1e-5


@dataclass(frozen=True)
class Operation:
    """`call(implementation, x, *parameters)` against `expected(x, *parameters)`: each the output alone."""

    name: str
    kernel: str
    parameters: tuple[np.ndarray, ...]
    call: Callable
    expected: Callable

    def __str__(self) -> str:
        return self.name


def activations(channels: int) -> list[Operation]:
    slopes = np.linspace(-0.5, 2.0, channels)
    return [
        Operation("prelu", "prelu", (slopes,), lambda k, x, a: k.prelu(x, a), reference.prelu),
        Operation("selu", "selu", (), lambda k, x: k.selu(x), reference.selu),
        Operation("swish", "swish", (slopes,), lambda k, x, b: k.swish(x, b), reference.swish),
        Operation(
            "swish of one beta", "swish", (np.array(1.0),), lambda k, x, b: k.swish(x, b), reference.swish
        ),
    ]


def norms(shape: tuple[int, ...], axis: int) -> list[Operation]:
    rng = np.random.default_rng(7)
    gamma, beta = rng.uniform(0.5, 1.5, shape[axis]), rng.normal(size=shape[axis])
    mask_shape = [1 if a == axis else n for a, n in enumerate(shape)]
    mask = rng.uniform(size=mask_shape) < 0.7
    groups = shape[axis] // 2
    # Of values; not where a group is two channels: what is masked is far from the one value that would be left.
    group_mask = (rng.uniform(size=shape) < 0.7) | (len(shape) == 2)
    group_mask |= np.indices(shape)[axis] % 2 == 0
    return [
        Operation(
            "batch_norm",
            "batch_norm",
            (gamma, beta),
            lambda k, x, g, b: k.batch_norm(x, g, b, axis=axis, epsilon=EPSILON)[0],
            lambda x, g, b: reference.batch_norm(x, g, b, axis, EPSILON)[0],
        ),
        Operation(
            "masked_batch_norm",
            "masked_batch_norm",
            (gamma, beta),
            lambda k, x, g, b: k.masked_batch_norm(x, mask, g, b, axis=axis, epsilon=EPSILON)[0],
            lambda x, g, b: reference.batch_norm(x, g, b, axis, EPSILON, mask)[0],
        ),
        Operation(
            "synchronized_batch_norm",
            "synchronized_batch_norm",
            (gamma, beta),
            lambda k, x, g, b: k.synchronized_batch_norm(x, mask, g, b, axis=axis, epsilon=EPSILON)[0],
            lambda x, g, b: reference.batch_norm(x, g, b, axis, EPSILON, mask)[0],
        ),
        Operation(
            "group_norm",
            "group_norm",
            (gamma, beta),
            lambda k, x, g, b: k.group_norm(x, g, b, groups=groups, axis=axis, epsilon=EPSILON),
            lambda x, g, b: reference.group_norm(x, g, b, groups, axis, EPSILON),
        ),
        Operation(
            "masked_group_norm",
            "masked_group_norm",
            (gamma, beta),
            lambda k, x, g, b: k.masked_group_norm(
                x, group_mask, g, b, groups=groups, axis=axis, epsilon=EPSILON
            ),
            lambda x, g, b: reference.group_norm(x, g, b, groups, axis, EPSILON, group_mask),
        ),
        Operation(
            "layer_norm",
            "layer_norm",
            (gamma, beta),
            lambda k, x, g, b: k.layer_norm(x, g, b, axes=[axis], epsilon=EPSILON),
            lambda x, g, b: reference.layer_norm(x, g, b, [axis], EPSILON),
        ),
        Operation(
            "instance_norm",
            "group_norm",
            (gamma, beta),
            lambda k, x, g, b: k.group_norm(x, g, b, groups=shape[axis], axis=axis, epsilon=EPSILON),
            lambda x, g, b: reference.instance_norm(x, g, b, axis, EPSILON),
        ),
    ]


def inference(shape: tuple[int, ...], axis: int, mean: float = 0.0) -> list[Operation]:
    rng = np.random.default_rng(7)
    moving_mean = (mean + rng.normal(size=shape[axis])).astype("float32").astype("float64")
    variance, gamma = rng.uniform(0.5, 1.5, (2, shape[axis])).astype("float32").astype("float64")
    return [
        Operation(
            "normalize",
            "normalize",
            (moving_mean, variance, gamma, gamma),
            lambda k, x, m, v, g, b: k.normalize(x, m, v, g, b, axis=axis, epsilon=EPSILON),
            lambda x, m, v, g, b: reference.batch_norm_inference(x, g, b, m, v, axis, EPSILON),
        )
    ]
