"""From numbers to findings: what is wrong, where, and what helps, in plain words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_addons_l6.health.records import BatchNormHealth, LayerHealth, Look, VariableHealth

__all__ = ["KINDS", "Finding", "Frozen", "Thresholds", "findings"]

KINDS = {
    "not_finite": "not finite",
    "update_too_large": "updates too large",
    "dead": "dead units",
    "saturated": "saturated",
    "no_gradient": "no gradient",
    "update_too_small": "updates too small",
    "batch_norm": "BatchNorm",
    "frozen": "frozen",
}
"""What can be found, causes before what they cause: values that overflow leave nothing else to say."""

LEFT_OF_START = 0.01
"""Of their first values moving averages may keep this share before they can be asked to fit: a variance that began at 1
outweighs true variances of hundredths until then."""

LISTED = 3  # names in a sentence


class Thresholds(NamedTuple):
    """From where on a number is a finding; `TrainingHealth` says where each comes from."""

    dead: float
    saturated: float
    update_ratio: tuple[float, float]
    batch_norm_gap: float
    patience: int


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that the numbers show.

    Attributes:
        kind: A key of `KINDS`.
        name: The layer that it is about, as `LayerHealth` names it.
        sentence: What was seen, why that may be, and what helps.
        sure: Whether it has held long enough to warn of it; information never is.
        weight: How bad it is among those of its kind.
    """

    kind: str
    name: str
    sentence: str
    sure: bool
    weight: float = 0.0


class Frozen(NamedTuple):
    """A layer whose weights are not trained."""

    name: str
    size: int


def findings(
    looks: Sequence[Look],
    thresholds: Thresholds,
    frozen: Sequence[Frozen] = (),
    *,
    has_rate: bool = True,
    ended: bool = False,
) -> list[Finding]:
    """What the looks so far show, worst first.

    Args:
        looks: One or more, the oldest first.
        thresholds: From where on a number is a finding.
        frozen: Layers that are not trained.
        has_rate: Whether the optimizer takes steps of a learning rate, so that their size is somebody's choice.
        ended: Whether training is over, so that nothing that more steps would mend will be mended.
    """
    if not looks:
        return []
    found = list(_not_finite(looks))
    if not found:
        found += _dead(looks, thresholds)
        found += _saturated(looks, thresholds)
        found += _without_gradient(looks, thresholds)
        found += _batch_norms(looks, thresholds, ended)
        found += _updates(looks, thresholds) if has_rate else ()
    found += _frozen(frozen)
    order = list(KINDS)
    return sorted(found, key=lambda finding: (order.index(finding.kind), -finding.weight))


def _not_finite(looks: Sequence[Look]) -> Iterator[Finding]:
    for before, look in zip((None, *looks), looks, strict=False):
        weights = [v for v in look.variables if not math.isfinite(v.weight_norm)]
        layers = [layer for layer in look.layers if layer.not_finite > 0]
        if weights and before is not None:
            yield Finding("not_finite", weights[0].layer, _weights_overflowed(look, weights), sure=True)
            return
        if layers or weights:
            name = layers[0].name if layers else weights[0].layer
            yield Finding("not_finite", name, _values_overflowed(look, layers, name), sure=True)
            return


def _values_overflowed(look: Look, layers: Sequence[LayerHealth], name: str) -> str:
    if not layers:
        return f"its weights are infinite or NaN {_when(look)}: they must be set anew."
    others = f", and after it {len(layers) - 1} more" if len(layers) > 1 else ""
    return (
        f"{layers[0].not_finite:.0%} of its values are infinite or NaN {_when(look)}. It is the first such layer{others}: "
        "look at its weights' scale, at divisions, roots and exponentials in it, and at its inputs."
    )


def _weights_overflowed(look: Look, weights: Sequence[VariableHealth]) -> str:
    return (
        f"{len(weights)} of {len(look.variables)} variables became infinite or NaN in epoch {look.epoch}, and were finite "
        "before: a learning rate too high (a smaller one, or `clipnorm`, helps), or a loss that is not defined for some "
        "samples."
    )


