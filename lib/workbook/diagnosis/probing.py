"""How candidates are measured against objects, and mmcv's NMS on them: what every family's probe needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmcv.ops import batched_nms
from torch import Tensor

from workbook.diagnosis.oracle import FITS, NEAR, Candidates, ImageObjects, Suppressed
from workbook.evaluation.boxes import iou_table, to_xyxy


@dataclass(frozen=True)
class Survey:
    """How near a set of boxes comes to each object."""

    best: np.ndarray  # [objects] the highest IoU
    which: np.ndarray  # [objects] the box that has it; without any overlap the one whose center is nearest
    near: np.ndarray  # [objects] bool: some box reaches IoU .5, or is about this object more than about any other


def survey(boxes_xywh: np.ndarray, objects: ImageObjects, at_once: int = 50_000) -> Survey:
    """Measure the boxes [n, 4] against the objects, some at a time: there may be 200,000 anchors and hundreds of objects."""
    count = len(objects)
    best, which, near = np.zeros(count), np.zeros(count, int), np.zeros(count, bool)
    for start in range(0, len(boxes_xywh) if count else 0, at_once):
        fit = iou_table(boxes_xywh[start : start + at_once], objects.boxes_xywh)
        near |= (fit >= FITS).any(axis=0) | np.isin(np.arange(count), best_object(fit, NEAR))
        highest = fit.max(axis=0)
        better = highest > best
        which = np.where(better, fit.argmax(axis=0) + start, which)
        best = np.where(better, highest, best)
    for number in np.flatnonzero(best == 0) if len(boxes_xywh) else ():
        centers = boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2
        center = objects.boxes_xywh[number, :2] + objects.boxes_xywh[number, 2:] / 2
        which[number] = np.square(centers - center).sum(axis=1).argmin()
    return Survey(best, which, near)


def best_object(fit: np.ndarray, least: float) -> np.ndarray:
    """[candidates] the object with the best fit, -1 when it is below `least`. fit: IoU [candidates, objects]."""
    if not fit.shape[1]:
        return np.full(len(fit), -1)
    return np.where(fit.max(axis=1) >= least, fit.argmax(axis=1), -1)


def first_cut(names: list[str], reached: list[np.ndarray]) -> np.ndarray:
    """[objects] the name of the first cut after which the object is no longer reached, "" when it is to the end."""
    cut = np.full(len(reached[0]), "", dtype=object)
    for name, still in reversed(list(zip(names, reached, strict=True))):
        cut = np.where(still, cut, name)
    return cut


def nms(candidates: Candidates, eligible: np.ndarray, config: Any, limit: int, device: torch.device) -> Suppressed:
    """mmcv's NMS by class on the eligible predictions, as multiclass_nms and BaseDenseHead call it (mmdet 2.28)."""
    asked = np.flatnonzero(eligible)
    if not len(asked):
        return Suppressed(eligible, asked, candidates.score[asked], limit)
    boxes_xyxy = torch.as_tensor(to_xyxy(candidates.boxes_xywh[asked]), dtype=torch.float32, device=device)
    scores = torch.as_tensor(candidates.score[asked], device=device)
    labels = torch.as_tensor(candidates.label[asked], device=device)
    detections, left = batched_nms(boxes_xyxy, scores, labels, config)
    return Suppressed(eligible, asked[to_numpy(left)], to_numpy(detections[:, -1]), limit)


def ranks(candidates: Candidates) -> np.ndarray:
    """[candidates] the rank of each by its highest score, from 1."""
    rank = np.empty(len(candidates.gt_index))
    rank[np.argsort(-candidates.highest, kind="stable")] = np.arange(1.0, len(rank) + 1)
    return rank


def to_numpy(values: Tensor) -> np.ndarray:
    """The same numbers on the CPU."""
    return values.detach().cpu().numpy()
