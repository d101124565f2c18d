"""`export_folded`: every format, reloaded in its own runtime, and whose fault it is where that fails."""

import contextlib
import errno
import importlib.util
import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from keras_addons_l6.folding import ExportError, FoldingError, export_folded
from keras_addons_l6.folding.exporting import destination, export, formats, runtimes
from keras_addons_l6.folding.exporting.repair import export_mended
from keras_addons_l6.keras_private import sublayers
from keras_addons_l6.layers import SELU, BatchNorm

BACKEND = keras.config.backend()
SUFFIX = {"tf_saved_model": "", "onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "torch": ".pt2"}
# What Keras's exporters make that its runtime then runs, with the packages of the `export` extra.
WORKS = {
    "tensorflow": ["tf_saved_model", "onnx", "openvino", "litert"],
    "jax": ["tf_saved_model", *(["onnx"] if importlib.util.find_spec("jax2onnx") else [])],
    "torch": ["onnx", "openvino", "torch"],
}[BACKEND]
# The one that is cheapest to run again and again.
CHEAP = {"tensorflow": "onnx", "jax": WORKS[-1], "torch": "onnx"}[BACKEND]


def _bn(x, layer=layers.BatchNormalization, **kwargs):
    """BatchNorm with statistics that show a wrong fold."""
    norm = layer(**kwargs)
    y = norm(x)
    rng = np.random.default_rng(len(norm.weights))
    norm.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in norm.get_weights()])
    return y


def plain():
    """A convolution, and a head."""
    image = keras.Input((12, 12, 3), name="image")
    x = layers.ReLU()(_bn(layers.Conv2D(4, 3)(image)))
    return keras.Model(image, layers.Dense(5, name="scores")(layers.GlobalAveragePooling2D()(x)))


def dicts():
    """Two inputs, one of whole numbers, and two outputs, by names that sort against their order."""
    words = keras.Input((3,), dtype="int32", name="words")
    image = keras.Input((8, 8, 3), name="image")
    a = layers.Flatten()(layers.Embedding(7, 4)(words))
    b = layers.GlobalAveragePooling2D()(_bn(layers.Conv2D(4, 3, use_bias=False)(image)))
    x = layers.Concatenate()([a, b])
    heads = {"z": _bn(layers.Dense(2)(x), BatchNorm), "a": layers.Dense(5)(x)}
    return keras.Model({"words": words, "image": image}, heads)


def lists():
    """Two inputs of one shape, and twelve outputs of one shape: only their order tells them apart."""
    a, b = keras.Input((6,), name="later"), keras.Input((6,), name="early")
    x = layers.Subtract()([a, b])
    return keras.Model([a, b], [_bn(layers.Dense(2)(x)) for _ in range(12)])


def open_sizes():
    """Images of any size, which must be past the first that is tried."""
    image = keras.Input((None, None, 3))
    x = _bn(layers.Conv2D(4, 9)(image))
    x = _bn(layers.Conv2D(4, 9)(x))
    return keras.Model(image, layers.GlobalAveragePooling2D()(x))


def any_size():
    """Images of any size, even 1 x 1, to which torch's exporters fix what is open."""
    image = keras.Input((None, None, 3))
    return keras.Model(image, _bn(layers.Conv2D(4, 3, padding="same")(image)))


def nothing_to_fold():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3)])


