"""Small objects assigned by how near an anchor's Gaussian is to theirs, and no longer by overlap alone.

The distance is that of Wang et al. 2021 (arXiv:2110.13389), the ranking that of Xu et al. 2022 (arXiv:2206.13996): an anchor
of twice the side of a small object has an IoU of a quarter with it, wherever it stands, and no assigner by IoU ever takes it.
"""

from __future__ import annotations

from typing import Any

import torch
from mmdet.core.bbox.assigners import AssignResult, MaxIoUAssigner
from mmdet.core.bbox.builder import BBOX_ASSIGNERS
from mmdet.core.bbox.iou_calculators.builder import IOU_CALCULATORS, build_iou_calculator
from torch import Tensor


@IOU_CALCULATORS.register_module()
class NormalizedWassersteinDistance:
    """exp(-sqrt(W²) / constant), from 0 to 1; W² = |centers|² + ((w1 - w2)² + (h1 - h2)²) / 4, pixels².

    constant: the mean size sqrt(w h) of the objects, pixels of the network's input.
    """

    def __init__(self, constant: float) -> None:
        self.constant = constant

    def __call__(self, boxes_xyxy: Tensor, others_xyxy: Tensor, mode: str = "iou", is_aligned: bool = False) -> Tensor:
        """[n, m] of all pairs of boxes [n, 4] and [m, 4]; aligned [n]. Raises ValueError for another mode than mmdet's `iou`."""
        if mode != "iou":
            raise ValueError(f"mode={mode}: a distance of Gaussians knows no {mode}, only iou")
        one, other = _gaussians(boxes_xyxy), _gaussians(others_xyxy)
        distance = (one - other).norm(dim=1) if is_aligned else torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-distance / self.constant)


def _gaussians(boxes_xyxy: Tensor) -> Tensor:
    """[n, 4] center and half sides: the Euclidean distance of two is the root of W²."""
    center = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:4]) / 2
    return torch.cat([center, (boxes_xyxy[:, 2:4] - boxes_xyxy[:, :2]) / 2], dim=1)


@BBOX_ASSIGNERS.register_module()
class SmallByRankAssigner(MaxIoUAssigner):
    """mmdet's assigner by IoU for all objects; those up to `small_side` get their `topk` nearest anchors by NWD instead.

    Near means by rank alone, so that no small object goes without, wherever the anchors stand. An anchor that is neither
    positive nor farther than `neg_nwd` from every small object counts for nothing. Where two small objects ask for the same
    anchor the nearer one gets it. small_side: sqrt(w h), pixels of the network's input.
    """

    def __init__(self, *, constant: float, topk: int, small_side: float, neg_nwd: float, **of_iou: Any) -> None:
        super().__init__(**of_iou)
        self.nwd_calculator = build_iou_calculator(dict(type="NormalizedWassersteinDistance", constant=constant))
        self.topk, self.small_side, self.neg_nwd = topk, small_side, neg_nwd

    def assign(
        self, bboxes: Tensor, gt_bboxes: Tensor, gt_bboxes_ignore: Tensor | None = None, gt_labels: Tensor | None = None
    ) -> AssignResult:
        """As mmdet's: bboxes [anchors, 4], gt_bboxes [objects, 4]; gt_inds is 0 for background, -1 for nothing, else from 1."""
        result = super().assign(bboxes, gt_bboxes, gt_bboxes_ignore, gt_labels)
        sides = gt_bboxes[:, 2:4] - gt_bboxes[:, :2]
        small = (sides.prod(dim=1) <= self.small_side**2).nonzero().flatten()
        if not len(small) or not len(bboxes):
            return result
        on_cpu = 0 < self.gpu_assign_thr < len(gt_bboxes)
        device = torch.device("cpu") if on_cpu else bboxes.device
        nwd = self.nwd_calculator(gt_bboxes[small].to(device), bboxes.to(device))
        self._assign_small(result.gt_inds, small, nwd)
        if gt_labels is not None:
            result.labels = torch.full_like(result.gt_inds, -1)
            positive = result.gt_inds > 0
            result.labels[positive] = gt_labels[result.gt_inds[positive] - 1]
        return result

    def _assign_small(self, gt_inds: Tensor, small: Tensor, nwd: Tensor) -> None:
        """Change gt_inds [anchors] in place. small: numbers of the small objects, nwd: [small, anchors]."""
        gt_inds[torch.isin(gt_inds - 1, small)] = 0  # what the IoU gave them
        nearest, _ = nwd.max(dim=0)
        near = (nearest >= self.neg_nwd).to(gt_inds.device)
        gt_inds[near & (gt_inds == 0)] = -1
        values, anchors = nwd.topk(min(self.topk, nwd.shape[1]), dim=1)
        asked = torch.full_like(nwd, -1.0).scatter_(1, anchors, values)
        best, by = asked.max(dim=0)
        taken = (best >= 0).nonzero().flatten().to(gt_inds.device)
        gt_inds[taken] = small[by.to(gt_inds.device)[taken]] + 1
