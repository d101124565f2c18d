"""Functions as the backend traces them, so that a compiled program is kept for what a function computes, not for its name.

A function may compute another thing at each call, since what it captured (globals, closures, attributes, variables, arrays
written in place) may have changed. Traced anew it shows that: `Trace.key` is equal for two traces if the same program
computes both, given the captured tensors of each.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import keras

__all__ = ["Same", "Trace", "flatten", "trace"]


class Trace(NamedTuple):
    """A function of x and args, with its gradient by x."""

    key: Hashable | None  # equal where one program serves; None: nothing is compiled, so nothing is kept
    constants: Sequence[Any]  # captured tensors, as arguments of `evaluate`
    evaluate: Callable[..., tuple[Any, Sequence[Any], Any]]  # (x, args, constants) to value, gradient, extra


class Same:
    """Compared by identity; held, so that no other object takes the identity over."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._held is other._held

    def __hash__(self) -> int:
        return id(self._held)


def trace(
    fun: Callable[..., Any], x: Sequence[Any], args: Sequence[Any], differentiate: Callable[..., Any]
) -> Trace:
    """The function itself.

    Args:
        fun: From the lists x and args to a value and something extra.
        x: Tensors.
        args: Tensors.
        differentiate: The backend's `value_and_gradient`.
    """
    del x, args
    differentiated = differentiate(fun)
    return Trace(None, (), lambda x, args, constants: differentiated(x, args))


def flatten(tree: Any, is_leaf: Callable[[Any], bool]) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The leaves of a nested structure, `None` not among them, and what puts others in their places."""
    # Keras's `traverse` puts what the function returns in a node's place, and goes on where that is None.
    whole = keras.tree.traverse(lambda node: _Whole(node) if is_leaf(node) else None, tree)
    places = keras.tree.flatten(whole)
    leaves = [x.leaf if isinstance(x, _Whole) else x for x in places if x is not None]
    if not keras.tree.is_nested(whole):
        return leaves, lambda values: next(iter(values), None)

    def rebuilt(values: Sequence[Any]) -> Any:
        following = iter(values)
        return keras.tree.pack_sequence_as(whole, [None if x is None else next(following) for x in places])

    return leaves, rebuilt


class _Whole:
    """A leaf that Keras would take for a nested structure."""

    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf
