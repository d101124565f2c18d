"""The optimizer rules that a backend may have a kernel for, by name."""

from collections.abc import Callable
from typing import Any

Rule = Callable[..., tuple[Any, ...]]

_names: dict[Rule, str] = {}


def known_as(name: str) -> Callable[[Rule], Rule]:
    """Decorate a rule whose formula a backend's kernel of this name computes; the rule defines it."""

    def remember(rule: Rule) -> Rule:
        _names[rule] = name
        return rule

    return remember


def name_of(rule: Rule) -> str | None:
    """The name a rule is known under; None for any other rule, such as a user's."""
    return _names.get(rule)
