"""Exported artifacts, run where they will be deployed: one opener a runtime, in a process of its own.

This file imports neither Keras nor a backend at its top, and runs as a script as well: a foreign runtime is
given its own process, because TensorFlow beside torch can crash one, and a broken artifact may take its
runtime down. Inputs and outputs travel flat: a *leaf* is the names an array may be known by, and the array.
"""

import dataclasses
import importlib.util
import itertools
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RUNTIMES", "ArtifactError", "Feed", "Leaf", "Run", "Runtime", "output_place", "run_artifact"]

Leaf = tuple[tuple[str, ...], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Feed:
    """One set of inputs.

    Attributes:
        structure: The inputs as the model takes them: an array, or lists, tuples and dicts of arrays.
        leaves: The same arrays, flat, in `keras.tree` order, each with the names it may be known by.
    """

    structure: Any
    leaves: list[Leaf]


Run = Callable[[Feed], list[Leaf]]


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A way to run an artifact.

    Attributes:
        name: What it is called in reports.
        package: What `pip install` wants to hear.
        open: Loads the artifact at a path; what it returns maps a feed to the outputs, flat.
        home: The Keras backend in whose process it may run; everywhere else it gets a process of its own.
    """

    name: str
    package: str
    open: Callable[[str], Run]
    home: str | None = None

    def installed(self) -> bool:
        """Whether the package's module can be found."""
        return importlib.util.find_spec(self.package.replace("-", "_")) is not None


class ArtifactError(Exception):
    """An artifact that cannot be made, loaded or run, or that computes something else.

    Attributes:
        stage: How far it came: "export", "load", "run" or "compare".
        complaint: What was found there, in a sentence.
    """

    def __init__(self, stage: str, complaint: str) -> None:
        super().__init__(complaint)
        self.stage = stage
        self.complaint = complaint


def _match(wanted: Sequence[Sequence[str]], leaves: Sequence[Leaf]) -> list[np.ndarray]:
    """Arrays in the order of an artifact's inputs: by name where each is known by one, else by position."""
    owners: dict[str, list[np.ndarray]] = {}
    for names, array in leaves:
        for name in set(names):
            owners.setdefault(name, []).append(array)
    known = [[owners[name][0] for name in names if len(owners.get(name, ())) == 1] for names in wanted]
    if all(known):
        return [arrays[0] for arrays in known]
    if len(wanted) != len(leaves):
        asked = ", ".join(names[0] if names else "?" for names in wanted)
        raise LookupError(f"it asks for {len(wanted)} inputs ({asked}) and the model has {len(leaves)}")
    return [array for _, array in leaves]


def _flat(structure: Any, names: tuple[str, ...] = ()) -> list[Leaf]:
    """Leaves of nested outputs in `keras.tree` order (dicts by sorted key), each named by its key."""
    if isinstance(structure, Mapping):
        return [leaf for key in sorted(structure) for leaf in _flat(structure[key], (str(key),))]
    if isinstance(structure, list | tuple):
        return [leaf for item in structure for leaf in _flat(item)]
    return [(names, np.asarray(structure))]


def _open_saved_model(path: str) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)  # owns the variables: `serve` alone would lose them

    def run(feed: Feed) -> list[Leaf]:
        outputs = loaded.serve(*_as_signature(tf, loaded.serve.input_signature, feed.structure))
        return _flat(tf.nest.map_structure(lambda t: t.numpy(), outputs))

    return run


def _open_saved_model_layer(path: str) -> Run:
    import keras
    import tensorflow as tf

    layer = keras.layers.TFSMLayer(path)

    def run(feed: Feed) -> list[Leaf]:
        (argument,) = _as_signature(tf, layer.call_endpoint_fn.input_signature, feed.structure)
        return _flat(tf.nest.map_structure(lambda t: t.numpy(), layer(argument)))

    return run


def _as_signature(tf: Any, signature: Sequence[Any], structure: Any) -> list[Any]:
    """The arrays as tensors of the dtypes that the endpoint was traced with."""
    arguments = [structure] if len(signature) == 1 else list(structure)
    return [
        tf.nest.map_structure(lambda spec, array: tf.constant(array, spec.dtype), spec, argument)
        for spec, argument in zip(signature, arguments, strict=True)
    ]


