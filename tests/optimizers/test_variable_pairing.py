"""Which variable was which: by path, by order where paths have moved, and not at all where it cannot be told."""

import pytest

from keras_addons_l6.optimizers.variable_pairing import Owner, agreement, pairs

WIDE, SQUARE, OUT = (4, 8), (8, 8), (8, 1)


def owners(*paths_and_shapes):
    paths = [path for path, _ in paths_and_shapes]
    return [Owner(path, paths[:i].count(path), shape) for i, (path, shape) in enumerate(paths_and_shapes)]


CASES = {
    "the same": (
        [("s/dense/kernel", WIDE), ("s/dense_1/kernel", OUT)],
        [("s/dense/kernel", WIDE), ("s/dense_1/kernel", OUT)],
        {0: 0, 1: 1},
    ),
    "the same in another order": (
        [("a/kernel", SQUARE), ("b/kernel", SQUARE)],
        [("b/kernel", SQUARE), ("a/kernel", SQUARE)],
        {0: 1, 1: 0},
    ),
    "of one path": ([("kernel", OUT), ("kernel", OUT)], [("kernel", OUT), ("kernel", OUT)], {0: 0, 1: 1}),
    "frozen, and loaded without the model's name": (
        [("sequential/dense/kernel", SQUARE), ("sequential/dense_1/kernel", SQUARE)],
        [("dense_1/kernel", SQUARE)],
        {0: 1},
    ),
    "two encoders, loaded without their names": (
        [("a/dense/kernel", SQUARE), ("b/dense/kernel", SQUARE)],
        [("dense_1/kernel", SQUARE), ("dense_2/kernel", SQUARE)],
        {0: 0, 1: 1},
    ),
    "numbered anew": (
        [("net/dense/kernel", WIDE), ("net/dense_1/kernel", OUT)],
        [("net_1/dense_2/kernel", WIDE), ("net_1/dense_3/kernel", OUT)],
        {0: 0, 1: 1},
    ),
    "numbered anew, and one path is another's": (
        [("dense_1/kernel", SQUARE), ("dense_2/kernel", SQUARE)],
        [("dense_2/kernel", SQUARE), ("dense_3/kernel", SQUARE)],
        {0: 0, 1: 1},
    ),
    "numbered anew and frozen": (
        [("net/dense/kernel", WIDE), ("net/dense_1/kernel", OUT)],
        [("net_1/dense_3/kernel", OUT)],
        {0: 1},
    ),
    "numbered anew and frozen, which cannot be told": (
        [("net/dense/kernel", SQUARE), ("net/dense_1/kernel", SQUARE), ("net/dense_2/kernel", OUT)],
        [("net_1/dense_4/kernel", SQUARE), ("net_1/dense_5/kernel", OUT)],
        {1: 2},
    ),
    "numbered anew inside of blocks with names": (
        [("net/block_0/dense/kernel", SQUARE), ("net/block_1/dense_1/kernel", SQUARE)],
        [("block_1/dense_7/kernel", SQUARE)],
        {0: 1},
    ),
    "numbered anew and given other weights": (
        [("s/dense/kernel", WIDE), ("s/dense/bias", (8,)), ("s/dense_1/kernel", OUT)],
        [("s_1/dense_2/bias", (8,)), ("s_1/dense_2/lora_a", (4, 2)), ("s_1/dense_3/kernel", OUT)],
        {0: 1, 2: 2},
    ),
    "a replaced layer": (
        [("body/kernel", WIDE), ("head/kernel", OUT)],
        [("body/kernel", WIDE), ("other/kernel", (8, 3))],
        {0: 0},
    ),
    "a replaced layer with a number": (
        [("dense/kernel", WIDE), ("dense_1/kernel", OUT)],
        [("dense/kernel", WIDE), ("dense_7/kernel", (8, 3))],
        {0: 0},
    ),
    "the same layers, all of other sizes": (  # to be refused by who asks
        [("s/dense/kernel", WIDE), ("s/dense_1/kernel", OUT)],
        [("s_1/dense_2/kernel", (4, 5)), ("s_1/dense_3/kernel", (5, 1))],
        {0: 0, 1: 1},
    ),
    "nothing in common": ([("a/kernel", WIDE)], [("b/bias", (3,))], {}),
    "a name alone is no layer's": ([("a/kernel", WIDE)], [("kernel", WIDE)], {}),
    "nothing": ([], [("a/kernel", WIDE)], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_pairs(case):
    saved, own, expected = CASES[case]
    assert pairs(owners(*saved), owners(*own)) == expected


@pytest.mark.parametrize("case", CASES)
def test_pairs_are_one_to_one(case):
    saved, own, _ = CASES[case]
    found = pairs(owners(*own), owners(*saved))
    assert len(set(found.values())) == len(found)


def test_agreement_counts_the_parts_that_are_the_same():
    assert agreement("net/block_1/dense_3/kernel", "block_1/dense_5/kernel") == 3
    assert agreement("net/block_1/dense_3/kernel", "block_0/dense_5/kernel") == 2
    assert agreement("net/block_1/dense_3/kernel", "block_1/dense_3/bias") == 0
