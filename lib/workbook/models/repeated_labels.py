"""Query detectors that learn each object from several queries, and give one box of it all the same.

Wang et al. 2022, "Towards Data-Efficient Detection Transformers" (arXiv:2203.09507): with one query an object a small data set gives
a query too few examples; repeated in the matching an object teaches several, and suppression takes away the doubles.
"""

from __future__ import annotations

from typing import Any

from mmcv.ops import batched_nms
from mmdet.core.bbox.assigners import AssignResult, HungarianAssigner
from mmdet.core.bbox.builder import BBOX_ASSIGNERS
from mmdet.models.builder import HEADS
from mmdet.models.dense_heads import DeformableDETRHead, DETRHead
from torch import Tensor


@BBOX_ASSIGNERS.register_module()
class RepeatedHungarianAssigner(HungarianAssigner):
    """mmdet's matching of each object with `repeats` queries: with fewer in an image that has too many objects for that."""

    def __init__(self, repeats: int, **of_matching: Any) -> None:
        super().__init__(**of_matching)
        self.repeats = repeats

    def assign(
        self, bbox_pred: Tensor, cls_pred: Tensor, gt_bboxes: Tensor, gt_labels: Tensor, img_meta: dict[str, Any], *rest: Any, **named: Any
    ) -> AssignResult:
        """As mmdet's: bbox_pred [queries, 4], gt_bboxes [objects, 4]; gt_inds [queries] is 0 for background, else from 1."""
        objects = len(gt_bboxes)
        times = max(1, min(self.repeats, len(bbox_pred) // max(objects, 1)))
        result = super().assign(bbox_pred, cls_pred, gt_bboxes.repeat(times, 1), gt_labels.repeat(times), img_meta, *rest, **named)
        positive = result.gt_inds > 0
        result.gt_inds[positive] = (result.gt_inds[positive] - 1) % max(objects, 1) + 1
        result.num_gts = objects
        return result


class WithSuppression:
    """What a head of queries gives, without the boxes of a class that overlap a better one by more than `nms_iou`."""

    def __init__(self, *arguments: Any, nms_iou: float, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.nms_iou = nms_iou

    def _get_bboxes_single(self, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """boxes [n, 5] and labels [n], the highest score first."""
        boxes, labels = super()._get_bboxes_single(*arguments, **named)  # type: ignore[misc]
        boxes, left = batched_nms(boxes[:, :4], boxes[:, 4], labels, dict(type="nms", iou_threshold=self.nms_iou))
        return boxes, labels[left]


@HEADS.register_module()
class SuppressedDETRHead(WithSuppression, DETRHead):
    """mmdet's DETRHead with suppression.

    mmdet spreads the weights of the classes and of the background in DETRHead itself alone, not in what is derived from it
    (2.28, dense_heads/detr_head.py); so it is done here.
    """

    def __init__(self, *, num_classes: int, loss_cls: dict[str, Any], **named: Any) -> None:
        weights = [float(loss_cls["class_weight"])] * num_classes + [float(loss_cls["bg_cls_weight"])]
        spread = {key: value for key, value in loss_cls.items() if key != "bg_cls_weight"} | {"class_weight": weights}
        super().__init__(num_classes=num_classes, loss_cls=spread, **named)
        self.bg_cls_weight = weights[-1]


@HEADS.register_module()
class SuppressedDeformableDETRHead(WithSuppression, DeformableDETRHead):
    """mmdet's DeformableDETRHead with suppression."""
