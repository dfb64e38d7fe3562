"""The proof's figures: what the winner scores above the baseline, and above the control, on val."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from workbook.evaluation.bootstrap import Samples
from workbook.evaluation.comparison import Difference, compare
from workbook.evaluation.matching import Matches
from workbook.evaluation.sizes import ALL, FIGURE_OF
from workbook.proofs.gains import figure_values
from workbook.proofs.store import SizeProof

BEFORE, AFTER = "before", "after"


def prove(
    before: Sequence[Samples], after: Sequence[Samples], promised: Mapping[str, float | None], same_weights: bool = False
) -> dict[str, SizeProof]:
    """Every size: AP before and after, and the interval of the difference over seeds and images, corrected for the sizes.

    before, after: a sample a seed, in the same order, on the same images. same_weights: each seed's is one training, measured
    twice. The test is that of the comparison (`evaluation.comparison`): with fewer than three seeds nothing is claimed.
    """
    found = compare({BEFORE: before, AFTER: after}, tuple(FIGURE_OF.values()), paired=same_weights)
    by_figure = {difference.figure: difference for difference in found}
    return {
        size: _size(before, after, figure, by_figure.get(figure), promised.get(size)) for size, figure in FIGURE_OF.items()
    }


def _size(
    before: Sequence[Samples], after: Sequence[Samples], figure: str, difference: Difference | None, promised: float | None
) -> SizeProof:
    if difference is None:
        return SizeProof(None, None, None, None, None, promised)
    mean_before = float(figure_values(before, figure).mean())
    mean_after = float(figure_values(after, figure).mean())
    low, high = difference.low, difference.high
    if low is not None and high is not None and difference.higher == BEFORE:
        low, high = -high, -low
    return SizeProof(mean_before, mean_after, mean_after - mean_before, low, high, promised)


def objects_by_size(matches: Matches) -> dict[str, int]:
    """Size → how many objects the images have of it, as COCO counts them."""
    return {size: int(matches.count(_area(size)).sum()) for size in FIGURE_OF}


def recall(trainings: Sequence[Matches]) -> dict[str, float | None]:
    """Size → the share of its objects that COCO counts as found at the first IoU (.50), mean over the trainings."""
    return {size: _recall(trainings, _area(size)) for size in FIGURE_OF}


def _area(size: str) -> str:
    """How the matches name a size."""
    return ALL if size == ALL else size[0]


def _recall(trainings: Sequence[Matches], area: str) -> float | None:
    objects = int(trainings[0].count(area).sum())
    if not objects:
        return None
    place = list(trainings[0].areas).index(area)
    return float(np.mean([matches.hit[:, 0, place].sum() / objects for matches in trainings]))
