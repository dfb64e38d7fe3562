"""Parsed COCO tables are shared, and a changed file is parsed again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from small_dataset import load, save, write_dataset
from workbook.data.catalog import Dataset, find_dataset
from workbook.data.reading import DataError, read_coco


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
