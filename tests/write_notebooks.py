"""Writes docs/notebooks/: notebooks made from scripts of the gallery.

python -m tests.write_notebooks

A script's docstring and its `# %%` comments become text, what stands between becomes code. The scripts are what is edited.
"""

import ast
import json
import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "docs" / "notebooks"
SCRIPTS = {
    "physics_informed_network.ipynb": "plot_pinn_quasi_newton.py",
    "fold_and_ship.ipynb": "plot_fold_and_export.py",
}
INSTALLED = (
    "Made from `examples/{script}` by `python -m tests.write_notebooks`. It needs this package with a backend and the extras "
    "`examples` and `export`: `pip install '/path/to/the/clone[{backend},examples,export]'`."
)
CHOSEN = 'import os\n\nos.environ.setdefault("KERAS_BACKEND", "{backend}")'
BACKENDS = {"physics_informed_network.ipynb": "jax", "fold_and_ship.ipynb": "tensorflow"}


def blocks(source):
    """(kind, text) of each block of a script: "markdown" or "code"."""
    docstring = ast.get_docstring(ast.parse(source))
    yield "markdown", markdown(docstring)
    code = source[source.index('"""', 3) + 3 :]
    first, *rest = re.split(r"^# %%.*\n", code, flags=re.MULTILINE)
    yield "code", first.strip()
    for block in rest:
        text, code = re.fullmatch(r"((?:#[^\n]*\n)*)(.*)", block, re.DOTALL).groups()
        if text:
            yield "markdown", markdown(re.sub(r"^# ?", "", text, flags=re.MULTILINE))
        if code.strip():
            yield "code", code.strip()


def markdown(text):
    """The gallery's reStructuredText, as far as it uses any: titles, and code between double backquotes."""
    text = re.sub(r"^(.+)\n=+$", r"# \1", text, flags=re.MULTILINE)
    text = re.sub(r"^(.+)\n-+$", r"## \1", text, flags=re.MULTILINE)
    return text.replace("``", "`").strip()


def notebook(name):
    """The notebook as a dict, in the format's version 4.5, without outputs."""
    script, backend = SCRIPTS[name], BACKENDS[name]
    cells = list(blocks((REPOSITORY / "examples" / script).read_text()))
    cells.insert(1, ("markdown", INSTALLED.format(script=script, backend=backend)))
    if not any("KERAS_BACKEND" in text for _, text in cells):
        cells.insert(2, ("code", CHOSEN.format(backend=backend)))
    code_alone = {"execution_count": None, "outputs": []}
    return {
        "cells": [
            {
                "cell_type": kind,
                "id": f"cell-{number}",
                "metadata": {},
                **(code_alone if kind == "code" else {}),
                "source": text.splitlines(keepends=True),
            }
            for number, (kind, text) in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def as_text(name):
    """What the file holds."""
    return json.dumps(notebook(name), indent=1, ensure_ascii=False) + "\n"


def main():
    """Write them all."""
    FOLDER.mkdir(exist_ok=True)
    for name in SCRIPTS:
        (FOLDER / name).write_text(as_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
