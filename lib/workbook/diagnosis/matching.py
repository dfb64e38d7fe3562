"""Which detection takes which truth: COCO's matching at one IoU, all areas, 100 detections of a class in an image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from workbook.evaluation.coco_metrics import MAX_DETECTIONS, only_boxes

# Excused: inside a crowd. Uncounted: beyond the 100 of its class and image.
TRUE, FALSE, EXCUSED, UNCOUNTED = 1, 0, -1, -2


@dataclass(frozen=True)
class Matching:
    """The outcome for every detection and every truth, in the order in which they were given."""

    outcome: np.ndarray  # [detections] TRUE, FALSE, EXCUSED or UNCOUNTED
    taken_truth: np.ndarray  # [detections] place of the truth in the annotations, -1 for none
    taken_by: np.ndarray  # [truths] place of the detection, -1 for none


def match(truth: dict[str, Any], detections: Sequence[dict[str, Any]], iou: float) -> Matching:
    """pycocotools' matching (its code runs). truth: a COCO dict; detections: COCO results."""
    outcome = np.full(len(detections), UNCOUNTED)
    taken_truth, taken_by = np.full(len(detections), -1), np.full(len(truth["annotations"]), -1)
    for image in _evaluated(truth, detections, iou) if detections else ():
        rows = np.array(image["dtIds"], int) - 1
        taken = np.array(image["dtMatches"][0], int) - 1  # 0, no match, becomes -1
        outcome[rows] = np.where(image["dtIgnore"][0], EXCUSED, np.where(taken >= 0, TRUE, FALSE))
        taken_truth[rows] = np.where(outcome[rows] == TRUE, taken, -1)
    found = np.flatnonzero(outcome == TRUE)
    taken_by[taken_truth[found]] = found
    return Matching(outcome, taken_truth, taken_by)


def _evaluated(truth: dict[str, Any], detections: Sequence[dict[str, Any]], iou: float) -> list[dict[str, Any]]:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        gt = COCO()
        gt.dataset = only_boxes(truth)  # numbered from 1: to pycocotools the id 0 means no match
        gt.createIndex()
        engine = COCOeval(gt, gt.loadRes([dict(d) for d in detections]), "bbox")
        engine.params.iouThrs = np.array([iou])
        engine.params.areaRng, engine.params.areaRngLbl = [[0, 1e10]], ["all"]
        engine.params.maxDets = [MAX_DETECTIONS]
        engine.evaluate()
    return [image for image in engine.evalImgs if image is not None]


@dataclass(frozen=True)
class Standing:
    """How the detections of a class stand against each other, all images together, by falling score."""

    false_above: np.ndarray  # [detections] false ones of its class that score higher
    precision: np.ndarray  # [detections] the best precision of any score cut that still lets it in (COCO's envelope)


def standing(detections: Sequence[dict[str, Any]], matching: Matching) -> Standing:
    """Counts as COCO does: by class, equal scores in the order of the images, without the excused and the uncounted."""
    false_above, precision = np.zeros(len(detections), int), np.zeros(len(detections))
    category = np.array([d["category_id"] for d in detections])
    image = np.array([d["image_id"] for d in detections])
    score = np.array([d["score"] for d in detections])
    counted = matching.outcome >= FALSE
    for label in np.unique(category):
        rows = np.flatnonzero((category == label) & counted)
        rows = rows[np.lexsort((image[rows], -score[rows]))]
        true = np.cumsum(matching.outcome[rows] == TRUE)
        false_above[rows] = np.arange(1, len(rows) + 1) - true
        precision[rows] = np.maximum.accumulate((true / np.arange(1, len(rows) + 1))[::-1])[::-1]
    return Standing(false_above, precision)
