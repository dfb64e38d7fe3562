"""Which of several settings is better: a test that knows both sources of chance, and how much else was asked.

A setting is a backbone (or another choice), trained with several seeds and evaluated on the same images. Its figure is the
mean over its seeds. Two things move a difference of such means: which images are in val, and which seeds were drawn.

- Images: the paired bootstrap of the difference of the seed means, as `bootstrap` draws it.
- Seeds: the variance between the seeds of each setting, over their number.

`contrast` adds the variances and gives the interval.

All pairs and all figures of a page are one family. Holm's procedure (1979) bounds the chance of any wrong winner on the page by 5%:
`bench/false_winners.py` measures it, and how often a true lead is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from workbook.evaluation.bootstrap import FEWEST_IMAGES, Figure, Samples
from workbook.evaluation.contrast import Contrast, contrast, holm_levels
from workbook.evaluation.sizes import FIGURE_OF
from workbook.words import counted

FIGURES = tuple(FIGURE_OF.values())
ERROR = 0.05  # the chance of any wrong winner on a page
# With two seeds the variance between them is too rough. Where seeds move a figure as much as images do, and both are normal, this test
# named a wrong winner on 6% (2 backbones) and 8% (5) of 20,000 simulated pages; with three on at most 5%.
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Difference:
    """How much higher one setting scores than another in one figure: the means over their seeds."""

    higher: str  # the setting with the higher mean
    lower: str
    figure: str  # bbox_mAP, bbox_mAP_s ...
    value: float  # higher less lower, from 0 to 1
    low: float | None  # borders of the corrected interval; None where too few images hold such objects
    high: float | None
    seeds: int  # of each setting
    ahead: int  # seeds with which `higher` scored more than `lower` with the same number of a seed
    val_images: int
    images: int  # that hold such objects
    objects: int
    comparisons: int  # that the page asks, for which the interval is corrected

    @property
    def excludes_zero(self) -> bool:
        """The interval lies above 0. With one seed each, that says something of these two trainings alone."""
        return self.low is not None and self.low > 0

    @property
    def has_winner(self) -> bool:
        """`higher` may be called better: the interval of at least 3 seeds each lies above 0."""
        return self.excludes_zero and self.seeds >= FEWEST_SEEDS

    def words(self) -> str:
        """A sentence without its stop, such as `a is better than b by +0.031 bbox_mAP (95%: +0.012 to +0.050 over ...)`."""
        if self.low is None:
            return f"undetermined: {self._too_few()}"
        by = f"{self.value:+.3f} {self.figure} ({self._interval()})"
        if self.seeds == 1:
            return f"{'' if self.excludes_zero else 'undetermined: '}{self._of_two_trainings(by)}"
        if self.has_winner:
            return f"{self.higher} is better than {self.lower} by {by}"
        if not self.value:
            return f"undetermined: {self.higher} and {self.lower} have the same mean {self.figure} ({self._interval()})"
        return f"undetermined: {self.higher} is above {self.lower} by {by}; {self._seeds_ahead()}"

    def _interval(self) -> str:
        over = f"{self.seeds} seeds and " if self.seeds > 1 else ""
        corrected = f", corrected for {self.comparisons} comparisons" if self.comparisons > 1 else ""
        return f"95%: {self.low:+.3f} to {self.high:+.3f} over {over}{self.val_images} val images{corrected}"

    def _of_two_trainings(self, by: str) -> str:
        return (f"the training of {self.higher} scores above that of {self.lower} by {by}; this is about these two trainings, "
                "not about the backbones: with one seed each, another seed may turn it")

    def _seeds_ahead(self) -> str:
        words = f"{self.higher} was ahead with {self.ahead} of {self.seeds} seeds"
        if self.ahead == self.seeds:
            words += f", which equal backbones also are by chance in {100 * 0.5 ** (self.seeds - 1):.2g}% of all cases or more"
        if self.seeds < FEWEST_SEEDS:
            words += f". {self.seeds} seeds do not show how far a seed moves a figure: train at least {FEWEST_SEEDS} of each"
        return words

    def _too_few(self) -> str:
        objects = counted(self.objects, "object")
        images = counted(self.images, "image")
        return f"{self.figure} of {self.higher} and {self.lower} rests on {objects} in {images}, too few for an interval"


@dataclass(frozen=True)
class _Estimate:
    """A difference before the correction: it lacks the borders, which depend on the others of the page."""

    difference: Difference
    contrast: Contrast

    @property
    def p_value(self) -> float:
        """Two-sided, that a true difference of 0 gives at least this one; 1 where no resample and no seed moves the figure."""
        return min(1.0, 2 * self.contrast.p_above(0))

    def at(self, error_rate: float, comparisons: int) -> Difference:
        """The difference with its interval of level 1 - error_rate."""
        low, high = self.contrast.interval(error_rate)
        return replace(self.difference, low=low, high=high, comparisons=comparisons)


def compare(
    settings: Mapping[str, Sequence[Samples]], figures: Sequence[str] = FIGURES, paired: bool = False
) -> list[Difference]:
    """Every pair of settings in every figure that val has objects of, corrected for all of them together.

    settings: name → the samples of its seeds, as many for each setting, in the same order of seeds; all of the same ground truth and
    draws. The list goes by figure, then by the pairs in the order of `settings`. A figure on fewer than 10 images has no interval and
    is not counted as a comparison. paired: the settings are one training a seed, evaluated in several ways, so that what a seed
    moves in all of them cancels. Raises ValueError unless all settings have the same number of seeds, from 1.
    """
    counts = {name: len(seeds) for name, seeds in settings.items()}
    if len(set(counts.values())) > 1 or not all(counts.values()):
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"each setting needs the same number of seeds, one or more, but they have: {listed}")
    _require_same_draws(settings)
    pairs = list(combinations(settings, 2))
    estimates = [
        _estimate(one, other, figure, settings[one], settings[other], paired)
        for figure in figures for one, other in pairs if next(iter(settings.values()))[0].figures[figure].objects
    ]
    return _corrected(estimates)


def _require_same_draws(settings: Mapping[str, Sequence[Samples]]) -> None:
    """Raises ValueError where the figures of two trainings cannot be paired."""
    samples = [each for seeds in settings.values() for each in seeds]
    for other in samples[1:]:
        samples[0].minus(other)


def _estimate(
    one: str, other: str, figure: str, seeds_one: Sequence[Samples], seeds_other: Sequence[Samples], paired: bool
) -> _Estimate:
    """The difference of one pair in one figure, turned so that it is not negative."""
    figures_one = [samples.figures[figure] for samples in seeds_one]
    figures_other = [samples.figures[figure] for samples in seeds_other]
    found = contrast([(1.0, figures_one), (-1.0, figures_other)], paired)
    if found.value < 0:
        one, other = other, one
        figures_one, figures_other = figures_other, figures_one
        found = replace(found, value=-found.value)
    return _Estimate(Difference(
        higher=one, lower=other, figure=figure, value=found.value, low=None, high=None, seeds=found.seeds,
        ahead=_ahead(figures_one, figures_other), val_images=len(seeds_one[0].images), images=found.images,
        objects=found.objects, comparisons=0,
    ), found)


def _ahead(figures: Sequence[Figure], others: Sequence[Figure]) -> int:
    """With how many seeds the first scores more than the other with the same seed."""
    return sum(bool(one.values[0] > other.values[0]) for one, other in zip(figures, others, strict=True))


def _corrected(estimates: Sequence[_Estimate]) -> list[Difference]:
    """Each with its interval at the level of Holm's procedure; those on too few images have none and are not counted."""
    tested = [number for number, estimate in enumerate(estimates) if estimate.difference.images >= FEWEST_IMAGES]
    levels = holm_levels([estimates[number].p_value for number in tested], ERROR)
    found = [estimate.difference for estimate in estimates]
    for number, level in zip(tested, levels, strict=True):
        found[number] = estimates[number].at(level, len(tested))
    return found
