"""How far a precision may be trusted: intervals from drawing the images again, for one detector and for two.

Images are drawn with repeats, because objects of one image share its light, its scene and its labeller; 1,000 times;
and two detectors on the same images are given the same draws, so that what is hard for both cancels in their
difference.

The interval is the bootstrap's percentiles, twice corrected. They are set wider apart, as Student's t is wider than
the normal (Hesterberg 2015, "expanded percentiles"), by the images that hold such objects; of a mean over classes,
by those of the classes that vary most (Satterthwaite 1946). And those of a precision are moved by twice the
bootstrap's bias: once because resamples score higher than the data they are drawn from (few finds make a high
curve), and once because the data, in the same way, score higher than all the images there could be. In a paired
difference both biases cancel. `bench/coverage.py` states how often such intervals hold the truth: too seldom for the
precision of many rare classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtrit

from workbook.evaluation.matching import Matches
from workbook.evaluation.resampling import average_precision, figures_by_class, mean_of_known, resample_weights
from workbook.words import counted

RESAMPLES, SEED, LEVEL = 1_000, 0, 0.95
# Below ten images with such objects, the interval holds the truth too seldom (9 of 10 times: `bench/coverage.py`).
FEWEST_IMAGES = 10
# From fewer, the 95% interval of a precision is somewhat too narrow: at 10 and 25 images it held the truth in 92% of 300
# data sets, mean of four figures (each 90 to 95%).
FEW_IMAGES, FEW_HOLD = 50, 0.92
# A class in few images scores too high, and a mean over many such classes is narrow about a value that is too high: over 30 uneven
# classes whose median is in 1 to 37 images, such intervals held the truth in 84% (82% below 8 images, 88% above). A median of 50
# images or more was not measured.
MANY_CLASSES, RARE_IMAGES, RARE_HOLD = 10, 50, 0.84
ABOUT = 0.93  # an interval is called one of 95% where it held the truth in at least this share of the made data sets
# An interval is useful when it gives the figure to .05, about what a generation of backbones is worth on COCO, or to a
# quarter of itself.
USEFUL_WIDTH, USEFUL_SHARE = 0.1, 0.5


@dataclass(frozen=True)
class Interval:
    """A figure, where it may truly lie, and what that rests on. All three are None where there is no truth.

    undetermined: of a precision, that the interval is wider than .1 and than half the value, or that the precision is a mean over many
    rare classes; of a difference, that it holds 0, so that its sign cannot be told; of both, that fewer than 10 images hold such objects.
    """

    value: float | None
    low: float | None
    high: float | None
    objects: int  # truths that count
    images: int  # images that hold them
    undetermined: bool
    is_difference: bool = False
    level: float = LEVEL
    holds: float = LEVEL  # the share of such intervals, of 95%, that held the truth on made data (`bench/coverage.py`)
    rests_on: str = ""  # the many rare classes that make a precision undetermined, in words

    @property
    def is_few(self) -> bool:
        """Whether so few images hold such objects that no interval is to be trusted."""
        return self.images < FEWEST_IMAGES

    def words(self) -> str:
        """`0.041 (95%: 0.020 to 0.066), 81 objects in 63 images`, after `undetermined, too wide: ` where it is, or after what it rests on.

        Where such intervals hold the truth less often than 95%, that share is named instead; on fewer than 10 images there is none.
        """
        on = f"{counted(self.objects, 'object')} in {counted(self.images, 'image')}"
        if self.value is None:
            return "no objects"
        if self.is_few:
            return f"undetermined: {on} {'is' if self.objects == 1 else 'are'} too few for an interval"
        sign = "+" if self.is_difference else ""
        borders = f"{self.low:{sign}.3f} to {self.high:{sign}.3f}"
        is_measured_less = self.level == LEVEL and self.holds < ABOUT
        within = f"{borders}; on simulated data such intervals held the truth in {self.holds:.0%}"
        text = f"{self.value:{sign}.3f} ({within if is_measured_less else f'{self.level:.0%}: {borders}'}), {on}"
        if not self.undetermined:
            return text
        why = "the sign is open" if self.is_difference else "too wide"
        return f"undetermined, {self.rests_on or why}: {text}"


@dataclass(frozen=True)
class Figure:
    """One figure of the data set itself, first, and of its resamples: the mean over the classes that have truth."""

    by_class: np.ndarray  # [1 + resamples, classes], NaN where there is no truth
    class_images: np.ndarray  # [classes], images that hold an object that counts
    objects: int
    images: int  # that hold an object of any of the classes
    is_difference: bool = False

    @property
    def values(self) -> np.ndarray:
        """[1 + resamples], NaN where there is no truth."""
        return mean_of_known(self.by_class)

    def minus(self, other: Figure) -> Figure:
        return replace(self, by_class=self.by_class - other.by_class, is_difference=True)

    @classmethod
    def combine(cls, figures: Sequence[Figure], weights: Sequence[float]) -> Figure:
        """The weighted sum of figures of the same ground truth and draws, draw by draw: a difference or a mean of them."""
        by_class = sum(weight * figure.by_class for figure, weight in zip(figures, weights, strict=True))
        return replace(figures[0], by_class=np.asarray(by_class), is_difference=True)

    def interval(self, level: float = LEVEL) -> Interval:
        """Resamples without any such object say nothing and are left out. Raises ValueError for a wrong level."""
        if not 0 < level < 1:
            raise ValueError(f"the level of an interval lies between 0 and 1 (.95 is usual), but is {level}")
        value, drawn = float(self.values[0]), self.values[1:]
        drawn = drawn[~np.isnan(drawn)]
        if np.isnan(value) or not len(drawn):
            return Interval(None, None, None, self.objects, self.images, True, self.is_difference, level)
        freedom = self.freedom()
        wider = np.sqrt((freedom + 1) / freedom) * stdtrit(freedom, [(1 - level) / 2, (1 + level) / 2])
        low, high = np.quantile(drawn, ndtr(wider))
        if not self.is_difference:
            low, high = np.array([low, high]) - 2 * (drawn.mean() - value)
        if np.allclose(drawn, value, rtol=0, atol=1e-12):
            low, high = np.array([-1, 1]) * never_seen_otherwise(self.images, level) + value
        least = -1 if self.is_difference else 0
        low, high = float(np.clip(min(low, value), least, 1)), float(np.clip(max(high, value), least, 1))
        vague = low <= 0 <= high if self.is_difference else high - low > max(USEFUL_WIDTH, USEFUL_SHARE * value)
        undetermined = bool(vague or self.images < FEWEST_IMAGES or self.rare_classes)
        return Interval(
            value, low, high, self.objects, self.images, undetermined, self.is_difference, level, self.holds, self.rare_classes
        )

    @property
    def holds(self) -> float:
        """The share of 95% intervals of such a figure that held the truth on made data. Paired differences hold it in 95%."""
        if self.is_difference:
            return LEVEL
        if self.rare_classes:
            return RARE_HOLD
        return FEW_HOLD if self.images < FEW_IMAGES else LEVEL

    @property
    def rare_classes(self) -> str:
        """The many rare classes that a precision is a mean over, in words; empty where there are none.

        No correction that was tried brings such intervals to 93% at every number of images (`bench/verdicts.py`): the precision of a
        class in few images is too high by more than any resample of these images shows.
        """
        known = self.class_images[self.class_images > 0]
        if self.is_difference or len(known) < MANY_CLASSES or np.median(known) >= RARE_IMAGES:
            return ""
        return f"half of its {len(known)} classes are in {np.median(known):.0f} images or fewer, and what so few say is too high"

    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom, from 1 to images - 1: those of a sum whose parts vary unequally."""
        known = self.class_images > 0
        variance = np.ma.masked_invalid(self.by_class[1:, known]).var(axis=0).filled(0)
        freedom, most = np.maximum(self.class_images[known] - 1, 1), max(self.images - 1, 1)
        if not variance.any():
            return most
        return float(np.clip(variance.sum() ** 2 / (variance**2 / freedom).sum(), 1, most))


