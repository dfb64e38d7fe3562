"""Photos of noise and their annotations, for windows to be cut from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = ("square", "bar")
LOADING = [dict(type="LoadWindow"), dict(type="LoadAnnotations", with_bbox=True)]


def entry(id_: int, image_id: int, box_xywh: list[float], category_id: int = 1, **more: Any) -> dict[str, Any]:
    """One annotation."""
    return {"id": id_, "image_id": image_id, "category_id": category_id, "bbox": box_xywh,
            "area": box_xywh[2] * box_xywh[3], "iscrowd": 0, **more}


def write(
    folder: Path, sizes: Sequence[tuple[int, int]], annotations: list[dict[str, Any]], classes: Sequence[str] = CLASSES
) -> Path:
    """`train.json` in the folder, and beside it a noisy image `<id>.png` for each of these widths and heights, ids from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"id": id_, "file_name": f"{id_}.png", "width": w, "height": h} for id_, (w, h) in enumerate(sizes, start=1)]
    for image in images:
        noise = np.random.default_rng(image["id"]).integers(0, 255, (image["height"], image["width"], 3), dtype=np.uint8)
        cv2.imwrite(str(folder / image["file_name"]), noise)
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    table = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "train.json").write_text(json.dumps(table))
    return folder