def _dead(looks: Sequence[Look], thresholds: Thresholds) -> Iterator[Finding]:
    recent = looks[-thresholds.patience :]
    for place, layer in enumerate(looks[-1].layers):
        silent = np.logical_and.reduce([look.layers[place].silent for look in recent])
        share = float(silent.mean()) if silent.size else 0.0
        if share >= thresholds.dead:
            yield Finding(
                "dead",
                layer.name,
                f"{share:.0%} of its {silent.size} units have been {_silence(layer)} {_on_all_of(recent)}: a learning rate "
                "too high, or a bias far below 0. PReLU, Swish or a smaller rate help.",
                sure=len(recent) == thresholds.patience,
                weight=share,
            )


def _silence(layer: LayerHealth) -> str:
    return "0" if (layer.activation or "").startswith("relu") else "all but 0"


def _saturated(looks: Sequence[Look], thresholds: Thresholds) -> Iterator[Finding]:
    recent = looks[-thresholds.patience :]
    for place, layer in enumerate(looks[-1].layers):
        share = min(look.layers[place].saturated for look in recent)
        # a classifier that is sure of what it is right about saturates, and its loss undoes the saturation
        if share >= thresholds.saturated and not layer.is_output:
            yield Finding(
                "saturated",
                layer.name,
                f"{share:.0%} of its values lie where {layer.activation} is flat, {_on_all_of(recent)}, and let almost no "
                "gradient through: weights or inputs too large. A smaller initialization, a normalization before it, or "
                "ReLU, PReLU or Swish help.",
                sure=len(recent) == thresholds.patience,
                weight=share,
            )


def _without_gradient(looks: Sequence[Look], thresholds: Thresholds) -> Iterator[Finding]:
    recent = looks[-thresholds.patience :]
    silent = [set(_layers_without_gradient(look)) for look in recent]
    names = [name for name in _layers_without_gradient(looks[-1]) if all(name in each for each in silent)]
    if not names:
        return
    dead = [layer.name for layer in looks[-1].layers if layer.dead == 1]
    why = (
        f"{dead[0]} passes none on, for all of its units are dead"
        if dead
        else "after it something cuts the gradient (`stop_gradient`, a rounding, an argmax, float16), or the loss does not "
        "depend on it"
    )
    also = f" Nor do {_listed(names[:-1])}." if len(names) > 1 else ""
    yield Finding(
        "no_gradient",
        names[-1],
        f"none of its weights gets a gradient {_on_all_of(recent)}: {why}.{also}",
        sure=len(recent) == thresholds.patience,
    )


def _layers_without_gradient(look: Look) -> list[str]:
    """The layers all of whose variables have a gradient of exactly 0, in the order of the variables."""
    gradients: dict[str, list[float]] = {}
    for v in look.variables:
        gradients.setdefault(v.layer, []).append(v.gradient_norm)
    return [name for name, norms in gradients.items() if all(norm == 0 for norm in norms)]


def _updates(looks: Sequence[Look], thresholds: Thresholds) -> Iterator[Finding]:
    """Of all epochs the one with the largest updates counts: a rate that has been lowered since was high enough."""
    trained = [(look, ratios) for look in looks if (ratios := _ratios(look))]
    if not trained:
        return
    low, high = thresholds.update_ratio
    look, ratios = max(trained, key=lambda each: _median(each[1]) / math.sqrt(each[0].steps))
    if _median(ratios) / math.sqrt(look.steps) > high:
        name = max(ratios, key=ratios.__getitem__)
        yield Finding("update_too_large", name, _too_large(look, ratios[name], _median(ratios)), sure=True)
    look, ratios = max(trained, key=lambda each: _median(each[1]) / each[0].steps)
    if _median(ratios) / look.steps < low:
        name = min(ratios, key=ratios.__getitem__)
        sure = len(trained) >= thresholds.patience
        yield Finding("update_too_small", name, _too_small(look, _median(ratios)), sure=sure)


