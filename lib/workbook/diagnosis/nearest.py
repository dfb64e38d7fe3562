"""The candidates that a perfect first stage would add where there are no proposals: the nearest point or query."""

from __future__ import annotations

import numpy as np

from workbook.diagnosis.oracle import NEAR, Candidates, ImageObjects
from workbook.diagnosis.probing import Survey


def nearest_candidates(
    candidates: Candidates, objects: ImageObjects, boxes_xywh: np.ndarray, top_label: np.ndarray, top_score: np.ndarray,
    named: np.ndarray, found: Survey,
) -> Candidates:
    """For each object without a candidate the nearest point or query: its first class and, when it is near, its box.

    boxes_xywh, top_label, top_score, named (bool: whether it says that class): of every point or query. found: their survey.
    """
    missing = np.setdiff1d(np.arange(len(objects)), candidates.gt_index)
    source = found.which[missing]
    is_near = found.best[missing] >= NEAR
    boxes = np.where(is_near[:, None], boxes_xywh[source], objects.boxes_xywh[missing])
    score = top_score[source].astype(np.float32)
    return Candidates(
        np.arange(len(missing)), top_label[source], score, boxes, named[source], boxes, 1 - score, missing, candidates.suppress
    )


def candidates_found(rank: np.ndarray, left: Survey, every: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Per object: IoU of the best candidate (of any box, where no candidate is left), and its rank by score, from 1.

    rank: [candidates]. left, every: the survey of the candidates, and of all points or queries.
    """
    known = rank if len(rank) else np.ones(1)
    return np.where(left.near, left.best, every.best), np.where(left.near, known[left.which], np.nan)
