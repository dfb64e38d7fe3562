"""The diagnosis of a detector that is tested in windows: its detections are those of the validation, its stages those of all views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import build_dataset

from planted import CLASSES, Answer, Scene, pipeline, scripted_rcnn, small_detector
from windowed import entry, write
from workbook.data.tiles import WindowedTrainDataset, WindowedValDataset
from workbook.diagnosis.assignable import assignable
from workbook.diagnosis.diagnose import diagnose
from workbook.diagnosis.family import family_of
from workbook.evaluation.coco_metrics import evaluate
from workbook.training.validation import validate

CPU = torch.device("cpu")
SIDE = 144
CORNERS = ((0, 0), (112, 0), (0, 112), (112, 112))  # of windows of 144 px over 256 px; the first is also the whole image's
DETECTORS: dict[str, dict[str, Any]] = {
    "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py": {"score_thr": 0.2, "max_per_img": 15},
    "vfnet/vfnet_r50_fpn_1x_coco.py": {"score_thr": 0.001, "max_per_img": 40},
    "detr/detr_r50_8x2_150e_coco.py": {"max_per_img": 30},
}
TRUTHS = [[20.0, 30.0, 30.0, 20.0], [150.0, 100.0, 12.0, 14.0], [100.0, 110.0, 60.0, 60.0], [120.0, 10.0, 100.0, 20.0]]


def dataset(folder: Path, truths: list[list[float]], noise: bool = False, **kind: Any) -> Any:
    """One image of 256 px; without noise, window number n of CORNERS begins with a pixel of the value n + 1."""
    write(folder, [(256, 256)], [entry(n, 1, box) for n, box in enumerate(truths, start=1)], CLASSES)
    if not noise:
        pixels = np.zeros((256, 256, 3), np.uint8)
        for value, (x, y) in enumerate(CORNERS, start=1):
            pixels[y : y + 4, x : x + 4] = value
        cv2.imwrite(str(folder / "1.png"), pixels)
    steps = pipeline((256, 256))
    if noise:
        steps[4] = dict(type="Normalize", mean=[127.0] * 3, std=[60.0] * 3, to_rgb=False)
    asked = kind or {"type": WindowedValDataset.__name__, "window_side": SIDE, "test_mode": True}
    return build_dataset({**asked, "classes": CLASSES, "img_prefix": str(folder), "ann_file": str(folder / "train.json"),
                          "pipeline": [dict(type="LoadWindow"), *steps[1:]]})


def scene(window: int, *answers: tuple[list[float], float, float]) -> Scene:
    """The script of a window: boxes xywh in pixels of the image, each with a score of the first class and an objectness."""
    x0, y0 = CORNERS[window]
    boxes = [tuple(256 / SIDE * v for v in (x - x0, y - y0, x - x0 + w, y - y0 + h)) for (x, y, w, h), *_ in answers]
    script = zip(boxes, answers, strict=True)
    return Scene([], [Answer(box, {"cat": score}, objectness=objectness) for box, (_, score, objectness) in script])


@pytest.mark.parametrize("path", DETECTORS)
def test_the_detections_are_those_of_the_validation(path: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = small_detector(path, **DETECTORS[path])
    for name, weight in model.named_parameters():  # so that many scores and boxes differ
        if any(part in name for part in ("fc_cls.weight", "vfnet_cls.weight", "rpn_cls.weight", "fc_reg.weight")):
            torch.nn.init.normal_(weight, std=0.1)
    val = dataset(tmp_path, TRUTHS, noise=True)
    expected, _ = validate(model, val, CPU)
    assert len(expected) > 40
    diagnosis = diagnose(model, val, val, resamples=2)
    columns = ["image_id", "category_id", "score", "bbox"]
    found = [dict(zip(columns, row, strict=True)) for row in diagnosis.detections[columns].itertuples(index=False)]
    assert sorted((d["category_id"], d["score"], *d["bbox"]) for d in found) == pytest.approx(
        sorted((d["category_id"], d["score"], *d["bbox"]) for d in expected), abs=1e-9)
    ap = evaluate(val.coco.dataset, expected).metrics["bbox_mAP"]
    assert diagnosis.waterfall.metrics["AP"]["all"].ap == pytest.approx(ap, abs=1e-12)
    for sizes in diagnosis.waterfall.metrics.values():
        for size in sizes.values():
            assert size.ap is None or sum(cost.shapley for cost in size.stages) == pytest.approx(1 - size.ap, abs=1e-9)


def test_each_object_is_followed_through_the_view_that_gets_furthest_with_it(tmp_path: Path) -> None:
    by_window, unproposed, misnamed = [180.0, 190.0, 20.0, 20.0], [30.0, 190.0, 20.0, 20.0], [180.0, 30.0, 20.0, 20.0]
    val = dataset(tmp_path, [by_window, unproposed, misnamed])
    model = scripted_rcnn([
        scene(0), scene(1, (misnamed, 0.03, 0.9)), scene(2, (unproposed, 0.9, 0)), scene(3, (by_window, 0.8, 0.9))])
    trace = diagnose(model, val, resamples=2).trace.set_index("annotation_id")
    assert trace["stage"].tolist() == ["detected", "proposals", "class"]
    assert trace.loc[1, "best_bbox"] == pytest.approx(by_window, abs=1e-3)
    assert trace.loc[[1, 3], "candidate_cut"].tolist() == ["", ""] and trace.loc[2, "candidate_cut"]
    assert (trace.loc[[1, 3], "candidate_iou"] > 0.99).all()


def test_a_perfect_first_stage_proposes_in_the_views_that_show_all_of_the_object(tmp_path: Path) -> None:
    truth = [180.0, 190.0, 20.0, 20.0]  # in window 3 alone
    val = dataset(tmp_path, [truth])
    model = scripted_rcnn([scene(0), scene(1), scene(2), scene(3, (truth, 0.9, 0))])
    diagnosis = diagnose(model, val, resamples=2)
    assert diagnosis.trace["stage"].tolist() == ["proposals"] and diagnosis.trace["recovered_by"].tolist() == ["proposals"]
    assert diagnosis.waterfall.metrics["AP50"]["all"].cost("proposals").alone == pytest.approx(1)


def test_what_a_better_view_replaces_is_no_detection(tmp_path: Path) -> None:
    truth = [118.0, 200.0, 20.0, 20.0]  # in windows 2 and 3
    val = dataset(tmp_path, [truth])
    off = [119.0, 200.0, 20.0, 20.0]
    model = scripted_rcnn([scene(0), scene(1), scene(2, (truth, 0.7, 0.9)), scene(3, (off, 0.9, 0.9))])
    diagnosis = diagnose(model, val, resamples=2)
    assert diagnosis.detections["score"].tolist() == [pytest.approx(0.9, abs=1e-6)]
    assert diagnosis.trace["stage"].tolist() == ["detected"]


def test_an_object_is_assignable_where_any_view_can(tmp_path: Path) -> None:
    truths = [[20.0, 30.0, 11.0, 11.0], [150.0, 160.0, 40.0, 40.0], [120.0, 60.0, 60.0, 8.0]]
    windowed = dataset(tmp_path, truths, type=WindowedTrainDataset.__name__, window_side=64)
    plain = dataset(tmp_path, truths, type="OrderedCocoDataset")
    model = small_detector("faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py")
    one, two = (assignable(family_of(model), model, data).set_index("annotation_id") for data in (plain, windowed))
    assert one["no_positive"].tolist()[0] and not two["no_positive"].tolist()[0]  # 11 px become 44
    assert two.loc[1, "resized_side"] == pytest.approx(44) and two.loc[1, "side"] == pytest.approx(11)
    assert (two["positives"] >= one["positives"]).all() and two.index.tolist() == one.index.tolist()
