"""The detector's own threshold of non-maximum suppression."""

from __future__ import annotations

from typing import Any

from mmdet.models.detectors import BaseDetector

# Where a detector has no NMS (DETR, Deformable DETR): from here on COCO calls two boxes the same object.
WITHOUT_NMS = 0.5


def suppression_iou(model: BaseDetector) -> float:
    """The IoU above which the detector takes two boxes of a class for one object: that of its last NMS or soft NMS."""
    head: Any = getattr(model, "roi_head", None) or model.bbox_head
    nms = (head.test_cfg or {}).get("nms") or {}
    return float(nms.get("iou_threshold", WITHOUT_NMS))
