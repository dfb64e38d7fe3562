"""Validation in windows: against the same detector on the window's crop as an image of its own, and on the whole image."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets import build_dataset
from mmdet.datasets.pipelines import LoadImageFromFile

from planted import CLASSES as SCRIPTED
from planted import Answer, Scene, pipeline, scripted_rcnn
from windowed import CLASSES, entry, write
from workbook.data.decoded import DecodedImages
from workbook.data.tiles import WindowedValDataset
from workbook.data.windows import cut_by_border
from workbook.models.backbones import find_backbone
from workbook.models.config import build_config, build_model
from workbook.models.detectors import find_detector
from workbook.models.recipes import Setting, find_recipe
from workbook.models.suppression import WITHOUT_NMS, suppression_iou
from workbook.training.validation import validate

CPU = torch.device("cpu")
# Few candidates, for speed; and thresholds that a detector with random weights passes.
OVERRIDES: dict[str, dict[str, Any]] = {
    "faster_rcnn": {"model.test_cfg.rcnn.score_thr": 0.3, "model.test_cfg.rpn.max_per_img": 100,
                    "model.train_cfg.rpn_proposal.max_per_img": 100},
    "vfnet": {"model.test_cfg.score_thr": 0.001},
    "retinanet": {"model.test_cfg.score_thr": 0.001},
    "detr": {"model.bbox_head.num_query": 20, "model.test_cfg.max_per_img": 20},
}
SIDE = 90
SIZES = [(201, 141), (131, 90)]  # odd, so that every window is scaled by another factor than the image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    annotations = [entry(1, 1, [20, 30, 30, 20]), entry(2, 1, [150, 100, 12, 14], 2), entry(3, 2, [60, 20, 40, 40])]
    return write(tmp_path_factory.mktemp("photos"), SIZES, annotations)


def val(folder: Path, file: str = "train.json", side: int | None = None, **more: Any) -> Any:
    steps = pipeline((128, 128))
    steps[4] = dict(type="Normalize", mean=[127.0] * 3, std=[60.0] * 3, to_rgb=False)
    kind = {"type": "OrderedCocoDataset"}
    if side:
        steps[0] = dict(type="LoadWindow")
        kind = {"type": WindowedValDataset.__name__, "window_side": side}
    return build_dataset({**kind, "classes": CLASSES, "img_prefix": str(folder), "ann_file": str(folder / file), "test_mode": True,
                          "pipeline": steps, **more})


@pytest.fixture(scope="module")
def detectors(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Detectors of each family with random weights; made once."""
    from scenes import make_dataset

    dataset = make_dataset(tmp_path_factory.mktemp("data"))
    made: dict[str, Any] = {}

    def make(key: str) -> Any:
        if key not in made:
            setting = Setting(find_detector(key), find_backbone("resnet18"), batch_size=1, epochs=1, iterations=1)
            config = build_config(
                dataset=dataset, detector=setting.detector, backbone=setting.backbone, image_size=(128, 128), batch_size=1, epochs=1,
                schedule=find_recipe("seed").schedule(setting), seed=0, weights=None, overrides=OVERRIDES[key],
            )
            torch.manual_seed(0)
            made[key] = build_model(config).eval()
        return made[key]

    return make


DETECTORS = ["faster_rcnn", "retinanet", "vfnet", "detr"]


def table(detections: list[dict[str, Any]], image_id: int) -> np.ndarray:
    """[n, 6] class, score, x, y, w, h."""
    own = [[d["category_id"], d["score"], *d["bbox"]] for d in detections if d["image_id"] == image_id]
    return np.array(own, float).reshape(-1, 6)


@pytest.mark.parametrize("key", DETECTORS)
def test_one_window_over_the_image_is_the_image(folder: Path, detectors: Any, key: str) -> None:
    model = detectors(key)
    plain = validate(model, val(folder), CPU)
    assert plain[0] and validate(model, val(folder, side=201), CPU) == plain


@pytest.mark.parametrize("key", DETECTORS)
def test_what_is_merged_are_the_detections_of_each_windows_crop_and_of_the_whole(folder: Path, detectors: Any, key: str) -> None:
    model = detectors(key)
    dataset = val(folder, side=SIDE)
    merged, losses = validate(model, dataset, CPU, seed=3)
    whole, losses_of_whole = validate(model, val(folder), CPU, seed=3)
    assert losses == losses_of_whole
    for index, (width, height) in enumerate(SIZES):
        views = [table(whole, index + 1)]
        windows = dataset.windows(index)
        assert len(windows) == (6 if index == 0 else 2)
        for number, window in enumerate(windows):
            alone = crop_alone(folder, model, index + 1, window, number)
            corners = np.column_stack([alone[:, 2:4], alone[:, 2:4] + alone[:, 4:]])
            alone = alone[~cut_by_border(corners, window, width, height)]
            views.append(alone + [0, 0, window.x, window.y, 0, 0])
        found = table(merged, index + 1)
        every = np.concatenate(views)
        near = np.abs(found[:, None] - every[None]).max(axis=2) < 1e-6
        assert near.any(axis=1).all()  # nothing is changed, and nothing is new
        view_of = np.repeat(np.arange(len(views)), [len(view) for view in views])
        assert len(set(view_of[near.any(axis=0)])) > 1
        for row in np.flatnonzero(~near.any(axis=0)):  # what is gone was found better by another view
            rivals = every[(every[:, 0] == every[row, 0]) & (every[:, 1] >= every[row, 1]) & (view_of != view_of[row])]
            count = (found[:, 0] == every[row, 0]).sum()
            assert (overlap(rivals[:, 2:], every[row, 2:]) > suppression_iou(model)).any() or count == 100


