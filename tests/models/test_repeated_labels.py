"""Each object is matched with several queries, and its doubles are taken out of the answer."""

from __future__ import annotations

import torch
from mmdet.core.bbox.assigners import HungarianAssigner

from workbook.models.repeated_labels import RepeatedHungarianAssigner

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
