"""The benchmarks run from end to end on tiny sizes, and their tables say what was measured."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.benchmarks import (
    __main__,
    figure,
    fold_then_quantize,
    gpu,
    layers,
    memory,
    methods,
    quasi_newton_pinn,
    report,
    results,
    shapes,
    summary,
    timing,
)
from tests.benchmarks.part import FULL_PARTS, QUICK_PARTS
from tests.benchmarks.rows import KERAS, OURS, Row, median_of

ROOT = Path(__file__).parents[2]


def run(*arguments):
    environment = {**os.environ, "KERAS_BACKEND": keras.config.backend(), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


# In processes of their own: TensorFlow, which `fit` imports, and torch.optim can crash each other.
@pytest.mark.parametrize("part", ["optimizers", "layers", "train_steps"])
def test_part_times_ours_beside_keras(part, tmp_path):
    run("tests.benchmarks.part", part, str(tmp_path / "rows.json"), "--quick")
    rows = [results.as_row(row) for row in json.loads((tmp_path / "rows.json").read_text())]
    assert rows
    for row in rows:
        assert row.seconds[OURS] > 0
        assert KERAS in row.seconds or "beta trained" in row.subject
        assert part != "optimizers" or len(row.seconds) == 3


def test_wall_time_of_lbfgs_is_measured_beside_its_peers():
    backend = keras.config.backend()
    table = run("tests.benchmarks.lbfgs_wall_time", "--quick", "--backends", backend)
    solvers = {line.split("|")[2].strip() for line in table.splitlines() if line.startswith("| softmax")}
    peers = {"jax": {"optax.lbfgs"}, "torch": {"torch.optim.LBFGS"}}
    assert solvers == {"minimize", "SciPy"} | peers.get(backend, set())


def test_losses_and_errors_of_physics_informed_networks_are_measured():
    table = run(
        "tests.benchmarks.quasi_newton_pinn",
        "--quick",
        "--methods",
        "L-BFGS, m = 10",
        "BFGS",
        "--starts",
        "1",
    )
    rows = [line for line in table.splitlines() if line.startswith("| start 1")]
    assert len(rows) == len(quasi_newton_pinn.EQUATIONS)
    assert all(math.isfinite(float(cell.split()[0])) for row in rows for cell in row.split("|")[2:4])


def test_burgers_solution_is_that_of_the_equation():
    rng, h = np.random.default_rng(0), 1e-4
    points, along_x, along_t = rng.uniform((-1, 0.1), (1, 0.4), (100, 2)), np.array([h, 0]), np.array([0, h])
    u = quasi_newton_pinn.cole_hopf
    u_t, u_x = ((u(points + d) - u(points - d)) / (2 * h) for d in (along_t, along_x))
    u_xx = (u(points + along_x) - 2 * u(points) + u(points - along_x)) / h**2
    residual = u_t + u(points) * u_x - quasi_newton_pinn.VISCOSITY * u_xx
    # Differences err by h^2 / 6 of the third derivative, 8e-5 where the wave is steepest; each term is 0.01 to 1.
    assert np.abs(residual).max() < 2e-4
    at_start = points * (1, 0)
    np.testing.assert_allclose(u(at_start), -np.sin(np.pi * points[:, :1]), atol=1e-14)
    np.testing.assert_allclose(u(points, 2 * quasi_newton_pinn.NODES), u(points), atol=2e-15)


def test_memory_is_measured():
    assert int(run("tests.benchmarks.memory", "ours", "--quick").split()[-1]) >= 0


def test_every_part_has_a_title_and_a_quick_way():
    assert set(report.TITLES) == set(FULL_PARTS) == set(QUICK_PARTS)


def test_resnet50_shapes_are_those_of_the_application():
    model = keras.applications.ResNet50(weights=None)
    assert sorted(shapes.resnet50()) == sorted(tuple(v.shape) for v in model.trainable_variables)


def test_transformer_shapes():
    assert shapes.count(shapes.transformer()) == 12 * (
        4 * (768**2 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    )


def test_floor_counts_every_array_once_read_and_state_once_written():
    assert methods.floor_bytes("AdaGrad", 10) == 4 * 10 * 5
    assert methods.floor_bytes("Adam", 10) == 4 * 10 * 7


def test_every_other_round_runs_the_other_way():
    calls = []
    contenders = {name: lambda name=name: calls.append(name) or time.sleep(0.003) for name in "ab"}
    timing.medians(contenders, timing.Effort(least=2, most=2, seconds=0.0))
    assert "".join(calls) == "aaabbb" + "ab" + "ba"  # warm-up, calibration, two rounds of one call each


def test_triad_adds_and_counts_three_arrays():
    run_triad, moved = timing.triad(1000)
    run_triad()
    assert moved == 12000


def test_a_contender_that_fails_the_numeric_tests_is_not_the_fastest_peer():
    row = Row("norm", "jit", {OURS: 2.0, "wrong": 1.0, KERAS: 3.0}, errors={"wrong": 5e-3})
    assert row.fastest_peer() == 3.0
    assert "| norm | jit | 2e+03 | 1e+03 (error 5e-03) | 3e+03 | 0.67 | 0.67 |" in report.table([row])


def test_a_time_within_the_resolution_is_shown_as_a_bound():
    row = Row("layer", "jit", {OURS: 2.0, KERAS: 0.5, "native": 4.0}, resolution=0.5)
    assert "| 2e+03 | < 500 | 4e+03 | > 4.00 | > 4.00 |" in report.table([row])
    row = Row("layer", "jit", {OURS: 0.5, KERAS: 2.0}, resolution=0.5)
    assert "| < 500 | 2e+03 | < 0.25 | < 0.25 |" in report.table([row])
    row = Row("layer", "jit", {OURS: 0.5, KERAS: 0.5}, resolution=0.5)
    assert "| < 500 | < 500 |  |  |" in report.table([row])


def test_rows_of_several_processes_are_told_by_their_medians():
    runs = [
        [Row("norm", "jit", {OURS: ours, KERAS: 4.0 - ours}, floor, {KERAS: 1e-3}, resolution)]
        for ours, floor, resolution in ((1.0, 3.0, 0.3), (3.0, 1.0, 0.1), (2.0, 2.0, 0.2))
    ]
    assert median_of(runs) == [Row("norm", "jit", {OURS: 2.0, KERAS: 2.0}, 2.0, {KERAS: 1e-3}, 0.2)]
    assert median_of([[row._replace(floor=None)] for (row,) in runs])[0].floor is None


def test_a_layer_s_time_is_without_the_call_and_no_surer_than_the_readings():
    random = np.random.default_rng(0)
    readings = {
        name: list(mean + random.normal(0, 0.1, 100)) for name, mean in {OURS: 3.0, "identity": 1.0}.items()
    }
    seconds, resolution = layers.without_the_call(readings)
    assert abs(seconds[OURS] - 2.0) < resolution
    # two standard errors of a difference of medians: 2 sqrt(2) sqrt(pi / 2 / 100) 0.1 = 0.035, the quartiles' scatter aside
    assert 0.02 < resolution < 0.06
    assert layers.without_the_call({OURS: [1.0] * 9, "identity": [1.0, 2.0] * 5})[0][OURS] > 0


def test_replace_keeps_what_is_outside_the_markers():
    page = "before\n<!-- measured -->\nold\n<!-- /measured -->\nafter"
    replaced = report.replace(page, "measured", "new")
    assert replaced.split() == [
        "before",
        "<!--",
        "measured",
        "-->",
        "new",
        "<!--",
        "/measured",
        "-->",
        "after",
    ]
    assert report.replace(replaced, "measured", "new") == replaced
    with pytest.raises(ValueError, match="once each"):
        report.replace("nothing", "measured", "new")


def test_ten_million_numbers_are_minimized_over_in_one_and_a_half_states():
    assert 0 < float(run("tests.benchmarks.minimize_memory", "1e7")) <= 1.5


def test_memory_allowance_is_the_largest_variable_or_64_mebibytes():
    assert memory.allowed_bytes([(10,)]) == 64 * 2**20
    assert memory.allowed_bytes([(32, 2**20), (1,)]) == 128 * 2**20


def test_without_a_gpu_the_page_is_left_alone(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "PROBES", {"jax": "raise SystemExit(1)", "torch": "raise SystemExit(1)"})
    page = gpu.PAGE.read_text()
    assert gpu.main([]) == 0
    assert gpu.PAGE.read_text() == page
    assert "torch: no CUDA device is visible, so nothing is measured on one" in capsys.readouterr().out


def test_with_a_gpu_its_name_stands_over_the_tables(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "PROBES", {"jax": "print('Chip 9000')"})
    monkeypatch.setattr(gpu, "PAGE", tmp_path / "docs" / "page.md")
    gpu.PAGE.parent.mkdir()
    gpu.PAGE.write_text("<!-- gpu -->\nnothing yet\n<!-- /gpu -->")
    monkeypatch.setattr(gpu, "conforms", lambda backend: False)
    monkeypatch.setattr(gpu, "measure", lambda backend, part, quick: [Row(part, "jit", {OURS: 1.0})])
    assert gpu.main([]) == 1  # one backend's tests failed
    assert "Chip 9000" in gpu.PAGE.read_text()
    assert "| train_steps | jit | 1e+03 |" in gpu.PAGE.read_text()


def measured_everywhere(**changed):
    """What the summary wants, of every backend: ours 2 ms, Keras's 3, the backend's own 1; `changed` replaces by subject."""

    def row(backend, work):
        row = Row(
            work.begins + work.ends,
            summary.MODES[backend],
            {OURS: 2e-3, KERAS: 3e-3, "own": 1e-3},
            floor=1e-3,
        )
        return changed[work.label](row) if work.label in changed else row

    def parts(backend):
        return {part: [row(backend, w) for w in summary.WORKS if w.part == part] for part in report.TITLES}

    return {
        backend: results.Measured(
            "A machine", "2026-11-30", 0.1, 5.0, parts(backend), {OURS: 0, KERAS: 2**20}
        )
        for backend in results.BACKENDS
    }


def test_the_summary_marks_the_fastest_and_what_fails():
    fails = Row("norm", "jit", {OURS: 2e-3, KERAS: 3.0e-3, "own": 1e-3}, errors={"own": math.nan})
    assert summary.fastest(fails) == {OURS}
    assert summary.fastest(fails._replace(errors={OURS: 1e-3, "own": 1e-3})) == {KERAS}
    assert summary.fastest(fails._replace(errors=dict.fromkeys(fails.seconds, 1e-3))) == set()
    assert summary.fastest(fails._replace(errors={})) == {"own"}
    assert summary.fastest(Row("a step", "jit", {OURS: 1.05, KERAS: 1.0, "own": 1.06})) == {OURS, KERAS}
    assert not summary.faster(fails, fails.accurate_peers())
    assert summary.faster(fails, ["own"])
    measured = measured_everywhere(BatchNorm=lambda row: row._replace(errors={"own": 5e-3}))
    table = summary.table(measured)
    (line,) = (line for line in table.splitlines() if line.startswith("| BatchNorm"))
    assert line.count("**2.0**<br>Keras 3.0<br>own 1.0 †") == 3
    assert table.count("2.0<br>Keras 3.0<br>own **1.0**") == 3 * (len(summary.WORKS) - 1)
    sentences = summary.sentences(measured)
    assert (
        sentences.count("JAX ours 2.0, Keras 3.0, own 1.0;") == sum(work.told for work in summary.WORKS) - 1
    )
    assert sentences.count("JAX ours 2.0, Keras 3.0, own 1.0 (inaccurate: own);") == 1


def test_the_summary_names_a_row_that_is_missing():
    measured = measured_everywhere()
    measured["torch"].parts["optimizers"].pop(0)
    with pytest.raises(
        LookupError, match=r"'Adam, ResNet-50,' of torch's part 'optimizers'.*benchmarks torch"
    ):
        summary.table(measured)
    del measured["jax"]
    with pytest.raises(LookupError, match=r"benchmarks jax"):
        summary.table(measured)


def test_what_is_faster_is_told_with_the_largest_ratio_of_its_kind():
    def rows(backend):
        return measured_everywhere()[backend]._replace(
            parts={
                "layers": [
                    Row("SELU, (2,3), forward", "jit", {OURS: 3.0, KERAS: 2.0}),
                    Row("SELU, (2,4), forward", "jit", {OURS: 4.0, KERAS: 2.0}),
                    Row(
                        "SELU, (2,5), forward", "jit", {OURS: 9.0, KERAS: 2.0}, resolution=9.0
                    ),  # not told from none
                    Row("Norm, (2,3), forward", "jit", {OURS: 3.0, KERAS: 2.0}, errors={KERAS: 1.0}),
                ],
                "optimizers": [Row("Adam, ResNet-50, 3 M in 2", "jit", {OURS: 1.09, "own": 1.0})],
            }
        )

    measured = {"jax": rows("jax")}
    assert summary.slower(measured) == (
        "* **JAX**: SELU forward 2.0. Failing the accuracy test: Norm forward 1.5."
    )
    # of four rows beside Keras the first two and the last; the last has nobody accurate beside it, Adam has
    assert summary.counts(measured).startswith("In 1 of 4 rows beside Keras")
    assert "in 2 of 4 at most" in summary.counts(measured)


def test_measured_numbers_are_kept_as_they_are(tmp_path):
    measured = measured_everywhere(GroupNorm=lambda row: row._replace(errors={KERAS: 2e-3, "own": 3.0}))
    results.save(measured, tmp_path / "kept.json")
    assert results.load(tmp_path / "kept.json") == measured
    assert results.load(tmp_path / "none.json") == {}
    overflowed = Row("norm", "jit", {OURS: 1.23456e-3}, errors={KERAS: math.nan})
    back = results.as_row(json.loads(json.dumps(results.as_dict(overflowed), allow_nan=False)))
    assert math.isnan(back.errors[KERAS])
    assert back.seconds == {OURS: 1.235e-3}


def test_one_backend_is_measured_anew_and_the_pages_are_made_of_all(monkeypatch, tmp_path):
    for page in ("benchmarks.md", "benchmarks_tables.md"):
        (tmp_path / page).write_text((__main__.DOCS / page).read_text())
    monkeypatch.setattr(__main__, "DOCS", tmp_path)
    results.save(measured_everywhere(), tmp_path / "benchmarks.json")
    monkeypatch.setattr(
        __main__, "measure_backend", lambda b, quick: measured_everywhere()[b]._replace(day="2027-01-02")
    )
    __main__.main(["torch"])
    days = {backend: m.day for backend, m in results.load(tmp_path / "benchmarks.json").items()}
    assert days == {"jax": "2026-11-30", "tensorflow": "2026-11-30", "torch": "2027-01-02"}
    page = (tmp_path / "benchmarks.md").read_text()
    assert "torch: measured with A machine on 2 January 2027." in page
    assert "JAX: measured with A machine on 30 November 2026." in page
    assert (
        "| Adam, ResNet-50, | jit | 2 | 3 | 1 | 2.00 | 0.67 |"
        in (tmp_path / "benchmarks_tables.md").read_text()
    )
    assert "| torch | 0 | 1 |" in (tmp_path / "benchmarks_tables.md").read_text()
    monkeypatch.setattr(__main__, "measure_backend", None)
    (tmp_path / "benchmarks.svg").unlink()
    __main__.main(["page"])
    assert (tmp_path / "benchmarks.md").read_text() == page
    assert (tmp_path / "benchmarks.svg").stat().st_size > 1000


def test_the_pages_are_those_of_the_numbers_that_are_kept():
    kept = results.load(__main__.DOCS / "benchmarks.json")
    page = (__main__.DOCS / "benchmarks.md").read_text()
    assert summary.table(kept) in page
    assert summary.slower(kept) in page
    assert figure.alternative(kept) in page
    assert report.tables(kept) in (__main__.DOCS / "benchmarks_tables.md").read_text()


def test_a_bar_of_a_kernel_that_fails_is_hatched_and_says_so(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(figure, "_bar", lambda ax, y, kind, row, peer: drawn.append((kind, row, peer)))
    figure.draw(measured_everywhere(), tmp_path / "figure.svg")
    assert len(drawn) == 3 * 3 * sum(bool(work.label) for work in summary.WORKS)
    monkeypatch.undo()
    fails = Row(
        "norm", "jit", {OURS: 2e-3, KERAS: 1e-3, "own": 2e-4, "safe": 4e-3}, errors={KERAS: 1e-2, "own": 1.0}
    )
    assert figure._bars(fails) == {OURS: OURS, KERAS: KERAS, figure.OTHER: "safe"}
    ax = Axes()
    figure._bar(ax, 0.0, KERAS, fails, KERAS)
    assert ax.drawn[0]["hatch"]
    assert ax.drawn[1] == "1.0 ms, inaccurate"
    figure._bar(ax, 0.0, OURS, fails, OURS)
    assert "hatch" not in ax.drawn[2]
    assert ax.drawn[3] == "2.0 ms"


class Axes:
    """Notes what is drawn."""

    def __init__(self):
        self.drawn = []

    def barh(self, y, width, height, **look):
        self.drawn.append(look)

    def text(self, x, y, said, **look):
        self.drawn.append(said)


def test_folding_first_leaves_no_batch_norm_to_a_quantized_network():
    accuracy, _, _, alone, after, agreement, left = fold_then_quantize.measure(
        fold_then_quantize.dense_network,
        fold_then_quantize.keras_int8,
        seed=0,
        data=fold_then_quantize.digits(),
    )
    assert alone == 2
    assert left == 0
    assert min(accuracy, after) > 0.9
    assert agreement > 0.9
