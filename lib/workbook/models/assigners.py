"""What the assigner of an anchor head makes of boxes, asked as its training asks it (mmdet 2.28, anchor_head.py, atss_head.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmdet.core import anchor_inside_flags
from mmdet.core.bbox.assigners import ATSSAssigner, MaxIoUAssigner
from torch import Tensor

from workbook.models.hooks import recorded_ious


@dataclass(frozen=True)
class Assigned:
    """What the detector's assigner makes of one image's boxes."""

    best_iou: np.ndarray  # [boxes] of any anchor; NaN without anchors
    positives: np.ndarray  # [boxes] how many anchors (points, queries) learn it
    why_not: np.ndarray  # [boxes] the reason where there is no positive


class UnknownAssignerError(ValueError):
    """The family does not know how this detector's training assigns objects; the message names the assigner."""


def assign_anchors(head: Any, gt_boxes_xyxy: np.ndarray, resized: Mapping[str, Any]) -> Assigned:
    """The head's own anchors and assigner on one image's boxes [boxes, 4], pixels of the network's input.

    Raises UnknownAssignerError for an assigner other than MaxIoU (and what is derived from it) and ATSS.
    """
    assigner = getattr(head, "assigner", None)
    if not isinstance(assigner, ATSSAssigner | MaxIoUAssigner):
        raise UnknownAssignerError(f"the assigner {type(assigner).__name__} is not known here, only MaxIoU and ATSS")
    gt = torch.as_tensor(gt_boxes_xyxy, dtype=torch.float32)
    # VFNet predicts from points, but learns from anchors
    generator = getattr(head, "atss_prior_generator", head.prior_generator)
    sizes = feature_sizes(generator.strides, resized["pad_shape"][:2])
    levels = generator.grid_priors(sizes, device="cpu")
    flags = torch.cat(generator.valid_flags(sizes, resized["pad_shape"], device="cpu"))
    inside = anchor_inside_flags(torch.cat(levels), flags, resized["img_shape"][:2], head.train_cfg.allowed_border)
    if isinstance(assigner, ATSSAssigner):
        per_level = [int(part.sum()) for part in inside.split([len(level) for level in levels])]
        best, gt_inds = _assign(assigner, torch.cat(levels)[inside], gt, per_level)
    elif type(assigner) is MaxIoUAssigner and len(gt):
        best, gt_inds = _assign(assigner, torch.cat(levels)[inside & _near(generator, sizes, gt)], gt)
        if not best.all():  # then every anchor is as good as any other
            best, gt_inds = _assign(assigner, torch.cat(levels)[inside], gt)
    else:
        best, gt_inds = _assign(assigner, torch.cat(levels)[inside], gt)
    positives = torch.bincount(gt_inds.clamp(min=0), minlength=len(gt) + 1)[1:]
    why_not = np.array([_why(assigner, float(iou)) for iou in best], dtype=object)
    return Assigned(best.numpy(), positives.numpy(), why_not)


def _assign(assigner: Any, anchors: Tensor, gt: Tensor, per_level: list[int] | None = None) -> tuple[Tensor, Tensor]:
    """The highest IoU of each box [boxes], and the assigner's gt_inds [anchors]. per_level: how many anchors, for ATSS."""
    with recorded_ious(assigner) as tables:
        result = assigner.assign(anchors, gt) if per_level is None else assigner.assign(anchors, per_level, gt)
    overlaps = tables[0] if per_level is None else tables[0].T  # [boxes, anchors]
    best = overlaps.max(dim=1)[0] if overlaps.numel() else overlaps.new_zeros(len(gt))
    return best, result.gt_inds


def _near(generator: Any, sizes: list[tuple[int, int]], gt: Tensor) -> Tensor:
    """[anchors] bool: it overlaps a box, or may. The others have IoU 0 with all: MaxIoU gives them to the background.

    Of the 200,000 anchors of an image a few thousand are near its objects, and the table of IoUs is what takes the time.
    """
    found = []
    for (height, width), (x_stride, y_stride), base in zip(sizes, generator.strides, generator.base_anchors, strict=True):
        left, top = base[:, :2].amin(dim=0).tolist()
        right, bottom = base[:, 2:].amax(dim=0).tolist()
        cells = torch.zeros(height, width, dtype=torch.bool)
        for x1, y1, x2, y2 in gt.tolist():
            rows = slice(max(math.floor((y1 - bottom) / y_stride), 0), max(math.ceil((y2 - top) / y_stride) + 1, 0))
            columns = slice(max(math.floor((x1 - right) / x_stride), 0), max(math.ceil((x2 - left) / x_stride) + 1, 0))
            cells[rows, columns] = True
        found.append(cells.flatten().repeat_interleave(len(base)))
    return torch.cat(found)


def _why(assigner: Any, best_iou: float) -> str:
    """Why a box of this best IoU has no positive."""
    if isinstance(assigner, ATSSAssigner):
        return f"no anchor center lies inside it with an IoU well above its other anchors' (the best: {best_iou:.2f})"
    least = assigner.min_pos_iou if assigner.match_low_quality else assigner.pos_iou_thr
    if best_iou < least:
        return f"the best anchor reaches IoU {best_iou:.2f}, and {least:g} is needed"
    return f"its best anchors (IoU {best_iou:.2f}) are given to other objects"


def feature_sizes(strides: Any, padded: tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of each level's map for an input of `padded` (height, width) pixels. strides: (x, y) a level."""
    height, width = padded
    return [(math.ceil(height / y), math.ceil(width / x)) for x, y in strides]
