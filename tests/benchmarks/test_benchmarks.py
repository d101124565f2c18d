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
    fold_then_quantize,
    gpu,
    layers,
    memory,
    methods,
    quasi_newton_pinn,
    report,
    shapes,
    timing,
)
from tests.benchmarks.__main__ import PARTS
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
    rows = [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())]
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
    assert set(PARTS) == set(FULL_PARTS) == set(QUICK_PARTS)


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


def test_chart_is_drawn(tmp_path):
    growth = [
        Row(f"Adam, 1e+0{n} in 10", "jit", {OURS: n * 1e-3, KERAS: n * 2e-3}, floor=1e-3) for n in (4, 5)
    ]
    batches = [
        Row(f"BatchNorm, ({n},56,56,64), {direction}", "jit", {OURS: n * 1e-3})
        for n in (1, 4)
        for direction in ("forward", "forward+backward")
    ]
    report.chart({"JAX": growth}, {"JAX": batches}, tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").stat().st_size > 1000


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
