"""The figure of a training: the numbers that the findings rest on, over epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_addons_l6.health.findings import Thresholds
from keras_addons_l6.health.records import Look

__all__ = ["draw"]

NAMED = 6
"""Curves of a panel that its legend names: the largest at the end."""

Curves = dict[str, list[float]]


def draw(looks: Sequence[Look], thresholds: Thresholds) -> Any:
    """Draw four panels over the epochs; returns matplotlib's figure.

    Raises:
        ImportError: where matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "`TrainingHealth.plot()` needs matplotlib: install it, or read `.history`."
        ) from error
    figure, panels = plt.subplots(2, 2, figsize=(11, 7), layout="constrained", sharex=True)
    (dead, saturated), (updates, gaps) = panels
    _curves(dead, looks, _by_layer(looks, lambda x: x.dead, lambda x: x.silent.size > 0))
    dead.set(title="Dead units", ylabel="share of a layer's units", ylim=(-0.03, 1.03))
    dead.axhline(thresholds.dead, color="0.5", linestyle=":")
    _curves(saturated, looks, _by_layer(looks, lambda x: x.saturated, lambda x: x.activation is not None))
    saturated.set(title="Saturated values", ylabel="share of a layer's values", ylim=(-0.03, 1.03))
    saturated.axhline(thresholds.saturated, color="0.5", linestyle=":")
    _updates(updates, looks, thresholds)
    names = {norm.name: [look.batch_norms[i].output_gap for look in looks] for i, norm in _norms(looks)}
    _curves(gaps, looks, names)
    gaps.set(title="BatchNorm: training against testing", xlabel="epoch", ylabel="difference of outputs")
    gaps.axhline(thresholds.batch_norm_gap, color="0.5", linestyle=":")
    for panel in panels.flat:
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small")
    return figure


def _norms(looks: Sequence[Look]) -> list[tuple[int, Any]]:
    return list(enumerate(looks[-1].batch_norms))


def _by_layer(looks: Sequence[Look], value: Callable[[Any], float], has: Callable[[Any], bool]) -> Curves:
    places = [i for i, layer in enumerate(looks[-1].layers) if has(layer)]
    return {looks[-1].layers[i].name: [value(look.layers[i]) for look in looks] for i in places}


def _updates(axes: Any, looks: Sequence[Look], thresholds: Thresholds) -> None:
    """Change a step as if every step went the same way, between the two limits."""
    trained = [look for look in looks if look.epoch]
    curves: Curves = {}
    for look in trained:
        for v in look.kernels():
            curves.setdefault(v.name, []).append(v.update_ratio / look.steps)
    _curves(axes, trained, curves)
    low, high = thresholds.update_ratio
    axes.axhline(low, color="0.5", linestyle=":")
    if trained:
        highest = [high / np.sqrt(look.steps) for look in trained]
        axes.plot([look.epoch for look in trained], highest, color="0.5", linestyle=":")
    axes.set(yscale="log", title="Updates", xlabel="epoch", ylabel="change a step over size")


def _curves(axes: Any, looks: Sequence[Look], curves: Curves) -> None:
    ranked = sorted(curves, key=lambda name: -curves[name][-1])
    for name, values in curves.items():
        label = name if name in ranked[:NAMED] else None
        axes.plot([look.epoch for look in looks], values, marker=".", label=label)