class TwoArguments(keras.Model):
    """A subclassed model whose `call` takes two tensors."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dense(3)

    def call(self, image, scale):
        return self.head(keras.ops.mean(self.norm(self.conv(image)), (1, 2)) * scale)


def subclassed():
    model = TwoArguments()
    model(np.ones((2, 8, 8, 3), "float32"), np.ones((2, 4), "float32"))
    return model


TWO_ARGUMENTS = [
    keras.InputSpec(shape=(None, 8, 8, 3), dtype="float32", name="image"),
    keras.InputSpec(shape=(None, 4), dtype="float32", name="scale"),
]


def _path(folder, format):
    return folder / f"model{SUFFIX[format]}"


def _weights(model):
    return [w.copy() for w in model.get_weights()]


def _names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def _check(result, path, format):
    assert result.path == path
    assert path.exists()
    assert result.format == format
    assert result.reloaded
    assert result.runtimes == tuple(runtime.name for runtime in runtimes.RUNTIMES[format])
    # Rounding alone: float32 through at most a dozen layers of a few dozen terms.
    assert result.difference <= min(result.tolerance, 2e-5)
    files = [path, path.with_suffix(".bin")] if format == "openvino" else [path]
    assert result.size == sum(
        f.stat().st_size for top in files for f in [top, *top.rglob("*")] if f.is_file()
    )


@pytest.mark.parametrize("format", WORKS)
def test_each_format_is_reloaded_in_its_runtime_and_agrees(format, tmp_path, capsys):
    model = plain()
    before, config = _weights(model), json.dumps(model.get_config())
    result = export_folded(model, _path(tmp_path, format), format)
    _check(result, _path(tmp_path, format), format)
    assert str(result) in capsys.readouterr().out
    for old, new in zip(before, _weights(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert json.dumps(model.get_config()) == config
    beside = {"openvino": ["model.bin"]}.get(format, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([_path(tmp_path, format).name, *beside])


@pytest.mark.parametrize("format", [f for f in WORKS if (BACKEND, f) != ("torch", "openvino")])
def test_inputs_and_outputs_by_name(format, tmp_path):
    _check(export_folded(dicts(), _path(tmp_path, format), format), _path(tmp_path, format), format)


@pytest.mark.parametrize("format", WORKS)
def test_inputs_and_outputs_by_position(format, tmp_path):
    _check(export_folded(lists(), _path(tmp_path, format), format), _path(tmp_path, format), format)


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize(
    ("make", "options"),
    [(any_size, {}), (nothing_to_fold, {}), (subclassed, {"input_signature": TWO_ARGUMENTS})],
)
def test_models_of_other_kinds(make, options, tmp_path):
    path = _path(tmp_path, CHEAP)
    _check(export_folded(make(), path, CHEAP, **options), path, CHEAP)


@pytest.mark.usefixtures("one_process")
def test_open_sizes_past_the_first_that_is_tried(tmp_path):
    if BACKEND == "torch":  # its exporters try 1 x 1 images, which no valid 9 x 9 convolution takes
        with pytest.raises(ExportError, match="exporter is at fault"):
            export_folded(open_sizes(), _path(tmp_path, CHEAP), CHEAP)
        return
    # jax2tf's gradients, which inference has no use for, cannot compare sizes it does not know.
    options = {"jax2tf_kwargs": {"with_gradient": False}} if CHEAP == "tf_saved_model" else {}
    result = export_folded(open_sizes(), _path(tmp_path, CHEAP), CHEAP, **options)
    assert result.shapes == ((2, 32, 32, 3),)


@pytest.mark.usefixtures("one_process")
def test_half_precision_is_held_to_its_own_rounding(tmp_path):
    image = keras.Input((8,))
    half = {"dtype": keras.DTypePolicy("mixed_float16")}
    model = keras.Model(image, _bn(layers.Dense(3, **half)(image), **half))
    result = export_folded(model, _path(tmp_path, CHEAP), CHEAP)
    # Two calls at float16's 2**-10; float32's 2**-23 would be far less.
    assert result.difference <= 2**-7
    assert result.tolerance < 0.1


@pytest.mark.usefixtures("one_process")
def test_optional_input_is_fed(tmp_path):
    @keras.saving.register_keras_serializable(package="test_export_folded")
    class AddIfGiven(layers.Layer):
        def call(self, x, y=None):
            return x if y is None else x + y

    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b", optional=True)
    model = keras.Model([a, b], _bn(layers.Dense(2)(AddIfGiven()(a, b))))
    format = "tf_saved_model" if BACKEND == "tensorflow" else CHEAP
    result = export_folded(model, _path(tmp_path, format), format)
    assert result.shapes == ((2, 6), (2, 6))


@pytest.mark.usefixtures("one_process")
def test_signature_fixes_the_sizes(tmp_path):
    signature = [keras.InputSpec(shape=(3, 48, 40, 3), dtype="float32")]
    result = export_folded(open_sizes(), _path(tmp_path, CHEAP), CHEAP, input_signature=signature)
    assert result.shapes == ((3, 48, 40, 3),)


def test_signature_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1 things with a shape"):
        export_folded(plain(), _path(tmp_path, CHEAP), CHEAP, input_signature=[(None, 12, 12, 3)])
    assert _names(tmp_path) == []


@pytest.mark.usefixtures("one_process")
def test_overwriting_replaces_and_refusing_leaves_alone(tmp_path):
    path = _path(tmp_path, CHEAP)
    if CHEAP == "tf_saved_model":
        path.mkdir()
        (path / "saved_model.pb").write_text("old")
    else:
        path.write_text("old")
    before = _names(tmp_path)
    with pytest.raises(FileExistsError, match=path.name):
        export_folded(plain(), path, CHEAP)
    assert _names(tmp_path) == before
    result = export_folded(plain(), path, CHEAP, overwrite=True, verbose=0)
    assert result.size > 100


def test_openvino_refuses_weights_that_exist(tmp_path):
    (tmp_path / "model.bin").write_text("of another model")
    with pytest.raises(FileExistsError, match=r"model\.bin"):
        export_folded(plain(), tmp_path / "model.xml", "openvino")
    assert _names(tmp_path) == ["model.bin"]


@pytest.mark.parametrize(
    ("format", "name", "message"),
    [
        ("pickle", "model.pkl", "tf_saved_model, onnx, openvino, litert, torch"),
        ("openvino", "model.onnx", r"\.xml"),
        *([] if BACKEND == "jax" else [("litert", "model.lite", r"\.tflite")]),
        *([("torch", "model.pt", r"\.pt2")] if BACKEND == "torch" else []),
        *([] if BACKEND == "torch" else [("torch", "model.pt2", "KERAS_BACKEND=torch")]),
        *([("litert", "model.tflite", "KERAS_BACKEND=tensorflow")] if BACKEND == "jax" else []),
    ],
)
def test_bad_format_or_suffix_is_named(format, name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_folded(plain(), tmp_path / name, format)
    assert _names(tmp_path) == []


def test_the_suffix_says_the_format(tmp_path):
    says = {".onnx": "onnx", ".xml": "openvino", "": "tf_saved_model", ".v2": "tf_saved_model"}
    says |= {} if BACKEND == "jax" else {".tflite": "litert"}
    says |= {".pt2": "torch"} if BACKEND == "torch" else {}
    for suffix, format in says.items():
        assert formats.checked_destination(tmp_path / f"model{suffix}", None, False)[1] == format
    for suffix, format in ((".onnx", "tf_saved_model"), (".xml", "onnx"), (".tflite", "tf_saved_model")):
        with pytest.raises(ValueError, match=f"Format '{format}' wants"):
            formats.checked_destination(tmp_path / f"model{suffix}", format, False)
    with pytest.raises(ValueError, match="no export format"):
        formats.checked_destination(tmp_path / "model.keras", None, False)


@pytest.mark.usefixtures("one_process")
def test_a_path_alone_writes_what_its_suffix_says(tmp_path):
    path = _path(tmp_path, CHEAP)
    _check(
        export_folded(plain(), path, inputs=np.ones((3, 12, 12, 3)) * np.arange(3.0)[:, None, None, None]),
        path,
        CHEAP,
    )


def test_a_directory_that_cannot_be_written_is_found_out_first(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(destination.tempfile, "TemporaryDirectory", refused)
    monkeypatch.setattr(export, "record", lambda *arguments: pytest.fail("work had begun"))
    with pytest.raises(PermissionError):
        export_folded(plain(), _path(tmp_path, CHEAP), CHEAP)


def headed(gain, activation="softmax", bias=0.0):
    """A convolution, and a head whose outputs are constant for no gain and saturated for a large bias."""
    image = keras.Input((12, 12, 3), name="image")
    x = layers.ReLU()(_bn(layers.Conv2D(4, 3)(image)))
    head = layers.Dense(5, activation=activation)
    model = keras.Model(image, head(layers.GlobalAveragePooling2D()(x)))
    head.kernel.assign(gain * keras.ops.convert_to_numpy(head.kernel))
    head.bias.assign(bias * np.arange(5.0))
    return model


def _spoiled_export(monkeypatch, fault):
    """The artifact of a folded model, and of that alone, has a fault; the folded model has none."""

    def spoiled(model, *arguments, **options):
        if any(isinstance(layer, layers.BatchNormalization) for layer in model.layers):
            return export_mended(model, *arguments, **options)
        (kernel,) = [layer.kernel for layer in model.layers if isinstance(layer, layers.Conv2D)]
        before = keras.ops.convert_to_numpy(kernel)
        kernel.assign(fault(before))
        try:
            return export_mended(model, *arguments, **options)
        finally:
            kernel.assign(before)

    monkeypatch.setattr(export, "export_mended", spoiled)


@pytest.mark.parametrize("format", WORKS)
@pytest.mark.parametrize(
    "fault", [np.zeros_like, lambda kernel: 1.05 * kernel, lambda kernel: kernel[..., ::-1]]
)
def test_a_spoiled_artifact_is_refused_where_outputs_can_tell(fault, format, tmp_path, monkeypatch):
    _spoiled_export(monkeypatch, fault)
    with pytest.raises(
        ExportError, match="fails where the model before folding does not: its outputs differ"
    ):
        export_folded(headed(1.0, None), _path(tmp_path, format), format)
    assert _names(tmp_path) == []


@pytest.mark.parametrize("format", WORKS)
@pytest.mark.parametrize(("gain", "bias"), [(0.0, 0.0), (1.0, 1e3)])
def test_behind_a_blind_head_the_artifact_comes_with_a_warning(gain, bias, format, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = export_folded(headed(gain, bias=bias), _path(tmp_path, format), format, verbose=0)
    assert any("saw nothing" in str(warning.message) for warning in caught)
    assert result.path.exists()
    assert result.difference is None
    assert "saw nothing" in str(result)
    assert "largest difference" not in str(result)


@pytest.mark.parametrize(
    ("version", "format", "came"),
    [("3.10.0", "openvino", "3.11"), ("3.12.0", "litert", "3.13"), ("3.14.1", "torch", "3.15")],
)
def test_older_keras_is_told_what_it_lacks(version, format, came, tmp_path, monkeypatch):
    monkeypatch.setattr(formats.keras, "__version__", version)
    with pytest.raises(ValueError, match=rf"came with Keras {came}; this is Keras {version}"):
        export_folded(plain(), _path(tmp_path, format), format)


# What Keras's exporters get wrong: each is to be found out, named, and leave nothing behind.


def grouped():
    image = keras.Input((8, 8, 4))
    return keras.Model(image, _bn(layers.Conv2D(4, 3, groups=2)(image)))


class Captures(layers.Layer):
    """A constant that is a tensor of the backend's, of which tf2onnx makes an input."""

    def build(self, shape):
        self.constant = keras.ops.ones(shape[-1:])

    def call(self, x):
        return x + self.constant


