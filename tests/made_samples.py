"""Samples with figures that a test chose, that no draw of the images moves: what is left is the chance of the seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbook.evaluation.bootstrap import Figure, Samples
from workbook.evaluation.sizes import FIGURE_OF

IMAGES, RESAMPLES = 40, 50


def flat(value: float, spread: float = 0.0, images: int = IMAGES) -> Samples:
    """One training that scores `value` in every figure. spread: how far the draws of the images move it, alike for all."""
    draws = np.random.default_rng(0).normal(0, spread, RESAMPLES) if spread else np.zeros(RESAMPLES)
    by_class = value + np.concatenate([[0.0], draws])[:, None]
    figure = Figure(by_class, np.array([images]), 3 * images, images)
    names = [*FIGURE_OF.values(), "bbox_mAP_50", "bbox_mAP_75"]
    return Samples(tuple(range(images)), 0, dict.fromkeys(names, figure), {"tree": figure})


def trainings(values: Sequence[float], spread: float = 0.0) -> list[Samples]:
    """One a seed."""
    return [flat(value, spread) for value in values]
