"""The remedies that change which pixels are shown: tiles, tiles_at_test, copy_paste_small; in configs, in a training, in a diagnosis."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv import Config
from mmdet.datasets import build_dataset
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from scenes import make_dataset
from small_run import SMALL
from workbook.data.catalog import Dataset
from workbook.data.windows import grid
from workbook.diagnosis.store import load_or_diagnose
from workbook.errors import ParameterError
from workbook.files import read_json
from workbook.models.backbones import find_backbone
from workbook.models.config import build_config, build_model
from workbook.models.detectors import DETECTORS, find_detector
from workbook.models.recipes import Setting, find_recipe
from workbook.remedies.anchors import input_images
from workbook.remedies.apply import apply_remedies
from workbook.remedies.base import Context
from workbook.remedies.registry import parse_remedies
from workbook.remedies.tiles_at_test import window_side
from workbook.runs.load import load_trained
from workbook.training.job import Job, prepare
from workbook.training.loader import as_batch, batches
from workbook.training.parameters import check_parameters
from workbook.training.train import train
from workbook.training.validation import validate

CPU = torch.device("cpu")
IGNORING = ("faster_rcnn", "cascade_rcnn", "retinanet")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    return make_dataset(tmp_path / "data", train_images=4, val_images=2, width=160, height=120)


def job(**changed: Any) -> Job:
    return prepare(check_parameters({**SMALL, **changed}))


def config_of(dataset: Dataset, detector: str, image_size: int = 128) -> tuple[Config, Context]:
    found = find_detector(detector)
    setting = Setting(found, find_backbone("resnet18"), batch_size=2, epochs=1, iterations=1)
    config = build_config(
        dataset=dataset, detector=found, backbone=setting.backbone, schedule=find_recipe("seed").schedule(setting),
        image_size=(image_size, image_size), batch_size=2, epochs=1, seed=0, weights=None,
        overrides={"model.bbox_head.num_query": 20} if found.family == "query" else {},
    )
    return config, Context(dataset.train, (image_size, image_size), found.family, dataset.classes, batch_size=2, epochs=1)


def with_remedies(dataset: Dataset, detector: str, keys: str) -> Config:
    config, context = config_of(dataset, detector)
    apply_remedies(config, parse_remedies(keys), context)
    return config


@pytest.mark.parametrize("detector", DETECTORS)
def test_only_where_the_assigner_can_are_pieces_ignored(data: Dataset, detector: str) -> None:
    config = with_remedies(data, detector, "tiles")
    keys = config.data.train.pipeline[-1]["keys"]
    assert ("gt_bboxes_ignore" in keys) == (detector in IGNORING)
    assert "gt_bboxes_ignore" not in config.data.val.pipeline[-1]["keys"]  # the losses of val are those of the whole images
    config.model.backbone.init_cfg = None
    model = build_model(config).train()
    batch = as_batch([build_dataset(config.data.train)[0]])
    torch.manual_seed(0)
    losses = copy.deepcopy(model).forward_train(**batch)
    values = [value for part in losses.values() for value in (part if isinstance(part, list) else [part])]
    assert values and all(torch.as_tensor(value).isfinite().all() for value in values)


@pytest.mark.parametrize("detector", ["faster_rcnn", "retinanet"])
def test_an_ignored_region_is_no_background(data: Dataset, detector: str) -> None:
    """The assigner of the training itself: anchors in the region are neither object nor background, the others as before."""
    config = with_remedies(data, detector, "tiles")
    config.model.backbone.init_cfg = None
    model = build_model(config)
    head = model.rpn_head if detector == "faster_rcnn" else model.bbox_head
    anchors = torch.tensor([[10.0, 10, 42, 42], [80, 80, 112, 112], [70, 80, 102, 112], [0, 90, 30, 120]])
    truth, region = anchors[:1], torch.tensor([[80.0, 60, 120, 120]])
    without = head.assigner.assign(anchors, truth, None, None).gt_inds.tolist()
    assert without == [1, 0, 0, 0]
    assert head.assigner.assign(anchors, truth, region, None).gt_inds.tolist() == [1, -1, -1, 0]


@pytest.mark.parametrize(("sizes", "image_size", "side"), [
    ([(400, 300)] * 3, 320, 224),  # two over the longer side
    ([(300, 400), (401, 20)], 320, 224),
    ([(4000, 3000)] * 3, 1024, 1024),  # as large as the image size: no pixel is lost
    ([(100, 100), (4000, 3000), (5000, 3000)], 2000, 2000),
])
def test_the_side_of_a_window(data: Dataset, sizes: list[tuple[int, int]], image_size: int, side: int) -> None:
    config, context = config_of(data, "retinanet", image_size)
    images = [{"width": width, "height": height} for width, height in sizes]
    found = window_side(config, Context(**{**vars(context), "train": {"images": images}}))
    assert found == side
    median = sorted(max(size) for size in sizes)[1 if len(sizes) > 2 else 0]
    assert len(grid(median, side, side)) >= 2


def test_too_small_images_are_refused(data: Dataset) -> None:
    config, context = config_of(data, "retinanet", 128)
    images = [{"width": 50, "height": 40}] * 3
    with pytest.raises(ParameterError, match="remedy tiles: half of the images of train have a longer side of 50 pixels or less"):
        apply_remedies(config, parse_remedies("tiles"), Context(**{**vars(context), "train": {"images": images, "annotations": []}}))


@pytest.mark.parametrize(("keys", "says"), [
    ("tiles,tiles_at_test", "tiles and tiles_at_test exclude each other"),
])
def test_what_cannot_be_combined_is_refused(data: Dataset, keys: str, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        job(remedies=keys)


def test_a_run_in_windows_is_not_put_into_windows_again(data: Dataset) -> None:
    config = with_remedies(data, "retinanet", "tiles")
    _, context = config_of(data, "retinanet")
    for key in ("tiles", "tiles_at_test"):
        with pytest.raises(ParameterError, match=f"{key}: data.train is read in windows already"):
            apply_remedies(config, parse_remedies(key), context)
    with pytest.raises(ParameterError, match="data.train.pipeline pastes small objects already"):
        apply_remedies(with_remedies(data, "retinanet", "copy_paste_small"), parse_remedies("copy_paste_small"), context)


def test_without_small_objects_none_can_be_pasted(tmp_path: Path) -> None:
    large = make_dataset(tmp_path, "large", train_images=2, sizes=("medium",))
    with pytest.raises(ParameterError, match="train has no small object"):
        with_remedies(large, "retinanet", "copy_paste_small")


def test_steps_follow_the_windows(data: Dataset) -> None:
    plain, tiled, tested = job(), job(remedies="tiles"), job(remedies="tiles_at_test")
    items = len(build_dataset(tiled.config.data.train))
    assert plain.steps_an_epoch == tested.steps_an_epoch == 2
    assert tiled.steps_an_epoch == -(-items // 2) > 2 * plain.steps_an_epoch
    [applied] = tiled.remedies
    assert applied.changes["data.train.type"] == ("OrderedCocoDataset", "WindowedTrainDataset")


def test_anchors_are_fitted_to_what_the_windows_show(data: Dataset) -> None:
    plain, tiled = (input_images(with_remedies(data, "faster_rcnn", keys)) for keys in ("", "tiles"))
    shown = build_dataset(with_remedies(data, "faster_rcnn", "tiles").data.train)
    assert len(plain) == 4 and len(tiled) == len(shown.views)

    def sides(images: list[Any]) -> list[float]:
        return [float(side) for image in images for side in np.ptp(image.gt_boxes_xyxy.reshape(-1, 2, 2), axis=1)[:, 0]]

    assert max(sides(tiled)) > 1.5 * max(sides(plain))  # 90 px are scaled to 128, and 160 to 128


def test_batches_of_windows_and_pastes_are_the_same_after_a_break(data: Dataset, tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", "wide", train_images=2, width=400, height=300, sizes=("small",))
    config = job(dataset="wide", remedies="tiles,copy_paste_small").config
    config.data.train.empty_share = 0.5
    assert build_dataset(config.data.train).empty_items > 0
    whole = list(batches(build_dataset(config.data.train), 2, 5, 1, CPU))
    rest = list(batches(build_dataset(config.data.train), 2, 5, 1, CPU, start=3))
    assert len(whole) == len(rest) + 3
    for one, two in zip(whole[3:], rest, strict=True):
        assert torch.equal(one["img"], two["img"])
        assert all(torch.equal(a, b) for a, b in zip(one["gt_bboxes"], two["gt_bboxes"], strict=True))


def test_a_run_is_measured_and_diagnosed_on_what_is_merged(data: Dataset) -> None:
    """Trained for a while, so that there is something to be found."""
    run = train(job(remedies="tiles,copy_paste_small", epochs=2))
    metrics, predictions = run.metrics(), read_json(run.folder / "predictions.json")
    model, config = load_trained(run)
    val = build_dataset(config.data.val)
    assert len(val.windows(0)) > 1
    found, losses = validate(model, val, CPU, seed=0)
    assert found == predictions and losses["loss"] == metrics["loss"]
    gt = COCO(str(data.val_json))
    engine = COCOeval(gt, gt.loadRes(str(run.folder / "predictions.json")), "bbox")
    engine.evaluate()
    engine.accumulate()
    engine.summarize()
    assert metrics["bbox_mAP_50"] == pytest.approx(engine.stats[1], abs=1e-9) and metrics["bbox_mAP_50"] > 0.05
    diagnosis = load_or_diagnose(run)
    assert diagnosis.disagreement == ()
    assert len(diagnosis.detections) == len(predictions)
    assert (np.array(diagnosis.trace["candidate_iou"]) > 0).any()