def capturing():
    x = keras.Input((4,))
    return keras.Model(x, _bn(layers.Dense(3)(Captures()(x))))


FAULTS = {
    "tensorflow": [
        ("onnx", grouped, "cannot load it"),
        ("onnx", capturing, "asks for 2 inputs"),
    ],
    "jax": [("openvino", plain, "exporter says")],
    "torch": [("openvino", dicts, "exporter says")],
}[BACKEND]


@pytest.mark.parametrize(("format", "make", "what"), FAULTS)
def test_exporters_fault_is_named_and_leaves_nothing(format, make, what, tmp_path):
    with pytest.raises(ExportError, match="Keras's exporter is at fault") as caught:
        export_folded(make(), _path(tmp_path, format), format)
    message = str(caught.value)
    assert f"{format} on the {BACKEND} backend" in message
    assert what in message
    assert "\n" not in message
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("format", "module"),
    {
        "tensorflow": [("onnx", "tf2onnx")],
        "jax": [("onnx", "jax2onnx")],
        "torch": [("tf_saved_model", "torch_xla"), ("litert", "litert_torch")],
    }[BACKEND],
)
def test_exporters_missing_package_is_named(format, module, tmp_path):
    if importlib.util.find_spec(module) is not None:
        _check(export_folded(plain(), _path(tmp_path, format), format), _path(tmp_path, format), format)
        return
    with pytest.raises(ExportError, match=f"{format} on the {BACKEND} backend needs a package") as caught:
        export_folded(plain(), _path(tmp_path, format), format)
    assert module in str(caught.value).replace("-", "_")
    assert _names(tmp_path) == []


