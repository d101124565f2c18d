"""What is kept out of weight decay: patterns and variables, kept in a configuration and found when there are variables."""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from keras_addons_l6.optimizers.variable_pairing import Owner, agreement, by_path, path_of

__all__ = ["Exclusions", "Found", "find", "texts"]

Place = str | tuple[str, int]  # a path; with a number where it is one of several variables of that path


@dataclass(frozen=True)
class Exclusions:
    """What `exclude_from_weight_decay` was given."""

    patterns: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    variables: tuple[Any, ...] = ()  # those of `places`, as long as they are at hand

    @classmethod
    def of(cls, var_list: Iterable[Any] | None, var_names: Iterable[str] | None) -> Self:
        """Check the arguments.

        Raises:
            ValueError: for what is not a list, a pattern that is no regular expression, or no variable.
        """
        variables, patterns = _listed("var_list", var_list), _listed("var_names", var_names)
        for variable in variables:
            if not hasattr(variable, "name"):
                raise ValueError(f"`var_list` must hold variables. Received in it: {variable!r}")
        for pattern in patterns:
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                raise ValueError(
                    f"`var_names` must hold regular expressions. Received in it: {pattern!r} ({error})"
                ) from error
        return cls(patterns, tuple(path_of(v) for v in variables), variables)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Read what `get_config` wrote."""
        places = tuple(p if isinstance(p, str) else (p[0], p[1]) for p in config.get("var_paths", ()))
        return cls(tuple(config.get("var_names", ())), places)

    def get_config(self) -> dict[str, Any]:
        """Lists for a configuration."""
        places = [place if isinstance(place, str) else list(place) for place in self.places]
        return {"var_paths": places, "var_names": list(self.patterns)}


@dataclass(frozen=True)
class Found:
    """What exclusions reach among some variables."""

    indices: frozenset[int] = frozenset()
    exclusions: Exclusions = Exclusions()  # with numbers where several variables have one path
    unclear: tuple[str, ...] = ()  # in words, what reaches none, or more than was meant

    def warn(self, name: str) -> None:
        """Tell what optimizer `name` could not find."""
        if self.unclear:
            warnings.warn(
                f"`exclude_from_weight_decay` of optimizer '{name}': {'; '.join(self.unclear)}. Patterns are "
                "searched in the names and paths of the variables that are trained, like 'dense_1/kernel'.",
                stacklevel=4,
            )


def texts(variable: Any) -> list[str]:
    """What patterns are searched in: a variable's name, its path, and the parts of it."""
    path = path_of(variable)
    return [variable.name, path, *path.split("/")]


def find(exclusions: Exclusions, variables: Sequence[Any], searched: Callable[[Any], Iterable[str]]) -> Found:
    """Find what is excluded among `variables`, patterns in the texts that `searched` gives for one."""
    indices: set[int] = set()
    unclear: list[str] = []
    for pattern in exclusions.patterns:
        hits = [i for i, v in enumerate(variables) if any(re.search(pattern, text) for text in searched(v))]
        indices.update(hits)
        unclear += [] if hits else [f"the pattern {pattern!r} is found in no variable"]
    owners = _owners(variables)
    identities = {id(v): i for i, v in enumerate(variables)}
    known = [identities.get(id(v)) for v in exclusions.variables] or [None] * len(exclusions.places)
    places = list(exclusions.places)
    for n, (place, at) in enumerate(zip(exclusions.places, known, strict=True)):
        hits = _at(place, owners) if at is None else [at]
        indices.update(hits)
        twins = [owner for owner in owners if owner.path == place]
        if not hits:
            unclear.append(f"there is no variable {place!r}")
        elif len(twins) > exclusions.places.count(place):
            if at is None:
                unclear.append(f"{len(twins)} variables have the path {place!r}, and all are excluded")
            else:
                places[n] = owners[at][:2]
    return Found(frozenset(indices), replace(exclusions, places=tuple(places), variables=()), tuple(unclear))


def _at(place: Place, owners: Sequence[Owner]) -> list[int]:
    """Which variables a path stands for: those that have it, or else the only one that it may have become."""
    if not isinstance(place, str):
        return [i for i, owner in enumerate(owners) if owner[:2] == place]
    same = [i for i, owner in enumerate(owners) if owner.path == place]
    moved = list(by_path([Owner(place, 0, ())], owners))
    alike = [i for i, owner in enumerate(owners) if agreement(place, owner.path)]
    return same or moved or (alike if len(alike) == 1 else [])


def _owners(variables: Sequence[Any]) -> list[Owner]:
    paths = [path_of(v) for v in variables]
    return [Owner(path, paths[:i].count(path), ()) for i, path in enumerate(paths)]


def _listed(name: str, given: Iterable[Any] | None) -> tuple[Any, ...]:
    if given is None:
        return ()
    if isinstance(given, str) or hasattr(given, "shape"):
        raise ValueError(f"`{name}` must be a list. Received: {name}={given!r}. Write [{given!r}].")
    return tuple(given)
