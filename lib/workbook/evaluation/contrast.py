"""How far one group of trainings lies above another, with both sources of chance: images and seeds.

A contrast is a weighted sum of means over seeds, such as a backbone's mean less another's. Two things move it: which images are in
val, and which seeds were drawn.

- Images: the paired bootstrap of the sum, as `bootstrap` draws it.
- Seeds: the variance between the seeds of each setting, over their number, times its weight squared.

The variances are added, and Student's t with Satterthwaite's degrees of freedom gives the interval: `freedom` of the bootstrap for
the images, seeds - 1 for each setting (Welch 1947; the seeds of two settings are not taken for pairs, because the same number of a
seed makes nothing alike in two backbones). What the seeds do on these images is in both variances, so the sum is rather too large
than too small.

`holm_levels` corrects for all that a page asks: Holm's procedure (1979) bounds the chance of any wrong conclusion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

from workbook.evaluation.bootstrap import Figure, never_seen_otherwise

NOTHING = 1e-9  # a standard error below it is the rounding of figures that nothing moves
POWER = 0.8  # the chance with which `needed` is to find a true difference
MOST_SEEDS, MOST_IMAGES = 100, 1_000_000  # beyond, `needed` says that they do not decide it

Term = tuple[float, Sequence[Figure]]  # the weight of a setting, and the figure of each of its seeds


@dataclass(frozen=True)
class Part:
    """One source of chance: its variance in the contrast, and the degrees of freedom with which it is known."""

    variance: float
    freedom: float


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of means over seeds, and what moves it."""

    value: float
    of_images: Part
    of_seeds: tuple[Part, ...]  # one a setting with several seeds
    seeds: int  # of the setting with the fewest
    images: int  # val images that hold such objects
    objects: int

    @property
    def error(self) -> float:
        """The standard error; 0 where nothing moves the value."""
        total = sum(part.variance for part in self._parts)
        return 0.0 if total < NOTHING**2 else float(np.sqrt(total))

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of the standard error."""
        if not self.error:
            return self.of_images.freedom
        total = sum(part.variance for part in self._parts)
        return total**2 / sum(part.variance**2 / part.freedom for part in self._parts)

    @property
    def _parts(self) -> tuple[Part, ...]:
        return (self.of_images, *self.of_seeds)

    def p_above(self, bound: float) -> float:
        """One-sided p-value against "the true value is at most `bound`"; 1 where nothing moves the value."""
        return float(stdtr(self.freedom, (bound - self.value) / self.error)) if self.error else 1.0

    def p_below(self, bound: float) -> float:
        """One-sided p-value against "the true value is at least `bound`"; 1 where nothing moves the value."""
        return float(stdtr(self.freedom, (self.value - bound) / self.error)) if self.error else 1.0

    def interval(self, error_rate: float) -> tuple[float, float]:
        """The interval of level 1 - error_rate, within -1 to 1.

        Of a value that nothing moves, such as that of two detectors which find no small object with any seed, it reaches to 0, and at
        least as far as what so many images never show: they do not prove two settings equal.
        """
        half = self.error * -float(stdtrit(self.freedom, error_rate / 2)) if self.error else self._unmoved(error_rate)
        low, high = np.clip([self.value - half, self.value + half], -1, 1).tolist()
        return low, high

    def _unmoved(self, error_rate: float) -> float:
        return max(abs(self.value), never_seen_otherwise(self.images, 1 - error_rate))

    def seeds_needed(self, distance: float, error_rate: float) -> int | None:
        """With how many seeds of each, on these images, a true value so far from the bound is told from it at 80% power; None when
        100 do not suffice.

        error_rate: two-sided, of the corrected interval.
        """
        return _first(self.seeds + 1, MOST_SEEDS, lambda count: self._with_seeds(count)._tells(distance, error_rate))

    def images_needed(self, distance: float, error_rate: float) -> int | None:
        """On how many images with such objects, with these seeds, it is told; None when no number suffices."""
        return _first(self.images + 1, MOST_IMAGES, lambda count: self._with_images(count)._tells(distance, error_rate))

    def both_needed(self, distance: float, error_rate: float) -> tuple[int, int] | None:
        """With how many seeds of each and on how many images it is told, both grown alike; None when 100 seeds are not enough."""
        def grown(seeds: int) -> Contrast:
            return self._with_seeds(seeds)._with_images(-(-self.images * seeds // self.seeds))

        seeds = _first(self.seeds + 1, MOST_SEEDS, lambda count: grown(count)._tells(distance, error_rate))
        return (seeds, grown(seeds).images) if seeds else None

    def _tells(self, distance: float, error_rate: float) -> bool:
        needed = -stdtrit(self.freedom, error_rate / 2) - stdtrit(self.freedom, 1 - POWER)
        return bool(needed * self.error <= distance)

    def _with_seeds(self, count: int) -> Contrast:
        parts = tuple(Part(part.variance * self.seeds / count, max(count - 1, 1)) for part in self.of_seeds)
        return replace(self, of_seeds=parts, seeds=count)

    def _with_images(self, count: int) -> Contrast:
        more = count / self.images
        return replace(self, of_images=Part(self.of_images.variance / more, self.of_images.freedom * more), images=count)


def contrast(terms: Sequence[Term], paired: bool = False) -> Contrast:
    """The weighted sum of the means over the seeds of each term. All figures are of the same truth and draws; at least one a term.

    paired: the terms are one training a seed, evaluated in several ways, so that what a seed moves in all of them cancels.
    """
    figures = [figure for _, seeds in terms for figure in seeds]
    weights = [weight / len(seeds) for weight, seeds in terms for _ in seeds]
    total = Figure.combine(figures, weights)
    by_seeds = [(weight, np.array([figure.values[0] for figure in seeds])) for weight, seeds in terms]
    if paired:
        by_seeds = [(1.0, np.sum([weight * values for weight, values in by_seeds], axis=0))]
    of_seeds = [
        Part(weight**2 * float(values.var(ddof=1)) / len(values), len(values) - 1) for weight, values in by_seeds if len(values) > 1
    ]
    fewest = min(len(seeds) for _, seeds in terms)
    value = float(total.values[0])
    if abs(value) < NOTHING:
        value = 0.0
    return Contrast(value, _of_images(total), tuple(of_seeds), fewest, total.images, total.objects)


def holm_levels(p_values: Sequence[float], error: float) -> list[float]:
    """The level that each p-value is held against, so that any of them at or under its own is wrong with at most `error` in all.

    The smallest is held against error / n, the next against error / (n - 1) ... until one is too large; all after it are held
    against the level of that one. So an interval at its level excludes the bound exactly where the procedure rejects.
    """
    levels = [0.0] * len(p_values)
    level = error
    failed = False
    for rank, number in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        if not failed:
            level = error / (len(p_values) - rank)
        failed = failed or p_values[number] > level
        levels[number] = level
    return levels


def _of_images(total: Figure) -> Part:
    """So many resamples estimate a variance only so well: that counts in the degrees of freedom."""
    freedom = total.freedom()
    variance = float(np.nanvar(total.values[1:])) * (freedom + 1) / freedom
    return Part(variance, 1 / (1 / freedom + 1 / (len(total.values) - 2)))


def _first(low: int, high: int, suffices: Callable[[int], bool]) -> int | None:
    """The smallest number from `low` that suffices, None when `high` does not; what suffices once does so for every larger one."""
    if low > high or not suffices(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if suffices(middle):
            high = middle
        else:
            low = middle + 1
    return low
