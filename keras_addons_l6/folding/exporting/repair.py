"""`model.export`, and what it is known to write wrong set right: before it runs, or in what it wrote."""

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_addons_l6.folding.exporting.runtimes import output_place
from keras_addons_l6.keras_private import sublayers

__all__ = ["export_mended"]


def export_mended(model: keras.Model, artifact: Path, format: str, **options: Any) -> None:
    """Export a model that was called, silently; what is wrong for reasons yet unknown stays wrong.

    Args:
        model: The model; while this runs, its layers may be changed.
        artifact: Where to.
        format: A format of `model.export`.
        **options: For `model.export`.
    """
    with warnings.catch_warnings(), _constants_as_arrays(model):
        warnings.simplefilter("ignore")
        model.export(str(artifact), format=format, verbose=False, **options)
    if format == "openvino":
        _drop_stray_outputs(artifact, len(model.outputs))


@contextlib.contextmanager
def _constants_as_arrays(model: keras.Model) -> Iterator[None]:
    """While it lasts, the mean and variance of every `Normalization` are NumPy arrays.

    They are tensors that a TensorFlow graph captures, and tf2onnx makes an input of each; arrays become constants.
    """
    kept = [(layer, layer.mean, layer.variance) for layer in sublayers(model) if _is_normalization(layer)]
    try:
        for layer, mean, variance in kept:
            layer.mean, layer.variance = (np.asarray(keras.ops.convert_to_numpy(t)) for t in (mean, variance))
        yield
    finally:
        for layer, mean, variance in kept:
            layer.mean, layer.variance = mean, variance


def _is_normalization(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.Normalization) and layer.mean is not None


def _drop_stray_outputs(artifact: Path, count: int) -> None:
    """Leave an OpenVINO model the outputs that the Keras model has, in their order.

    OpenVINO's reader of TensorFlow graphs makes an output of every tensor that a custom gradient holds, as
    those of SiLU and SELU do: EfficientNetB0 comes out with 50. The model's own are named Identity,
    Identity_1 and so on; where they cannot be told apart, the file stays as it is.

    Args:
        artifact: The `.xml`, with its `.bin` beside it.
        count: How many outputs the Keras model has.
    """
    import openvino

    model = openvino.Core().read_model(str(artifact))
    own = {output_place(output.names): output for output in reversed(model.outputs)}
    if len(model.outputs) <= count or own.keys() - {None} != set(range(count)):
        return
    kept = openvino.Model([own[place].get_node() for place in range(count)], model.get_parameters())
    with tempfile.TemporaryDirectory(dir=artifact.parent) as folder:  # the old weights are still being read
        repaired = Path(folder, artifact.name)
        openvino.serialize(kept, str(repaired))
        for suffix in (".xml", ".bin"):
            os.replace(repaired.with_suffix(suffix), artifact.with_suffix(suffix))
