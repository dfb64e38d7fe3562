"""Each object is matched with several queries, and its doubles are taken out of the answer."""

from __future__ import annotations

import torch
from mmdet.core.bbox.assigners import HungarianAssigner
from mmdet.models import build_detector

from planted import small_config, small_detector
from workbook.models.repeated_labels import RepeatedHungarianAssigner

DETR = "detr/detr_r50_8x2_150e_coco.py"
META = {"img_shape": (100, 100, 3)}


def inputs(queries: int, objects: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    gt = torch.rand(objects, 2) * 60
    return torch.rand(queries, 4), torch.randn(queries, 4), torch.cat([gt, gt + 20], dim=1), torch.arange(objects) % 3


def counts(gt_inds: torch.Tensor, objects: int) -> list[int]:
    return [int((gt_inds == number + 1).sum()) for number in range(objects)]


def test_each_object_has_two_queries_and_its_own_label() -> None:
    boxes, logits, gt, labels = inputs(10, 3)
    result = RepeatedHungarianAssigner(repeats=2).assign(boxes, logits, gt, labels, META)
    assert counts(result.gt_inds, 3) == [2, 2, 2] and result.num_gts == 3
    positive = result.gt_inds > 0
    assert torch.equal(result.labels[positive], labels[result.gt_inds[positive] - 1])


def test_the_best_query_of_each_is_still_among_them() -> None:
    boxes, logits, gt, labels = inputs(10, 1)
    single = HungarianAssigner().assign(boxes, logits, gt, labels, META).gt_inds
    assert ((RepeatedHungarianAssigner(repeats=2).assign(boxes, logits, gt, labels, META).gt_inds > 0) >= (single > 0)).all()


def test_with_too_few_queries_it_is_mmdets_matching() -> None:
    for queries, objects in ((5, 4), (3, 5), (4, 0)):
        boxes, logits, gt, labels = inputs(queries, objects)
        ours, mmdets = (each.assign(boxes, logits, gt, labels, META).gt_inds for each in (
            RepeatedHungarianAssigner(repeats=2), HungarianAssigner()))
        assert torch.equal(ours, mmdets)


def test_the_head_is_mmdets_but_for_the_doubles() -> None:
    """The same losses of the same weights; of two queries on one object the better one is left, and other boxes stay."""
    config = small_config(DETR)
    config.bbox_head.update(type="SuppressedDETRHead", nms_iou=0.7)
    plain, ours = small_detector(DETR), build_detector(config).eval()
    ours.load_state_dict(plain.state_dict())
    torch.manual_seed(0)
    logits, boxes = torch.randn(100, 4), torch.rand(100, 4) * 0.2 + 0.4
    gt, labels = [torch.tensor([[10.0, 10, 40, 40], [50, 50, 90, 80]])], [torch.tensor([0, 2])]
    for_loss = (logits[None], boxes[None], gt, labels, [META])
    assert all(torch.equal(one, other) for one, other in zip(
        plain.bbox_head.loss_single(*for_loss), ours.bbox_head.loss_single(*for_loss), strict=True))
    logits, boxes = torch.full((100, 4), -9.0), torch.full((100, 4), 0.01)
    logits[:, 3] = 9
    logits[:3, 3], logits[0, 0], logits[1, 0], logits[2, 1] = -9, 3, 2, 1
    boxes[:3] = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.51, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]])
    left, classes = ours.bbox_head._get_bboxes_single(logits, boxes, (100, 100, 3), [1.0] * 4)
    assert left[:2, :4].round().tolist() == [[40, 40, 60, 60], [40, 40, 60, 60]] and classes[:2].tolist() == [0, 1]
