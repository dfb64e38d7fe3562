"""Ground truth and detections as columns: made once from COCO's lists of dicts, and read by every matching.

A list of 329,000 dicts takes 200 MB and is walked again for every question; the columns take 16 MB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from workbook.evaluation.coco_metrics import only_boxes, require_known


@dataclass(frozen=True)
class GroundTruth:
    """The objects of a COCO file, crowds among them, in the order of its annotations."""

    image_ids: np.ndarray  # [images] rising
    category_ids: np.ndarray  # [classes] rising
    classes: tuple[str, ...]  # names, by rising category id
    ids: np.ndarray  # [objects] annotation ids
    image: np.ndarray  # [objects] index in image_ids
    label: np.ndarray  # [objects] index in classes
    boxes_xywh: np.ndarray  # [objects, 4] pixels of the original image
    area: np.ndarray  # [objects] annotation area, pixels²
    crowd: np.ndarray  # [objects] bool

    @classmethod
    def from_coco(cls, coco: Mapping[str, Any] | Path) -> GroundTruth:
        """coco: a COCO dict or the path of its JSON. Raises ValueError for an unknown image or category, or a missing key."""
        content = json.loads(coco.read_text()) if isinstance(coco, Path) else dict(coco)
        boxes = only_boxes(content)
        require_known(boxes, [])
        names = {category["id"]: category["name"] for category in boxes["categories"]}
        image_ids = np.array(sorted({image["id"] for image in boxes["images"]}), np.int64)
        category_ids = np.array(sorted(names), np.int64)
        annotations = boxes["annotations"]
        return cls(
            image_ids, category_ids, tuple(names[id_] for id_ in category_ids.tolist()),
            ids=np.array([a.get("id", 0) for a in content["annotations"]]),
            image=np.searchsorted(image_ids, np.array([a["image_id"] for a in annotations], np.int64)),
            label=np.searchsorted(category_ids, np.array([a["category_id"] for a in annotations], np.int64)),
            boxes_xywh=np.array([tuple(a["bbox"]) for a in annotations], float).reshape(-1, 4),
            area=np.array([a["area"] for a in annotations], float),
            crowd=np.array([bool(a["iscrowd"]) for a in annotations], bool),
        )

    @cached_property
    def of_image(self) -> list[np.ndarray]:
        """Per image the rows of its objects that COCO counts (no crowds), in the order of the file."""
        counted = np.flatnonzero(~self.crowd)
        order = counted[np.argsort(self.image[counted], kind="stable")]
        return np.split(order, np.cumsum(np.bincount(self.image[counted], minlength=len(self.image_ids)))[:-1])


@dataclass(frozen=True)
class Detections:
    """COCO results as columns, in the order in which they were given."""

    image_id: np.ndarray  # [detections]
    category_id: np.ndarray  # [detections]
    boxes_xywh: np.ndarray  # [detections, 4] pixels of the original image
    score: np.ndarray  # [detections]

    def __len__(self) -> int:
        return len(self.score)

    @cached_property
    def area(self) -> np.ndarray:
        """[detections] of the box, pixels²."""
        return self.boxes_xywh[:, 2] * self.boxes_xywh[:, 3]

    @classmethod
    def from_coco(cls, results: Sequence[Mapping[str, Any]]) -> Detections:
        """results: dicts with image_id, category_id, bbox (x, y, width, height) and score."""
        return cls(
            np.array([result["image_id"] for result in results], np.int64),
            np.array([result["category_id"] for result in results], np.int64),
            np.array([tuple(result["bbox"]) for result in results], float).reshape(-1, 4),
            np.array([result["score"] for result in results], float),
        )

    def take(self, rows: np.ndarray) -> Detections:
        """These detections alone, in this order."""
        return Detections(self.image_id[rows], self.category_id[rows], self.boxes_xywh[rows], self.score[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Detections]) -> Detections:
        """All of them, one after another."""
        if not parts:
            return cls.from_coco([])
        names = ("image_id", "category_id", "boxes_xywh", "score")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def to_coco(self) -> list[dict[str, Any]]:
        """COCO results: one dict a detection."""
        columns = (self.image_id.tolist(), self.category_id.tolist(), self.boxes_xywh.tolist(), self.score.tolist())
        return [
            {"image_id": image_id, "category_id": category_id, "bbox": box_xywh, "score": score}
            for image_id, category_id, box_xywh, score in zip(*columns, strict=True)
        ]
