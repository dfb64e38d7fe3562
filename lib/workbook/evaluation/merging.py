"""Detections of several views of one image put together: what another view has found again is removed."""

from __future__ import annotations

import numpy as np

from workbook.evaluation.boxes import iou_table
from workbook.evaluation.coco_metrics import MAX_DETECTIONS


def merge(
    boxes_xywh: np.ndarray, scores: np.ndarray, labels: np.ndarray, views: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Non-maximum suppression by class between views, and COCO's limit of a class in an image.

    boxes_xywh [n, 4], scores [n], labels [n]: the detections of all views, in pixels of the image. views [n]: which
    view gave it. A detection is removed when one of its class, of another view and with a higher score (at equal
    scores: earlier in the order) overlaps it by more than `iou`. Within a view the detector's own suppression has
    spoken: where that is NMS at the same IoU, this is NMS over all.

    Returns the indices of the detections that are left, the best first: those within the limit, and those beyond it.
    """
    within = [np.zeros(0, int)]
    beyond = [np.zeros(0, int)]
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        left = rows[_left(boxes_xywh[rows], views[rows], iou)]
        within.append(left[:MAX_DETECTIONS])
        beyond.append(left[MAX_DETECTIONS:])
    return _best_first(within, scores), _best_first(beyond, scores)


def _left(boxes_xywh: np.ndarray, views: np.ndarray, iou: float) -> np.ndarray:
    """[n] bool: no better one of another view overlaps it too much. The boxes are of one class, the best first."""
    left = np.ones(len(boxes_xywh), bool)
    overlaps = (iou_table(boxes_xywh, boxes_xywh) > iou) & (views[:, None] != views[None])
    for number in range(len(boxes_xywh)):
        if left[number]:
            left[number + 1 :] &= ~overlaps[number, number + 1 :]
    return left


def _best_first(parts: list[np.ndarray], scores: np.ndarray) -> np.ndarray:
    rows = np.sort(np.concatenate(parts))
    return rows[np.argsort(-scores[rows], kind="stable")]
