"""The progress line: one line that moves, in a terminal and in a notebook."""

import sys
import types

import pytest

from keras_addons_l6.optimizers.quasi_newton import progress_line
from keras_addons_l6.optimizers.quasi_newton.progress_line import ProgressLine, described

LOGS = {"loss": 0.123456789, "evaluations": 12}


def test_counts_are_integers_and_losses_have_four_digits():
    assert described(LOGS | {"small": 1.23456e-8}) == "loss: 0.1235 - evaluations: 12 - small: 1.235e-08"


def test_a_line_is_overwritten_and_ends_full(capsys):
    line = ProgressLine(40, shown=True)
    line.say("compiling")
    line.update(20, LOGS, final=True)
    line.update(40, LOGS, final=True)
    line.close()
    first, *lines = capsys.readouterr().out.rstrip("\n").split("\r")
    assert (first, lines[0]) == ("", "compiling")
    half, full = "=" * 10 + "." * 10, "=" * 20
    assert lines[1:] == [f"iteration {n}/40 [{bar}] {described(LOGS)}" for n, bar in ((20, half), (40, full))]


def test_a_shorter_text_covers_the_longer_one(capsys):
    line = ProgressLine(4, shown=True)
    line.say("a long text")
    line.say("short")
    assert capsys.readouterr().out.split("\r")[-1] == "short      "


def test_it_moves_by_the_clock(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress_line.time, "monotonic", lambda: now[0])
    line = ProgressLine(100, shown=True)
    for done in range(100):
        now[0] += progress_line.INTERVAL_S / 10.5  # not a part of it that rounding decides about
        line.update(done, LOGS)
    assert capsys.readouterr().out.count("\r") == 10


def test_nothing_is_shown_where_nothing_shall_be(capsys):
    line = ProgressLine(4, shown=False)
    line.say("compiling")
    line.update(4, LOGS, final=True)
    line.close()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("in_notebook", [True, False])
def test_a_notebook_shows_one_display_that_changes(monkeypatch, capsys, in_notebook):
    shown = []

    class Display:
        def update(self, data, raw):
            assert raw
            shown[-1] = data["text/plain"]

    def display(data, raw, display_id):
        assert raw
        assert display_id
        shown.append(data["text/plain"])
        return Display()

    shell = types.SimpleNamespace(**({"kernel": object()} if in_notebook else {}))
    ipython = types.SimpleNamespace(get_ipython=lambda: shell, display=types.SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    line = ProgressLine(2, shown=True)
    for done in (1, 2):
        line.update(done, LOGS, final=True)
    line.close()
    assert len(shown) == (1 if in_notebook else 0)
    assert all(text.startswith("iteration 2/2") for text in shown)
    assert (capsys.readouterr().out == "") == in_notebook
