"""The counts of `keras.applications`: a few at every change, all of them in the full run."""

import pytest

from keras_addons_l6.folding import fold_with_report, inspect_batch_norm
from tests.benchmarks.folding_applications import architectures, build

# BatchNorm calls before and after: what is left stands before a ReLU, behind a value used elsewhere
COUNTS = {
    "ResNet50": (53, 0),
    "ResNet50V2": (49, 17),
    "DenseNet121": (121, 62),
    "MobileNetV2": (52, 0),
    "EfficientNetB0": (49, 0),
    "NASNetMobile": (192, 0),
    "InceptionV3": (94, 0),
    "Xception": (40, 0),
}


@pytest.mark.parametrize("name", [name for name in COUNTS if name in architectures()])
def test_counts(name):
    report = inspect_batch_norm(build(name))
    assert (len(report), len(report.kept)) == COUNTS[name]


def test_mobilenet_is_exact():
    assert max(row.error for row in fold_with_report(build("MobileNetV2")).verification.outputs) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("name", architectures())
def test_exact(name):
    """Only a BatchNorm before an activation is ever left, in the pre-activation families."""
    folding = fold_with_report(build(name))
    # of the output's spread; the largest measured on any backend is 2.3e-5
    assert max(row.error for row in folding.verification.outputs) < 5e-5
    pre_activation = name.startswith("DenseNet") or (name.endswith("V2") and name.startswith("ResNet"))
    assert bool(folding.report.kept) == pre_activation
    assert all("activation" in row.reason.sentence for row in folding.report.kept)
