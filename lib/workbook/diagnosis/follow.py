"""One image's objects followed through the inside of the detector, before COCO's matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbook.diagnosis.family import ImageProbe
from workbook.diagnosis.oracle import Candidates, ImageObjects
from workbook.evaluation.boxes import iou_table

REMOVED = np.iinfo(int).max  # the rank of a prediction that does not survive


@dataclass(frozen=True)
class ObjectTrace:
    """What the inside of the detector says of one object, before COCO's matching; see trace.COLUMNS.

    reported: the rank, among the detections of its image, of the first that fits it; -1 for none.
    """

    candidate_iou: float
    candidate_rank: float
    first_rank: float
    candidate_cut: str
    candidates_on: int
    predictions_of_class: int
    predictions_fitting: int
    named_class: str | None
    named_score: float
    class_score: float
    box_iou: float
    best_bbox: list[float] | None
    reported: int
    lost_to: str | None = None
    lost_to_annotation: int | None = None
    lost_to_score: float = np.nan
    lost_to_iou: float = np.nan


def follow(probe: ImageProbe, objects: ImageObjects, classes: Sequence[str], iou: float) -> list[ObjectTrace]:
    """What one image says of each of its objects. classes: names by label. iou: from here on a box fits."""
    candidates = probe.candidates
    rank = np.full(len(candidates.label), REMOVED)  # of each prediction among the survivors
    rank[candidates.suppressed.survivors] = np.arange(len(candidates.suppressed.survivors))
    prior_fit = iou_table(candidates.priors_xywh, objects.boxes_xywh)  # [candidates, objects]
    rows_of = {label: np.flatnonzero(candidates.label == label) for label in np.unique(objects.labels)}
    return [
        _follow_one(probe, objects, number, classes, iou, prior_fit[:, number], rank, rows_of[objects.labels[number]])
        for number in range(len(objects))
    ]


def _follow_one(
    probe: ImageProbe, objects: ImageObjects, number: int, classes: Sequence[str], iou: float,
    prior_fit: np.ndarray, rank: np.ndarray, of_class: np.ndarray,
) -> ObjectTrace:
    """of_class: the predictions of the object's class. rank: of every prediction among the survivors."""
    candidates = probe.candidates
    fit = iou_table(candidates.boxes_xywh[of_class], objects.boxes_xywh[[number]])[:, 0]
    on = (candidates.gt_index == number) | (prior_fit >= iou)
    on[candidates.candidate[of_class[fit >= iou]]] = True
    of_those_on = on[candidates.candidate[of_class]]
    own, fit = of_class[of_those_on], fit[of_those_on]
    named = candidates.named[own]
    fitting = own[named & (fit >= iou)]
    if (candidates.object_of[fitting] == number).any():  # its own boxes; a neighbour's that also fits is not the one it lost
        fitting = fitting[candidates.object_of[fitting] == number]
    reported = fitting[rank[fitting] < candidates.suppressed.limit]
    indices = np.flatnonzero(on)
    reaching = probe.rank[prior_fit >= iou]
    best = int(indices[prior_fit[indices].argmax()]) if len(indices) else None
    named_class, named_score = _first_class(candidates, best, classes)
    lost = _lost_to(candidates, objects, fitting, rank) if len(fitting) and not len(reported) else {}
    return ObjectTrace(
        candidate_iou=float(probe.candidate_iou[number]),
        candidate_rank=float(probe.candidate_rank[number]),
        first_rank=float(reaching.min()) if len(reaching) else np.nan,
        candidate_cut="" if len(indices) else str(probe.candidate_cut[number]),
        candidates_on=len(indices),
        predictions_of_class=int(named.sum()),
        predictions_fitting=len(fitting),
        named_class=named_class,
        named_score=named_score,
        class_score=float(candidates.score[own].max()) if len(own) else np.nan,
        box_iou=float((fit[named] if named.any() else fit).max()) if len(own) else np.nan,
        best_bbox=_nearest_box(candidates, best, (reported, fitting, own[named])),
        reported=int(rank[reported].min()) if len(reported) else -1,
        **lost,
    )


def _nearest_box(candidates: Candidates, best: int | None, groups: Sequence[np.ndarray]) -> list[float] | None:
    """The surest box of the first group that has any (those that came furthest), else that of the best candidate."""
    for rows in groups:
        if len(rows):
            box: list[float] = candidates.boxes_xywh[rows[candidates.score[rows].argmax()]].tolist()
            return box
    return None if best is None else candidates.priors_xywh[best].tolist()


def _first_class(candidates: Candidates, best: int | None, classes: Sequence[str]) -> tuple[str | None, float]:
    """What this candidate takes its object for, background included, and with what score."""
    if best is None:
        return None, np.nan
    mine = np.flatnonzero(candidates.candidate == best)
    background = float(candidates.background[best])
    if not len(mine):
        return "background", background
    first = mine[candidates.score[mine].argmax()]
    if background > candidates.score[first]:
        return "background", background
    return classes[candidates.label[first]], float(candidates.score[first])


def _lost_to(candidates: Candidates, objects: ImageObjects, fitting: np.ndarray, rank: np.ndarray) -> dict[str, Any]:
    """Why suppression does not report the surest of these predictions."""
    surest = fitting[candidates.score[fitting].argmax()]
    suppressed = candidates.suppressed
    if not suppressed.eligible[surest]:
        return {"lost_to": "score threshold"}
    if rank[surest] < REMOVED:
        return {"lost_to": "max_per_img"}
    rivals = suppressed.survivors[candidates.label[suppressed.survivors] == candidates.label[surest]]
    rivals = rivals[candidates.score[rivals] >= candidates.score[surest]]
    if not len(rivals):  # soft NMS can lower a score below its own minimum
        return {"lost_to": "NMS"}
    fit = iou_table(candidates.boxes_xywh[rivals], candidates.boxes_xywh[[surest]])[:, 0]
    rival = rivals[fit.argmax()]
    number = candidates.object_of[rival]
    return {
        "lost_to": "NMS", "lost_to_score": float(candidates.score[rival]), "lost_to_iou": float(fit.max()),
        "lost_to_annotation": int(objects.ids[number]) if number >= 0 else None,
    }
