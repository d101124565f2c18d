"""A destination is written whole or left as it was."""

import os

import pytest

from keras_addons_l6.folding.exporting import destination
from keras_addons_l6.folding.exporting.destination import free_destination, written_whole


def _tree(folder):
    """Every path under a folder, hidden ones included, with the files' contents."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


def _write(path, overwrite=False, text="new", beside=()):
    with written_whole(free_destination(path, overwrite), overwrite) as scratch:
        scratch.write_text(text)
        for name in beside:
            scratch.with_name(name).write_text(text)


def test_file_and_what_the_writer_put_beside_it_are_moved_in(tmp_path):
    _write(tmp_path / "m.xml", beside=["m.bin"])
    assert _tree(tmp_path) == {"m.xml": "new", "m.bin": "new"}


def test_directory_is_moved_in_with_ordinary_permissions(tmp_path):
    with written_whole(free_destination(tmp_path / "m", False, directory=True), False) as scratch:
        (scratch / "variables").mkdir(parents=True)
        (scratch / "saved_model.pb").write_text("x")
    assert _tree(tmp_path) == {"m": None, "m/variables": None, "m/saved_model.pb": "x"}
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "m").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_nothing_is_left_when_the_writer_fails(tmp_path):
    (tmp_path / "m.onnx").write_text("old")
    before = _tree(tmp_path)
    target = free_destination(tmp_path / "m.onnx", True)

    def write_half():
        with written_whole(target, True) as scratch:
            scratch.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert _tree(tmp_path) == before


def test_existing_destination_is_refused_and_replaced_only_on_demand(tmp_path):
    (tmp_path / "m.onnx").write_text("old")
    with pytest.raises(FileExistsError, match="exists"):
        _write(tmp_path / "m.onnx")
    assert _tree(tmp_path) == {"m.onnx": "old"}
    _write(tmp_path / "m.onnx", overwrite=True)
    assert _tree(tmp_path) == {"m.onnx": "new"}


@pytest.mark.parametrize("name", ["m.xml", "m.bin"])
def test_file_that_comes_to_exist_meanwhile_is_kept(tmp_path, name):
    target = free_destination(tmp_path / "m.xml", False)

    def write_both():
        with written_whole(target, False) as scratch:
            scratch.write_text("new")
            scratch.with_suffix(".bin").write_text("new")
            (tmp_path / name).write_text("theirs")

    with pytest.raises(FileExistsError, match=name):
        write_both()
    assert _tree(tmp_path) == {name: "theirs"}


def test_moves_are_taken_back_when_a_later_one_fails(tmp_path, monkeypatch):
    (tmp_path / "m.xml").write_text("old")
    (tmp_path / "m.bin").write_text("old")
    real, calls = os.rename, []

    def third_fails(source, target):
        calls.append(source)
        if len(calls) == 3:
            raise OSError("no space left")
        real(source, target)

    monkeypatch.setattr(destination.os, "rename", third_fails)
    with pytest.raises(OSError, match="no space"):
        _write(tmp_path / "m.xml", overwrite=True, beside=["m.bin"])
    assert _tree(tmp_path) == {"m.xml": "old", "m.bin": "old"}


def test_dangling_link_counts_as_existing(tmp_path):
    (tmp_path / "m.onnx").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        free_destination(tmp_path / "m.onnx", False)


def test_missing_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        free_destination(tmp_path / "nowhere" / "m.onnx", False)


def test_overwriting_never_costs_more_than_an_artifact(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "thesis.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="not a SavedModel"):
        free_destination(project, True, directory=True)
    with pytest.raises(FileExistsError, match="not a file"):
        free_destination(project, True)
    (tmp_path / "empty").mkdir()
    assert free_destination(tmp_path / "empty", True, directory=True) == tmp_path / "empty"