def test_missing_runtime_is_named_and_the_artifact_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    result = export_folded(plain(), _path(tmp_path, "onnx" if BACKEND != "jax" else CHEAP), CHEAP)
    assert not result.reloaded
    assert result.difference is None
    package = runtimes.RUNTIMES[CHEAP][0].package
    assert f"not reloaded: {package} is not installed (pip install {package})" in str(result)
    assert result.path.exists()


def _perturbed(build):
    """`build`, except that models in which BatchNorm was folded come out a little wrong."""

    def wrong(plan):
        model = build(plan)
        if plan.decisions:
            kernel = model.layers[1].kernel
            kernel.assign(keras.ops.convert_to_numpy(kernel) * 1.001)
        return model

    return wrong


@pytest.mark.usefixtures("one_process")
def test_wrong_fold_is_caught_before_export(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "build", _perturbed(export.build))
    with pytest.raises(FoldingError, match="changed its numbers") as caught:
        export_folded(plain(), _path(tmp_path, CHEAP), CHEAP)
    assert not isinstance(caught.value, ExportError)
    assert _names(tmp_path) == []


@pytest.mark.usefixtures("one_process")
def test_artifact_that_computes_something_else_is_the_foldings_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "build", _perturbed(export.build))
    monkeypatch.setattr(export, "verify", lambda *arguments: None)
    with pytest.raises(
        ExportError, match="fails where the model before folding does not: its outputs differ"
    ):
        export_folded(plain(), _path(tmp_path, CHEAP), CHEAP)
    assert _names(tmp_path) == []


