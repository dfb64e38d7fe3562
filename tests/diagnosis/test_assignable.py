"""What can be reached before any training: against the published limits, and against what mmdet itself assigns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mmcv.parallel import collate
from torchvision.ops import box_iou

from planted import Answer, Box, Scene, scripted_rcnn, small_detector, write_scenes
from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.diagnosis.assignable import COLUMNS, assignable, unreachable_share
from workbook.diagnosis.family import family_of

FASTER, VFNET = "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py", "vfnet/vfnet_r50_fpn_1x_coco.py"
RETINA, DETR = "retinanet/retinanet_r50_fpn_1x_coco.py", "detr/detr_r50_8x2_150e_coco.py"


def one_each(folder: Path, boxes: list[Box], scale: int = 256) -> OrderedCocoDataset:
    """One image a box, shown at `scale` pixels instead of 256."""
    dataset = write_scenes(folder, [Scene([(box, "cat")], []) for box in boxes])
    next(t for t in dataset.pipeline.transforms if type(t).__name__ == "Resize").img_scale = [(scale, scale)]
    return dataset


def table_of(model: Any, dataset: OrderedCocoDataset) -> pd.DataFrame:
    return assignable(family_of(model), model, dataset)


def square(side: float, x: float = 100.0, y: float = 100.0) -> Box:
    return (x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def test_below_307_pixels_nothing_is_assigned(tmp_path: Path) -> None:
    """The smallest anchor is 32² (scale 8, stride 4): area / 1024 must reach .3, and .7 for more than a low-quality match."""
    sides = [np.sqrt(area) for area in (300, 315, 700, 725)]
    table = table_of(small_detector(FASTER), one_each(tmp_path, [square(side) for side in sides]))
    assert table["no_positive"].tolist() == [True, False, False, False]
    assert table["best_anchor_iou"].tolist() == pytest.approx([area / 1024 for area in (300, 315, 700, 725)], abs=2e-3)
    assert "0.29" in table["why_not"][0] and "0.3 is needed" in table["why_not"][0]
    assert (table["why_not"][1:] == "").all()
    assert table["cells"].tolist() == pytest.approx([area / 16 for area in (300, 315, 700, 725)])


def test_the_resize_decides(tmp_path: Path) -> None:
    """(1333, 800) on 1024² is a factor .78; here 256 pixels are shown at 200: 20² becomes 15.6²."""
    table = table_of(small_detector(FASTER), one_each(tmp_path, [square(20)], scale=200)).iloc[0]
    assert (table["side"], table["resized_side"]) == (pytest.approx(20), pytest.approx(20 * 200 / 256))
    assert table["resized_area"] == pytest.approx((20 * 200 / 256) ** 2)
    assert table["no_positive"]
    tall = table_of(small_detector(FASTER), one_each(tmp_path / "tall", [(10.0, 10.0, 20.0, 50.0)], scale=200)).iloc[0]
    assert (tall["side"], tall["resized_side"]) == (pytest.approx(20), pytest.approx(20 * 200 / 256))
    assert not table_of(small_detector(FASTER), one_each(tmp_path, [square(20)])).iloc[0]["no_positive"]


@pytest.mark.parametrize("path", [FASTER, RETINA, VFNET])
def test_positives_are_what_mmdet_assigns_in_training(tmp_path: Path, path: str) -> None:
    """The same boxes through the head's own get_targets, with the feature maps of a real forward pass."""
    boxes = [square(12), square(30, 60, 60), square(33, 70, 62), square(90, 150, 150), (3.0, 5.0, 9.0, 40.0)]
    dataset = write_scenes(tmp_path, [Scene([(box, "cat") for box in boxes], [])])
    next(t for t in dataset.pipeline.transforms if type(t).__name__ == "Resize").img_scale = [(230, 230)]
    model = small_detector(path)
    table = table_of(model, dataset)
    batch = collate([dataset.with_truth(0)], samples_per_gpu=1)
    image, metas = batch["img"].data[0], batch["img_metas"].data[0]
    head = model.rpn_head if path == FASTER else model.bbox_head
    head.training = True
    with torch.no_grad():
        outputs = head(model.extract_feat(image))
    expected, assigned = mmdets_positives(head, outputs, batch, metas)
    assert table["positives"].tolist() == expected
    assert table["no_positive"].tolist() == [count == 0 for count in expected]
    assert sum(expected) == assigned > 5
    anchors = torch.cat(getattr(head, "atss_prior_generator", head.prior_generator).grid_priors(
        [level.shape[-2:] for level in outputs[0]], device="cpu"))
    best = box_iou(batch["gt_bboxes"].data[0][0], anchors).max(dim=1)[0]
    assert table["best_anchor_iou"].tolist() == pytest.approx(best.tolist(), abs=1e-5)


