"""The command line: what it prints, what it writes, and how it ends."""

import json
import os
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import keras_addons_l6
from keras_addons_l6 import __main__ as command_line
from keras_addons_l6.folding import ExportError, FoldingError

BACKEND = keras.config.backend()
FORMAT, DEST = {
    "tensorflow": ("tf_saved_model", "out"),
    "jax": ("tf_saved_model", "out"),
    "torch": ("torch", "out.pt2"),
}[BACKEND]


@pytest.fixture
def model_path(tmp_path):
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, name="conv")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.BatchNormalization(name="late")(x)
    path = tmp_path / "model.keras"
    keras.Model(image, x, name="small").save(path)
    return path


def _run(*arguments):
    """The exit status of a command run in this process."""
    try:
        return command_line.main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse's way out
        return stop.code


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _one_line_error(capsys):
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert "error: " in captured.err
    return captured.err


def test_inspect_prints_a_table(model_path, capsys):
    assert _run("inspect", model_path) == 0
    printed = capsys.readouterr().out
    assert "norm" in printed
    assert "conv" in printed
    assert "2 BatchNorm calls, 1 folded, 1 kept" in printed


def test_inspect_prints_json(model_path, capsys):
    assert _run("inspect", "--json", model_path) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "small"
    assert [(row["layer"], row["into"]) for row in report["rows"]] == [("norm", ["conv"]), ("late", [])]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_fold_saves_a_model_that_agrees(model_path, tmp_path, suffix, capsys):
    out = tmp_path / f"folded{suffix}"
    assert _run("fold", model_path, "--out", out) == 0
    printed = capsys.readouterr().out
    assert f"Saved the folded model at '{out}'" in printed
    assert "Largest error" in printed
    assert "allowed" in printed
    assert max(map(len, printed.split("Saved")[0].splitlines())) <= 80
    folded, model = keras.saving.load_model(out, compile=False), keras.saving.load_model(model_path)
    assert "norm" not in [layer.name for layer in folded.layers]
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    # Rounding alone: sums of 27 terms.
    np.testing.assert_allclose(folded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    assert _names(tmp_path) == sorted(["model.keras", out.name])


def test_export_says_the_difference(model_path, tmp_path, capsys):
    assert _run("export", model_path, tmp_path / DEST, "--format", FORMAT) == 0
    printed = capsys.readouterr().out
    assert f"Saved {FORMAT} at '{tmp_path / DEST}'" in printed
    assert "largest difference" in printed
    assert _names(tmp_path) == sorted(["model.keras", DEST])


def test_export_passes_options_on(model_path, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(command_line, "export_folded", lambda *args, **kwargs: seen.update(kwargs))
    monkeypatch.setattr(command_line, "checked_destination", lambda *args: None)
    options = ["--option", "opset_version=18", "--option", "mode=fast", "--tolerance", "1e-3"]
    assert _run("export", model_path, tmp_path / "out.onnx", "--format", "onnx", *options) == 0
    assert seen == {"opset_version": 18, "mode": "fast", "tolerance": 1e-3, "overwrite": False}


def test_existing_destination_is_refused_and_kept(model_path, tmp_path, capsys):
    out = tmp_path / "folded.keras"
    out.write_text("dear")
    assert _run("fold", model_path, "--out", out) == 2
    assert "exists" in _one_line_error(capsys)
    assert out.read_text() == "dear"
    (tmp_path / DEST).write_text("dear")
    assert _run("export", model_path, tmp_path / DEST, "--format", FORMAT) == 2
    assert "exists" in _one_line_error(capsys)
    assert (tmp_path / DEST).read_text() == "dear"
    assert _run("fold", model_path, "--out", out, "--overwrite") == 0
    assert zipfile.is_zipfile(out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["melt", "model.keras"], "invalid choice: 'melt'"),
        (["inspect"], "required: MODEL"),
        (["inspect", "nowhere.keras"], "'nowhere.keras' does not exist"),
        (["inspect", "."], "'.' is a directory"),
        (["inspect", "broken.keras"], "cannot load 'broken.keras'"),
        (["inspect", "broken.h5"], "cannot load 'broken.h5'"),
        (["inspect", "notes.txt"], "'notes.txt': it is no saved Keras model"),
        (["inspect", "model.keras", "--import", "no_such_module"], "cannot import 'no_such_module'"),
        (["inspect", "model.keras", "--import", "raises"], "RuntimeError: on purpose"),
        (["fold", "model.keras"], "required: --out"),
        (["fold", "model.keras", "--out", "folded.onnx"], "must end with .keras or .h5"),
        (["fold", "model.keras", "--out", "nowhere/folded.keras"], "does not exist; create it first"),
        (["fold", "model.keras", "--out", "f.keras", "--tolerance", "-1"], "a positive number is wanted"),
        (["fold", "model.keras", "--out", "f.keras", "--tolerance", "nan"], "a positive number is wanted"),
        (["export", "model.keras"], "required: DEST"),
        (["export", "model.keras", "out", "--format", "pickle"], "invalid choice: 'pickle'"),
        (["export", "model.keras", "out", "--format", "openvino"], "ends with .xml"),
        (["export", "model.keras", "out.onnx", "--format", "tf_saved_model"], "but got 'out.onnx'"),
        (["export", "model.keras", "out.keras"], "which is no export format"),
        (["export", "model.keras", "nowhere/out"], "does not exist; create it first"),
        (["export", "model.keras", "out", "--option", "opset"], "KEY=VALUE is wanted"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(arguments, message, model_path, capsys, monkeypatch):
    monkeypatch.chdir(model_path.parent)
    monkeypatch.syspath_prepend(model_path.parent)
    for name in ("broken.keras", "broken.h5", "notes.txt"):
        (model_path.parent / name).write_text("not a model")
    (model_path.parent / "raises.py").write_text("raise RuntimeError('on purpose')")
    before = _names(model_path.parent)
    assert _run(*arguments) == 2
    assert message in _one_line_error(capsys)
    assert [name for name in _names(model_path.parent) if name != "__pycache__"] == before


@pytest.mark.parametrize("error", [FoldingError, ExportError])
def test_failed_verification_ends_with_status_1(error, model_path, tmp_path, capsys, monkeypatch):
    def fails(*args, **kwargs):
        raise error("the outputs\nchanged")

    monkeypatch.setattr(command_line, "export_folded", fails)
    assert _run("export", model_path, tmp_path / "out") == 1
    assert _one_line_error(capsys).endswith("error: the outputs changed\n")


def test_fold_past_its_tolerance_ends_with_status_1_and_writes_nothing(model_path, tmp_path, capsys):
    model = keras.saving.load_model(model_path)
    rng = np.random.default_rng(0)
    norm = model.get_layer("norm")
    norm.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in norm.get_weights()])
    model.save(model_path)
    assert _run("fold", model_path, "--out", tmp_path / "folded.keras", "--tolerance", "1e-30") == 1
    assert "tolerance" in _one_line_error(capsys)
    assert _names(tmp_path) == ["model.keras"]


def test_an_error_of_the_fold_itself_ends_with_status_1(model_path, tmp_path, capsys, monkeypatch):
    """A ValueError out of Keras is no bad input."""

    def fails(*args, **kwargs):
        raise ValueError("shapes do not match")

    monkeypatch.setattr(command_line, "fold_with_report", fails)
    assert _run("fold", model_path, "--out", tmp_path / "folded.keras") == 1
    assert "ValueError: shapes do not match" in _one_line_error(capsys)


def test_a_full_disk_is_said_and_leaves_nothing(model_path, tmp_path, capsys, monkeypatch):
    def full(self, path, **kwargs):
        raise RuntimeError("unable to flush, errno = 28, error message = 'No space left on device'")

    monkeypatch.setattr(keras.Model, "save", full)
    assert _run("fold", model_path, "--out", tmp_path / "folded.keras") == 2
    said = _one_line_error(capsys)
    assert "No space left on device; nothing was written" in said
    assert "fold" not in said.split("error:")[1].replace("folded.keras", "")
    assert _names(tmp_path) == ["model.keras"]


def test_interrupt_ends_with_status_130(model_path, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "inspect_batch_norm", interrupted)
    assert _run("inspect", model_path) == 130
    assert "interrupted" in _one_line_error(capsys)


def test_lambda_layers_ask_for_trust(tmp_path, capsys):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2), layers.Dense(2)]).save(path)
    assert _run("inspect", path) == 2
    assert "--unsafe" in _one_line_error(capsys)
    assert _run("inspect", "--unsafe", path) == 0


