"""Where the difference of a claim comes from: which stage of the detector costs one side more than the other.

A stage's cost is its Shapley value (`diagnosis/waterfall.py`), in the AP of the size that the claim is about, the mean over the seeds of
each side. The difference has the interval of every other difference: images drawn alike for both sides, seeds drawn for each. All stages
of all claims are one family of Holm's procedure, with an error of 1%: what the verdicts leave of the 5% of a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbook.diagnosis.store import SavedDiagnosis
from workbook.diagnosis.waterfall import cost_column
from workbook.evaluation.bootstrap import FEWEST_IMAGES, Figure
from workbook.evaluation.comparison import FEWEST_SEEDS
from workbook.evaluation.contrast import Contrast, contrast, holm_levels
from workbook.studies.verdicts import Question, terms_of

ERROR = 0.01


@dataclass(frozen=True)
class Cause:
    """How much more a stage costs the left side of a claim than the right: AP that is missing because of it, -1 to 1."""

    claim: str
    stage: str
    metric: str  # AP (IoU .50 to .95) or AP50
    size: str
    value: float
    low: float | None  # None where too few images hold such objects
    high: float | None
    seeds: int

    @property
    def differs(self) -> bool:
        """Whether the cost of this stage is another in the two settings, not in these trainings alone."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high and self.seeds >= FEWEST_SEEDS

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def causes(questions: Sequence[Question], diagnoses: Mapping[str, SavedDiagnosis]) -> list[Cause]:
    """The stages that both sides of a claim have, for every claim whose runs are all diagnosed; corrected for all of them together.

    diagnoses: by the name of the run.
    """
    found = [(question, stage, _difference(question, stage, diagnoses)) for question in questions for stage in _stages(question, diagnoses)]
    tested = [number for number, (_, _, difference) in enumerate(found) if difference.images >= FEWEST_IMAGES]
    p_values = [2 * min(found[number][2].p_above(0), found[number][2].p_below(0)) for number in tested]
    levels = dict(zip(tested, holm_levels(p_values, ERROR), strict=True))
    return [_cause(*one, levels.get(number)) for number, one in enumerate(found)]


def metric_of(figure: str) -> str:
    """The metric of the waterfall that is nearest to a claim's figure."""
    return "AP50" if figure == "bbox_mAP_50" else "AP"


def _stages(question: Question, diagnoses: Mapping[str, SavedDiagnosis]) -> list[str]:
    """The stages that every run of a claim has and that cost something; none of a confounded claim, or where a diagnosis is missing."""
    names = [run.name for pair in question.pairs for setting in pair for run in setting.runs]
    if question.found is None or question.confounds or any(name not in diagnoses for name in names):
        return []
    if len({len(diagnoses[name].waterfall.draws) for name in names}) > 1:
        return []
    stages = [stage for stage in diagnoses[names[0]].stage_names if all(stage in diagnoses[name].stage_names for name in names)]
    return [stage for stage in stages if any(_draws(question, stage, diagnoses[name]).any() for name in names)]


def _draws(question: Question, stage: str, diagnosis: SavedDiagnosis) -> np.ndarray:
    """[1 + resamples] the cost of a stage in the size of the claim."""
    claim = question.claim
    return diagnosis.waterfall.draws[cost_column(metric_of(claim.figure), claim.size, stage)].to_numpy(float)


def _difference(question: Question, stage: str, diagnoses: Mapping[str, SavedDiagnosis]) -> Contrast:
    assert question.found is not None
    images = question.found.images
    objects = question.found.objects
    figures = {
        run.name: Figure(_draws(question, stage, diagnoses[run.name])[:, None], np.array([images]), objects, images, is_difference=True)
        for pair in question.pairs for setting in pair for run in setting.runs
    }
    return contrast(terms_of(question.pairs, figures))


def _cause(question: Question, stage: str, difference: Contrast, level: float | None) -> Cause:
    claim = question.claim
    low: float | None = None
    high: float | None = None
    if level is not None:
        low, high = difference.interval(level)
    return Cause(claim.text, stage, metric_of(claim.figure), claim.size, difference.value, low, high, difference.seeds)
