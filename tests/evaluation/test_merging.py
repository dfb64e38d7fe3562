"""Merging the detections of several views, against torchvision's NMS."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import batched_nms

from workbook.evaluation.merging import merge


def drawn(count: int, views: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Crowded random boxes xywh with scores, labels and views."""
    rng = np.random.default_rng(seed)
    boxes_xywh = np.concatenate([rng.uniform(0, 60, (count, 2)), rng.uniform(5, 30, (count, 2))], axis=1)
    return boxes_xywh, rng.permutation(count) / count, rng.integers(0, classes, count), rng.integers(0, views, count)


def nms(boxes_xywh: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou: float) -> np.ndarray:
    corners = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
    return batched_nms(torch.tensor(corners), torch.tensor(scores), torch.tensor(groups), iou).numpy()


@pytest.mark.parametrize("seed", range(5))
def test_after_nms_in_each_view_it_is_nms_over_all(seed: int) -> None:
    boxes, scores, labels, views = drawn(400, 5, 6, seed)
    survivors = nms(boxes, scores, labels * 10 + views, 0.5)
    boxes, scores, labels, views = boxes[survivors], scores[survivors], labels[survivors], views[survivors]
    within, beyond = merge(boxes, scores, labels, views, 0.5)
    assert within.tolist() == nms(boxes, scores, labels, 0.5).tolist()
    assert 50 < len(within) < len(boxes) and not len(beyond)


def test_a_view_is_not_suppressed_again() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [2, 0, 10, 10]], float)
    scores = np.array([0.9, 0.8, 0.7])
    same_class = np.zeros(3, int)
    assert merge(boxes, scores, same_class, np.array([0, 0, 1]), 0.5)[0].tolist() == [0, 1]
    assert merge(boxes, scores, np.array([0, 0, 1]), np.array([0, 0, 1]), 0.5)[0].tolist() == [0, 1, 2]


def test_of_equals_the_earlier_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], float)
    assert merge(boxes, np.array([0.5, 0.5]), np.zeros(2, int), np.array([1, 0]), 0.5)[0].tolist() == [0]


def test_an_image_reports_100_of_a_class() -> None:
    boxes = np.array([[20 * n, 0, 10, 10] for n in range(250)], float)
    scores = np.linspace(1, 0.1, 250)
    labels = np.arange(250) % 2
    labels[::50] = 2
    within, beyond = merge(boxes, scores, labels, np.arange(250) // 50, 0.5)
    counts = [int((labels[within] == label).sum()) for label in range(3)]
    assert counts == [100, 100, 5]
    assert sorted([*within, *beyond]) == list(range(250))
    for label in (0, 1):
        assert scores[within][labels[within] == label].min() > scores[beyond][labels[beyond] == label].max()
    assert (np.diff(scores[within]) < 0).all() and (np.diff(scores[beyond]) < 0).all()


def test_nothing_gives_nothing() -> None:
    within, beyond = merge(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros(0, int), 0.5)
    assert len(within) == len(beyond) == 0
