"""What training on windows shows: against the image files and the annotation file themselves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from mmdet.datasets import build_dataset
from mmdet.datasets.pipelines import LoadImageFromFile

from bad_data import exif
from scenes import make_dataset
from small_dataset import picture
from windowed import CLASSES, LOADING, entry, write
from workbook.data.catalog import Dataset
from workbook.data.decoded import DecodedImages, LoadWindow
from workbook.data.tiles import WindowedTrainDataset, truths_in
from workbook.data.windows import MIN_VISIBLE, Window
from workbook.training.loader import SeededItems, as_batch, epoch_order

RAW = [*LOADING, dict(type="RandomFlip", flip_ratio=0.0), dict(type="DefaultFormatBundle"),
       dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels", "gt_bboxes_ignore"])]


def opened(folder: Path, side: int, **more: Any) -> WindowedTrainDataset:
    return build_dataset(dict(type="WindowedTrainDataset", window_side=side, classes=CLASSES, pipeline=RAW,
                              img_prefix=str(folder), ann_file=str(folder / "train.json"), **more))


def shown(dataset: Any, index: int) -> dict[str, np.ndarray]:
    """One item: pixels [height, width, 3], boxes, labels and ignored regions."""
    batch = as_batch([dataset[index]])
    return {"pixels": batch["img"][0].permute(1, 2, 0).numpy(), "boxes": batch["gt_bboxes"][0].numpy(),
            "labels": batch["gt_labels"][0].numpy(), "ignored": batch["gt_bboxes_ignore"][0].numpy()}


def test_an_item_is_the_part_of_the_file_and_its_boxes_are_those_of_the_annotations(tmp_path: Path) -> None:
    boxes = [[10.5, 20.25, 30, 12], [150, 90, 20, 20], [95, 40, 20, 10], [0, 0, 201, 140]]
    folder = write(tmp_path, [(201, 141)], [entry(n, 1, box, 1 + n % 2) for n, box in enumerate(boxes, start=1)])
    dataset = opened(folder, 100, empty_share=0)
    pixels = cv2.imread(str(folder / "1.png"))
    starts = Counter()
    for index, view in enumerate(dataset.views):
        window, item = view.window, shown(dataset, index)
        assert np.array_equal(item["pixels"], pixels[window.rows, window.columns])
        starts[window.x, window.y] += 1
        for (x, y, w, h), label in zip(boxes, (1, 0, 1, 0), strict=True):
            part = np.array([max(x, window.x), max(y, window.y), min(x + w, window.x + window.width), min(y + h, window.y + window.height)])
            area = np.prod((part[2:] - part[:2]).clip(min=0))
            match = np.isclose(item["boxes"] + np.tile([window.x, window.y], 2), part, atol=1e-4).all(axis=1)
            is_ignored = np.isclose(item["ignored"] + np.tile([window.x, window.y], 2), part, atol=1e-4).all(axis=1)
            share = area / (w * h)
            assert match.sum() == (share >= MIN_VISIBLE)
            assert (item["labels"][match] == label).all()
            if 0 < share < MIN_VISIBLE and is_ignored.sum() == 0:  # left out where it covers an object
                assert len(item["boxes"])
    assert starts[0, 0] == 2  # the whole image and its first window
    assert {(x, y) for x, y in starts} == {(0, 0), (80, 0), (101, 0), (0, 41), (80, 41), (101, 41)}


def test_pieces_are_ignored_but_where_they_would_hide_an_object() -> None:
    boxes = np.array([[90, 0, 190, 50], [20, 20, 40, 40], [92, 10, 98, 20], [60, 95, 70, 195]], float)
    truths = truths_in(Window(0, 0, 100, 100), boxes, np.array([0, 1, 1, 0]))
    assert truths.boxes_xyxy.tolist() == [[20, 20, 40, 40], [92, 10, 98, 20]] and truths.labels.tolist() == [1, 1]
    assert truths.ignored_xyxy.tolist() == [[60, 95, 70, 100]]  # the first piece lies over the third object
    alone = truths_in(Window(0, 0, 100, 100), boxes[[0, 1, 3]], np.array([0, 1, 0]))
    assert alone.ignored_xyxy.tolist() == [[90, 0, 100, 50], [60, 95, 70, 100]]


def test_windows_with_nothing_but_pieces_or_crowds_are_no_items(tmp_path: Path) -> None:
    annotations = [entry(1, 1, [10, 10, 20, 20]), entry(2, 1, [170, 5, 60, 5]), entry(3, 1, [10, 250, 30, 30], iscrowd=1)]
    dataset = opened(write(tmp_path, [(400, 300)], annotations), 100, empty_share=0.5)
    with_objects = [view.window for view in dataset.views[1:]]
    assert {(window.x, window.y) for window in with_objects} == {(0, 0), (160, 0)}  # 80 shows .17 of the second object
    for view in dataset.empty:
        for x, y, w, h in (a["bbox"] for a in annotations):
            outside = x >= view.window.x + 100 or x + w <= view.window.x or y >= view.window.y + 100 or y + h <= view.window.y
            assert outside, view
    assert len(dataset.empty) == 20 - 2 - 1 - 2  # of 5 x 4 windows: with objects, with a piece, with the crowd


def test_the_share_of_empty_windows_and_their_draw(tmp_path: Path) -> None:
    annotations = [entry(n + 1, 1, [20 + 60 * n, 20, 12, 12]) for n in range(6)]
    folder = write(tmp_path, [(400, 400)], annotations)
    assert len(opened(folder, 100, empty_share=0)) == len(opened(folder, 100).views)
    dataset = opened(folder, 100, empty_share=0.5)
    assert dataset.empty_items == len(dataset.views) == len(dataset) - len(dataset.views)
    assert opened(folder, 100, empty_share=0.95).empty_items == len(dataset.empty)  # there are no more
    items = SeededItems(dataset, seed=4)
    first = len(dataset.views)
    draws = [[items[epoch, first + n]["img"].data.numpy() for n in range(3)] for epoch in (0, 1, 0)]
    assert all(np.array_equal(one, again) for one, again in zip(draws[0], draws[2], strict=True))
    assert not all(np.array_equal(one, other) for one, other in zip(draws[0], draws[1], strict=True))
    assert len(items[0, first]["gt_bboxes"].data) == 0


def test_small_images_pass_whole_and_are_no_item_twice(tmp_path: Path) -> None:
    folder = write(tmp_path, [(100, 80), (101, 80)], [entry(1, 1, [10, 10, 20, 20]), entry(2, 2, [10, 10, 20, 20])])
    dataset = opened(folder, 100, empty_share=0)
    assert [(view.image, view.window.width) for view in dataset.views] == [(0, 100), (1, 101), (1, 100), (1, 100)]


def test_a_whole_image_is_shown_as_without_windows(tmp_path: Path) -> None:
    data = make_dataset(tmp_path, train_images=3, width=150)
    plain = build_dataset(dict(type="OrderedCocoDataset", classes=CLASSES, pipeline=RAW, img_prefix=str(data.images_dir),
                               ann_file=str(data.train_json)))
    windowed = WindowedTrainDataset(window_side=64, classes=CLASSES, pipeline=RAW, img_prefix=str(data.images_dir),
                                    ann_file=str(data.train_json))
    wholes = [index for index, view in enumerate(windowed.views) if view.window.width == 150]
    assert len(wholes) == 3 < len(windowed)
    for number, index in enumerate(wholes):
        one, two = shown(plain, number), shown(windowed, index)
        assert all(np.array_equal(one[key], two[key]) for key in one)


def test_of_a_whole_image_no_box_is_clipped(tmp_path: Path) -> None:
    dataset = opened(write(tmp_path, [(100, 90)], [entry(1, 1, [80.5, 10, 20, 20])]), 64, empty_share=0)
    assert shown(dataset, 0)["boxes"].tolist() == [[80.5, 10, 100.5, 30]]  # half a pixel too far, as mmdet takes it
    assert shown(dataset, 1)["boxes"].tolist() == [[44.5, 10, 64, 30]]


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photo_turned_by_exif_is_cut_as_it_is_seen(tmp_path: Path, orientation: int) -> None:
    upright = picture(3, 90, 150)
    turn = {3: PIL.Image.Transpose.ROTATE_180, 6: PIL.Image.Transpose.ROTATE_90, 8: PIL.Image.Transpose.ROTATE_270}
    write(tmp_path, [(90, 150)], [entry(1, 1, [5, 100, 20, 20])])
    stored = upright.transpose(turn[orientation])
    stored.save(tmp_path / "1.png", "JPEG", exif=exif(orientation), quality=100, subsampling=0)
    dataset = opened(tmp_path, 64, empty_share=0)
    expected = np.asarray(upright)[..., ::-1]
    for index, view in enumerate(dataset.views):
        pixels = shown(dataset, index)["pixels"]
        assert pixels.shape == (view.window.height, view.window.width, 3)
        assert np.abs(pixels.astype(int) - expected[view.window.rows, view.window.columns]).mean() < 3


def test_the_windows_of_one_image_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Counter[str]()
    real = LoadImageFromFile.__call__
    monkeypatch.setattr(LoadImageFromFile, "__call__",
                        lambda self, results: decoded.update([results["img_info"]["filename"]]) or real(self, results))
    folder = write(tmp_path, [(300, 300), (300, 300)], [entry(n, 1 + n % 2, [10 + 9 * n, 10 + 9 * n, 12, 12]) for n in range(30)])
    dataset = opened(folder, 100)
    for index in range(len(dataset.views)):
        dataset[index]
    assert len(dataset.views) > 20 and set(decoded.values()) == {1} and len(decoded) == 2


def test_the_memory_of_images_has_a_limit_and_sees_a_changed_file(tmp_path: Path) -> None:
    write(tmp_path, [(40, 40)] * 3, [])
    memory = DecodedImages(limit=2 * 40 * 40 * 3)
    first = memory.read(tmp_path / "1.png")
    assert memory.read(tmp_path / "1.png") is first
    memory.read(tmp_path / "2.png")
    memory.read(tmp_path / "3.png")
    assert memory.read(tmp_path / "1.png") is not first  # it had to make room
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((50, 40, 3), np.uint8))
    assert memory.read(tmp_path / "1.png").shape == (50, 40, 3)


@pytest.mark.parametrize("window", [None, Window(0, 0, 100, 80), Window(10, 10, 50, 50)])
def test_what_is_loaded_may_be_changed_without_harm(tmp_path: Path, window: Window | None) -> None:
    folder = write(tmp_path, [(100, 80)], [])
    asked = {"img_prefix": str(folder), "img_info": {"filename": "1.png"}, "window": window}
    first = LoadWindow()(dict(asked))["img"]
    before = first.copy()
    first[:] = 0
    assert np.array_equal(LoadWindow()(dict(asked))["img"], before)


@pytest.mark.parametrize(("wrong", "says"), [
    ({"window_side": 31}, "window_side=31: .*whole numbers from 32"), ({"window_side": 64.5}, "window_side=64.5"),
    ({"window_side": True}, "window_side=True"), ({"empty_share": 1}, "empty_share=1: .*from 0 to below 1"),
    ({"empty_share": -0.1}, "empty_share=-0.1"),
])
def test_impossible_windows_are_refused(tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
    folder = write(tmp_path, [(100, 100)], [entry(1, 1, [10, 10, 20, 20])])
    with pytest.raises(ValueError, match=says):
        opened(folder, **{"side": wrong.pop("window_side", 64), **wrong})


def test_the_windows_are_those_of_the_train_file_alone(tmp_path: Path) -> None:
    data: Dataset = make_dataset(tmp_path, train_images=2, val_images=4)
    dataset = WindowedTrainDataset(window_side=64, classes=CLASSES, pipeline=RAW, img_prefix=str(data.images_dir),
                                   ann_file=str(data.train_json))
    assert {dataset.data_infos[view.image]["file_name"] for view in [*dataset.views, *dataset.empty]} == {"train-001.png", "train-002.png"}


def test_all_views_of_an_image_with_small_objects_are_repeated(tmp_path: Path) -> None:
    folder = write(tmp_path, [(150, 90), (150, 90)], [entry(1, 1, [10, 10, 20, 20]), entry(2, 2, [10, 10, 60, 60])])
    once, thrice = opened(folder, 100, empty_share=0), opened(folder, 100, empty_share=0, small_repeats=3)
    of_first = sum(view.image == 0 for view in once.views)
    assert of_first == 2 and len(thrice) == len(once) + 2 * of_first
    assert sorted(thrice.shown.tolist()) == sorted([*range(len(once.views)), *2 * [0, 1]])


def test_the_boxes_of_all_views_are_those_of_the_items(tmp_path: Path) -> None:
    annotations = [entry(1, 1, [10, 10, 20, 20]), entry(2, 1, [90, 30, 30, 20]), entry(3, 1, [120, 30, 70, 60])]
    dataset = opened(write(tmp_path, [(200, 90)], annotations), 100, empty_share=0)
    views = dataset.shown_boxes(0)
    assert [(info["width"], info["height"]) for info, _ in views] == [(view.window.width, view.window.height) for view in dataset.views]
    for index, (_, boxes) in enumerate(views):
        assert np.array_equal(boxes.astype(np.float32), shown(dataset, index)["boxes"])


def test_windows_of_one_image_are_read_together_where_not_all_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = [entry(20 * image + n, image, [10 + 28 * n, 10 + 28 * n, 12, 12]) for image in range(1, 31) for n in range(6)]
    dataset = opened(write(tmp_path, [(200, 200)] * 30, annotations), 64)
    order = np.random.default_rng(0).permutation(len(dataset))
    assert np.array_equal(dataset.arrange(order), order)  # all fit
    monkeypatch.setattr("workbook.data.decoded.MEMORY_BYTES", 10 * 3 * 200 * 200)
    arranged = dataset.arrange(order)
    assert sorted(arranged) == sorted(order)
    with_objects = [item for item in arranged if dataset.shown[item] < len(dataset.views)]
    images = [dataset.views[dataset.shown[item]].image for item in with_objects]
    pools = [images[:80], images[-80:]]
    assert len(images) > 250 and not set(pools[0]) & set(pools[1]) and all(len(set(pool)) == 10 for pool in pools)
    assert images != sorted(images, key=images.index)  # within a pool they are mixed
    memory, decodings = DecodedImages(limit=10 * 3 * 200 * 200), Counter[str]()
    monkeypatch.setattr("workbook.data.decoded.DECODED", memory)
    real = LoadImageFromFile.__call__
    monkeypatch.setattr(LoadImageFromFile, "__call__",
                        lambda self, results: decodings.update([results["img_info"]["filename"]]) or real(self, results))
    for batch in epoch_order(len(dataset), 2, 3, 0, dataset.arrange):
        for _, item in batch:
            if dataset.shown[item] < len(dataset.views):
                dataset[item]
    assert set(decodings.values()) == {1} and len(decodings) == 30
