"""Which variable of a saved state is which of an optimizer's: by path, and by order where paths have moved.

Paths are not for good. Keras numbers layers and models as it makes them (`dense`, `dense_1`, ...), so the same code
run twice in a process gives the same variables other paths; `load_model` builds layers outside of the model that
they were first built in, which takes its name off the front. And an optimizer has other variables once layers are
frozen, thawed, added or replaced. A slot given to the wrong variable is worse than one that starts afresh: what has
more than one reading is left unpaired.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

__all__ = ["Owner", "agreement", "by_path", "pairs", "path_of", "without_numbers"]


class Owner(NamedTuple):
    """A variable that slots belong to."""

    path: str
    nth: int  # which of the variables of that path, from 0
    shape: tuple[int, ...]


def pairs(saved: Sequence[Owner], own: Sequence[Owner]) -> dict[int, int]:
    """For each variable of `own` that was saved, its place in `own` and its place in `saved`.

    The first of these that applies:

    1. By path, where that leaves nothing over on one side: the same variables, some frozen or thawed.
    2. One by one, where paths differ in numbers and in front alone, and all shapes agree, or no path does.
    3. By path, or by the order of paths that differ in numbers and in front alone, whichever pairs more.

    Pairs by path need not have equal shapes: what is called the same and is not is the caller's to refuse.
    """
    found = by_path(saved, own)
    if len(found) == min(len(saved), len(own)):
        return found
    one_by_one = len(saved) == len(own) and all(
        agreement(a.path, b.path) for a, b in zip(saved, own, strict=True)
    )
    same_shapes = [owner.shape for owner in saved] == [owner.shape for owner in own]
    if one_by_one and (same_shapes or not found):
        return {i: i for i in range(len(own))}
    ordered = _in_order(saved, own)
    return ordered if len(ordered) > len(found) else found


def by_path(saved: Sequence[Owner], own: Sequence[Owner]) -> dict[int, int]:
    """Those with the same path, and of the others those of which one path is the end of the other's and of no second.

    Where there are none, those whose paths differ in the first number alone: the same code, another model.
    """
    places = {owner[:2]: i for i, owner in enumerate(saved)}
    found = {i: places[owner[:2]] for i, owner in enumerate(own) if owner[:2] in places}
    found |= _only_ones(saved, own, found, _has_other_front)
    return found or _only_ones(saved, own, found, _has_other_first_number)


def _only_ones(
    saved: Sequence[Owner],
    own: Sequence[Owner],
    found: Mapping[int, int],
    is_near: Callable[[str, str], bool],
) -> dict[int, int]:
    """Of those not found yet, the pairs of which each is near no other."""
    ours = [i for i in range(len(own)) if i not in found]
    theirs = sorted(set(range(len(saved))) - set(found.values()))
    near = [(i, j) for i in ours for j in theirs if is_near(saved[j].path, own[i].path)]
    times_own, times_saved = Counter(i for i, _ in near), Counter(j for _, j in near)
    return {i: j for i, j in near if times_own[i] == times_saved[j] == 1}


def _has_other_front(a: str, b: str) -> bool:
    return "/" in a and "/" in b and (a.endswith("/" + b) or b.endswith("/" + a))


def _has_other_first_number(a: str, b: str) -> bool:
    first_a, _, rest_a = a.partition("/")
    first_b, _, rest_b = b.partition("/")
    return rest_a == rest_b and without_numbers(first_a) == without_numbers(first_b)


@lru_cache(maxsize=1 << 16)
def agreement(a: str, b: str) -> int:
    """0 for paths that differ in more than numbers and what stands in front; else more, the more numbers agree."""
    parts = list(zip(reversed(a.split("/")), reversed(b.split("/")), strict=False))
    if len(parts) == 1 and ("/" in a or "/" in b):
        return 0  # a name alone is the end of too many paths
    if any(without_numbers(x) != without_numbers(y) for x, y in parts):
        return 0
    return sum(x == y for x, y in parts) + 1


def path_of(variable: Any) -> str:
    """A variable's path; a `tf.Variable` has a name only."""
    return getattr(variable, "path", variable.name)


def without_numbers(path: str) -> str:
    """A path without the numbers that Keras puts behind names used before: `net_1/dense_3` as `net/dense`."""
    return re.sub(r"_\d+(?=/|$)", "", path)


Pair = tuple[int, int]


def _in_order(saved: Sequence[Owner], own: Sequence[Owner]) -> dict[int, int]:
    """The longest common order, as far as it is the same found from the front and from the back."""
    forward = _common(saved, own)
    turned = _common(saved[::-1], own[::-1])
    backward = {(len(saved) - 1 - i, len(own) - 1 - j) for i, j in turned}
    return {j: i for i, j in forward if (i, j) in backward}


def _common(saved: Sequence[Owner], own: Sequence[Owner]) -> list[Pair]:
    """Places of a longest common subsequence, of those one whose numbers agree most."""
    worth = [[_worth(a, b) for b in own] for a in saved]
    best = [[0] * (len(own) + 1) for _ in range(len(saved) + 1)]  # of saved[i:] with own[j:]
    for i in reversed(range(len(saved))):
        for j in reversed(range(len(own))):
            paired = best[i + 1][j + 1] + worth[i][j] if worth[i][j] else 0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    i = j = 0
    found = []
    while i < len(saved) and j < len(own):
        if worth[i][j] and best[i][j] == best[i + 1][j + 1] + worth[i][j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return found


def _worth(a: Owner, b: Owner) -> int:
    """What a pair counts: one pair more outweighs all numbers."""
    numbers = agreement(a.path, b.path) if a.shape == b.shape else 0
    return (1 << 32) + numbers if numbers else 0
