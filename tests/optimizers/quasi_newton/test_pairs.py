"""The direction from curvature pairs, against dense BFGS matrices and the two-loop recursion."""

import keras
import numpy as np
import pytest

from keras_addons_l6.backends import arrays_for
from keras_addons_l6.backends.portable.arrays import NumpyArrays
from keras_addons_l6.optimizers.quasi_newton import pairs as method
from keras_addons_l6.optimizers.quasi_newton.pairs import History
from tests.reference import lbfgs as reference

SHAPES = [(3, 4), (5,), (), (2, 1, 2)]
SIZE = 22  # components in all


def split(flat, dtype, convert):
    """A flat vector as a list of tensors of SHAPES."""
    ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES])[:-1]
    return [
        convert(part.reshape(shape).astype(dtype))
        for part, shape in zip(np.split(flat, ends), SHAPES, strict=True)
    ]


def flat(tensors):
    return np.concatenate([np.asarray(keras.ops.convert_to_numpy(t)).reshape(-1) for t in tensors])


@pytest.fixture(params=["numpy", "backend"])
def kind(request):
    """The operations and a converter to their tensors, for each dtype."""

    def make(dtype):
        if request.param == "numpy":
            return NumpyArrays(dtype), np.array
        arrays = arrays_for([keras.ops.zeros(shape, dtype) for shape in SHAPES])
        return arrays, lambda x: arrays.view(keras.ops.convert_to_tensor(x))

    return make


def empty(arrays, size, dtype):
    rings = tuple(arrays.zeros((2 * size, *shape), dtype) for shape in SHAPES)
    zero, one = arrays.small.zeros((), "int32"), arrays.small.ones((), dtype)
    return History(rings, arrays.small.zeros((2, size, size), dtype), one, zero, zero)


def add(arrays, history, s, y):
    """Store a pair and bring the products up to date."""
    history, kept = method.store(arrays, history, s, y, np.bool_(True))
    if bool(kept):
        newest = method.measure(arrays, history, y)[0]
        history = history._replace(products=method.with_newest(arrays, history, newest))
    return history, bool(kept)


def direction(arrays, history, gradient):
    return flat(method.direction(arrays, history, gradient, method.measure(arrays, history, gradient)[0]))


def random_pairs(count, seed=0, condition=1e3):
    """Pairs s, y = A s of a convex quadratic with the given condition number."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    hessian = basis * np.geomspace(1, condition, SIZE) @ basis.T
    steps = rng.standard_normal((count, SIZE))
    return [(s, hessian @ s) for s in steps], rng.standard_normal(SIZE)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 13])
def test_direction_is_that_of_dense_bfgs_and_of_two_loops(kind, size, count):
    arrays, convert = kind("float64")
    pairs, gradient = random_pairs(count)
    history = empty(arrays, size, "float64")
    with arrays.scope():
        for s, y in pairs:
            history, kept = add(arrays, history, split(s, "float64", convert), split(y, "float64", convert))
            assert kept
        found = -direction(arrays, history, split(gradient, "float64", convert))
    recent = pairs[-size:] if count else []
    # Both references and the method solve systems whose condition is at most that of the pairs' matrices, 1e3 squared;
    # each takes about 100 operations a component.
    tolerance = 1e6 * 100 * np.finfo("float64").eps * np.linalg.norm(gradient)
    np.testing.assert_allclose(found, reference.two_loop(recent, gradient), rtol=0, atol=tolerance)
    np.testing.assert_allclose(found, reference.bfgs_inverse(recent, SIZE) @ gradient, rtol=0, atol=tolerance)


def test_float32_direction_is_as_exact_as_two_loops(kind):
    """The error in float32 stays within a small factor of the two-loop recursion's own."""
    arrays, convert = kind("float32")
    ours, theirs = [], []
    for seed in range(20):
        pairs, gradient = random_pairs(10, seed)
        single = [(s.astype("float32"), y.astype("float32")) for s, y in pairs]
        exact = reference.two_loop(
            [(s.astype("float64"), y.astype("float64")) for s, y in single], gradient.astype("float32")
        )
        history = empty(arrays, 10, "float32")
        with arrays.scope():
            for s, y in single:
                history, _ = add(arrays, history, split(s, "float32", convert), split(y, "float32", convert))
            found = -direction(arrays, history, split(gradient, "float32", convert))
        ours.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
        theirs.append(
            np.linalg.norm(reference.two_loop(single, gradient.astype("float32")) - exact)
            / np.linalg.norm(exact)
        )
    # docs/lbfgs_tuning.md: the geometric mean of the ratio is 1 to 4; twice that leaves room for other summation orders.
    assert np.exp(np.mean(np.log(ours))) <= 8 * np.exp(np.mean(np.log(theirs)))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pairs_of_no_or_negative_curvature_are_refused(kind, dtype):
    """Kept if s'y > 10 u |s| |y|: relative, so that the scale of the loss (of y) or of x (of s) decides nothing."""
    arrays, convert = kind(dtype)
    history = empty(arrays, 3, dtype)
    s, across = np.zeros(SIZE), np.zeros(SIZE)
    s[0], across[1] = 1.0, 1.0
    u = np.finfo(dtype).eps / 2
    with arrays.scope():
        for cosine, expected in ((1.0, True), (100 * u, True), (u, False), (0.0, False), (-1.0, False)):
            y = cosine * s + across
            for power in (-40, 0, 40):
                rows = split(s, dtype, convert), split(2.0**power * y, dtype, convert)
                stored, kept = method.store(arrays, history, *rows, np.bool_(True))
                assert bool(kept) == expected
                assert int(stored.pairs) == int(expected)
                history = empty(arrays, 3, dtype)  # rings may be written in place