def _open_onnx(path: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only; what it has against the artifact comes as an exception
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    names = [(output.name,) for output in session.get_outputs()]

    def run(feed: Feed) -> list[Leaf]:
        arrays = _match([(i.name, i.name.removesuffix(":0")) for i in inputs], feed.leaves)
        arguments = {
            i.name: array.astype(_ONNX_DTYPES.get(i.type, array.dtype))
            for i, array in zip(inputs, arrays, strict=True)
        }
        return list(zip(names, session.run(None, arguments), strict=True))

    return run


_ONNX_DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


def _open_litert(path: str) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    signature = Interpreter(path).get_signature_runner()
    details = signature.get_input_details()

    def run(feed: Feed) -> list[Leaf]:
        arrays = _match([(name,) for name in details], feed.leaves)
        arguments = {
            name: array.astype(detail["dtype"])
            for (name, detail), array in zip(details.items(), arrays, strict=True)
        }
        outputs = signature(**arguments)
        return [((name,), outputs[name]) for name in sorted(outputs, key=_numbered)]

    return run


def _numbered(name: str) -> tuple[str, int]:
    """A sort key that puts output_10 after output_9."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or -1)


def _open_openvino(path: str) -> Run:
    import openvino

    # Left alone, the CPU plugin computes in bfloat16 where the processor can.
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = sorted(compiled.outputs, key=lambda output: output_place(output.names) or 0)

    def run(feed: Feed) -> list[Leaf]:
        arrays = _match([sorted(i.names) for i in compiled.inputs], feed.leaves)
        dtypes = [i.element_type.to_dtype() for i in compiled.inputs]
        result = compiled([array.astype(dtype) for array, dtype in zip(arrays, dtypes, strict=True)])
        return [(tuple(sorted(o.names)), np.array(result[o])) for o in outputs]

    return run


def output_place(names: Iterable[str]) -> int | None:
    """The place of an output among the model's own: 0 for Identity, 10 for Identity_10; None for another tensor.

    OpenVINO's reader of TensorFlow graphs puts Identity_10 before Identity_2.
    """
    places = [re.fullmatch(r"Identity(?:_(\d+))?:0", name) for name in names]
    return max((int(place[1] or 0) for place in places if place), default=None)


def _open_torch(path: str) -> Run:
    import torch

    program = torch.export.load(path)
    tensors = itertools.chain(program.state_dict.values(), program.constants.values())
    device = next((t.device for t in tensors if isinstance(t, torch.Tensor)), "cpu")
    module = program.module()

    def run(feed: Feed) -> list[Leaf]:
        with torch.no_grad():
            outputs = module(_mapped(lambda array: torch.as_tensor(array, device=device), feed.structure))
        return _flat(_mapped(_from_torch, outputs))

    return run


def _from_torch(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()


def _mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    if isinstance(structure, Mapping):
        return {key: _mapped(function, item) for key, item in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(_mapped(function, item) for item in structure)
    return function(structure)


RUNTIMES: dict[str, tuple[Runtime, ...]] = {
    "tf_saved_model": (
        Runtime("tf.saved_model.load", "tensorflow", _open_saved_model, home="tensorflow"),
        Runtime("keras.layers.TFSMLayer", "tensorflow", _open_saved_model_layer, home="tensorflow"),
    ),
    "onnx": (Runtime("ONNX Runtime", "onnxruntime", _open_onnx),),
    "openvino": (Runtime("OpenVINO", "openvino", _open_openvino),),
    "litert": (Runtime("LiteRT", "ai-edge-litert", _open_litert),),
    "torch": (Runtime("torch.export.load", "torch", _open_torch, home="torch"),),
}


def run_artifact(format: str, path: str, feeds: Sequence[Feed], backend: str) -> list[tuple[int, list[Leaf]]]:
    """Run an artifact in each runtime of its format, on the first feed that the runtime accepts.

    Args:
        format: A key of `RUNTIMES`, all of whose runtimes are installed.
        path: The artifact.
        feeds: Inputs to try in turn: an artifact may have been made for one batch size only.
        backend: The active Keras backend; its own runtime runs in this process.

    Returns:
        A pair for each runtime: the index of the feed, and the outputs, flat.

    Raises:
        ArtifactError: A runtime accepts none of the feeds, or ends its process.
    """
    if all(runtime.home == backend for runtime in RUNTIMES[format]):
        return _run_here(format, path, feeds)
    return _run_apart(format, path, feeds)


def _run_here(format: str, path: str, feeds: Sequence[Feed]) -> list[tuple[int, list[Leaf]]]:
    return [_first_accepted(runtime, path, feeds) for runtime in RUNTIMES[format]]


def _first_accepted(runtime: Runtime, path: str, feeds: Sequence[Feed]) -> tuple[int, list[Leaf]]:
    complaints = []
    try:
        run = runtime.open(path)
    except Exception as error:  # each runtime raises its own kinds, here and below
        raise ArtifactError("load", f"{runtime.name} cannot load it: {_said(error)}") from error
    for index, feed in enumerate(feeds):
        try:
            return index, run(feed)
        except Exception as error:
            complaints.append(_said(error))
    raise ArtifactError("run", f"{runtime.name} cannot run it: {complaints[0]}")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _run_apart(format: str, path: str, feeds: Sequence[Feed]) -> list[tuple[int, list[Leaf]]]:
    with tempfile.TemporaryDirectory() as folder:
        request, reply = Path(folder, "request"), Path(folder, "reply")
        inputs = [(feed.structure, feed.leaves) for feed in feeds]
        request.write_bytes(pickle.dumps((format, path, inputs)))
        done = subprocess.run(
            [sys.executable, "-P", __file__, str(request), str(reply)],  # -P: our file names hide no module
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode != 0 or not reply.exists():
            names = " and ".join(runtime.name for runtime in RUNTIMES[format])
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise ArtifactError("load", f"{names} ended with exit status {done.returncode}, saying {last}")
        fault, results = pickle.loads(reply.read_bytes())
    if fault:
        raise ArtifactError(*fault)
    return results


def _serve(request: str, reply: str) -> None:
    """The other end of `_run_apart`: read a request, run it, write the reply."""
    format, path, inputs = pickle.loads(Path(request).read_bytes())
    try:
        answer: tuple[Any, Any] = (None, _run_here(format, path, [Feed(*pair) for pair in inputs]))
    except ArtifactError as error:
        answer = ((error.stage, error.complaint), [])
    Path(reply).write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    _serve(*sys.argv[1:])
