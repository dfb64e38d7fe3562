"""Synthetic photos with a known truth: bright rectangles on dim noise, one colour a class, written as a COCO dataset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from workbook.data.catalog import Dataset

# Lowest and highest side in pixels, well inside COCO's buckets (small < 32², medium < 96², large above).
SIDES = {"small": (10, 26), "medium": (38, 60), "large": (100, 130)}
COLORS_BGR = ((60, 60, 230), (230, 120, 40), (60, 220, 60), (40, 220, 230))


def make_dataset(
    root: Path,
    name: str = "scenes",
    *,
    train_images: int = 4,
    val_images: int = 2,
    width: int = 128,
    height: int = 96,
    sizes: Sequence[str] = ("small", "medium"),
    classes: Sequence[str] = ("square", "bar"),
    empty_val_images: int = 0,
    seed: int = 0,
) -> Dataset:
    """Write `root/name/{train.json, val.json, images/}` and return it. Each image holds one object a word of `sizes`.

    width, height: pixels of every image. empty_val_images: so many more val images, without objects.
    Raises ValueError when the objects do not fit without touching each other.
    """
    rng = np.random.default_rng(seed)
    folder = root / name
    (folder / "images").mkdir(parents=True)
    wanted = {"train": [sizes] * train_images, "val": [sizes] * val_images + [()] * empty_val_images}
    for split, images in wanted.items():
        write_split(folder, split, images, (width, height), classes, rng)
    return Dataset(name=name, folder=folder, classes=tuple(classes), hash=f"{seed:064x}")


def write_split(
    folder: Path,
    split: str,
    images: Sequence[Sequence[str]],
    shape: tuple[int, int],
    classes: Sequence[str],
    rng: np.random.Generator,
) -> None:
    """One COCO file and its images; `images` gives the object sizes of each image, `shape` is (width, height)."""
    table: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": label} for number, label in enumerate(classes, start=1)],
    }
    for number, sizes in enumerate(images, start=1):
        file_name = f"{split}-{number:03}.png"
        boxes_xywh = place(sizes, shape, rng)
        labels = [(number + index) % len(classes) for index in range(len(sizes))]
        cv2.imwrite(str(folder / "images" / file_name), draw(boxes_xywh, labels, shape, rng))
        table["images"].append({"id": number, "file_name": file_name, "width": shape[0], "height": shape[1]})
        for box_xywh, label in zip(boxes_xywh, labels, strict=True):
            table["annotations"].append(
                {
                    "id": len(table["annotations"]) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [float(value) for value in box_xywh],
                    "area": float(box_xywh[2] * box_xywh[3]),
                    "iscrowd": 0,
                }
            )
    (folder / f"{split}.json").write_text(json.dumps(table))


def place(sizes: Sequence[str], shape: tuple[int, int], rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Boxes xywh, one a word of `sizes`, inside the image and at least two pixels apart. Raises ValueError without room."""
    boxes_xywh: list[tuple[int, int, int, int]] = []
    for size in sorted(sizes, key=list(SIDES).index, reverse=True):  # the large ones while there is room
        for _ in range(1000):
            w, h = (int(side) for side in rng.integers(*SIDES[size], size=2, endpoint=True))
            if w > shape[0] or h > shape[1]:
                continue
            x, y = int(rng.integers(shape[0] - w + 1)), int(rng.integers(shape[1] - h + 1))
            if all(x > a + c + 2 or a > x + w + 2 or y > b + d + 2 or b > y + h + 2 for a, b, c, d in boxes_xywh):
                boxes_xywh.append((x, y, w, h))
                break
        else:
            raise ValueError(f"no room for {list(sizes)} in {shape[0]}x{shape[1]} pixels")
    return boxes_xywh


def draw(
    boxes_xywh: Sequence[tuple[int, int, int, int]], labels: Sequence[int], shape: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """The picture [height, width, 3], BGR, 8 bits."""
    picture = rng.integers(0, 70, size=(shape[1], shape[0], 3), dtype=np.uint8)
    for (x, y, w, h), label in zip(boxes_xywh, labels, strict=True):
        picture[y : y + h, x : x + w] = COLORS_BGR[label % len(COLORS_BGR)]
    return picture