@pytest.mark.usefixtures("float64")
def test_a_pair_that_is_not_kept_changes_nothing(kind):
    arrays, convert = kind("float64")
    pairs, gradient = random_pairs(4)
    history = empty(arrays, 3, "float64")
    with arrays.scope():
        for s, y in pairs:
            history, _ = add(arrays, history, split(s, "float64", convert), split(y, "float64", convert))
        before = direction(arrays, history, split(gradient, "float64", convert))
        s, y = (split(x, "float64", convert) for x in pairs[0])
        unwanted, kept = method.store(arrays, history, s, y, np.bool_(False))
        assert not bool(kept)
        uphill, kept = method.store(arrays, unwanted, s, [-x for x in y], np.bool_(True))
        assert not bool(kept)
        np.testing.assert_array_equal(direction(arrays, uphill, split(gradient, "float64", convert)), before)


@pytest.mark.usefixtures("float64")
def test_many_pairs_do_not_wear_the_inverse_out(kind):
    """R^-1 gains a column at each pair and is never computed afresh: after 60 pairs it must be as exact as after 5."""
    arrays, convert = kind("float64")
    pairs, _ = random_pairs(60)
    history = empty(arrays, 5, "float64")
    with arrays.scope():
        for s, y in pairs:
            history, _ = add(arrays, history, split(s, "float64", convert), split(y, "float64", convert))
    recent = pairs[-5:]
    inner = np.triu([[s @ y for _, y in recent] for s, _ in recent])
    by_age = (int(history.newest) + 1 + np.arange(5)) % 5
    inverse = np.asarray(keras.ops.convert_to_numpy(history.products))[0][np.ix_(by_age, by_age)]
    product = inverse @ inner
    # Rounding of an inverse, one side: 5 operations an entry, times the condition of R.
    np.testing.assert_allclose(product, np.eye(5), atol=5 * np.finfo("float64").eps * np.linalg.cond(inner))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("broken", [False, True])
def test_nothing_of_a_dropped_history_is_left(kind, broken):
    """Its rows are still in the rings, and its products may be infinite: a denormal s'y makes them so."""
    arrays, convert = kind("float64")
    pairs, gradient = random_pairs(7)
    history = empty(arrays, 4, "float64")
    with arrays.scope():
        for s, y in pairs[:5]:
            history, _ = add(arrays, history, split(s, "float64", convert), split(y, "float64", convert))
        products = history.products / 0.0 if broken else history.products
        history = history._replace(pairs=0 * history.pairs, products=products)
        for s, y in pairs[5:]:
            history, _ = add(arrays, history, split(s, "float64", convert), split(y, "float64", convert))
        found = -direction(arrays, history, split(gradient, "float64", convert))
    # As in test_direction_is_that_of_dense_bfgs_and_of_two_loops.
    tolerance = 1e6 * 100 * np.finfo("float64").eps * np.linalg.norm(gradient)
    np.testing.assert_allclose(found, reference.two_loop(pairs[5:], gradient), rtol=0, atol=tolerance)
