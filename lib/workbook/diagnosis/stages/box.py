"""The stage that places the box."""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbook.diagnosis.oracle import oracle_box
from workbook.diagnosis.stage import Reasons, SortKey, Stage


def _without_box(trace: pd.DataFrame) -> pd.Series:
    return ~trace["found"] & (trace["predictions_fitting"] == 0)


def _best_fit(objects: pd.DataFrame, diagnosis: Any) -> Reasons:
    return {f"their best boxes with a median IoU of {objects['box_iou'].median():.2f}": len(objects)}


BOX = Stage(
    name="box",
    question="Does the box fit well enough?",
    color="#CC79A7",
    hatch="xxx",
    order=30,
    loses=_without_box,
    sort_key=SortKey("box_iou", highest_first=False, words="the worst box first"),
    caption=lambda row: f"IoU {row['box_iou']:.2f}",
    lost=("{n} gets no box that fits (IoU {iou:g})", "{n} get no box that fits (IoU {iou:g})"),
    oracle=oracle_box,
    remedies=(
        "larger images: one pixel is a large part of a small box",
        "check that the boxes are drawn tightly and alike",
        "a detector that refines its boxes (cascade_rcnn, vfnet), or an IoU loss",
    ),
    reasons=_best_fit,
)
