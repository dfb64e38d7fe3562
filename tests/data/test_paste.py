"""Small objects that are pasted: against the pixels and boxes of the files they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmdet.datasets import build_dataset

from windowed import CLASSES, LOADING, entry, write
from workbook.data import paste
from workbook.data.paste import SCALES, PasteSmall, corners, overlaps
from workbook.data.tiles import WindowedTrainDataset
from workbook.training.loader import SeededItems, as_batch

COLLECT = [dict(type="RandomFlip", flip_ratio=0.0), dict(type="DefaultFormatBundle"),
           dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"])]
CROWD = [210.0, 10.0, 60.0, 60.0]


def opened(folder: Path, number: int = 4, kind: str = "OrderedCocoDataset", **more: Any) -> Any:
    return build_dataset(dict(type=kind, classes=CLASSES, img_prefix=str(folder), ann_file=str(folder / "train.json"),
                              pipeline=[*LOADING, dict(type="PasteSmall", number=number), *COLLECT], **more))


def shown(dataset: Any, index: int, seed: int = 0, epoch: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch = as_batch([SeededItems(dataset, seed)[epoch, index]])
    return batch["img"][0].permute(1, 2, 0).numpy(), batch["gt_bboxes"][0].numpy(), batch["gt_labels"][0].numpy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Image 1 nearly empty, image 2 crowded, image 3 with the sources alone; a category that is not asked for is in each."""
    crowded = [[float(x), float(y), 40.0, 35.0] for x in range(5, 300, 50) for y in range(5, 200, 45)]
    annotations = [
        entry(1, 1, [250.0, 150.0, 40.0, 40.0]), entry(2, 1, CROWD, iscrowd=1), entry(3, 1, [10.0, 100.0, 80.0, 80.0], ignore=1),
        entry(4, 1, [150.0, 150.0, 50.0, 40.0], 9),
        *(entry(100 + n, 2, box) for n, box in enumerate(crowded)),
        entry(50, 3, [40.25, 50.5, 12.5, 9.75], 1), entry(51, 3, [120.0, 60.0, 20.0, 24.0], 2),
        entry(52, 3, [200.0, 100.0, 20.0, 20.0], 2), entry(53, 3, [210.0, 110.0, 30.0, 30.0], 1),  # cover each other
        entry(54, 3, [20.0, 150.0, 45.0, 45.0], 1),  # not small
        entry(55, 3, [220.0, 190.0, 15.0, 15.0], 1, ignore=1), entry(56, 3, [230.0, 10.0, 15.0, 15.0], 1, iscrowd=1),
        entry(57, 3, [10.0, 10.0, 12.0, 12.0], 9), entry(58, 3, [100.0, 195.0, 10.0, 0.5], 1),  # none that training uses
    ]
    return write(tmp_path, [(300, 200), (300, 220), (260, 220)], annotations)


def test_the_sources_are_the_small_objects_that_nothing_covers(folder: Path) -> None:
    dataset = opened(folder)
    transform = next(t for t in dataset.pipeline.transforms if isinstance(t, PasteSmall))
    found = {(source.image_id, tuple(source.box_xyxy), source.label) for source in transform.sources(dataset)}
    assert found == {(3, (40.25, 50.5, 52.75, 60.25), 0), (3, (120.0, 60.0, 140.0, 84.0), 1)}


