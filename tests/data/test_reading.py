"""Parsed COCO tables are shared, and a changed file is parsed again."""

from __future__ import annotations

import gc
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mmdet.datasets import build_dataset

from small_dataset import load, save, write_dataset
from workbook.data import reading
from workbook.data.catalog import Dataset, find_dataset
from workbook.data.checks import check_dataset
from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.data.reading import WHOLE_NUMBERS, DataError, content_hash, read_coco, size_counts
from workbook.data.split import split
from workbook.evaluation.coco_metrics import evaluate
from workbook.evaluation.sizes import sizes_of


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path))
    return write_dataset(tmp_path / "pets")


def test_a_file_is_parsed_once_for_all_who_ask(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pets / "train.json"
    first = read_coco(path)
    monkeypatch.setattr(json, "loads", None)
    assert read_coco(path) is first and Dataset("pets", pets, (), "").train is first
    monkeypatch.chdir(pets)
    assert read_coco(Path("train.json")) is first


def test_a_changed_file_is_parsed_again(pets: Path) -> None:
    dataset = find_dataset("pets")
    for number in range(5):  # of the same size each time
        content = load(pets, "train")
        content["categories"][0]["name"] = f"cat{number}"
        save(pets, "train", content)
        os.utime(pets / "train.json", (number, number))
        assert dataset.train["categories"][0]["name"] == f"cat{number}"


def test_a_file_that_is_gone_or_broken_is_said_to_be_so_after_it_was_read(pets: Path) -> None:
    dataset = find_dataset("pets")
    assert len(dataset.val["images"]) == 3
    (pets / "val.json").write_text("{")
    with pytest.raises(DataError, match="val.json is not valid JSON"):
        _ = dataset.val
    (pets / "val.json").unlink()
    with pytest.raises(DataError, match="val.json is missing"):
        _ = dataset.val


# ---- what exporters write in two ways --------------------------------------------------------------------------------


def as_floats(folder: Path) -> None:
    """As pandas writes ids and sizes when a column had a gap."""
    for part in ("train", "val"):
        content = load(folder, part)
        for name, keys in WHOLE_NUMBERS.items():
            for entry in content[name]:
                entry.update({key: float(entry[key]) for key in keys})
        save(folder, part, content)


def with_nulls(folder: Path) -> None:
    for part in ("train", "val"):
        content = load(folder, part)
        for a in content["annotations"]:
            a.update(iscrowd=None, segmentation=None)
        save(folder, part, content)


def test_ids_and_sizes_as_floats_are_the_same_data(pets: Path) -> None:
    before = find_dataset("pets").hash
    as_floats(pets)
    assert check_dataset("pets") == [] and find_dataset("pets").hash == before
    tables: Any = read_coco(pets / "val.json")
    assert all(type(entry[key]) is int for name, keys in WHOLE_NUMBERS.items() for entry in tables[name] for key in keys)


@pytest.mark.parametrize(("value", "shown"), [(1.5, "1.5"), (1e300, "1e+300"), (float("nan"), "nan"), ("1", "'1'"), (None, "missing")])
def test_what_is_no_whole_number_stays_as_it_is_written(value: object, shown: str, pets: Path) -> None:
    content = load(pets, "train")
    content["images"][0]["id"] = value
    save(pets, "train", content)
    assert f"id is {shown}, but must be a whole number from 0" in str(check_dataset("pets")[0])


@pytest.mark.parametrize("write", [as_floats, with_nulls])
def test_training_evaluation_and_split_take_them_too(write: Any, pets: Path) -> None:
    """The ids of the detections are those of the tables, as hotcoco and pycocotools need them."""
    write(pets)
    assert check_dataset("pets") == []
    dataset = find_dataset("pets")
    trained_on = OrderedCocoDataset(ann_file=str(dataset.val_json), img_prefix=str(dataset.images_dir), classes=dataset.classes,
                                    pipeline=[])
    assert [len(trained_on.get_ann_info(index)["bboxes"]) for index in range(3)] == [2, 1, 1]
    perfect = [{**{key: a[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9}
               for a in dataset.val["annotations"]]
    assert evaluate(dict(dataset.val), perfect).metrics["bbox_mAP"] == pytest.approx(1)
    (pets / "val.json").unlink()
    split("pets", val_share=0.4)
    assert check_dataset("pets", ("train",)) == []


def test_a_null_iscrowd_is_an_object_and_a_null_area_is_missing(pets: Path) -> None:
    content = load(pets, "train")
    content["annotations"][0].update(iscrowd=None, area=None)
    save(pets, "train", content)
    (problem,) = check_dataset("pets")
    assert "area is null: it is the object's size" in problem.reason


def test_the_hash_of_files_that_were_accepted_before_stays(pets: Path) -> None:
    """A run that was trained on a file with these is found again by its hash."""
    content = load(pets, "train")
    for a in content["annotations"]:
        a.update(segmentation=None, iscrowd=False, extra=1.0)
    save(pets, "train", content)
    assert content_hash(read_coco(pets / "train.json")) == content_hash(content)


# ---- at size ---------------------------------------------------------------------------------------------------------


def test_prepare_parses_each_file_once(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbook.training.job import prepare
    from workbook.training.parameters import check_parameters

    parsed: list[str] = []
    parse = reading._parse
    monkeypatch.setattr(reading, "_parse", lambda path: parsed.append(path.name) or parse(path))
    opened: list[str] = []
    read_text, read_bytes = Path.read_text, Path.read_bytes
    monkeypatch.setattr(Path, "read_text", lambda path, *how, **named: opened.append(path.name) or read_text(path, *how, **named))
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path.name) or read_bytes(path))
    job = prepare(check_parameters({"dataset": "pets", "pretrained": "none", "batch_size": 1, "epochs": 1, "image_size": 64}))
    build_dataset(job.config.data.train)
    build_dataset(job.config.data.val)
    assert sorted(parsed) == ["train.json", "val.json"]
    assert opened.count("train.json") == opened.count("val.json") == 1


def test_parsing_leaves_the_search_for_cycles_as_it_was(pets: Path) -> None:
    assert gc.isenabled()
    read_coco(pets / "train.json")
    (pets / "val.json").write_text("{")
    with pytest.raises(DataError):
        read_coco(pets / "val.json")
    assert gc.isenabled()


def test_sizes_are_counted_as_one_by_one() -> None:
    areas = [0.5, 32.0**2, 32.0**2 + 1, 96.0**2, 96.0**2 + 1, 1e10, 1e10 + 1, 1e12]
    annotations: Any = [{"area": area, "iscrowd": 0} for area in areas] + [{"area": 5.0, "iscrowd": 1}]
    assert size_counts(annotations) == Counter(size for area in areas for size in sizes_of(area))
    assert not size_counts([])