def _ratios(look: Look) -> dict[str, float]:
    """The last epoch's change of each layer's kernel that has a gradient, over the kernel."""
    return {
        v.layer: v.update_ratio
        for v in look.kernels()
        if math.isfinite(v.update_ratio) and v.gradient_norm != 0
    }


def _median(ratios: dict[str, float]) -> float:
    return float(np.median(list(ratios.values())))


def _too_large(look: Look, largest: float, median: float) -> str:
    return (
        f"in epoch {look.epoch} its weights changed by {largest:.3g} times their own size, the median layer's by "
        f"{median:.3g}, in {_counted(look.steps, 'step')}; about 0.001 a step is usual. The learning rate is too high: try "
        "a tenth, then a hundredth."
    )


def _too_small(look: Look, median: float) -> str:
    return (
        f"in no epoch did the weights change much: at most by {median:.1e} of their own size (the median layer) in "
        f"{_counted(look.steps, 'step')}; about 0.001 a step is usual. The learning rate is too low (try ten times as much), "
        "or training began at its end."
    )


def _batch_norms(looks: Sequence[Look], thresholds: Thresholds, ended: bool) -> Iterator[Finding]:
    for place, norm in enumerate(looks[-1].batch_norms):
        gap, left = _beyond_chance(norm), norm.momentum ** looks[-1].total_steps
        if not looks[-1].total_steps or gap <= thresholds.batch_norm_gap:
            continue
        if left >= LEFT_OF_START:
            yield Finding("batch_norm", norm.name, _unsettled(looks[-1], norm, left), sure=ended, weight=gap)
            continue
        settled = [look for look in looks if norm.momentum**look.total_steps < LEFT_OF_START]
        gaps = [_beyond_chance(look.batch_norms[place]) for look in settled[-thresholds.patience :]]
        if min(gaps) > thresholds.batch_norm_gap and len(gaps) == thresholds.patience:
            yield Finding("batch_norm", norm.name, _unlike(looks[-1], norm), sure=True, weight=gap)


def _beyond_chance(norm: BatchNormHealth) -> float:
    """What of a gap is not the batch's own chance; the two are independent, so their squares add up."""
    return math.sqrt(max(norm.output_gap**2 - norm.noise**2, 0.0))


def _gap_seen(norm: BatchNormHealth) -> str:
    return (
        f"in testing its output differs from training's by {norm.output_gap:.2g} of its deviation (averages of the mean off "
        f"by {norm.mean_distance:.2g} deviations, of the variance by a factor of {norm.variance_ratio:.2g})"
    )


def _unsettled(look: Look, norm: BatchNormHealth, left: float) -> str:
    momentum = max(round(1 - 4 / look.total_steps, 2), 0.5)
    return (
        f"{_gap_seen(norm)}: after {_counted(look.total_steps, 'step')} with momentum {norm.momentum:g} the averages still hold "
        f"{left:.0%} of their start. A smaller momentum (here {momentum:g}) or more steps help."
    )


def _unlike(look: Look, norm: BatchNormHealth) -> str:
    whole = f" The model's outputs differ by {look.output_gap:.0%}." if look.output_gap >= 0.01 else ""
    return (
        f"{_gap_seen(norm)}, though the averages have forgotten their start: training's batches are unlike this one. Shuffle "
        f"them, if they come one class at a time; or make them larger, or the momentum.{whole}"
    )


def _frozen(frozen: Sequence[Frozen]) -> Iterator[Finding]:
    if frozen:
        size = sum(layer.size for layer in frozen)
        also = f" So are {_listed([layer.name for layer in frozen[1:]])}." if len(frozen) > 1 else ""
        yield Finding(
            "frozen",
            frozen[0].name,
            f"it is not trained (`trainable=False`).{also} In all {_counted(size, 'weight')} stay as they are. To train "
            "them set `trainable = True`, and compile again.",
            sure=False,
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _when(look: Look) -> str:
    return f"after epoch {look.epoch}" if look.epoch else "before the first epoch"


def _on_all_of(looks: Sequence[Look]) -> str:
    return f"in all of the last {len(looks)} looks" if len(looks) > 1 else _when(looks[-1])
