"""Every snippet of README and of the pages in docs runs, page by page, on each backend that it names.

A page's Python blocks share one namespace, in their order, as a reader would type them. What a page takes for granted (a model,
data) is set up here. What does not run is named with the reason.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import pytest

import keras_addons_l6 as l6
from tests.distribution import worker

REPOSITORY = Path(__file__).parents[1]
BACKEND = keras.config.backend()
PAGES = [
    "README.md",
    *sorted(str(page.relative_to(REPOSITORY)) for page in (REPOSITORY / "docs").glob("*.md")),
]


class Snippet(NamedTuple):
    """A fenced block: the page it is on, its language, the line it begins at, its text."""

    page: str
    language: str
    line: int
    text: str


def snippets(page):
    text = (REPOSITORY / page).read_text()
    return [
        Snippet(page, match[1], text[: match.start()].count("\n") + 2, match[2])
        for match in re.finditer(r"^```(python|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


# What a page's snippets take for granted.
IMPORTS = """
import keras
import numpy as np
from keras import ops
import keras_addons_l6
import keras_addons_l6 as l6
rng = np.random.default_rng(0)
"""
REGRESSION = """
x, y = rng.normal(size=(32, 2)).astype("float32"), rng.normal(size=(32, 1)).astype("float32")
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])
"""
CONVOLUTION = """
image = keras.Input((8, 8, 3))
inside = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(image))
model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(inside)))
model.save("model.keras")
"""
CLASSES_OF_ONES_OWN = """
class MyConv2D(keras.layers.Conv2D):
    kernel_quantizer = None

class MyPooling(keras.layers.AveragePooling2D):
    pass
"""
SETUP = {
    "README.md": "",
    "docs/index.md": "",
    "docs/folding.md": IMPORTS + CONVOLUTION + CLASSES_OF_ONES_OWN,
    "docs/many_devices.md": IMPORTS + REGRESSION,
    "docs/quasi_newton.md": IMPORTS + REGRESSION,
    "docs/saving.md": IMPORTS + CONVOLUTION,
    "docs/watching_a_training.md": IMPORTS
    + """
x_train, y_train = rng.normal(size=(64, 2)).astype("float32"), rng.normal(size=(64, 1)).astype("float32")
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
model.compile("adam", "mse")
""",
}
# What stands before or after one snippet alone, known by some of its words.
BEFORE = {
    ("docs/folding.md", "keras_addons_l6 inspect"): """
import os
os.remove("model.onnx")  # the page writes it twice, by two ways
""",
    ("docs/folding.md", 'quantize("int8")'): """
import warnings
warnings.filterwarnings("ignore", "Layer .* does not have a `quantize` method")  # Keras's, of Flatten and its like
""",
    ("docs/quasi_newton.md", "keras.optimizers.Adam(1e-3)"): REGRESSION,
    ("docs/quasi_newton.md", "optimizer.scale_loss"): """
optimizer = l6.LBFGS()
optimizer.build([keras.Variable([1.0])])
def compute_loss(_):
    return ops.convert_to_tensor(1.0)
""",
    ("docs/quasi_newton.md", "drawn_by_residual"): """
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile(l6.LBFGS(), loss="mse")
def drawn_by_residual(model):
    return rng.normal(size=(20, 2))
def fit_full_batch(model, points, **arguments):
    l6.fit_full_batch(model, points, np.ones((20, 1)), verbose=0, **arguments)
""",
    ("docs/many_devices.md", "DistributedDataParallel"): """
import torch
optimizer = l6.Adam()
batches_of_this_process = [(torch.tensor(x), torch.tensor(y))]
""",
    ("docs/many_devices.md", "MirroredStrategy"): """
import tensorflow as tf
def make_model():
    return keras.Sequential([keras.Input((2,)), l6.BatchNorm(synchronized=True), keras.layers.Dense(1)])
""",
    ("docs/many_devices.md", "of_one_replica"): """
optimizer = model.optimizer
x, y, all_samples = tf.constant(x), tf.constant(y), len(x)
""",
}
TRAIN = """
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(1)])
model.compile(l6.Adam(), "mse")
model.fit(x, y, verbose=0)
assert len(model.get_layer("hidden").kernel.value.sharding.device_set) == 8
"""
AFTER = {
    ("README.md", "LBFGS()"): """
assert model.optimizer.iterations_accepted > 10
assert model.evaluate(x, y, verbose=0) < 1e-3
""",
    ("README.md", "export_folded"): """