def crop_alone(folder: Path, model: Any, image_id: int, window: Any, number: int) -> np.ndarray:
    """What the detector finds in a file that holds this window alone."""
    pixels = cv2.imread(str(folder / f"{image_id}.png"))[window.rows, window.columns]
    name = f"crop-{image_id}-{number}"
    cv2.imwrite(str(folder / f"{name}.png"), pixels)
    content = json.loads((folder / "train.json").read_text())
    content["images"] = [{"id": 1, "file_name": f"{name}.png", "width": window.width, "height": window.height}]
    content["annotations"] = []
    (folder / f"{name}.json").write_text(json.dumps(content))
    return table(validate(model, val(folder, f"{name}.json"), CPU)[0], 1)


def overlap(boxes_xywh: np.ndarray, box_xywh: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes_xywh[:, :2], box_xywh[:2])
    high = np.minimum(boxes_xywh[:, :2] + boxes_xywh[:, 2:], box_xywh[:2] + box_xywh[2:])
    common = (high - low).clip(min=0).prod(axis=1)
    return common / (boxes_xywh[:, 2:].prod(axis=1) + box_xywh[2:].prod() - common)


# ---- a detector by script, in which each window is a scene of its own: its upper left pixel says which ---------------------

CORNERS = ((0, 0), (112, 0), (0, 112), (112, 112))  # of windows of 144 px over 256 px; the first is also the whole image's


def planted(folder: Path, truths: list[list[float]]) -> Any:
    """An image of 256 px whose window number n, from 1, begins with a pixel of this value."""
    write(folder, [(256, 256)], [entry(n, 1, box) for n, box in enumerate(truths, start=1)], SCRIPTED)
    pixels = np.zeros((256, 256, 3), np.uint8)
    for value, (x, y) in enumerate(CORNERS, start=1):
        pixels[y : y + 4, x : x + 4] = value
    cv2.imwrite(str(folder / "1.png"), pixels)
    dataset = build_dataset(dict(
        type=WindowedValDataset.__name__, window_side=144, classes=SCRIPTED, img_prefix=str(folder), ann_file=str(folder / "train.json"),
        test_mode=True, pipeline=[dict(type="LoadWindow"), *pipeline((256, 256))[1:]]))
    assert [(w.x, w.y) for w in dataset.windows(0)] == list(CORNERS)
    return dataset


def scene(window: int, *answers: tuple[list[float], float]) -> Scene:
    """What the script says in this window (of CORNERS): boxes xywh in pixels of the image, with a score for the first class."""
    x0, y0 = CORNERS[window]
    boxes = [tuple(256 / 144 * v for v in (x - x0, y - y0, x - x0 + w, y - y0 + h)) for (x, y, w, h), _ in answers]
    return Scene([], [Answer(box, {"cat": score}) for box, (_, score) in zip(boxes, answers, strict=True)])


def test_a_small_object_that_only_a_window_finds_is_found(tmp_path: Path) -> None:
    truth = [180.0, 190.0, 12.0, 12.0]
    dataset = planted(tmp_path, [truth])
    model = scripted_rcnn([scene(0), scene(1), scene(2), scene(3, (truth, 0.8))])
    found, _ = validate(model, dataset, CPU)
    assert len(found) == 1 and found[0]["score"] == pytest.approx(0.8, abs=1e-6)
    assert found[0]["bbox"] == pytest.approx(truth, abs=1e-3)


def test_an_object_on_a_border_is_reported_once_and_whole(tmp_path: Path) -> None:
    truth = [130.0, 200.0, 20.0, 20.0]  # window 2 (x to 144) shows 14 of its 20 pixels, window 3 all of it
    dataset = planted(tmp_path, [truth])
    piece = [130.0, 200.0, 14.0, 20.0]
    scenes = [scene(0), scene(1), scene(2, (piece, 0.9)), scene(3, (truth, 0.6))]
    found, _ = validate(scripted_rcnn(scenes), dataset, CPU)
    assert [d["bbox"] for d in found] == [pytest.approx(truth, abs=1e-3)]
    assert found[0]["score"] == pytest.approx(0.6, abs=1e-6)  # as it was


def test_an_object_in_the_overlap_is_reported_once_by_the_surest(tmp_path: Path) -> None:
    truth = [118.0, 200.0, 20.0, 20.0]
    dataset = planted(tmp_path, [truth])
    off = [119.0, 200.0, 20.0, 20.0]
    found, _ = validate(scripted_rcnn([scene(0), scene(1), scene(2, (truth, 0.7)), scene(3, (off, 0.9))]), dataset, CPU)
    assert [d["bbox"] for d in found] == [pytest.approx(off, abs=1e-3)]


def test_the_windows_of_an_image_are_read_from_one_decoding(folder: Path, detectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = LoadImageFromFile.__call__
    monkeypatch.setattr(LoadImageFromFile, "__call__", lambda self, results: read.append("") or real(self, results))
    monkeypatch.setattr("workbook.data.decoded.DECODED", DecodedImages(limit=1))
    validate(detectors("retinanet"), val(folder, side=SIDE), CPU)
    assert len(read) == len(SIZES)


def test_whose_threshold_is_used(detectors: Any) -> None:
    assert suppression_iou(detectors("faster_rcnn")) == 0.5
    assert suppression_iou(detectors("vfnet")) == 0.6
    assert suppression_iou(detectors("detr")) == WITHOUT_NMS
    model = copy.deepcopy(detectors("retinanet"))
    model.bbox_head.test_cfg.nms = {"type": "soft_nms", "iou_threshold": 0.3}
    assert suppression_iou(model) == 0.3