@dataclass(frozen=True)
class Samples:
    """All figures of one set of detections, of the data set itself and of its resamples."""

    images: tuple[Any, ...]  # ids
    seed: int
    figures: Mapping[str, Figure]  # bbox_mAP, bbox_mAP_50, bbox_mAP_75, bbox_mAP_s, bbox_mAP_m, bbox_mAP_l
    per_class: Mapping[str, Figure]  # class name → its bbox_mAP

    def minus(self, other: Samples) -> Samples:
        """These figures less the other's, draw by draw. Raises ValueError unless both have the same truth and draws."""
        if self.images != other.images:
            different = set(self.images).symmetric_difference(other.images)
            raise ValueError(f"only figures on the same images can be paired, but of {len(self.images)} and "
                             f"{len(other.images)} images {len(different)} are in one only, such as {min(different)}")
        mine, its = _origin(self), _origin(other)
        if mine != its:
            what = ", ".join(f"{key} ({mine[key]} and {its[key]})" for key in mine if mine[key] != its[key])
            raise ValueError(f"only figures of the same truth and draws can be paired, but they differ in {what}")
        return Samples(
            self.images, self.seed, {name: figure.minus(other.figures[name]) for name, figure in self.figures.items()},
            {name: figure.minus(other.per_class[name]) for name, figure in self.per_class.items()},
        )


