"""What training uses of a train.json, beside what mmdet's own dataset gives out."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from mmdet.datasets import CocoDataset

from small_dataset import annotation, load, save, write_dataset
from workbook.data.checks import check_dataset
from workbook.data.learnable import LEFT_OUT, USED, left_out_words, objects_by_hindrance, small_images, trainable_images
from workbook.data.reading import Coco, read_coco


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    return write_dataset(tmp_path / "pets", images=6)


def change(folder: Path, **tables: Any) -> Coco:
    save(folder, "train", {**load(folder, "train"), **tables})
    return read_coco(folder / "train.json")


def built(folder: Path, empty_images: str) -> CocoDataset:
    return CocoDataset(ann_file=str(folder / "train.json"), img_prefix="", classes=("cat", "dog"), pipeline=[],
                       filter_empty_gt=empty_images == LEFT_OUT)


def any_annotation(number: int, rng: random.Random) -> dict[str, Any]:
    box_xywh = [rng.choice((1.0, 30.0)), 2.0, rng.choice((0.5, 9.0)), rng.choice((0.9, 1.0, 9.0))]
    return annotation(number, rng.randint(1, 6), box_xywh, rng.choice((1, 7)), iscrowd=int(rng.random() < 0.2),
                      ignore=int(rng.random() < 0.2))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("empty_images", [LEFT_OUT, USED])
def test_images_and_boxes_are_those_that_mmdet_trains_on(seed: int, empty_images: str, pets: Path) -> None:
    rng = random.Random(seed)
    images = [{**image, "height": rng.choice((31, 32, 48))} for image in load(pets, "train")["images"]]
    train = change(pets, images=images, annotations=[any_annotation(number, rng) for number in range(1, 6)])
    mmdets = built(pets, empty_images)
    assert trainable_images(train, empty_images) == mmdets.img_ids
    assert objects_by_hindrance(train)[""] == sum(len(mmdets.get_ann_info(index)["labels"]) for index in range(len(mmdets)))


def test_what_is_left_out_is_counted_with_its_reason(pets: Path) -> None:
    content = load(pets, "train")
    images = [{**image, "width": 20 if image["id"] == 1 else 64} for image in content["images"]]
    train = change(pets, images=images, annotations=[a for a in content["annotations"] if a["image_id"] not in (2, 5)])
    assert len(small_images(train)) == 1
    assert left_out_words(train, LEFT_OUT) == (
        "left out of 6 train images: 2 without objects (empty_images=used learns from them what is background), 1 under 32 px a side")
    assert left_out_words(train, USED) == "left out of 6 train images: 1 under 32 px a side"
    assert left_out_words(read_coco(pets / "val.json"), LEFT_OUT) == ""


def test_check_counts_the_images_without_objects(pets: Path) -> None:
    content = load(pets, "train")
    change(pets, annotations=[a for a in content["annotations"] if a["image_id"] not in (2, 5, 6)])
    found = [str(problem) for problem in check_dataset("pets")]
    assert found == ["note: train.json: 3 of 6 images have no object: training leaves them out, or with empty_images=used learns from "
                     "them what is background"]


@pytest.mark.parametrize(("boxes_xywh", "side", "words"), [
    ([[7.2, 0.3, 0.5, 0.4], [0.1, 5.1, 0.9, 0.9]], 48, "no box is left to learn from: of 2 object(s) 2 have a side under 1 px"),
    ([[5.0, 6.0, 0.5, 9.0]], 48, "1 have a side under 1 px, and training leaves such out. A bbox is x, y, width, height in pixels"),
    ([[5.0, 6.0, 20.0, 9.0]], 31, "all 6 images have a side under 32 px, and training leaves such images out: scale them up"),
])
def test_nothing_to_learn_from_is_an_error(boxes_xywh: list[list[float]], side: int, words: str, pets: Path) -> None:
    images = [{**image, "height": side} for image in load(pets, "train")["images"]]
    change(pets, images=images, annotations=[annotation(k, 1, box_xywh) for k, box_xywh in enumerate(boxes_xywh, start=1)])
    errors = [problem for problem in check_dataset("pets") if problem.level == "error" and problem.file == "train.json" and not problem.id]
    assert len(errors) == 1 and words in errors[0].reason


def test_every_reason_for_which_no_box_is_left_is_counted(pets: Path) -> None:
    images = [{**image, "height": 31 if image["id"] == 3 else 48} for image in load(pets, "train")["images"]]
    annotations = [annotation(1, 1, [5.0, 6.0, 0.5, 9.0]), annotation(2, 2, [5.0, 6.0, 9.0, 9.0], ignore=1),
                   annotation(3, 3, [5.0, 6.0, 9.0, 9.0]), annotation(4, 4, [5.0, 6.0, 9.0, 9.0], iscrowd=1)]
    change(pets, images=images, annotations=annotations)
    (error,) = [problem for problem in check_dataset("pets") if "no box is left" in problem.reason]
    assert "of 3 object(s) 1 have a side under 1 px, 1 are marked `ignore`, 1 lie in images under 32 px a side" in error.reason
