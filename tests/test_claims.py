"""What README and the first page state in numbers has a command and a date in `docs/claims.md`, and holds."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_addons_l6 as l6
from keras_addons_l6.folding.exporting.formats import FORMATS
from tests.planted_faults import FAULTS
from tests.test_bad_input import CONSTRUCTIONS

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
CI = (REPOSITORY / ".ci/run").read_text()
WORKFLOW = (REPOSITORY / ".github/workflows/ci.yml").read_text()
NUMBER = re.compile(r"(?<![\w.-])\d[\d,.]*(?:e-?\d+)?")
# Digits that measure nothing: names, code between backquotes, what links point to.
NAMES = re.compile(r"Keras [23](?![\d.])|lecture 6|`[^`]*`|\]\([^)]*\)")


def page(name):
    return (REPOSITORY / "docs" / name).read_text()


def rows(text):
    """The cells of every row of every table."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|--")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def said_in_readme(name):
    """The cells of README's table whose first one begins like this."""
    (row,) = [row for row in rows(README) if row[0].startswith(name)]
    return row[1:]


CLAIMS = [row for row in rows(page("claims.md")) if row[0] != "README says"]
QUOTES = [quote for claim, *_ in CLAIMS for quote in claim.split("; ")]


def without_programs(text):
    """Of fenced blocks only the comments are left, in as many lines."""
    return re.sub(
        r"^```(.*?)^```",
        lambda m: "\n".join(line.partition("  # ")[2] for line in m[1].split("\n")),
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


@pytest.mark.parametrize("quote", QUOTES)
def test_what_is_quoted_is_said(quote):
    assert quote in README


def test_every_claim_has_a_command_and_a_date():
    for claim, command, when, _ in CLAIMS:
        assert command.startswith("`") or command == "the same", claim
        assert re.fullmatch(r"2\d{3}-\d\d-\d\d(, .+)?|each change", when), claim


@pytest.mark.parametrize("text", [README, page("index.md")], ids=["README", "index"])
def test_every_number_is_in_a_quote(text):
    without = []
    for line in without_programs(text).splitlines():
        covered = [quote for quote in QUOTES if quote in line]
        rest = "" if covered and line.startswith("|") else line  # a row of a table is quoted by a part of it
        for quote in covered:
            rest = rest.replace(quote, "")
        without += [(number, line) for number in NUMBER.findall(NAMES.sub("", rest))]
    assert not without


def test_lbfgs_is_counted_as_in_its_tables():
    (float64, float32) = (row[1:] for row in rows(page("lbfgs_tuning.md")) if row[0] == "**solved of 45**")
    _scipy, torch, optax, ours, _ = (f"{a}, {b}" for a, b in zip(float64, float32, strict=True))
    assert said_in_readme("L-BFGS: of 45")[:4] == [ours, "", torch, optax]


def test_a_physics_informed_loss_is_that_of_the_table():
    (means,) = [row for row in rows(page("quasi_newton.md")) if row[0].startswith("geometric mean of losses")]
    lbfgs, *_, broyden = (float(cell.split()[0]) for cell in means[1:])
    assert said_in_readme("Loss of a network")[0] == f"{broyden:.0e}; with L-BFGS {lbfgs:.1f}".replace(
        "e-0", "e-"
    )


def test_errors_of_normalizations_are_those_of_the_table():
    """At 1e4: the largest of ours over the backends, and Keras's on each."""

    def rounded(number):
        return "NaN" if number != number else f"{number:.0e}".replace("e-0", "e-").replace("5e+00", "5")

    table = {
        tuple(row[:3]): float(row[-1])
        for row in rows(page("numerics.md"))
        if row[2:3] in (["ours"], ["Keras"])
    }
    for layer, name in (("BatchNorm", "BatchNorm error"), ("GroupNorm(8)", "GroupNorm error")):
        ours, theirs = said_in_readme(name)[:2]
        assert ours == rounded(max(table[b, layer, "ours"] for b in ("tensorflow", "jax", "torch")))
        expected = [
            f"{rounded(table[b.lower(), layer, 'Keras'])} ({b})" for b in ("JAX", "TensorFlow", "torch")
        ]
        assert theirs == ", ".join(expected)


def test_resnet50_folds_as_in_the_tables():
    assert said_in_readme("ResNet50's 53")[:2] == ["0", "53"]
    found = [row[1:3] for row in rows(page("folding_measured.md")) if row[0] == "ResNet50" and len(row) == 6]
    in_tables = [
        row for row in found if row[0].isdecimal() and int(row[0]) > 8
    ]  # latencies have a batch there
    assert in_tables == [["53", "0"]] * 3


def test_versions_are_those_that_run():
    """What README says is supported, pyproject.toml declares, and .ci/run and the workflow run."""
    python, oldest, newest = re.search(
        r"Python ([\d.]+) and newer, Keras ([\d.]+) to ([\d.]+)\.", README
    ).groups()
    assert PROJECT["requires-python"] == f">={python}"
    assert f"machine with only Python {python} or newer" in README
    assert f"keras>={oldest}" in PROJECT["dependencies"]
    assert f"'keras=={oldest}.*'" in CI
    assert "Keras " + newest in "".join(
        rows(README)[0] + [f" {cell} " for row in rows(README) for cell in row]
    )
    assert tuple(map(int, keras.__version__.split(".")[:2])) <= tuple(map(int, newest.split(".")))
    said = {name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name}
    assert (
        said
        == set(re.findall(r'"(3\.\d+)"', WORKFLOW))
        == set(re.findall(r"Python (3\.\d+), Keras", page("support.md")))
    )
    assert min(said, key=lambda version: int(version.partition(".")[2])) == python


def test_the_oldest_backends_are_those_declared():
    head = rows(page("support.md"))[0]
    extras = PROJECT["optional-dependencies"]
    for cell, extra in zip(head[1:], ("tensorflow", "jax", "torch"), strict=True):
        assert extras[extra] == [f"{extra}>={re.search(r'[(]([0-9.]+) and newer', cell)[1]}"]


def test_formats_are_those_of_the_code():
    """Which backends make one at all, and with which Keras it came; `tests/export` tries each."""
    table = {
        row[0].partition("`")[2].partition("`")[0]: row for row in rows(page("support.md")) if len(row) == 6
    }
    assert set(table) - {""} == set(FORMATS)
    for name, format in FORMATS.items():
        first, path, _, *by_backend = table[name]
        came = re.search(r"Keras (\d+)\.(\d+)", first)
        assert (tuple(map(int, came.groups())) if came else (3, 10)) == format.since
        assert format.suffix in path or name == "onnx"
        made = {b for b, said in zip(("tensorflow", "jax", "torch"), by_backend, strict=True) if said != "no"}
        assert made == set(format.backends)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="tf.keras is TensorFlow's")
