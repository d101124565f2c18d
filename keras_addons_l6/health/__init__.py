"""Watching a training: what is measured of a model after each epoch, and what the numbers say."""

from keras_addons_l6.health.findings import Finding
from keras_addons_l6.health.records import BatchNormHealth, LayerHealth, Look, VariableHealth
from keras_addons_l6.health.report import HealthReport
from keras_addons_l6.health.training_health import TrainingHealth

__all__ = [
    "BatchNormHealth",
    "Finding",
    "HealthReport",
    "LayerHealth",
    "Look",
    "TrainingHealth",
    "VariableHealth",
]
