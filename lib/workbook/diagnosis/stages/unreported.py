"""The first stage where only detections are at hand: all that happened before a box was reported."""

from __future__ import annotations

from workbook.diagnosis.oracle import oracle_candidates
from workbook.diagnosis.stage import Stage
from workbook.diagnosis.stages.proposals import FIRST_SORT, cut_or_iou, why_without, without_candidates

UNREPORTED = Stage(
    name="unreported",
    question="Does any reported box, of whatever class, fit the object?",
    color="#D55E00",
    hatch="///",
    order=10,
    families=("detections",),
    loses=without_candidates,
    sort_key=FIRST_SORT,
    caption=cut_or_iou,
    lost=("{n} has no reported box that fits", "{n} have no reported box that fits"),
    oracle=oracle_candidates,
    remedies=(
        "a diagnosis with the model, which says at which stage inside it they are lost: a work_dir of mmdet can be adopted, or a "
        "detector trained here",
        "detections written with a lower score threshold: what is below is not in the file",
        "larger images or tiles: the commonest remedy for small objects that nothing answers for",
    ),
    reasons=why_without,
)