def never_seen_otherwise(images: int, level: float) -> float:
    """How far off a figure may be when every resample says the same, such as 0: the bootstrap sees no doubt, the rule of three does.

    What was not seen in n images may still be the case in as many as 3 / n of them (at 95%).
    """
    return float(1 - (1 - level) ** (1 / max(images, 1)))


def bootstrap(matches: Matches, resamples: int = RESAMPLES, seed: int = SEED) -> Samples:
    """Draw the images again and count the figures of each draw.

    The same images, number and seed give the same draws whatever the detections, so that `Samples.minus` is paired.
    Raises ValueError without an image, or for fewer than 2 resamples.
    """
    if resamples < 2 or not matches.images:
        raise ValueError("an interval needs an image and 2 resamples (1,000 are usual), but there are "
                         f"{len(matches.images)} images and {resamples} resamples")
    drawn = resample_weights(len(matches.images), resamples, seed)
    precision = average_precision(matches, np.concatenate([np.ones_like(drawn[:1]), drawn]))
    area_of = {f"bbox_mAP_{name}": name for name in matches.areas}
    figures = {}
    for name, by_class in figures_by_class(precision, matches).items():
        area = area_of.get(name, "all")
        images = matches.images_with(area)
        figures[name] = Figure(by_class, images[:-1], int(matches.count(area).sum()), int(images[-1]))
    whole, objects = figures["bbox_mAP"], matches.count("all")
    per_class = {
        name: Figure(whole.by_class[:, [c]], whole.class_images[[c]], int(objects[c]), int(whole.class_images[c]))
        for c, name in enumerate(matches.classes)
    }
    return Samples(matches.images, seed, figures, per_class)


def figures_by_size(matches: Matches, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, dict[str, Figure]]:
    """Metric → size → its figure and resamples: `AP` is the mean over the IoUs of `matches`, `AP50` that of the first IoU.

    The sizes are the areas of `matches`. The same images, number and seed give the same draws, as in `bootstrap`.
    """
    drawn = resample_weights(len(matches.images), resamples, seed)
    precision = average_precision(matches, np.concatenate([np.ones_like(drawn[:1]), drawn]))  # [draws, IoUs, areas, classes]
    figures: dict[str, dict[str, Figure]] = {"AP": {}, "AP50": {}}
    for number, size in enumerate(matches.areas):
        images, objects = matches.images_with(size), int(matches.count(size).sum())
        for metric, by_class in (("AP", precision[:, :, number].mean(axis=1)), ("AP50", precision[:, 0, number])):
            figures[metric][size] = Figure(by_class.copy(), images[:-1], objects, int(images[-1]))
    return figures


def _origin(samples: Samples) -> dict[str, Any]:
    """What must agree for two to be paired, in words that name a difference."""
    return {
        "seed": samples.seed,
        "resamples": len(samples.figures["bbox_mAP"].by_class) - 1,
        "figures": ", ".join([*samples.figures, *samples.per_class]),
        "objects of each": ", ".join(str(f.objects) for f in [*samples.figures.values(), *samples.per_class.values()]),
    }
