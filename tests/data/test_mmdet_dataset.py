"""The dataset that training and validation iterate over: mmdet's own, with its order and its choice of images, from
parsed tables."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from mmdet.datasets import CocoDataset, build_dataset

from small_dataset import annotation, load, save, write_dataset
from workbook.data import mmdet_dataset
from workbook.data.catalog import find_dataset
from workbook.data.learnable import trainable_images
from workbook.data.reading import DataError
from workbook.models.backbones import find_backbone
from workbook.models.config import data_config


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images a split: one empty, one with a crowd alone, one too small, one of a class that is not asked for."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    folder = write_dataset(tmp_path / "pets", images=6)
    for split in ("train", "val"):
        content = load(folder, split)
        content["images"].reverse()
        content["images"][0]["height"] = 31
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] not in (2, 3)]
        content["annotations"].append(annotation(99, 3, [1.0, 1.0, 30.0, 30.0], iscrowd=1))
        save(folder, split, content)
    return folder


def configs(split: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """mmdet's `data.<split>` for this class and for mmdet's own."""
    ours = data_config(find_dataset("pets"), find_backbone("resnet50"), (64, 64), 2)[split]
    return ours, {**copy.deepcopy(ours), "type": "CocoDataset"}


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_objects_and_their_order_are_those_of_mmdet(
    split: str, pets: Path, capsys: pytest.CaptureFixture
) -> None:
    ours, mmdets = map(build_dataset, configs(split))
    assert capsys.readouterr().out.count("index created!") == 1, "only mmdet's own announces what it does"
    assert type(mmdets) is CocoDataset and len(ours) == len(mmdets) == (4 if split == "train" else 6)
    assert ours.data_infos == mmdets.data_infos and ours.img_ids == mmdets.img_ids
    named = {category["id"]: category["name"] for category in load(pets, split)["categories"]}
    for index in range(len(ours)):
        a, b = (dataset.get_ann_info(index) for dataset in (ours, mmdets))
        for boxes in ("bboxes", "bboxes_ignore"):
            assert a[boxes].tolist() == b[boxes].tolist()
        assert [ours.CLASSES[label] for label in a["labels"]] == [named[mmdets.cat_ids[label]] for label in b["labels"]]


def test_the_images_that_count_are_those_that_mmdet_trains_on(pets: Path) -> None:
    built = build_dataset(configs("train")[1])
    assert sorted(trainable_images(find_dataset("pets").train)) == sorted(built.img_ids) == [1, 3, 4, 5]


def test_the_shared_tables_stay_as_they_are(pets: Path) -> None:
    tables = find_dataset("pets").train
    before = json.dumps(tables)
    dataset = build_dataset({**configs("train")[0], "pipeline": []})
    assert dataset[0] and dataset.with_truth(0)
    assert json.dumps(tables) == before


def test_links_are_looked_for_once_for_all_images(pets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []
    real = mmdet_dataset.linked_out
    monkeypatch.setattr(mmdet_dataset, "linked_out", lambda *asked: calls.append(asked) or real(*asked))
    config = configs("train")[0]
    build_dataset(config)
    assert len(calls) == 1
    (tmp_path / "elsewhere.png").write_bytes((pets / "images" / "train_4.png").read_bytes())
    (pets / "images" / "train_4.png").unlink()
    (pets / "images" / "train_4.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(DataError, match="train_4.png: it is a link to a place outside images/"):
        build_dataset(config)


@pytest.mark.parametrize(("change", "words"), [
    ({"images": [{"id": 1, "file_name": "../x.png", "width": 64, "height": 48}]}, r"\.\./x\.png: its name leaves"),
    ({"annotations": [annotation(1, 1, [1.0, 1.0, 9.0, 9.0])] * 2}, "annotations share an id"),
])
def test_a_file_from_somebody_else_is_refused_when_it_is_opened(change: dict[str, Any], words: str, pets: Path) -> None:
    config = configs("val")[0]
    save(pets, "val", {**load(pets, "val"), **change})
    with pytest.raises(DataError, match=words):
        build_dataset(config)
