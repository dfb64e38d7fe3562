"""The trace: every truth followed through the detector, up to the first stage that loses it.

An object that COCO does not count as found is lost by the first of these that leaves nothing for it: candidates that
stand on it → candidates that give it its class → boxes that fit → detections that are reported and are its own.
One that is found is lost by the ranking when no cut at any score shows it among detections of which half are true.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from workbook.diagnosis.families.seen import Look
from workbook.diagnosis.matching import Matching, Standing
from workbook.diagnosis.oracle import Pool, Truths, overlaps
from workbook.diagnosis.stages import DETECTED, LEAST_PRECISION, Stages

GONE = np.iinfo(int).max  # the place of an answer that does not survive
LIMIT, NEIGHBOUR = "100 of a class", "a neighbour"

COLUMNS: dict[str, str] = {
    "annotation_id": "the truth's id in the annotation file",
    "image_id": "its image's id",
    "file_name": "its image's file",
    "class": "its class",
    "size": "small, medium or large: COCO's, by annotation area (a border counts as the smaller here)",
    "area": "its annotation area, pixels² of the original image",
    "bbox": "its box: x, y, width, height in pixels of the original image",
    "stage": "the first stage that loses it; detected when none does",
    "detected": "COCO counts it as found (at the trace's IoU, all areas, 100 detections of a class in an image)",
    "candidate_iou": "IoU of the best proposal, or of the best point's or query's box; before the cut where it was cut",
    "candidate_rank": "place of that candidate by score, from 1; empty when it was cut",
    "first_rank": "place by score, from 1, of the first candidate whose box reaches the trace's IoU; empty when none does",
    "candidate_cut": "what cut the last candidate on it, e.g. pre-NMS top-k or RPN NMS; empty when one is left",
    "candidates_on": "how many candidates stand on it",
    "named_class": "what the best of them takes it for: its highest class, or background",
    "named_score": "and with what score, 0 to 1",
    "class_score": "the highest score that any of them gives to its own class",
    "box_iou": "the best IoU after regression, among the boxes of its own class",
    "lost_to": "what took its best fitting answer: score threshold, NMS, max_per_img, 100 of a class, a neighbour",
    "lost_to_annotation": "the truth that the detection which took it stands on, by annotation id",
    "lost_to_score": "score of that detection",
    "lost_to_iou": "IoU of that detection with the answer that it removed (NMS), or with this truth (a neighbour)",
    "score": "score of the detection that found it",
    "detection_iou": "IoU of the detection that found it",
    "false_above": "false detections of its class, over all images, that score higher than the one that found it",
    "precision": "the best share of true detections at any score cut that still shows it",
    "recovered_by": "the first replay, stages in order, after which COCO counts it as found; empty when it already is",
    "best_bbox": "the box that came nearest to being its detection: x, y, width, height, pixels of the original image",
}


def follow(look: Look, truths: Truths, classes: tuple[str, ...], iou: float) -> list[dict[str, Any]]:
    """What one image says of each of its truths, before COCO's matching. Keys that start with `_` are for `finish`."""
    pool = look.pool
    verdict = pool.verdict
    place = np.full(len(pool.label), GONE)  # of each answer among the survivors
    place[verdict.survivors] = np.arange(len(verdict.survivors))
    prior_fit = overlaps(pool.priors_xywh, truths.boxes_xywh)  # [candidates, truths]
    by_class = {label: np.flatnonzero(pool.label == label) for label in np.unique(truths.labels)}
    return [
        _follow_one(look, truths, truth, classes, iou, prior_fit[:, truth], place, by_class[truths.labels[truth]])
        for truth in range(len(truths.ids))
    ]


def _follow_one(
    look: Look, truths: Truths, truth: int, classes: tuple[str, ...], iou: float,
    prior_fit: np.ndarray, place: np.ndarray, answers: np.ndarray,
) -> dict[str, Any]:
    """answers: those of the truth's class."""
    pool = look.pool
    fit = overlaps(pool.boxes_xywh[answers], truths.boxes_xywh[[truth]])[:, 0]
    on = (pool.owner == truth) | (prior_fit >= iou)
    on[pool.candidate[answers[fit >= iou]]] = True
    standing_on = on[pool.candidate[answers]]
    answers, fit = answers[standing_on], fit[standing_on]
    named = look.named[answers]
    placed = answers[named & (fit >= iou)]
    if (pool.truth[placed] == truth).any():  # its own boxes; a neighbour's box that also fits is not the one it lost
        placed = placed[pool.truth[placed] == truth]
    reported = placed[place[placed] < pool.verdict.limit]
    candidates, reaching = np.flatnonzero(on), look.candidate_place[prior_fit >= iou]
    best = candidates[prior_fit[candidates].argmax()] if len(candidates) else None
    deepest = next((group for group in (reported, placed, answers[named]) if len(group)), None)
    seen: dict[str, Any] = {
        "candidate_iou": look.candidate_iou[truth],
        "candidate_rank": look.candidate_rank[truth],
        "first_rank": reaching.min() if len(reaching) else np.nan,
        "candidate_cut": "" if len(candidates) else look.candidate_cut[truth],
        "candidates_on": len(candidates),
        "class_score": pool.score[answers].max() if len(answers) else np.nan,
        "box_iou": (fit[named] if named.any() else fit).max() if len(answers) else np.nan,
        **(_first_answer(pool, best, classes) if best is not None else {"named_class": None, "named_score": np.nan}),
        "best_bbox": None if best is None else pool.priors_xywh[best].tolist(),
        "_named": int(named.sum()), "_placed": len(placed),
        "_reported": place[reported[place[reported].argmin()]] if len(reported) else -1,
    }
    if deepest is not None:
        seen["best_bbox"] = pool.boxes_xywh[deepest[pool.score[deepest].argmax()]].tolist()
    if len(placed) and not len(reported):
        seen |= _lost_to(pool, truths, placed[pool.score[placed].argmax()], place)
    return seen


