"""How far the figures of a waterfall may be trusted: paired, image-level bootstrap intervals of every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from workbook.diagnosis.stages import Stage
from workbook.diagnosis.waterfall import NOW, Bins, Detections, alone_by, reached_by, size_ranges
from workbook.evaluation.bootstrap import RESAMPLES, Interval, Samples, bootstrap
from workbook.evaluation.matching import match


def waterfall_intervals(
    truth: dict[str, Any],
    detections: Detections,
    stages: Sequence[Stage],
    bins: Bins | None = None,
    *,
    resamples: int = RESAMPLES,
) -> dict[str, dict[str, Any]]:
    """Per size: the interval of AP now (`ap`), and per stage that of its drop (`steps`) and of its gain alone (`alone`).

    Each is an `evaluation.bootstrap.Interval` as a dict. `largest_in` is the share of the resamples in which the stage
    costs most of all: how sure it is that this one is the costliest. The images are drawn alike for every replay, so a
    drop is a paired difference.
    """
    ranges = size_ranges(bins)
    areas = {size: ranges[size] for size in ranges if size != "all"}
    samples = {name: bootstrap(match(truth, found, areas), resamples) for name, found in detections.items()}
    chain = [NOW, *(reached_by(stage) for stage in stages)]
    drops = {stage.name: samples[after].minus(samples[before])
             for stage, before, after in zip(stages, chain, chain[1:], strict=False)}
    alone = {stage.name: samples[alone_by(stage)].minus(samples[NOW]) for stage in stages[1:]}
    alone[stages[0].name] = drops[stages[0].name]
    return {size: _of_size(size, samples[NOW], drops, alone) for size in ranges}


def _of_size(
    size: str, now: Samples, drops: Mapping[str, Samples], alone: Mapping[str, Samples]
) -> dict[str, Any]:
    name = "bbox_mAP" if size == "all" else f"bbox_mAP_{size}"
    values = np.array([samples.figures[name].values[1:] for samples in drops.values()])  # [stages, resamples]
    values = values[:, ~np.isnan(values).any(axis=0)]
    largest = np.bincount(values.argmax(axis=0), minlength=len(drops)) / max(values.shape[1], 1)
    return {
        "ap": asdict(now.figures[name].interval()),
        "steps": {
            stage: asdict(samples.figures[name].interval()) | {"largest_in": float(share)}
            for (stage, samples), share in zip(drops.items(), largest, strict=True)
        },
        "alone": {stage: asdict(samples.figures[name].interval()) for stage, samples in alone.items()},
    }


def paired(
    truth: dict[str, Any], detections_a: Sequence[dict[str, Any]], detections_b: Sequence[dict[str, Any]],
    bins: Bins | None = None,
) -> dict[str, Interval]:
    """Per size, how much higher the AP of B is than that of A on the same images."""
    ranges = size_ranges(bins)
    areas = {size: ranges[size] for size in ranges if size != "all"}
    a, b = (bootstrap(match(truth, list(found), areas)) for found in (detections_a, detections_b))
    figures = b.minus(a).figures
    return {size: figures["bbox_mAP" if size == "all" else f"bbox_mAP_{size}"].interval() for size in ranges}