def test_exporter_that_dies_half_way_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "other.txt").write_text("dear")

    def half(self, path, **kwargs):
        with open(path, "w") as file:
            file.write("half")
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(keras.Model, "export", half)
    with pytest.raises(OSError, match="No space left on device; nothing was written") as caught:
        export_folded(plain(), _path(tmp_path, CHEAP), CHEAP)
    assert caught.value.errno == errno.ENOSPC
    assert _names(tmp_path) == ["other.txt"]


def test_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(self, path, **kwargs):
        with open(path, "w") as file:
            file.write("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "export", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_folded(plain(), _path(tmp_path, CHEAP), CHEAP)
    assert _names(tmp_path) == []


def test_runtime_that_dies_is_reported(tmp_path, monkeypatch):
    script = tmp_path / "dies"
    script.write_text("#!/bin/sh\necho too broken >&2\nkill -SEGV $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(runtimes.sys, "executable", str(script))
    with pytest.raises(runtimes.ArtifactError, match=r"ONNX Runtime ended with exit status -11.*too broken"):
        runtimes.run_artifact("onnx", "model.onnx", [], BACKEND)


@pytest.mark.parametrize("format", ["onnx", "openvino", "litert"])
def test_broken_artifact_is_reported(format, tmp_path):
    path = _path(tmp_path, format)
    path.write_text("not a model")
    with pytest.raises(runtimes.ArtifactError, match="cannot load it") as caught:
        runtimes.run_artifact(format, str(path), [runtimes.Feed(0.0, [])], BACKEND)
    assert caught.value.stage == "load"


@pytest.mark.usefixtures("one_process")
def test_tolerance_is_the_callers_to_choose(tmp_path):
    result = export_folded(plain(), _path(tmp_path, CHEAP), CHEAP, tolerance=1e-3)
    assert result.tolerance == 1e-3
    with pytest.raises(FoldingError, match="tolerance"):
        export_folded(plain(), _path(tmp_path, CHEAP), CHEAP, tolerance=1e-12, overwrite=True)
    assert _path(tmp_path, CHEAP).exists()


def normalized(adapted):
    """A `Normalization` at the top and one inside, whose numbers are neither weights nor plain numbers."""
    first = layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 3.0, 4.0])
    inner = layers.Normalization()
    if adapted:
        inner.adapt(np.random.default_rng(3).normal(2, 3, (50, 4)))
    x = keras.Input((4,))
    head = keras.Sequential([inner, layers.Dense(2)])
    return keras.Model(x, head(_bn(layers.Dense(4)(first(x)))))


