"""The first stage of a detector with proposals: the region proposal network."""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbook.diagnosis.oracle import oracle_candidates
from workbook.diagnosis.stage import Reasons, SortKey, Stage


def without_candidates(trace: pd.DataFrame) -> pd.Series:
    """The objects on which no candidate is left."""
    return ~trace["found"] & (trace["candidates_on"] == 0)


def why_without(objects: pd.DataFrame, diagnosis: Any) -> Reasons:
    """First what the detector could not learn, then what cut the last candidate."""
    words = diagnosis.family.cut_words
    unreachable = diagnosis.is_unreachable(objects)
    reasons = {f"because no anchor reaches IoU {diagnosis.anchor_iou or 0:g}": int(unreachable.sum())}
    for cut, count in objects.loc[~unreachable, "candidate_cut"].value_counts().items():
        reasons[words.get(str(cut), f"cut by {cut}")] = int(count)
    return reasons


def cut_or_iou(row: pd.Series) -> str:
    """What cut the last candidate, or how near the best one came."""
    return str(row["candidate_cut"] or format(row["candidate_iou"], ".2f"))


FIRST_SORT = SortKey("candidate_iou", highest_first=False, words="the worst best candidate first")

PROPOSALS = Stage(
    name="proposals",
    question="Does the region proposal network put a box on the object?",
    color="#D55E00",
    hatch="///",
    order=10,
    families=("two_stage",),
    loses=without_candidates,
    sort_key=FIRST_SORT,
    caption=cut_or_iou,
    lost=("{n} was never proposed", "{n} were never proposed"),
    oracle=oracle_candidates,
    remedies=(
        "smaller anchors: model.rpn_head.anchor_generator.scales=[4], or the ratios of your objects",
        "larger images or tiles, so that the object covers more cells",
        "more proposals: model.test_cfg.rpn.nms_pre and max_per_img, a higher model.test_cfg.rpn.nms.iou_threshold",
    ),
    reasons=why_without,
)