def mmdets_positives(head: Any, outputs: Any, batch: Any, metas: Any) -> tuple[list[int], int]:
    """Positives a box and altogether, caught inside mmdet's own loss."""
    caught: list[Any] = []
    own = head.assigner.assign
    head.assigner.assign = lambda *a, **k: caught.append(own(*a, **k)) or caught[-1]
    gt_bboxes, gt_labels = batch["gt_bboxes"].data[0], batch["gt_labels"].data[0]
    head.loss(*outputs, gt_bboxes, metas) if hasattr(head, "rpn_cls") else head.loss(*outputs, gt_bboxes, gt_labels, metas)
    assigned = caught[0].gt_inds
    return [int((assigned == number + 1).sum()) for number in range(len(gt_bboxes[0]))], int((assigned > 0).sum())


def test_vfnet_needs_an_anchor_center_inside(tmp_path: Path) -> None:
    """4 pixels between the centers of stride 8: ATSS gives no positive, wherever the IoU stands."""
    table = table_of(small_detector(VFNET), one_each(tmp_path, [square(4, 100, 100), square(4, 104, 104), square(20, 100, 100)]))
    assert table["positives"].gt(0).tolist() == [False, True, True]
    assert "no anchor center lies inside" in table["why_not"][0]


def test_queries_against_objects(tmp_path: Path) -> None:
    many = Scene([((x, y, x + 8.0, y + 8.0), "cat") for x in range(0, 240, 20) for y in range(0, 200, 20)], [])  # 120 objects
    table = table_of(small_detector(DETR), write_scenes(tmp_path, [many, Scene([(square(30), "dog")], [])]))
    assert table["image_objects"].tolist() == [120] * 120 + [1]
    assert table["positives"][0] == pytest.approx(100 / 120) and table["positives"][120] == 1
    assert table["best_anchor_iou"].isna().all()
    assert table["cells"][120] == pytest.approx(900 / 32**2)


def test_what_the_loader_leaves_out_has_no_positive(tmp_path: Path) -> None:
    scene = Scene([((10.0, 10.0, 50.0, 10.5), "cat"), (square(40), "cat"), ((300.0, 300.0, 340.0, 340.0), "cat")], [])
    table = table_of(small_detector(FASTER), write_scenes(tmp_path, [scene]))
    assert table["no_positive"].tolist() == [True, False, True]
    assert table["why_not"].str.contains("loader leaves it out").tolist() == [True, False, True]
    assert list(table) == list(COLUMNS)


def test_another_object_takes_the_anchors(tmp_path: Path) -> None:
    """Two objects share their best anchors: mmdet gives them to the later one."""
    box = (100.0, 100.0, 122.0, 122.0)
    table = table_of(small_detector(FASTER), write_scenes(tmp_path, [Scene([(box, "cat"), (box, "dog")], [])]))
    assert table["positives"].gt(0).tolist() == [False, True]
    assert "given to other objects" in table["why_not"][0]


def test_what_is_unreachable_is_a_share(tmp_path: Path) -> None:
    table = table_of(small_detector(FASTER), one_each(tmp_path, [square(10), square(12), square(32), square(60)]))
    found = unreachable_share(table)
    assert found["small"] == {"objects": 3, "no_positive": 2, "share": pytest.approx(2 / 3)}
    assert found["medium"] == {"objects": 2, "no_positive": 0, "share": 0}, "32 x 32 is on the border: of both sizes"
    assert found["large"] == {"objects": 0, "no_positive": 0, "share": None}


def test_the_scripted_detector_reaches_like_the_real_one(tmp_path: Path) -> None:
    scene = Scene([(square(30), "cat")], [Answer(square(30), {"cat": 0.9})])
    dataset = write_scenes(tmp_path, [scene])
    assert table_of(scripted_rcnn([scene]), dataset).equals(table_of(small_detector(FASTER), dataset))
