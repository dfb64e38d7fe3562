"""COCO's own layout: annotations/instances_train.json with images/ beside; it holds all that a dataset has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from workbook.data.exporters.record import Notes, copy_images
from workbook.data.reading import Coco
from workbook.files import write_json


def write(source: Path, splits: Mapping[str, Coco], folder: Path, notes: Notes) -> None:
    """Every table and key is written as it is."""
    for split, coco in splits.items():
        (folder / "annotations").mkdir(exist_ok=True)
        write_json(folder / "annotations" / f"instances_{split}.json", coco)
    copy_images(source, splits, folder / "images")
