"""YOLO v5 to v11: data.yaml, a text of image names a split, images/ and labels/ with the dataset's own names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from workbook.data.exporters.record import (
    Notes,
    by_image,
    classes,
    copy_images,
    names_by_id,
    note_lost,
    require_own_stems,
    with_bar,
    write_labels,
)
from workbook.data.importers.yolo import label_path
from workbook.data.reading import Annotation, Coco, Image, is_crowd
from workbook.files import write_text

CROWDS = "crowds, left out: YOLO has no word for a region to excuse"
CLIPPED = "boxes that stick out of their image, clipped: YOLO's readers drop an image with such a box"


def write(source: Path, splits: Mapping[str, Coco], folder: Path, notes: Notes) -> None:
    """Raises DataError when two images would share a label file."""
    require_own_stems(splits, "YOLO")
    numbers = classes(splits)
    copy_images(source, splits, folder / "images")
    for split, coco in splits.items():
        names = names_by_id(coco)
        annotations = by_image(coco)
        for image in with_bar(coco["images"], split):
            own = annotations[image["id"]]
            rows = [_row(image, entry, numbers[names[entry["category_id"]]], notes) for entry in own]
            write_labels(label_path(folder / "images" / image["file_name"]), "".join(f"{row}\n" for row in rows if row))
        listing = "".join(f"./images/{image['file_name']}\n" for image in coco["images"])
        write_text(folder / f"{split}.txt", listing)
    lists = {split: f"{split}.txt" for split in splits}
    config = {**lists, "names": {number: name for name, number in numbers.items()}}
    write_text(folder / "data.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def _row(image: Image, entry: Annotation, number: int, notes: Notes) -> str:
    """`class cx cy w h` as shares of the image, with ten digits; empty for a crowd."""
    name = image["file_name"]
    note_lost(notes, name, entry, ())
    if is_crowd(entry):
        notes.add(CROWDS, name)
        return ""
    x, y, width, height = entry["bbox"]
    left = max(0.0, x)
    right = min(float(image["width"]), x + width)
    top = max(0.0, y)
    bottom = min(float(image["height"]), y + height)
    if (left, top, right, bottom) != (x, y, x + width, y + height):
        notes.add(CLIPPED, name)
    shares = ((left + right) / 2 / image["width"], (top + bottom) / 2 / image["height"],
              (right - left) / image["width"], (bottom - top) / image["height"])
    return " ".join([str(number), *(f"{share:.10g}" for share in shares)])