@pytest.mark.parametrize("index", [0, 1])
def test_a_pasted_object_covers_nothing_and_is_its_source_scaled(folder: Path, index: int) -> None:
    dataset = opened(folder)
    transform = next(t for t in dataset.pipeline.transforms if isinstance(t, PasteSmall))
    sources = {source.label: source for source in transform.sources(dataset)}
    original, source_pixels = cv2.imread(str(folder / f"{index + 1}.png")), cv2.imread(str(folder / "3.png"))
    own = [a for a in dataset.coco.imgToAnns[index + 1]]
    pasted = 0
    for seed in range(8):
        pixels, boxes, labels = shown(dataset, index, seed)
        truths = dataset.get_ann_info(index)["bboxes"]
        assert np.array_equal(boxes[: len(truths)], truths)
        new = boxes[len(truths) :].astype(float)
        pasted += len(new)
        changed = np.zeros(pixels.shape[:2], bool)
        for box, label in zip(new, labels[len(truths) :], strict=True):
            others = np.vstack([corners(own), new[(new != box).any(axis=1)]])
            assert not overlaps(box, others).any()
            x1, y1, x2, y2 = sources[label].patch_xyxy
            factors = (box[2:] - box[:2]) / (sources[label].box_xyxy[2:] - sources[label].box_xyxy[:2])
            size = np.round(factors * [x2 - x1, y2 - y1]).astype(int)
            assert ((factors >= SCALES[0] - 1e-6) & (factors <= SCALES[1] + 1e-6)).all()
            corner = box[:2] - (sources[label].box_xyxy[:2] - [x1, y1]) * factors
            x, y = corner.round().astype(int)
            exact = (sources[label].box_xyxy - [x1, y1, x1, y1]) * np.tile(size / [x2 - x1, y2 - y1], 2) + [x, y, x, y]
            assert np.abs(box - exact).max() < 1e-4
            expected = cv2.resize(source_pixels[y1:y2, x1:x2], tuple(size.tolist()))
            assert np.array_equal(pixels[y : y + size[1], x : x + size[0]], expected)
            assert not changed[y : y + size[1], x : x + size[0]].any()  # no patch over another
            changed[y : y + size[1], x : x + size[0]] = True
        assert np.array_equal(pixels[~changed], original[~changed])
        for annotation in own:
            x, y, w, h = (int(value) for value in annotation["bbox"])
            assert not changed[y : y + h, x : x + w].any()
    assert pasted == 32 if index == 0 else pasted == 0  # the crowded image has no room for any


def test_in_a_window_nothing_is_covered_either(folder: Path) -> None:
    dataset = opened(folder, kind=WindowedTrainDataset.__name__, window_side=120, empty_share=0.5)
    pasted = 0
    for index, view in enumerate(dataset.views):
        truths = dataset.truths(view)
        _, boxes, _ = shown(dataset, index)
        new = boxes[len(truths.boxes_xyxy) :]
        pasted += len(new)
        image_id = dataset.data_infos[view.image]["id"]
        for box in new + np.tile([view.window.x, view.window.y], 2):
            assert not overlaps(box, corners(dataset.coco.imgToAnns[image_id])).any()
    assert pasted > 10
    _, boxes, _ = shown(dataset, len(dataset) - 1)  # a window without objects has some now
    assert len(boxes) >= 1


def test_the_draws_are_the_loaders(folder: Path) -> None:
    first, again, other, later = (shown(opened(folder), 0, seed, epoch) for seed, epoch in ((1, 0), (1, 0), (2, 0), (1, 1)))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1]) and not np.array_equal(first[1], later[1])


def test_what_was_read_before_changes_no_draw(folder: Path) -> None:
    dataset = opened(folder)
    for index in (2, 1, 0, 2):
        dataset[index]
    assert all(np.array_equal(one, two) for one, two in zip(shown(dataset, 0), shown(opened(folder), 0), strict=True))


def test_the_memory_of_patches_has_a_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paste, "MEMORY_BYTES", 1)
    dataset = opened(folder)
    expected = shown(opened(folder), 0)
    assert all(np.array_equal(one, two) for one, two in zip(shown(dataset, 0), expected, strict=True))


def test_without_small_objects_nothing_is_pasted(tmp_path: Path) -> None:
    dataset = opened(write(tmp_path, [(200, 200)], [entry(1, 1, [10, 10, 60, 60])]))
    pixels, boxes, _ = shown(dataset, 0)
    assert len(boxes) == 1 and np.array_equal(pixels, cv2.imread(str(tmp_path / "1.png")))


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_an_impossible_number_is_refused(number: Any) -> None:
    with pytest.raises(ValueError, match=rf"number={number}.*whole numbers from 1"):
        PasteSmall(number)