@pytest.mark.parametrize("format", WORKS)
@pytest.mark.parametrize("adapted", [True, False])
def test_normalization_takes_its_numbers_along(adapted, format, tmp_path):
    model = normalized(adapted)
    x = np.random.default_rng(4).normal(size=(2, 4)).astype("float32")
    before = model.predict(x, verbose=0)
    export_folded(model, _path(tmp_path, format), format)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    assert all(keras.ops.is_tensor(layer.mean) for layer in _normalizations(model))


@pytest.mark.parametrize("format", [CHEAP, "unknown"])
def test_normalization_is_given_its_tensors_back(format, tmp_path):
    model = normalized(adapted=True)
    before = [layer.mean for layer in _normalizations(model)]
    with contextlib.suppress(ValueError):  # Keras's, of the unknown format
        export_mended(model, tmp_path / "model.onnx", format)
    assert len(before) == 2
    assert all(a is b.mean for a, b in zip(before, _normalizations(model), strict=True))


def _normalizations(model):
    return [layer for layer in sublayers(model) if isinstance(layer, layers.Normalization)]


def stray():
    """Custom gradients, which OpenVINO's reader of TensorFlow graphs makes outputs of; one ends in an output."""
    image = keras.Input((8, 8, 3))
    x = layers.Activation("silu")(_bn(layers.Conv2D(4, 3)(image)))
    y = layers.Activation("silu")(_bn(layers.Conv2D(2, 3)(x)))
    return keras.Model(image, {"z": SELU()(layers.Conv2D(5, 1)(y)), "a": layers.Conv2D(3, 1)(x)})


@pytest.mark.skipif(BACKEND != "tensorflow", reason="on torch Keras exports no dicts, on JAX no OpenVINO")
def test_openvino_has_the_models_outputs_only(tmp_path):
    import openvino

    path = _path(tmp_path, "openvino")
    assert len(export_folded(stray(), path, "openvino").shapes) == 1
    outputs = openvino.Core().read_model(path).outputs
    assert [output.get_partial_shape()[-1].get_length() for output in outputs] == [3, 5]
    assert _names(tmp_path) == ["model.bin", "model.xml"]