def _first_answer(pool: Pool, candidate: int, classes: tuple[str, ...]) -> dict[str, Any]:
    """What this candidate takes its place for, background included."""
    mine = np.flatnonzero(pool.candidate == candidate)
    first = mine[pool.score[mine].argmax()]
    if pool.background[candidate] > pool.score[first]:
        return {"named_class": "background", "named_score": float(pool.background[candidate])}
    return {"named_class": classes[pool.label[first]], "named_score": float(pool.score[first])}


def _lost_to(pool: Pool, truths: Truths, answer: int, place: np.ndarray) -> dict[str, Any]:
    """Why suppression does not report this answer."""
    verdict = pool.verdict
    if not verdict.eligible[answer]:
        return {"lost_to": "score threshold"}
    if place[answer] < GONE:
        return {"lost_to": "max_per_img"}
    rivals = verdict.survivors[pool.label[verdict.survivors] == pool.label[answer]]
    rivals = rivals[pool.score[rivals] >= pool.score[answer]]
    fit = overlaps(pool.boxes_xywh[rivals], pool.boxes_xywh[[answer]])[:, 0]
    if not len(rivals):  # soft NMS can lower a score below its own minimum
        return {"lost_to": "NMS"}
    rival = rivals[fit.argmax()]
    owner = pool.truth[rival]
    return {
        "lost_to": "NMS", "lost_to_score": float(pool.score[rival]), "lost_to_iou": float(fit.max()),
        "lost_to_annotation": truths.ids[owner] if owner >= 0 else None,
    }


def finish(
    rows: list[dict[str, Any]], truth: dict[str, Any], detections: list[dict[str, Any]], matching: Matching,
    stand: Standing, stages: Stages,
) -> pd.DataFrame:
    """The trace: the rows of `follow` joined with COCO's matching, columns as in COLUMNS without `recovered_by`.

    rows: each with `_row`, the truth's place in the annotations, and `_first`, that of its image's first detection.
    """
    for row in rows:
        annotation = truth["annotations"][row["_row"]]
        by = matching.taken_by[row["_row"]]
        row["detected"] = bool(by >= 0)
        if by >= 0:
            fit = overlaps(np.array([detections[by]["bbox"]]), np.array([annotation["bbox"]]))[0, 0]
            row |= {"score": detections[by]["score"], "detection_iou": fit, "false_above": stand.false_above[by],
                    "precision": stand.precision[by], "best_bbox": detections[by]["bbox"],
                    "lost_to": None, "lost_to_score": np.nan, "lost_to_iou": np.nan, "lost_to_annotation": None}
        elif row["_reported"] >= 0:
            row |= _taken(truth, detections, matching, row["_first"] + row["_reported"], annotation)
        row["stage"] = _stage(row, stages)
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "recovered_by"])
    return table.astype({"lost_to_annotation": "Int64", "false_above": "Int64"})


def _taken(
    truth: dict[str, Any], detections: list[dict[str, Any]], matching: Matching, row: int, annotation: dict[str, Any]
) -> dict[str, Any]:
    """It has a fitting detection, which COCO gave to another truth or did not count."""
    taken, detection = matching.taken_truth[row], detections[row]
    fit = overlaps(np.array([detection["bbox"]]), np.array([annotation["bbox"]]))[0, 0]
    return {
        "lost_to": NEIGHBOUR if taken >= 0 else LIMIT,
        "lost_to_annotation": truth["annotations"][taken]["id"] if taken >= 0 else None,
        "lost_to_score": detection["score"], "lost_to_iou": fit,
    }


def _stage(row: Mapping[str, Any], stages: Stages) -> str:
    if row["detected"]:
        return DETECTED if row["precision"] >= LEAST_PRECISION else stages[4].name
    passed = (row["candidates_on"], row["_named"], row["_placed"])
    return next((stage.name for stage, left in zip(stages, passed, strict=False) if not left), stages[3].name)
