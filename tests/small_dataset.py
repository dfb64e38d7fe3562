"""A small sound dataset of real image files, for tests to break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

WIDTH, HEIGHT = 64, 48


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> PIL.Image.Image:
    """Smooth and different for every seed; the upper left corner is red, so that turning it shows."""
    rng = np.random.default_rng(seed)
    small = PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = small.resize((width, height), PIL.Image.Resampling.BICUBIC)
    image.paste((255, 0, 0), (0, 0, 10, 10))
    return image


def annotation(id_: int, image_id: int, box_xywh: list[float], category_id: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": id_, "image_id": image_id, "category_id": category_id, "bbox": box_xywh,
            "area": box_xywh[2] * box_xywh[3], "iscrowd": 0, **more}


def coco(split: str, images: int = 3) -> dict[str, Any]:
    """Images with one small object each, and a medium one in the first; two classes with a gap in their ids."""
    listed = [{"id": number, "file_name": f"{split}_{number}.png", "width": WIDTH, "height": HEIGHT}
              for number in range(1, images + 1)]
    annotations = [annotation(number, number, [5.0, 6.0, 20.0, 10.0], 1 + 6 * (number % 2))
                   for number in range(1, images + 1)]
    annotations.append(annotation(images + 1, 1, [2.0, 2.0, 40.0, 40.0]))
    return {"info": {"description": "a test"}, "images": listed, "annotations": annotations,
            "categories": [{"id": 7, "name": "cat"}, {"id": 1, "name": "dog"}]}


def write_dataset(folder: Path, images: int = 3) -> Path:
    """Write train.json, val.json and images/ into `folder` and return it."""
    (folder / "images").mkdir(parents=True)
    for seed, split in enumerate(("train", "val")):
        content = coco(split, images)
        save(folder, split, content)
        for image in content["images"]:
            picture(100 * seed + image["id"]).save(folder / "images" / image["file_name"])
    return folder


def load(folder: Path, split: str) -> dict[str, Any]:
    return json.loads((folder / f"{split}.json").read_text())


def save(folder: Path, split: str, content: Any) -> None:
    (folder / f"{split}.json").write_text(json.dumps(content))
