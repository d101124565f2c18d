"""The algebra of each kind of layer against its definition in float64 NumPy."""

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_addons_l6.folding.planning.absorb import absorber_of
from keras_addons_l6.folding.planning.affine import Affine, batch_norm_affine
from tests.reference import folding as reference

# sums of at most a hundred products of order one, in float64: 100 * 2.2e-16 and some cancellation
TOLERANCE = 1e-13


def conv(groups):
    return lambda x, kernel, bias: reference.conv(x, kernel, bias, groups)


# layer, its definition, the shape of its input, the shapes of its weights, output channels
KINDS = {
    "dense": (L.Dense(4), reference.dense, (3, 5), {"kernel": (5, 4)}, 4),
    "conv1d": (L.Conv1D(4, 3), conv(1), (2, 7, 3), {"kernel": (3, 3, 4)}, 4),
    "conv2d": (L.Conv2D(4, (3, 2)), conv(1), (2, 5, 5, 3), {"kernel": (3, 2, 3, 4)}, 4),
    "groups": (L.Conv2D(9, 2, groups=3), conv(3), (2, 4, 4, 6), {"kernel": (2, 2, 2, 9)}, 9),
    "conv3d": (L.Conv3D(2, 2), conv(1), (1, 3, 4, 3, 3), {"kernel": (2, 2, 2, 3, 2)}, 2),
    "depthwise1d": (L.DepthwiseConv1D(3), reference.depthwise, (2, 6, 3), {"kernel": (3, 3, 2)}, 6),
    "depthwise2d": (L.DepthwiseConv2D(2), reference.depthwise, (2, 4, 4, 3), {"kernel": (2, 2, 3, 3)}, 9),
    "separable1d": (
        L.SeparableConv1D(4, 2),
        reference.separable,
        (2, 6, 3),
        {"depthwise_kernel": (2, 3, 2), "pointwise_kernel": (1, 6, 4)},
        4,
    ),
    "separable2d": (
        L.SeparableConv2D(4, 2),
        reference.separable,
        (2, 4, 4, 3),
        {"depthwise_kernel": (2, 2, 3, 2), "pointwise_kernel": (1, 1, 6, 4)},
        4,
    ),
}
TRANSPOSED = {
    "transpose1d": (L.Conv1DTranspose(4, 3), reference.conv_transpose, (2, 5, 3), {"kernel": (3, 4, 3)}, 4),
    "transpose2d": (
        L.Conv2DTranspose(3, 2),
        reference.conv_transpose,
        (2, 3, 4, 3),
        {"kernel": (2, 2, 3, 3)},
        3,
    ),
    "transpose3d": (
        L.Conv3DTranspose(2, 2),
        reference.conv_transpose,
        (1, 2, 3, 2, 4),
        {"kernel": (2, 2, 2, 2, 4)},
        2,
    ),
}


def draw(shapes, out, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape) for name, shape in {**shapes, "bias": (out,)}.items()}


def statistics(channels, seed=1):
    """gamma of both signs, beta, mean, variance."""
    generator = np.random.default_rng(seed)
    gamma = generator.uniform(0.5, 1.5, channels) * generator.choice([-1, 1], channels)
    mean, beta = generator.normal(size=(2, channels))
    return gamma, beta, mean, generator.uniform(0.1, 2, channels)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize(
    ("layer", "definition", "shape", "shapes", "out"),
    [*KINDS.values(), *TRANSPOSED.values()],
    ids=[*KINDS, *TRANSPOSED],
)
def test_after(layer, definition, shape, shapes, out):
    x, weights = np.random.default_rng(2).normal(size=shape), draw(shapes, out)
    gamma, beta, mean, variance = statistics(out)
    affine = batch_norm_affine(gamma, beta, mean, variance, 1e-3)

    new = absorber_of(layer).after(weights, affine, layer, len(shape) - 1, len(shape))

    expected = reference.batch_norm(definition(x, **weights), gamma, beta, mean, variance, 1e-3, -1)
    close(definition(x, **new), expected)


