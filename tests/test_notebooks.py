"""The notebooks are those of their scripts, and run from top to bottom."""

import ast
import json
import os
import re
import subprocess
import sys

import keras
import pytest

from tests.write_notebooks import BACKENDS, CHOSEN, FOLDER, REPOSITORY, SCRIPTS, as_text

LIMIT_SECONDS = 1500


@pytest.mark.parametrize("name", SCRIPTS)
def test_notebook_is_in_step_with_its_script(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == as_text(name), (
        "run `python -m tests.write_notebooks`"
    )


def cells(name, kind):
    """The texts of a notebook's cells of a kind, as the file holds them."""
    held = json.loads((FOLDER / name).read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in held if cell["cell_type"] == kind]


@pytest.mark.parametrize("name", SCRIPTS)
def test_code_is_the_script_s(name):
    """But for the docstring, and the cell that chooses a backend where the script leaves that to its reader."""
    script = ast.parse((REPOSITORY / "examples" / SCRIPTS[name]).read_text()).body[1:]
    chosen = ast.parse(CHOSEN.format(backend=BACKENDS[name])).body
    code = ast.parse("\n".join(cells(name, "code"))).body
    found, expected, before = ([ast.dump(node) for node in nodes] for nodes in (code, script, chosen))
    assert found in (expected, before + expected)


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_line_of_the_script_is_lost(name):
    """Beside titles and the marks of comments: what the notebook's cells hold is the script's text."""
    script = (REPOSITORY / "examples" / SCRIPTS[name]).read_text()
    held = "".join("".join(cell["source"]) + "\n" for cell in json.loads(as_text(name))["cells"])
    lines = [re.sub(r"^#+ ?", "", line).replace("``", "`").strip() for line in script.splitlines()]
    lines = [line for line in lines if not re.fullmatch(r'[=\-"%]*', line)]
    assert len(lines) > 50
    assert not [line for line in lines if line not in held]


def test_every_notebook_has_a_script():
    assert {path.name for path in FOLDER.iterdir()} == set(SCRIPTS)


def test_runs(tmp_path):
    """Each as it stands, in a new process, on the backend that it chooses; and prints what its script is about."""
    mine = [name for name, backend in BACKENDS.items() if backend == keras.config.backend()]
    if not mine:
        pytest.skip("no notebook chooses this backend")
    for name in mine:
        program = "\n\n".join(cells(name, "code"))
        run = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
        assert run.returncode == 0, run.stderr[-4000:]
        CHECKS[name](run.stdout)


def network_is_near_the_exact_solution(printed):
    """The last draw of self-scaled Broyden: five times the 2e-5 at 4,000 evaluations in docs/quasi_newton.md, with more points."""
    errors = re.findall(r"self_scaled_broyden, draw \d+: .* relative error (\S+)", printed)
    assert len(errors) == 8
    assert float(errors[-1]) < 1e-4


def folded_model_is_shipped(printed):
    """No BatchNorm is left, and at least the formats of this backend were reloaded and compared."""
    assert "BatchNorms before folding: 3" in printed
    assert "BatchNorms after folding: 0" in printed
    assert "52 folded, 0 kept" in printed
    for model in ("digits", "mobilenetv2"):
        shipped = re.findall(rf"^{model}\S*, (\w+): \S+ MB, largest difference \d", printed, re.MULTILINE)
        assert {"tf_saved_model", "onnx"} <= set(shipped)


CHECKS = {
    "physics_informed_network.ipynb": network_is_near_the_exact_solution,
    "fold_and_ship.ipynb": folded_model_is_shipped,
}
