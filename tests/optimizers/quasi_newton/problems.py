"""Classic test problems of Moré, Garbow & Hillstrom (ACM TOMS 7, 1981) and small learning problems.

Each function is written over an array namespace `xp` (numpy, jax.numpy or keras.ops): classic problems give residuals, whose
sum of squares is minimized; numbers in brackets are the paper's. Learning problems give the value.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Problem(NamedTuple):
    """An unconstrained minimization problem."""

    name: str
    value: Callable[[Any, Any], Any]  # (xp, x) -> scalar
    start: np.ndarray
    minima: tuple[float, ...]  # values at the known local minima; empty where the paper gives none


def constant(xp, x, values):
    return xp.array(np.asarray(values), dtype=x.dtype)


def rosenbrock(xp, x):  # [1], [21]
    odd, even = x[0::2], x[1::2]
    return xp.concatenate([10 * (even - odd**2), 1 - odd])


def chained_rosenbrock(xp, x):
    return xp.concatenate([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


def freudenstein_roth(xp, x):  # [2]
    return xp.stack(
        [-13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1], -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]]
    )


def powell_badly_scaled(xp, x):  # [3]
    return xp.stack([1e4 * x[0] * x[1] - 1, xp.exp(-x[0]) + xp.exp(-x[1]) - 1.0001])


def brown_badly_scaled(xp, x):  # [4]
    return xp.stack([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])


def beale(xp, x):  # [5]
    return xp.stack([y - x[0] * (1 - x[1] ** i) for i, y in ((1, 1.5), (2, 2.25), (3, 2.625))])


def jennrich_sampson(xp, x):  # [6]
    i = constant(xp, x, np.arange(1, 11))
    return 2 + 2 * i - (xp.exp(i * x[0]) + xp.exp(i * x[1]))


def helical_valley(xp, x):  # [7]; the angle in turns, between -1/4 and 3/4
    angle = xp.arctan2(x[1], x[0]) / (2 * np.pi)
    angle = xp.where(angle < -0.25, angle + 1, angle)
    return xp.stack([10 * (x[2] - 10 * angle), 10 * (xp.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2]])


BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]


def bard(xp, x):  # [8]
    u = np.arange(1, 16)
    v = 16 - u
    y, u, v, w = (constant(xp, x, c) for c in (BARD, u, v, np.minimum(u, v)))
    return y - (x[0] + u / (v * x[1] + w * x[2]))


GAUSSIAN = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989]


def gaussian(xp, x):  # [9]
    t = constant(xp, x, (8 - np.arange(1, 16)) / 2)
    return x[0] * xp.exp(-x[1] * (t - x[2]) ** 2 / 2) - constant(xp, x, GAUSSIAN + GAUSSIAN[-2::-1])


MEYER = [
    34780,
    28610,
    23650,
    19630,
    16370,
    13720,
    11540,
    9744,
    8261,
    7030,
    6005,
    5147,
    4427,
    3820,
    3307,
    2872,
]


def meyer(xp, x):  # [10]
    t = constant(xp, x, 45 + 5 * np.arange(1, 17))
    return x[0] * xp.exp(x[1] / (t + x[2])) - constant(xp, x, MEYER)


def gulf(xp, x):  # [11], with |y_i - x_2| where the paper prints |y_i m i x_2|
    t = np.arange(1, 100) / 100
    y = constant(xp, x, 25 + (-50 * np.log(t)) ** (2 / 3))
    return xp.exp(-(xp.abs(y - x[1]) ** x[2]) / x[0]) - constant(xp, x, t)


def box_3d(xp, x):  # [12]
    t = np.arange(1, 11) / 10
    known = constant(xp, x, np.exp(-t) - np.exp(-10 * t))
    t = constant(xp, x, t)
    return xp.exp(-t * x[0]) - xp.exp(-t * x[1]) - x[2] * known


def powell_singular(xp, x):  # [13], [22]
    a, b, c, d = x[0::4], x[1::4], x[2::4], x[3::4]
    return xp.concatenate([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


def wood(xp, x):  # [14]
    return xp.stack(
        [
            10 * (x[1] - x[0] ** 2),
            1 - x[0],
            90**0.5 * (x[3] - x[2] ** 2),
            1 - x[2],
            10**0.5 * (x[1] + x[3] - 2),
            10**-0.5 * (x[1] - x[3]),
        ]
    )


KOWALIK_OSBORNE_Y = [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
KOWALIK_OSBORNE_U = [4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625]


def kowalik_osborne(xp, x):  # [15]
    y, u = constant(xp, x, KOWALIK_OSBORNE_Y), constant(xp, x, KOWALIK_OSBORNE_U)
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(xp, x):  # [16]
    t = np.arange(1, 21) / 5
    growth, sine, cosine = (constant(xp, x, f(t)) for f in (np.exp, np.sin, np.cos))
    t = constant(xp, x, t)
    return (x[0] + t * x[1] - growth) ** 2 + (x[2] + x[3] * sine - cosine) ** 2


OSBORNE_1 = [
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603, 0.580,
    0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406,
]  # fmt: skip


def osborne_1(xp, x):  # [17]
    t = constant(xp, x, 10 * np.arange(33))
    return constant(xp, x, OSBORNE_1) - (x[0] + x[1] * xp.exp(-t * x[3]) + x[2] * xp.exp(-t * x[4]))


def biggs_exp6(xp, x):  # [18]
    t = np.arange(1, 14) / 10
    y = constant(xp, x, np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t))
    t = constant(xp, x, t)
    return x[2] * xp.exp(-t * x[0]) - x[3] * xp.exp(-t * x[1]) + x[5] * xp.exp(-t * x[4]) - y


OSBORNE_2 = [
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606, 0.602,
    0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375,
    0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591,
    0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054,
]  # fmt: skip


def osborne_2(xp, x):  # [19]
    t = constant(xp, x, np.arange(65) / 10)
    peaks = sum(x[k] * xp.exp(-((t - x[7 + k]) ** 2) * x[4 + k]) for k in (1, 2, 3))
    return constant(xp, x, OSBORNE_2) - (x[0] * xp.exp(-t * x[4]) + peaks)


def watson(xp, x):  # [20]
    j = np.arange(x.shape[0])
    t = np.arange(1, 30)[:, None] / 29
    powers = constant(xp, x, t**j)
    slopes = constant(xp, x, j * t ** np.maximum(j - 1, 0))
    equations = xp.matmul(slopes, x) - xp.matmul(powers, x) ** 2 - 1
    return xp.concatenate([equations, xp.stack([x[0], x[1] - x[0] ** 2 - 1])])


def penalty_1(xp, x):  # [23]
    return xp.concatenate([1e-5**0.5 * (x - 1), xp.stack([xp.sum(x**2) - 0.25])])


def penalty_2(xp, x):  # [24]
    n = x.shape[0]
    i = np.arange(2, n + 1)
    y = constant(xp, x, np.exp(i / 10) + np.exp((i - 1) / 10))
    root, growth = 1e-5**0.5, xp.exp(x / 10)
    weights = constant(xp, x, n - np.arange(n))
    ends = [xp.stack([x[0] - 0.2]), xp.stack([xp.sum(weights * x**2) - 1])]
    return xp.concatenate(
        [ends[0], root * (growth[1:] + growth[:-1] - y), root * (growth[1:] - np.exp(-0.1)), ends[1]]
    )


def variably_dimensioned(xp, x):  # [25]
    total = xp.sum(constant(xp, x, np.arange(1, x.shape[0] + 1)) * (x - 1))
    return xp.concatenate([x - 1, xp.stack([total, total**2])])


def trigonometric(xp, x):  # [26]
    n = x.shape[0]
    return n - xp.sum(xp.cos(x)) + constant(xp, x, np.arange(1, n + 1)) * (1 - xp.cos(x)) - xp.sin(x)


def brown_almost_linear(xp, x):  # [27]
    return xp.concatenate([x[:-1] + xp.sum(x) - (x.shape[0] + 1), xp.stack([xp.prod(x) - 1])])


def grid(n):
    return np.arange(1, n + 1) / (n + 1)


def with_borders(xp, x):
    zero = constant(xp, x, [0.0])
    return xp.concatenate([zero, x, zero])


def discrete_boundary_value(xp, x):  # [28]
    n = x.shape[0]
    wide = with_borders(xp, x)
    return 2 * x - wide[:-2] - wide[2:] + (x + constant(xp, x, grid(n) + 1)) ** 3 / (2 * (n + 1) ** 2)


def discrete_integral(xp, x):  # [29]
    n = x.shape[0]
    t = grid(n)
    green = constant(
        xp,
        x,
        np.where(t[:, None] >= t[None, :], (1 - t[:, None]) * t[None, :], t[:, None] * (1 - t[None, :])),
    )
    return x + xp.matmul(green, (x + constant(xp, x, t + 1)) ** 3) / (2 * (n + 1))


def broyden_tridiagonal(xp, x):  # [30]
    wide = with_borders(xp, x)
    return (3 - 2 * x) * x - wide[:-2] - 2 * wide[2:] + 1


def broyden_banded(xp, x):  # [31]
    i = np.arange(x.shape[0])
    distance = i[None, :] - i[:, None]
    band = (distance >= -5) & (distance <= 1) & (distance != 0)
    return x * (2 + 5 * x**2) + 1 - xp.matmul(constant(xp, x, band), x * (1 + x))


def linear_full_rank(xp, x):  # [32], m = 2 n
    mean = xp.sum(x) / x.shape[0]
    return xp.concatenate([x - mean - 1, -mean - 1 + 0 * x])


def linear_rank_1(xp, x):  # [33], m = n
    j = constant(xp, x, np.arange(1, x.shape[0] + 1))
    return j * xp.sum(j * x) - 1


def linear_rank_1_zeros(xp, x):  # [34], m = n
    n = x.shape[0]
    j = constant(xp, x, np.arange(2, n))
    return xp.concatenate(
        [constant(xp, x, [-1.0, -1.0]), constant(xp, x, np.arange(1, n - 1)) * xp.sum(j * x[1:-1]) - 1]
    )


def chebyquad(xp, x):  # [35]
    shifted = 2 * x - 1
    before, now, means = 1 + 0 * x, shifted, []
    for i in range(1, x.shape[0] + 1):
        means.append(xp.sum(now) / x.shape[0] - (0 if i % 2 else -1 / (i**2 - 1)))
        before, now = now, 2 * shifted * now - before
    return xp.stack(means)


def squares(residuals):
    """The sum of squares of residuals, as a value."""
    return lambda xp, x: xp.sum(residuals(xp, x) ** 2)


def _classic():
    n10, n100 = np.arange(1, 11), grid(100)
    alternating = np.tile([-1.2, 1.0], 500)
    rows = [
        ("Rosenbrock", rosenbrock, [-1.2, 1.0], [0]),
        ("Freudenstein-Roth", freudenstein_roth, [0.5, -2.0], [0, 48.98425]),
        ("Powell badly scaled", powell_badly_scaled, [0.0, 1.0], [0]),
        ("Brown badly scaled", brown_badly_scaled, [1.0, 1.0], [0]),
        ("Beale", beale, [1.0, 1.0], [0]),
        ("Jennrich-Sampson", jennrich_sampson, [0.3, 0.4], [124.3622]),
        ("helical valley", helical_valley, [-1.0, 0.0, 0.0], [0]),
        ("Bard", bard, [1.0, 1.0, 1.0], [8.21487e-3, 17.4286]),
        ("Gaussian", gaussian, [0.4, 1.0, 0.0], [1.12793e-8]),
        ("Meyer", meyer, [0.02, 4000.0, 250.0], [87.9458]),
        ("Gulf", gulf, [5.0, 2.5, 0.15], [0]),
        ("box 3-D", box_3d, [0.0, 10.0, 20.0], [0]),
        ("Powell singular", powell_singular, [3.0, -1.0, 0.0, 1.0], [0]),
        ("Wood", wood, [-3.0, -1.0, -3.0, -1.0], [0]),
        ("Kowalik-Osborne", kowalik_osborne, [0.25, 0.39, 0.415, 0.39], [3.07505e-4, 1.02734e-3]),
        ("Brown-Dennis", brown_dennis, [25.0, 5.0, -5.0, -1.0], [85822.2]),
        ("Osborne 1", osborne_1, [0.5, 1.5, -1.0, 0.01, 0.02], [5.46489e-5]),
        ("Biggs EXP6", biggs_exp6, [1.0, 2.0, 1.0, 1.0, 1.0, 1.0], [0, 5.65565e-3]),
        ("Osborne 2", osborne_2, [1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5], [4.01377e-2]),
        ("Watson 6", watson, np.zeros(6), [2.28767e-3]),
        ("Watson 9", watson, np.zeros(9), [1.39976e-6]),
        ("extended Rosenbrock 1000", rosenbrock, alternating, [0]),
        ("extended Powell singular 100", powell_singular, np.tile([3.0, -1.0, 0.0, 1.0], 25), [0]),
        ("penalty I 10", penalty_1, n10, [7.08765e-5]),
        ("penalty II 10", penalty_2, np.full(10, 0.5), [2.93660e-4]),
        ("variably dimensioned 10", variably_dimensioned, 1 - n10 / 10, [0]),
        ("trigonometric 10", trigonometric, np.full(10, 0.1), [0, 2.79506e-5]),
        ("Brown almost linear 10", brown_almost_linear, np.full(10, 0.5), [0, 1]),
        ("discrete boundary value 10", discrete_boundary_value, grid(10) * (grid(10) - 1), [0]),
        ("discrete integral 100", discrete_integral, n100 * (n100 - 1), [0]),
        ("Broyden tridiagonal 100", broyden_tridiagonal, np.full(100, -1.0), [0]),
        ("Broyden banded 100", broyden_banded, np.full(100, -1.0), [0]),
        ("linear full rank 10", linear_full_rank, np.ones(10), [10]),
        ("linear rank 1 10", linear_rank_1, np.ones(10), [2.142857]),
        ("linear rank 1 with zeros 10", linear_rank_1_zeros, np.ones(10), [3.647059]),
        ("Chebyquad 8", chebyquad, grid(8), [3.51687e-3]),
        ("chained Rosenbrock 10", chained_rosenbrock, alternating[:10], [0]),
        ("chained Rosenbrock 100", chained_rosenbrock, alternating[:100], [0]),
    ]
    return [
        Problem(name, squares(residuals), np.asarray(start, "float64"), tuple(float(m) for m in minima))
        for name, residuals, start, minima in rows
    ]


CLASSIC = _classic()


def _log_softmax(xp, logits):
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))


def softmax_regression(inputs, labels, decay=1e-4):
    """Mean cross-entropy of W x + b, plus decay |W|^2 (Keras's `l2`), over a flat vector of W and b."""
    features, classes = inputs.shape[1], labels.max() + 1
    one_hot = np.eye(classes)[labels]

    def value(xp, x):
        weights, bias = xp.reshape(x[: features * classes], (features, classes)), x[features * classes :]
        likelihood = _log_softmax(xp, xp.matmul(constant(xp, x, inputs), weights) + bias)
        return -xp.sum(constant(xp, x, one_hot) * likelihood) / len(labels) + decay * xp.sum(weights**2)

    return value, np.zeros(features * classes + classes)


def network(sizes, inputs, loss, decay=0.0, seed=0):
    """A tanh network's loss over a flat vector of kernels and biases, and Glorot's uniform start."""
    rng = np.random.default_rng(seed)
    shapes = [shape for a, b in itertools.pairwise(sizes) for shape in ((a, b), (b,))]
    ends = np.cumsum([0] + [int(np.prod(shape)) for shape in shapes])
    limits = [(6 / sum(shape)) ** 0.5 if len(shape) == 2 else 0.0 for shape in shapes]
    start = np.concatenate(
        [rng.uniform(-a, a, np.prod(shape)) for a, shape in zip(limits, shapes, strict=True)]
    )

    def value(xp, x):
        parts = [xp.reshape(x[a:b], shape) for a, b, shape in zip(ends[:-1], ends[1:], shapes, strict=True)]
        hidden = constant(xp, x, inputs)
        for kernel, bias in zip(parts[:-2:2], parts[1:-2:2], strict=True):
            hidden = xp.tanh(xp.matmul(hidden, kernel) + bias)
        outputs = xp.matmul(hidden, parts[-2]) + parts[-1]
        return loss(xp, outputs) + (decay * sum(xp.sum(kernel**2) for kernel in parts[::2]) if decay else 0)

    return value, start


def learning():
    """Regression and small networks on the data that scikit-learn carries."""
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

    digits, labels = load_digits(return_X_y=True)
    digits = digits / 16
    one_hot = np.eye(10)[labels]
    cancer, malignant = load_breast_cancer(return_X_y=True)
    cancer = (cancer - cancer.mean(0)) / cancer.std(0)
    wine, vineyard = load_wine(return_X_y=True)
    diabetes, progression = load_diabetes(return_X_y=True)
    t = np.linspace(-1, 1, 200)[:, None]

    def cross_entropy(xp, outputs):
        return -xp.sum(constant(xp, outputs, one_hot) * _log_softmax(xp, outputs)) / len(labels)

    def sine(xp, outputs):
        return xp.sum((outputs - constant(xp, outputs, np.sin(6 * t))) ** 2) / len(t)

    def least_squares(features, targets, scale=1.0):
        design = np.concatenate([features, np.ones((len(targets), 1))], axis=1)

        def value(xp, x):
            residuals = xp.matmul(constant(xp, x, design), x) - constant(xp, x, targets)
            return scale * xp.sum(residuals**2) / len(targets)

        return value, np.zeros(design.shape[1])

    rows = [
        ("softmax regression, digits", *softmax_regression(digits, labels)),
        ("softmax regression, breast cancer", *softmax_regression(cancer, malignant)),
        ("linear regression, wine", *least_squares((wine - wine.mean(0)) / wine.std(0), vineyard)),
        ("linear regression, wine, raw", *least_squares(wine[:, 1:] / 10, wine[:, 0])),
        ("linear regression, diabetes", *least_squares(diabetes, progression / 100)),
        ("sine, 1-20-20-1 tanh", *network([1, 20, 20, 1], t, sine)),
        ("MLP 64-32-10 tanh, digits", *network([64, 32, 10], digits, cross_entropy, 1e-4)),
    ]
    return [Problem(name, value, start, ()) for name, value, start in rows]
