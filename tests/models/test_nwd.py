"""The distance of Gaussians against its formula, and the ranking on boxes made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet.core.bbox.assigners import MaxIoUAssigner
from scipy.linalg import sqrtm

from workbook.models.nwd import NormalizedWassersteinDistance, SmallByRankAssigner

IOU = dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True)


def ranking(**changed) -> SmallByRankAssigner:
    return SmallByRankAssigner(**{**dict(constant=12.8, topk=2, small_side=32, neg_nwd=0.3), **IOU, **changed})


def square(side: float, x: float = 100.0, y: float = 100.0) -> list[float]:
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def wasserstein(one: np.ndarray, other: np.ndarray) -> float:
    """The 2-Wasserstein distance of two Gaussians, by the general formula with matrix roots (Givens and Shortt 1984)."""
    means = [np.array([(x1 + x2) / 2, (y1 + y2) / 2]) for x1, y1, x2, y2 in (one, other)]
    covariances = [np.diag([((x2 - x1) / 2) ** 2, ((y2 - y1) / 2) ** 2]) for x1, y1, x2, y2 in (one, other)]
    root = sqrtm(covariances[1])
    mixed = sqrtm(root @ covariances[0] @ root)
    squared = np.sum((means[0] - means[1]) ** 2) + np.trace(covariances[0] + covariances[1] - 2 * mixed)
    return float(np.sqrt(max(squared.real, 0)))


def test_it_is_the_distance_of_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 80, (12, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(2, 60, (12, 2))], axis=1)
    found = NormalizedWassersteinDistance(12.8)(torch.tensor(boxes[:6]), torch.tensor(boxes[6:]))
    expected = [[np.exp(-wasserstein(one, other) / 12.8) for other in boxes[6:]] for one in boxes[:6]]
    assert found.numpy() == pytest.approx(np.array(expected), abs=1e-6)
    aligned = NormalizedWassersteinDistance(12.8)(torch.tensor(boxes[:6]), torch.tensor(boxes[6:]), is_aligned=True)
    assert aligned.numpy() == pytest.approx(np.diag(expected), abs=1e-6)


def test_published_reach_of_centered_squares() -> None:
    """|a - s| <= 21.8 px is NWD >= .3 with the constant 12.8: sqrt(2) / 2 times the difference of the sides over it."""
    distance = NormalizedWassersteinDistance(12.8)
    near, far = (float(distance(torch.tensor([square(10)]), torch.tensor([square(10 + gap)]))) for gap in (21.7, 21.9))
    assert near > 0.3 > far
    assert float(distance(torch.tensor([square(10)]), torch.tensor([square(10)]))) == 1


def test_a_small_object_gets_its_two_nearest_anchors_where_iou_gives_none() -> None:
    anchors = torch.tensor([square(24, 100, 100), square(24, 104, 100), square(24, 110, 100), square(24, 200, 200)])
    gt = torch.tensor([square(8, 101, 100)])
    assert (MaxIoUAssigner(**IOU).assign(anchors, gt).gt_inds <= 0).all()
    result = ranking().assign(anchors, gt, gt_labels=torch.tensor([5]))
    assert result.gt_inds.tolist() == [1, 1, -1, 0], "the third is near and not asked for, the last is background"
    assert result.labels.tolist() == [5, 5, -1, -1]


def test_larger_objects_are_assigned_as_before() -> None:
    rng = np.random.default_rng(1)
    corners = torch.tensor(rng.uniform(0, 200, (300, 2)))
    anchors = torch.cat([corners, corners + torch.tensor(rng.uniform(20, 120, (300, 2)))], dim=1).float()
    gt = torch.tensor([square(60, 80, 90), square(100, 150, 120)])
    assert torch.equal(ranking().assign(anchors, gt).gt_inds, MaxIoUAssigner(**IOU).assign(anchors, gt).gt_inds)
    beside = torch.cat([gt, torch.tensor([square(10, 20, 20)])])
    both, alone = ranking().assign(anchors, beside).gt_inds, MaxIoUAssigner(**IOU).assign(anchors, gt).gt_inds
    assert (both == 3).sum() == 2
    others = both != 3
    assert torch.equal(both[others & (alone > 0)], alone[others & (alone > 0)])


def test_two_small_objects_that_ask_for_one_anchor() -> None:
    """The nearer one gets it; the other has its second."""
    anchors = torch.tensor([square(16, 100, 100), square(16, 90, 100), square(16, 112, 100)])
    gt = torch.tensor([square(8, 100, 100), square(8, 103, 100)])
    assert ranking().assign(anchors, gt).gt_inds.tolist() == [1, 1, 2]


def test_no_objects_and_a_crowd_on_the_cpu() -> None:
    anchors = torch.tensor([square(16), square(16, 40, 40)])
    assert ranking().assign(anchors, torch.zeros(0, 4)).gt_inds.tolist() == [0, 0]
    gt = torch.tensor([square(8), square(8, 41, 40)])
    assert ranking(gpu_assign_thr=1).assign(anchors, gt).gt_inds.tolist() == ranking().assign(anchors, gt).gt_inds.tolist()
