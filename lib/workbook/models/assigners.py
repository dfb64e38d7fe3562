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

    Raises UnknownAssignerError for an assigner other than MaxIoU and ATSS.
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
    anchors = torch.cat(levels)[inside]
    with recorded_ious(assigner) as tables:
        if isinstance(assigner, ATSSAssigner):
            per_level = [int(part.sum()) for part in inside.split([len(level) for level in levels])]
            result = assigner.assign(anchors, per_level, gt)
        else:
            result = assigner.assign(anchors, gt)
    overlaps = tables[0].T if isinstance(assigner, ATSSAssigner) else tables[0]  # [boxes, anchors]
    best = overlaps.max(dim=1)[0] if overlaps.numel() else overlaps.new_zeros(len(gt))
    positives = torch.bincount(result.gt_inds.clamp(min=0), minlength=len(gt) + 1)[1:]
    why_not = np.array([_why(assigner, float(iou)) for iou in best], dtype=object)
    return Assigned(best.numpy(), positives.numpy(), why_not)


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
