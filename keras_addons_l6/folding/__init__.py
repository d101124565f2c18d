"""Folding BatchNorm into its neighbours: the algebra, the search, the rewriting, the check, the report."""

from keras_addons_l6.folding.errors import FoldingError
from keras_addons_l6.folding.exporting.export import ExportError, ExportResult, export_folded
from keras_addons_l6.folding.fold import Folding, fold_batch_norm, fold_with_report, inspect_batch_norm
from keras_addons_l6.folding.planning.absorb import Absorber, register_absorber
from keras_addons_l6.folding.planning.affine import Affine
from keras_addons_l6.folding.planning.passage import register_passage
from keras_addons_l6.folding.proving.comparison import Comparison
from keras_addons_l6.folding.proving.verification import Verification
from keras_addons_l6.folding.proving.verify import verify_folding
from keras_addons_l6.folding.reason import Reason
from keras_addons_l6.folding.report import BatchNormRow, FoldingReport

__all__ = [
    "Absorber",
    "Affine",
    "BatchNormRow",
    "Comparison",
    "ExportError",
    "ExportResult",
    "Folding",
    "FoldingError",
    "FoldingReport",
    "Reason",
    "Verification",
    "export_folded",
    "fold_batch_norm",
    "fold_with_report",
    "inspect_batch_norm",
    "register_absorber",
    "register_passage",
    "verify_folding",
]
