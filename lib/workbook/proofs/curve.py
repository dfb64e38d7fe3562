"""The learning curve: what twice the images would bring, from trainings on nested shares of those that there are.

What is missing to a perfect AP falls with the number of images as a power: 1 - AP = b n^-c (Hestness et al. 2017, "Deep
learning scaling is predictable, empirically", arXiv:1712.00409, without their floor, which three points cannot show). Its
logarithm is a straight line, fitted by least squares. All shares are trained for the same number of steps, so that only
the images differ.

The interval of the prediction has the two sources of chance of every figure here: the images that score (the bootstrap,
the same draws for all shares) and the seeds (the pooled variance between those of each share). It does not say whether
the law holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from workbook.evaluation.bootstrap import Samples
from workbook.proofs.gains import LEVEL

WORST = 0.001  # the least that is missing: an AP of 1 has no logarithm


@dataclass(frozen=True)
class Curve:
    """A learning curve, and what it says of twice the images. APs are means over the seeds."""

    images: tuple[int, ...]  # to fit on, rising
    scores: tuple[float, ...]  # the AP with so many
    twice: float  # the AP predicted for twice the most
    gain: float  # the same less the fitted AP of the most
    low: float  # 95%, of the gain
    high: float


def learning_curve(trainings: Mapping[int, Sequence[Samples]], figure: str) -> Curve:
    """Fit the curve. trainings: number of images → the trainings on so many, one a seed.

    Raises ValueError for fewer than two numbers of images.
    """
    counts = sorted(trainings)
    if len(counts) < 2:
        raise ValueError(f"a curve needs trainings on at least two numbers of images, but there are those on {counts}")
    missing = [_log_missing(trainings[count], figure) for count in counts]
    now, twice = _weights(np.log(counts))
    drawn = sum(weight * of_share.mean(axis=0) for weight, of_share in zip(twice - now, missing, strict=True))
    variance, freedom = _seed_variance([of_share[:, 0] for of_share in missing], twice - now)
    images = trainings[counts[-1]][0].figures[figure].images
    of_images = float(np.nanvar(drawn[1:])) * images / max(images - 1, 1)
    error = np.sqrt(of_images + variance)
    parts = of_images**2 / max(images - 1, 1) + (variance**2 / freedom if freedom else 0.0)
    half = float(error * student_t.isf((1 - LEVEL) / 2, error**4 / parts)) if error else 0.0
    fitted = float(sum(weight * of_share.mean(axis=0)[0] for weight, of_share in zip(now, missing, strict=True)))
    # what is missing is multiplied by exp(change)
    borders = [float(np.exp(fitted) * (1 - np.exp(drawn[0] + sign * half))) for sign in (0, 1, -1)]
    scores = tuple(float(1 - np.exp(of_share[:, 0]).mean()) for of_share in missing)
    return Curve(tuple(counts), scores, float(1 - np.exp(fitted)) + borders[0], *borders)


def _log_missing(trainings: Sequence[Samples], figure: str) -> np.ndarray:
    """[seeds, 1 + resamples] the logarithm of what is missing to 1."""
    values = np.stack([samples.figures[figure].values for samples in trainings])
    return np.log(np.maximum(1 - values, WORST))


def _weights(log_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each point counts in the fitted line's value at the most images, and at twice as many: [points] each."""
    centred = log_counts - log_counts.mean()
    slope = centred / (centred**2).sum()
    even = np.full(len(log_counts), 1 / len(log_counts))
    now, twice = (even + slope * (at - log_counts.mean()) for at in (log_counts[-1], log_counts[-1] + np.log(2)))
    return now, twice


def _seed_variance(by_share: Sequence[np.ndarray], weights: np.ndarray) -> tuple[float, int]:
    """The variance that the seeds give to the weighted sum of the shares' means, and its degrees of freedom."""
    freedom = sum(len(values) - 1 for values in by_share)
    if not freedom:
        return 0.0, 0
    pooled = sum(float(((values - values.mean()) ** 2).sum()) for values in by_share) / freedom
    return float(sum(weight**2 * pooled / len(values) for weight, values in zip(weights, by_share, strict=True))), freedom
