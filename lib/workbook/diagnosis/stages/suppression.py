"""The stage that chooses what is reported: threshold, NMS, limit of detections."""

from __future__ import annotations

from typing import Any

import pandas as pd

from workbook.diagnosis.oracle import oracle_suppression
from workbook.diagnosis.stage import Reasons, SortKey, Stage
from workbook.diagnosis.stages.not_counted import LIMIT

NEIGHBOUR = "a neighbour"  # trace's lost_to
LOST_TO = {  # trace's lost_to → in words
    "NMS": "to NMS", "score threshold": "to the score threshold", "max_per_img": "to the limit of detections",
    LIMIT: "behind 100 detections of its class, which is all that COCO counts in an image",
    NEIGHBOUR: "to a neighbour, for which its detection is counted",
}


def _not_reported(trace: pd.DataFrame) -> pd.Series:
    return ~trace["found"]


def _lost_to(objects: pd.DataFrame, diagnosis: Any) -> Reasons:
    return {LOST_TO.get(str(by), f"to {by}"): int(count) for by, count in objects["lost_to"].value_counts().items()}


SUPPRESSION = Stage(
    name="suppression",
    question="Is its good box among those reported, and not counted for a neighbour?",
    color="#E69F00",
    hatch="\\\\\\",
    order=40,
    loses=_not_reported,
    sort_key=SortKey("box_iou", highest_first=False, words="the worst box first"),
    caption=lambda row: str(row["lost_to"] or ""),
    lost=("{n} is lost after a good box was found", "{n} are lost after a good box was found"),
    oracle=oracle_suppression,
    remedies_of={
        "two_stage": (
            "a higher NMS threshold or soft NMS where objects overlap: model.test_cfg.rcnn.nms",
            "a higher model.test_cfg.rcnn.max_per_img",
            "a lower score threshold: model.test_cfg.rcnn.score_thr",
        ),
        "dense": (
            "a higher NMS threshold or soft NMS where objects overlap: model.test_cfg.nms",
            "a higher model.test_cfg.max_per_img",
        ),
        "detections": (
            "where 100 of a class in an image are not enough: tiles, so that no image holds more, or another measure (maxDets)",
            "a higher NMS threshold or soft NMS where objects overlap, in the program that wrote the detections",
        ),
        "query": ("a higher model.test_cfg.max_per_img",),
    },
    reasons=_lost_to,
)
