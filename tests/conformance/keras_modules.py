"""Loads fresh copies of the test modules in Keras's own wheel, with our classes in place of Keras's."""

import ast
import importlib.util
import types
import unittest
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import pytest

KERAS_SOURCE = "keras.src."


@dataclass(frozen=True)
class Deselection:
    """Tests of Keras's that our classes fail on purpose; each is run and must fail."""

    module: str
    tests: str  # the whole name, or a prefix ending in "*"
    reason: str
    backends: tuple[str, ...] = ("tensorflow", "jax", "torch")

    def covers(self, module, test):
        if module != self.module or keras.config.backend() not in self.backends:
            return False
        return test.startswith(self.tests[:-1]) if self.tests.endswith("*") else test == self.tests


class Substituted:
    """A namespace that answers some names with ours and every other one as the original does."""

    def __init__(self, original, ours):
        self._original = original
        self._ours = ours

    def __getattr__(self, name):
        return self._ours[name] if name in self._ours else getattr(self._original, name)


@dataclass
class Tally:
    """How many of Keras's tests each module gives, for the closing line."""

    collected: dict[str, int] = field(default_factory=dict)
    differing: dict[str, int] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


TALLY = Tally()


def run_on_ours(
    module: str,
    ours: dict[str, object],
    deselections: tuple[Deselection, ...] = (),
    only: Callable[[str], bool] = lambda test: True,
) -> dict[str, type]:
    """Return the test cases of Keras's `module`, with `ours` in place of the names it uses.

    Args:
        module: the test module's name below `keras.src`, for example `"optimizers.adam_test"`.
        ours: by the name the module uses (`"Adam"`, `"layers.PReLU"`), what to put in its place.
        deselections: the tests that must fail, with the reason.
        only: which tests of the module concern us.
    """
    if not _exists(module):
        TALLY.absent.append(module)
        return {}
    namespace = _execute(module, ours)
    cases = {
        f"{module.replace('.', '_')}__{name}": case
        for name, case in vars(namespace).items()
        if isinstance(case, type)
        and issubclass(case, unittest.TestCase)
        and case.__module__ == namespace.__name__
    }
    for case in cases.values():
        _select(case, module, deselections, only)
    return cases


def _exists(module):
    try:
        return importlib.util.find_spec(KERAS_SOURCE + module) is not None
    except ModuleNotFoundError:
        return False


def _execute(module, ours):
    """Run the module's source, with ours put in place after its last import."""
    spec = importlib.util.find_spec(KERAS_SOURCE + module)
    with open(spec.origin, encoding="utf-8") as file:
        tree = ast.parse(file.read(), spec.origin)
    last_import = max(
        i for i, statement in enumerate(tree.body) if isinstance(statement, ast.Import | ast.ImportFrom)
    )
    put_ours = ast.parse("__put_ours_in_place__(globals())").body
    tree.body[last_import + 1 : last_import + 1] = put_ours
    namespace = types.ModuleType(f"substituted.{module}")
    namespace.__file__ = spec.origin
    namespace.__put_ours_in_place__ = lambda names: _substitute(names, ours)
    exec(compile(ast.fix_missing_locations(tree), spec.origin, "exec"), vars(namespace))
    return namespace


def _substitute(names, ours):
    """Replace dotted names through a namespace object, plain ones directly; each must be in use."""
    namespaces = {}
    for name, replacement in ours.items():
        first, _, attribute = name.rpartition(".")
        if first:
            namespaces.setdefault(first, {})[attribute] = replacement
        else:
            assert name in names, f"the module does not use {name}"
            names[name] = replacement
    for name, replacements in namespaces.items():
        names[name] = Substituted(names[name], replacements)


def _select(case, module, deselections, only):
    tests = [name for name in dir(case) if name.startswith("test_") and callable(getattr(case, name))]
    for name in tests:
        if not only(name) or name == "test_session":
            setattr(case, name, None)
            continue
        TALLY.collected[module] = TALLY.collected.get(module, 0) + 1
        reasons = [d.reason for d in deselections if d.covers(module, name)]
        if reasons:
            TALLY.differing[module] = TALLY.differing.get(module, 0) + 1
            setattr(case, name, pytest.mark.xfail(reason=reasons[0], strict=True)(_own(case, name)))


def _own(case, name):
    """A copy of a test, so that marking it leaves what other classes inherit alone."""
    original = getattr(case, name)

    def test(self, *args, **kwargs):
        return original(self, *args, **kwargs)

    test.__name__ = name
    return test
