"""Anchors that are far from every object are left out of the table of IoUs, and nothing else changes by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from planted import small_detector
from workbook.models.assigners import assign_anchors

PATHS = {"rpn_head": "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py", "bbox_head": "retinanet/retinanet_r50_fpn_1x_coco.py"}


@pytest.mark.parametrize("part", PATHS)
@pytest.mark.parametrize("seed", range(5))
def test_the_near_anchors_decide_as_all_do(part: str, seed: int) -> None:
    """Boxes of every size, some outside the image, against mmdet's assigner on all anchors."""
    head = getattr(small_detector(PATHS[part]), part)
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-10, 240, (12, 2))
    boxes = np.concatenate([corners, corners + np.exp(rng.uniform(0, 5, (12, 2)))], axis=1)
    resized = {"pad_shape": (256, 288, 3), "img_shape": (250, 270, 3)}
    found = assign_anchors(head, boxes, resized)
    sizes = [(-(-256 // y), -(-288 // x)) for x, y in head.prior_generator.strides]
    anchors = torch.cat(head.prior_generator.grid_priors(sizes, device="cpu"))
    if head.train_cfg.allowed_border >= 0:
        anchors = anchors[(anchors[:, :2] >= 0).all(dim=1) & (anchors[:, 2] < 270) & (anchors[:, 3] < 250)]
    result = head.assigner.assign(anchors, torch.as_tensor(boxes, dtype=torch.float32))
    expected = [int((result.gt_inds == number + 1).sum()) for number in range(12)]
    assert found.positives.tolist() == expected and sum(expected)
    iou = head.assigner.iou_calculator(torch.as_tensor(boxes, dtype=torch.float32), anchors).max(dim=1)[0]
    assert found.best_iou.tolist() == iou.tolist()
