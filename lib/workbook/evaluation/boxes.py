"""Boxes: x, y, width, height (`_xywh`) or two corners (`_xyxy`), in pixels, and how much they overlap. The one home of IoU.

All of it is pycocotools' own arithmetic, so that what stands on a threshold here stands on it there.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask


def iou_table(boxes_xywh: np.ndarray, gt_boxes_xywh: np.ndarray) -> np.ndarray:
    """IoU of every box with every ground truth, [boxes, ground truths]: pycocotools' code runs."""
    if not len(boxes_xywh) or not len(gt_boxes_xywh):
        return np.zeros((len(boxes_xywh), len(gt_boxes_xywh)))
    boxes, gt_boxes = (np.ascontiguousarray(side, float) for side in (boxes_xywh, gt_boxes_xywh))
    return mask.iou(boxes, gt_boxes, [0] * len(gt_boxes))


def iou_pairs(boxes_xywh: np.ndarray, gt_boxes_xywh: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """IoU of box n with ground truth n, [n], in pycocotools' order of operations.

    crowd: [n] bool; with a crowd the share of the box that lies inside it (pycocotools, maskApi.c: bbIou).
    """
    boxes, gt_boxes = np.asarray(boxes_xywh, float).reshape(-1, 4), np.asarray(gt_boxes_xywh, float).reshape(-1, 4)
    upper = np.minimum(boxes[:, :2] + boxes[:, 2:], gt_boxes[:, :2] + gt_boxes[:, 2:])
    sides = upper - np.maximum(boxes[:, :2], gt_boxes[:, :2])
    common = sides[:, 0] * sides[:, 1]
    own, other = boxes[:, 2] * boxes[:, 3], gt_boxes[:, 2] * gt_boxes[:, 3]
    union = own + other - common
    if crowd is not None:
        union = np.where(crowd, own, union)
    return np.divide(common, union, out=np.zeros_like(common), where=(sides > 0).all(axis=1))


def to_xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """[..., 4] corners → x, y, width, height, in float64."""
    boxes = np.asarray(boxes_xyxy, float)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def to_xyxy(boxes_xywh: np.ndarray) -> np.ndarray:
    """[..., 4] x, y, width, height → corners."""
    return np.concatenate([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], axis=-1)