def test_tf_keras_is_keras_3_and_takes_these_layers():
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3), l6.BatchNorm(), l6.SELU()])
    model.compile(l6.AdamW(), "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 3)), verbose=0)
    assert isinstance(model, keras.Sequential)
    assert isinstance(l6.BatchNorm(), tf.keras.layers.BatchNormalization)


def test_the_version_is_the_same_everywhere():
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\] - (.+)$", changes, re.MULTILINE)
    assert headings[0][0] == l6.__version__
    assert f"version = {{{l6.__version__}}}" in page("policies.md")
    assert all(re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", date) for _, date in headings)
    allowed = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    for section in re.split(r"^## .+$", changes, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert kinds == [kind for kind in allowed if kind in kinds]


def test_counts_of_faults_and_constructions_are_not_above_what_is_there():
    """`tests/write_how_this_is_tested.py` writes them; it may have run a while ago."""
    tested = page("how_this_is_tested.md")
    faults = int(re.search(r"^\* (\d+) faults are planted", tested, re.MULTILINE)[1])
    assert 0.8 * len(FAULTS) <= faults <= len(FAULTS)
    assert f"* {CONSTRUCTIONS:,} constructor calls" in tested


@pytest.mark.skipif(keras.config.backend() != "torch", reason="torch.optim is beside it")
def test_adamw_is_nearer_to_its_formula_than_torch():
    command = [sys.executable, "-m", "tests.benchmarks.adamw_rounding", "--seeds", "2"]
    table = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    (_, ours_at_most), (theirs_at_least, _) = (map(float, row[1:]) for row in rows(table)[1:])
    assert ours_at_most < theirs_at_least