@pytest.mark.parametrize(("layer", "definition", "shape", "shapes", "out"), KINDS.values(), ids=KINDS)
def test_before(layer, definition, shape, shapes, out):
    x, weights = np.random.default_rng(2).normal(size=shape), draw(shapes, out)
    gamma, beta, mean, variance = statistics(shape[-1])
    affine = batch_norm_affine(gamma, beta, mean, variance, 1e-3)

    new = absorber_of(layer).before(weights, affine, layer)

    expected = definition(reference.batch_norm(x, gamma, beta, mean, variance, 1e-3, -1), **weights)
    close(definition(x, **new), expected)


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_bias_is_made(name):
    layer, definition, shape, shapes, out = KINDS[name]
    x, weights = np.random.default_rng(2).normal(size=shape), draw(shapes, out)
    weights.pop("bias")
    for side, channels in (("after", out), ("before", shape[-1])):
        affine = batch_norm_affine(*statistics(channels), 1e-3)
        arguments = (layer, len(shape) - 1, len(shape)) if side == "after" else (layer,)
        new = getattr(absorber_of(layer), side)(weights, affine, *arguments)
        zero = getattr(absorber_of(layer), side)(weights | {"bias": np.zeros(out)}, affine, *arguments)
        close(definition(x, **new), definition(x, **zero))


@pytest.mark.parametrize(
    ("equation", "bias_axes", "axis", "out"),
    [
        ("abc,cd->abd", None, 2, (2, 3, 4)),
        ("abc,cd->abd", "d", 2, (2, 3, 4)),
        ("abc,cde->abde", "de", 2, (2, 3, 4, 5)),
        ("abc,cde->abde", None, 3, (2, 3, 4, 5)),
        ("abc,bcd->abd", "bd", 1, (2, 3, 4)),
        ("...x,xy->...y", "y", 2, (2, 3, 4)),
    ],
)
def test_einsum(equation, bias_axes, axis, out):
    left, output = equation.split("->")
    letters = left.split(",")[1]
    sizes = {"a": 2, "b": 3, "c": 6, "x": 6, "y": 4} | dict(
        zip(output.strip("."), out[-len(output.strip(".")) :], strict=True)
    )
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 3, 6))
    weights = {"kernel": generator.normal(size=[sizes[letter] for letter in letters])}
    if bias_axes:
        first = min(map(output.index, bias_axes))
        weights["bias"] = generator.normal(size=[sizes[c] if c in bias_axes else 1 for c in output[first:]])
    affine = batch_norm_affine(*statistics(out[axis]), 1e-3)
    layer = L.EinsumDense(equation, out[1:], bias_axes=bias_axes)

    assert absorber_of(layer).refuses_after(layer, axis, len(out)) is None
    new = absorber_of(layer).after(weights, affine, layer, axis, len(out))

    def definition(kernel, bias=0.0):
        return np.einsum(equation, x, kernel) + bias

    shape = [-1 if place == axis else 1 for place in range(len(out))]
    expected = definition(**weights) * affine.scale.reshape(shape) + affine.shift.reshape(shape)
    close(definition(**new), expected)


def test_embedding():
    table = np.random.default_rng(0).normal(size=(7, 4))
    affine = batch_norm_affine(*statistics(4), 1e-3)
    new = absorber_of(L.Embedding(7, 4)).after({"embeddings": table}, affine, L.Embedding(7, 4), 2, 3)
    close(new["embeddings"], table * affine.scale + affine.shift)


def test_maps_follow_each_other():
    generator = np.random.default_rng(0)
    first, second = (Affine(*generator.normal(size=(2, 5))) for _ in range(2))
    x = generator.normal(size=5)
    once = first.then(second)
    close(x * once.scale + once.shift, (x * first.scale + first.shift) * second.scale + second.shift)


def test_only_the_exact_class_absorbs():
    class Mine(L.Dense):
        pass

    assert absorber_of(Mine(3)) is None
    assert absorber_of(keras.layers.LayerNormalization()) is None
