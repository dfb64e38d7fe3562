"""What an arm of a search gains over the baseline, and how sure that is.

Both are trained with one or more seeds and scored on the same images. Two things move the difference of their means:
which images there are (the paired bootstrap of the difference), and which seeds were drawn. One or two seeds of an arm
say nearly nothing of the second, so the variance between seeds is pooled over all arms of the search that were trained
alike (Satterthwaite 1946 for the degrees of freedom of the sum). An arm that only changes the evaluation is measured on
the baseline's own weights: there the seeds are pairs, and the variance is that of their differences.

These intervals choose what to try next. They are corrected for nothing, and no gain is claimed from them: that is for
the proof, on fresh seeds and on val (`evaluation.comparison`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from workbook.evaluation.bootstrap import Figure, Samples

LEVEL = 0.95


@dataclass(frozen=True)
class SeedNoise:
    """How far a seed moves a figure: the variance between trainings alike in all but the seed, and its degrees of freedom."""

    variance: float
    freedom: int  # 0 where nothing was trained twice: then the variance is 0, and means nothing


@dataclass(frozen=True)
class Gain:
    """What an arm scores above the baseline, means over the seeds. error: its standard error; low, high: 95%."""

    value: float
    error: float
    low: float
    high: float
    seeds: int  # of the arm
    images: int  # that hold such objects
    objects: int

    @property
    def helps(self) -> bool:
        """Whether it is worth a proof: the gain is above its own standard error."""
        return self.value > self.error


def figure_values(trainings: Sequence[Samples], figure: str) -> np.ndarray:
    """[trainings] the figure of each on the images themselves."""
    return np.array([samples.figures[figure].values[0] for samples in trainings])


def seed_noise(arms: Sequence[Sequence[Samples]], figure: str) -> SeedNoise:
    """The pooled variance between the seeds of each arm about the arm's own mean."""
    values = [figure_values(trainings, figure) for trainings in arms]
    freedom = sum(len(of_arm) - 1 for of_arm in values)
    squares = sum(float(((of_arm - of_arm.mean()) ** 2).sum()) for of_arm in values)
    return SeedNoise(squares / freedom if freedom else 0.0, freedom)


def gain(arm: Sequence[Samples], baseline: Sequence[Samples], figure: str, noise: SeedNoise) -> Gain:
    """The gain of an arm that was trained: its seeds need not be as many as the baseline's."""
    variance = noise.variance * (1 / len(arm) + 1 / len(baseline))
    return _gain(arm, baseline, figure, SeedNoise(variance, noise.freedom))


def gain_on_same_weights(arm: Sequence[Samples], baseline: Sequence[Samples], figure: str) -> Gain:
    """The gain of an arm that changes the evaluation alone. Raises ValueError unless each seed is measured both ways."""
    if len(arm) != len(baseline):
        raise ValueError(f"each training is measured both ways, but there are {len(arm)} and {len(baseline)} measurements")
    differences = figure_values(arm, figure) - figure_values(baseline, figure)
    seeds = len(differences)
    variance = float(differences.var(ddof=1)) / seeds if seeds > 1 else 0.0
    return _gain(arm, baseline, figure, SeedNoise(variance, seeds - 1))


def _gain(arm: Sequence[Samples], baseline: Sequence[Samples], figure: str, seeds: SeedNoise) -> Gain:
    """seeds: the variance of the difference that comes from the seeds."""
    difference = _mean(arm, figure).minus(_mean(baseline, figure))
    freedom_images = difference.freedom()
    of_images = float(np.nanvar(difference.values[1:])) * (freedom_images + 1) / freedom_images
    error = float(np.sqrt(of_images + seeds.variance))
    freedom = _satterthwaite([(of_images, freedom_images), (seeds.variance, seeds.freedom)])
    half = error * float(student_t.isf((1 - LEVEL) / 2, freedom))
    value = float(difference.values[0])
    return Gain(value, error, value - half, value + half, len(arm), difference.images, difference.objects)


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """The degrees of freedom of a sum of variances. parts: (variance, its degrees of freedom)."""
    total = sum(variance for variance, _ in parts)
    weighted = sum(variance**2 / freedom for variance, freedom in parts if variance and freedom)
    return total**2 / weighted if weighted else max(freedom for _, freedom in parts)


def _mean(trainings: Sequence[Samples], figure: str) -> Figure:
    """The mean over the trainings, draw by draw."""
    figures = [samples.figures[figure] for samples in trainings]
    return Figure.combine(figures, [1 / len(figures)] * len(figures))
