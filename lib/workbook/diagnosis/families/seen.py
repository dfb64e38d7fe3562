"""What is seen inside a detector: the record of one image, and how it is measured against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmcv.ops import batched_nms
from torch import Tensor

from workbook.diagnosis.oracle import NEAR, Pool, Truths, Verdict, overlaps


@dataclass(frozen=True)
class Look:
    """One image inside the detector. The three `candidate_` arrays say, per truth, how far the first stage got."""

    pool: Pool
    spare: Pool
    named: np.ndarray  # [answers] bool: the candidate stands by this class: over the threshold, or its first answer
    candidate_iou: np.ndarray  # [truths] the best candidate, when there is none on the truth: before it was cut
    candidate_rank: np.ndarray  # [truths] its place among the candidates by score, from 1; NaN when cut
    candidate_cut: np.ndarray  # [truths] what cut the last candidate on the truth, "" when one is left
    candidate_place: np.ndarray  # [candidates] the place of each by score, from 1


def nms(pool: Pool, eligible: np.ndarray, config: Any, limit: int, device: torch.device) -> Verdict:
    """mmcv's NMS by class, on the eligible answers, as multiclass_nms and BaseDenseHead call it."""
    asked = np.flatnonzero(eligible)
    if not len(asked):
        return Verdict(eligible, asked, pool.score[asked], limit)
    boxes_xyxy = torch.as_tensor(to_xyxy(pool.boxes_xywh[asked]), dtype=torch.float32, device=device)
    scores, labels = (torch.as_tensor(values[asked], device=device) for values in (pool.score, pool.label))
    dets, keep = batched_nms(boxes_xyxy, scores, labels, config)
    return Verdict(eligible, asked[to_numpy(keep)], to_numpy(dets[:, -1]), limit)


@dataclass(frozen=True)
class Survey:
    """How near a set of boxes comes to each truth."""

    best: np.ndarray  # [truths] the highest IoU
    which: np.ndarray  # [truths] the box that has it; without any overlap the one whose center is nearest
    near: np.ndarray  # [truths] bool: some box reaches `iou`, or is about this truth more than about any other


def survey(boxes_xywh: np.ndarray, truths: Truths, iou: float, at_once: int = 50_000) -> Survey:
    """Measure the boxes against the truths, some at a time: there may be 200,000 anchors and hundreds of truths."""
    count = len(truths.ids)
    best, which, near = np.zeros(count), np.zeros(count, int), np.zeros(count, bool)
    for start in range(0, len(boxes_xywh) if count else 0, at_once):
        fit = overlaps(boxes_xywh[start : start + at_once], truths.boxes_xywh)
        near |= (fit >= iou).any(axis=0) | np.isin(np.arange(count), owners(fit, NEAR))
        better = fit.max(axis=0) > best
        best, which = np.where(better, fit.max(axis=0), best), np.where(better, fit.argmax(axis=0) + start, which)
    for truth in np.flatnonzero(best == 0) if len(boxes_xywh) else ():
        centers = boxes_xywh[:, :2] + boxes_xywh[:, 2:] / 2
        center = truths.boxes_xywh[truth, :2] + truths.boxes_xywh[truth, 2:] / 2
        which[truth] = np.square(centers - center).sum(axis=1).argmin()
    return Survey(best, which, near)


def owners(fit: np.ndarray, least: float) -> np.ndarray:
    """[candidates] the truth with the best fit, -1 when it is below `least`. fit: [candidates, truths]."""
    if not fit.shape[1]:
        return np.full(len(fit), -1)
    return np.where(fit.max(axis=1) >= least, fit.argmax(axis=1), -1)


def first_cut(names: list[str], reached: list[np.ndarray]) -> np.ndarray:
    """[truths] the name of the first cut after which the truth is no longer reached, "" when it is to the end."""
    cut = np.full(len(reached[0]), "", dtype=object)
    for name, ok in reversed(list(zip(names, reached, strict=True))):
        cut = np.where(ok, cut, name)
    return cut


def to_numpy(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def to_xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes_xyxy, float)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def to_xyxy(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], axis=-1)
