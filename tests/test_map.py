"""The map in `docs/changing_the_code.md` is that of the tree, and every module says what it is for others."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "keras_addons_l6"
PAGE = (REPOSITORY / "docs/changing_the_code.md").read_text()
MODULES = sorted(PACKAGE.rglob("*.py"))


def drawn():
    """The paths that the map draws, by indentation, from the package's folder."""
    lines = re.search(r"```text\nkeras_addons_l6/\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
    paths, folders = set(), {}
    for line in lines:
        names = re.match(r"( +)((?:[\w.]+/? ?)+?)(?:  |$)", line + "  ")
        if names is None or len(names[1]) > 4:
            continue  # a description goes on
        for name in names[2].split():
            if not re.fullmatch(r"\w+/|\w+\.py", name):
                break
            depth = len(names[1])
            if name.endswith("/"):
                folders[depth] = name
            paths.add((folders[2] if depth == 4 else "") + name)
    return paths


def test_what_is_drawn_is_there():
    paths = drawn()
    assert len(paths) > 20
    assert not [path for path in paths if not (PACKAGE / path).exists()]


def test_what_is_there_is_drawn():
    """Every folder, and every file at the top but `__init__.py`."""
    there = {
        f"{p.relative_to(PACKAGE)}/"
        for p in PACKAGE.rglob("*")
        if p.is_dir() and "__pycache__" not in p.parts
    }
    there |= {p.name for p in PACKAGE.glob("*.py") if p.name != "__init__.py"}
    assert there - drawn() == set()


WHERE = re.findall(r"^\| .+ \| `([\w/]+\.py)` \| `(.+)` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), WHERE)
def test_where_is_what(file, name):
    assert name in (PACKAGE / file).read_text()


def test_the_table_of_places_was_read():
    assert len(WHERE) >= 10


@pytest.mark.parametrize("module", MODULES, ids=[str(m.relative_to(PACKAGE)) for m in MODULES])
def test_every_module_says_what_it_is_for_others(module):
    """`__all__` names what is defined or imported there, and nothing private."""
    tree = ast.parse(module.read_text())
    targets = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in ast.unparse(node).split("=")[0]
    ]
    assert len(targets) == 1
    names = ast.literal_eval(targets[0].value)
    assert not [name for name in names if name.startswith("_")]
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    words |= {getattr(node, "name", "") for node in ast.walk(tree)}
    words |= {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(names) <= words
