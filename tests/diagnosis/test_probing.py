"""How candidates are measured against objects: by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from workbook.diagnosis.families.dense import _points
from workbook.diagnosis.families.query import _predictions
from workbook.diagnosis.oracle import ImageObjects
from workbook.diagnosis.probing import best_object, first_cut, ranks, survey

ONE, FAR = [0.0, 0.0, 10.0, 10.0], [100.0, 100.0, 10.0, 10.0]


def objects(*boxes: list[float]) -> ImageObjects:
    return ImageObjects(np.arange(len(boxes)), np.zeros(len(boxes), int), np.array(boxes).reshape(-1, 4))


@pytest.mark.parametrize("at_once", [1, 2, 50])
def test_a_survey_says_how_near_any_box_comes(at_once: int) -> None:
    """The first object is met by the second and third box, .8 and .6; of the other only the center is near."""
    boxes = np.array([[50, 50, 9, 9], [0, 0, 10, 8], [0, 0, 10, 6], [95, 100, 4, 4.0]])
    found = survey(boxes, objects(ONE, FAR), at_once)
    assert found.best == pytest.approx([0.8, 0]) and found.which.tolist() == [1, 3] and found.near.tolist() == [True, False]


def test_a_box_that_is_about_this_object_more_than_any_other_is_near_it() -> None:
    """IoU .3 with one, and less with its neighbour; the neighbour has none of its own."""
    found = survey(np.array([[0, 0, 10, 3.0]]), objects(ONE, [0, 2.5, 10, 10]))
    assert found.best[0] == pytest.approx(0.3) and found.near.tolist() == [True, False]


def test_of_no_boxes_or_no_objects_nothing_is_near() -> None:
    assert survey(np.zeros((0, 4)), objects(ONE)).near.tolist() == [False]
    assert survey(np.array([ONE]), objects()).best.shape == (0,)
    assert best_object(np.zeros((3, 0)), 0.1).tolist() == [-1, -1, -1]


def test_the_first_cut_is_the_one_after_which_it_is_never_reached_again() -> None:
    reached = [np.array([True, True, False]), np.array([True, False, False]), np.array([True, False, False])]
    assert first_cut(["a", "b", "c"], reached).tolist() == ["", "b", "a"]


@pytest.mark.parametrize("by_sigmoid", [True, False])
def test_predictions_of_queries(by_sigmoid: bool) -> None:
    """With sigmoids every class of a query; with a softmax its best class, and the last column is the background."""
    logits = torch.tensor([[2.0, -1.0, 0.0], [-2.0, -0.5, 1.0]])
    query, label, score, background = _predictions(logits, by_sigmoid)
    if by_sigmoid:
        assert (query.tolist(), label.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])
        assert score == pytest.approx(logits.sigmoid().flatten().numpy())
        assert background == pytest.approx(1 - logits.sigmoid().amax(1).numpy())
    else:
        shares = logits.softmax(1).numpy()
        assert (query.tolist(), label.tolist()) == ([0, 1], [0, 1])
        assert score == pytest.approx([shares[0, 0], shares[1, 1]]) and background == pytest.approx(shares[:, 2])


def test_ranks_count_from_the_highest_score_and_equal_ones_in_their_order() -> None:
    candidates = SimpleNamespace(gt_index=np.zeros(4), highest=np.array([0.2, 0.9, 0.2, 0.5]))
    assert ranks(candidates).tolist() == [3, 1, 4, 2]


@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("centered", [True, False])
def test_points_of_a_dense_head(sigmoid: bool, centered: bool) -> None:
    """Two levels, a point each, two classes (and the background of a softmax); the factor multiplies after the threshold."""
    columns = 2 if sigmoid else 3
    score = [torch.tensor([2.0, -1.0, 0.5][:columns]).view(columns, 1, 1), torch.tensor([-3.0, 1.0, 0.0][:columns]).view(columns, 1, 1)]
    delta = [torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1), torch.tensor([5.0, 6.0, 7.0, 8.0]).view(4, 1, 1)]
    factor = [torch.tensor([0.3]).view(1, 1, 1), torch.tensor([-0.2]).view(1, 1, 1)] if centered else [None, None]
    priors = [torch.tensor([[10.0, 20.0, 10.0, 20.0]]), torch.tensor([[30.0, 40.0, 30.0, 40.0]])]
    head = SimpleNamespace(
        cls_out_channels=columns, use_sigmoid_cls=sigmoid, test_cfg=SimpleNamespace(score_thr=0.1, get=lambda key, default: 100),
        bbox_coder=SimpleNamespace(decode=lambda prior, delta, max_shape: prior + delta))
    found = _points(head, (score, delta, factor, priors), {"img_shape": (64, 64, 3), "scale_factor": np.array([2.0, 2, 2, 2], np.float32)})
    flat = torch.stack([part.flatten() for part in score])
    scores = (flat.sigmoid() if sigmoid else flat.softmax(1)[:, :2]).numpy()
    assert found.highest == pytest.approx(scores.max(axis=1)) and found.top_label.tolist() == [0, 1]
    assert found.boxes_xywh == pytest.approx(np.array([[5.5, 11, 1, 1], [17.5, 23, 1, 1]]))
    kept = scores > 0.1
    expected = {(int(point), int(label)): scores[point, label] * (1 / (1 + np.exp(-float(factor[point]))) if centered else 1)
                for point, label in np.argwhere(kept)}
    got = {(int(point), int(label)): score for point, label, score in zip(found.of_prediction, found.label, found.score, strict=True)}
    assert got == pytest.approx(expected) and len(expected) == (3 if sigmoid else 2)