def test_version(capsys):
    assert _run("--version") == 0
    printed = capsys.readouterr().out
    assert keras_addons_l6.__version__ in printed
    assert keras.__version__ in printed
    assert BACKEND in printed


@pytest.mark.parametrize("command", [[], ["inspect"], ["fold"], ["export"]])
def test_help_names_every_argument(command, capsys):
    assert _run(*command, "--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    wanted = {
        "": ["inspect", "fold", "export", "--version", "KERAS_BACKEND", "Exit status"],
        "inspect": ["MODEL", "--json", "--import", "--unsafe"],
        "fold": ["MODEL", "--out", "--overwrite", "--tolerance", "--import"],
        "export": ["MODEL", "DEST", "--format", "--option", "--overwrite", "--tolerance"],
    }
    for name in wanted["".join(command)]:
        assert name in printed


CUSTOM = """
import keras

@keras.saving.register_keras_serializable(package="test_command_line")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def test_the_real_thing_in_a_process_of_its_own(tmp_path):
    """A layer of the user's own, by --import, from the current directory; the backend by KERAS_BACKEND."""
    (tmp_path / "own_layers.py").write_text(CUSTOM)
    make = (
        "import keras, own_layers; m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), "
        "keras.layers.BatchNormalization(), own_layers.Doubled()]); m.save('model.keras')"
    )
    environment = {**os.environ, "KERAS_BACKEND": BACKEND}

    def python(*arguments):
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    made = python("-c", make)
    assert made.returncode == 0, made.stderr
    fold = ["-m", "keras_addons_l6", "fold", "model.keras", "--out", "folded.keras"]
    refused = python(*fold)
    assert refused.returncode == 2
    assert "Could not locate class 'Doubled'" in refused.stderr.splitlines()[-1]
    assert "--import MODULE" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr
    done = python(*fold, "--import", "own_layers")
    assert done.returncode == 0, done.stderr
    assert "1 folded, 0 kept" in done.stdout
    assert (tmp_path / "folded.keras").exists()