import os
assert not [layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
assert os.path.getsize("model.onnx")
""",
    ("README.md", "1e4 + "): """
values = keras.ops.convert_to_numpy(x).astype("float64")
exact = (values - values.mean((0, 1, 2))) / np.sqrt(values.var((0, 1, 2)) + 1e-5)
ours = keras.ops.convert_to_numpy(l6.BatchNorm()(x, training=True))
theirs = keras.ops.convert_to_numpy(keras.layers.BatchNormalization()(x, training=True))
assert np.abs(ours - exact).max() < 2e-6
assert np.isnan(theirs).any() == (keras.config.backend() == "torch")
""",
    ("docs/index.md", "fold_batch_norm"): """
assert not [layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
few = images[:8].reshape(-1, 8, 8, 1) / 16
# Probabilities of float32 sums over 2,048 products; a wrong fold would move them by far more.
assert abs(model.predict(few, verbose=0) - folded.predict(few, verbose=0)).max() < 1e-4
""",
    ("docs/folding.md", "TakesUp"): """
image = keras.Input((8, 8, 3))
own = keras.layers.BatchNormalization()(MyPooling(2)(MyConv2D(4, 3)(image)))
assert len(fold_with_report(keras.Model(image, own)).report.folded) == 1
""",
    ("docs/quasi_newton.md", "import minimize"): """
assert abs(float(result.x["a"]) - 2) < 1e-3
assert abs(float(result.x["b"]) - 1) < 1e-3
""",
    ("docs/saving.md", "keras_addons_l6>AdamW"): """
assert type(model.optimizer) is l6.AdamW
""",
    ("docs/many_devices.md", "list_devices"): TRAIN,
    ("docs/many_devices.md", "DeviceMesh"): TRAIN
    + 'assert not model.get_layer("hidden").kernel.value.sharding.is_fully_replicated\n',
    ("docs/many_devices.md", "of_one_replica"): "step()\n",
    ("docs/many_devices.md", "DistributedDataParallel"): "torch.distributed.destroy_process_group()\n",
}
if BACKEND == "torch":
    AFTER["docs/migrating.md", "def port"] = """
import torch
image = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
theirs, ours = torch.nn.Conv2d(3, 4, 3), keras.layers.Conv2D(4, 3)
ours.build(image.shape)
port(theirs, ours)
expected = theirs(torch.tensor(image).movedim(-1, 1)).movedim(1, -1)
# 27 products of order one each
np.testing.assert_allclose(ours(image).detach(), expected.detach(), rtol=0, atol=27 * 2.0**-23)
"""
# Snippets that name a backend.
ONLY = {
    ("docs/many_devices.md", "keras.distribution"): "jax",
    ("docs/many_devices.md", "MirroredStrategy"): "tensorflow",
    ("docs/many_devices.md", "tf.function"): "tensorflow",
    ("docs/many_devices.md", "DistributedDataParallel"): "torch",
}
# Pages that settle something for a whole process, and what they need in its environment.
IN_OWN_PROCESS = {
    "docs/many_devices.md": {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        **{"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"},
    }
}
INSTALLS = "installs an environment; .ci/run runs README's two blocks as they stand, and makes the contributors' environment"
MINUTES = "prints the tables of its page, in minutes to hours; test_commands_exist looks for it"
NOT_RUN = {
    ("README.md", "examples/quickstart.py"): INSTALLS,
    ("README.md", 'pytest -m "not full"'): INSTALLS,
    ("docs/CONTRIBUTING.md", "-m venv"): INSTALLS,
    ("docs/benchmarks.md", "tests.benchmarks"): MINUTES,
    ("docs/folding.md", "folding_latency.py"): MINUTES,
    ("docs/folding_measured.md", "folding_applications"): MINUTES,
    ("docs/folding_measured.md", "folding_keras_hub"): MINUTES,
    ("docs/folding_measured.md", "folding_latency.py"): MINUTES,
    ("docs/lbfgs_tuning.md", "lbfgs_problems"): MINUTES,
    (
        "docs/float64.md",
        "enable_float64",
    ): "tests/precision/test_training.py runs it, and looks at what it prints",
    (
        "docs/many_devices.md",
        "keras.distribution.initialize",
    ): "waits for a second machine; tests/distribution has two processes",
}


def of(table, snippet):
    """What a table above says of a snippet, or None."""
    found = [
        value for (page, words), value in table.items() if page == snippet.page and words in snippet.text
    ]
    assert len(found) <= 1, f"{snippet.page}, line {snippet.line}: several entries"
    return found[0] if found else None


def runs(snippet):
    return of(NOT_RUN, snippet) is None and of(ONLY, snippet) in (None, BACKEND)


def codes(page):
    """Python to be run in one namespace, in order; a snippet's line numbers are those of its page."""
    yield SETUP.get(page, IMPORTS)
    for snippet in filter(runs, snippets(page)):
        yield of(BEFORE, snippet) or ""
        text = snippet.text if snippet.language == "python" else commands(snippet)
        yield "\n" * (snippet.line - 1) + text
        yield of(AFTER, snippet) or ""


def commands(snippet):
    """Python that runs the lines of a bash block; they are all calls of this package's command line."""
    lines = [shlex.split(line) for line in snippet.text.splitlines()]
    assert all(line[:3] == ["python", "-m", "keras_addons_l6"] for line in lines), snippet
    return "from keras_addons_l6.__main__ import main\n" + "".join(
        f"assert main({line[3:]}) == 0\n" for line in lines
    )


def run_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", BACKEND)  # put back afterwards, whatever a page sets
    monkeypatch.setenv("MPLBACKEND", "Agg")
    if page in IN_OWN_PROCESS:
        (tmp_path / "page.py").write_text("\n".join(codes(page)))
        environment = {**os.environ, **IN_OWN_PROCESS[page], "MASTER_PORT": str(worker.free_ports(1)[0])}
        run = subprocess.run(
            [sys.executable, "page.py"],
            env={**environment, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr[-4000:]
        return
    if page == "docs/migrating.md":
        shutil.copy(REPOSITORY / "tests/fixtures/old_models/addons.h5", "old_model.h5")
    names = {"__name__": "page"}
    try:
        for code in codes(page):
            exec(compile(code, page, "exec"), names)
    finally:
        l6.disable_float64()


FIRST = ["README.md", "docs/index.md"]


def test_readme_runs(tmp_path, monkeypatch):
    run_page("README.md", tmp_path, monkeypatch)


def test_index_runs(tmp_path, monkeypatch):
    run_page("docs/index.md", tmp_path, monkeypatch)


LONG = ["docs/folding.md", "docs/many_devices.md", "docs/quasi_newton.md"]  # ten seconds to a minute
OTHERS = [page for page in PAGES if page not in FIRST + LONG and any(map(runs, snippets(page)))]


@pytest.mark.parametrize("page", OTHERS)
def test_page_runs(page, tmp_path, monkeypatch):
    run_page(page, tmp_path, monkeypatch)


@pytest.mark.parametrize("page", LONG)
def test_long_page_runs(page, tmp_path, monkeypatch):
    run_page(page, tmp_path, monkeypatch)


@pytest.mark.parametrize("table", [BEFORE, AFTER, ONLY, NOT_RUN], ids=["before", "after", "only", "not run"])
def test_what_is_said_of_snippets_is_said_of_one_that_is_there(table):
    for page, words in table:
        assert any(words in snippet.text for snippet in snippets(page)), (page, words)


def test_commands_exist():
    """What README and the pages tell to run is there: modules, and scripts by their path."""
    missing = []
    for page in PAGES:
        text = (REPOSITORY / page).read_text()
        modules = re.findall(r"python3? -m ((?:tests|keras_addons_l6)[\w.]*\w)", text)
        paths = [module.replace(".", "/") for module in modules]
        there = [
            any((REPOSITORY / form.format(path)).exists() for form in ("{}.py", "{}/__main__.py"))
            for path in paths
        ]
        missing += [(page, module) for module, is_there in zip(modules, there, strict=True) if not is_there]
        scripts = re.findall(r"python3? ((?:tests|examples|docs)/[\w/]+\.py)", text)
        missing += [(page, script) for script in scripts if not (REPOSITORY / script).exists()]
    assert not missing


LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES)
def test_links_hold(page):
    """Files that links name are there, and headings; the gallery's pages are made from the examples."""
    text = (REPOSITORY / page).read_text()
    broken = []
    for path, anchor in LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        if target.parent.name == "gallery":
            there = target.stem == "index" or (REPOSITORY / "examples" / f"{target.stem}.py").exists()
        else:
            candidates = [target, target.with_suffix(".md"), target.with_suffix(".rst")]
            found = next((one for one in candidates if one.exists()), None)
            there = found is not None and (not anchor or anchor[1:] in anchors(found))
        if not there:
            broken.append(path + anchor)
    assert not broken


def anchors(page):
    """The names that headings get on code hosts and in MyST."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
