"""TEMPORARY shim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from workbook.diagnosis.oracle import NEAR
from workbook.evaluation.boxes import iou_table
from workbook.evaluation.matching import match

FALSE_KINDS: dict[str, str] = {
    "duplicate": "on an object of its class that another detection has already found",
    "wrong class": "on an object of another class",
    "poor box": "near an object of its class, but the box does not fit",
    "background": "near no object",
    "wrong class and poor box": "near an object of another class, and the box does not fit",
}


@dataclass(frozen=True)
class FalsePositiveGains:
    sizes: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"sizes": self.sizes}


def gains(truth: Any, detections: Any, false: pd.DataFrame) -> FalsePositiveGains:
    return FalsePositiveGains({})


def classify(truth: dict[str, Any], detections: Sequence[dict[str, Any]], iou: float) -> pd.DataFrame:
    """One row a false detection.

    Columns: row (its place in `detections`), kind, area (of its box, pixels²), score, annotation_id (the truth that it
    overlaps most, if any) and iou (with that truth).
    """
    annotations = [a for a in truth["annotations"] if not a.get("iscrowd", 0)]
    of_image = pd.Series(range(len(annotations)), dtype=int).groupby([a["image_id"] for a in annotations]).indices
    m = match(truth, list(detections), {}, np.array([iou]))
    false = np.sort(np.setdiff1d(m.row, m.row[m.candidates]))
    image_ids = np.array([detections[int(row)]["image_id"] for row in false])
    rows: list[dict[str, Any]] = []
    for image_id in np.unique(image_ids):
        mine, near = false[image_ids == image_id].tolist(), of_image.get(image_id, np.zeros(0, int))
        gt_boxes_xywh = np.array([annotations[n]["bbox"] for n in near])
        fit = iou_table(np.array([detections[row]["bbox"] for row in mine]), gt_boxes_xywh)
        labels = np.array([annotations[n]["category_id"] for n in near])
        for row, fits in zip(mine, fit, strict=True):
            rows.append({"row": row, **_kind(fits, labels == detections[row]["category_id"], iou)} | {
                "area": detections[row]["bbox"][2] * detections[row]["bbox"][3], "score": detections[row]["score"],
                "annotation_id": annotations[near[fits.argmax()]]["id"] if len(near) and fits.max() > 0 else None,
                "iou": fits.max(initial=0.0),
            })
    table = pd.DataFrame(rows, columns=["row", "kind", "area", "score", "annotation_id", "iou"])
    return table.astype({"annotation_id": "Int64"})


def _kind(fits: np.ndarray, same_class: np.ndarray, iou: float) -> dict[str, str]:
    own, other = fits[same_class].max(initial=0.0), fits[~same_class].max(initial=0.0)
    if own >= iou:
        return {"kind": "duplicate"}
    if other >= iou:
        return {"kind": "wrong class"}
    if own >= NEAR:
        return {"kind": "poor box"}
    return {"kind": "background" if other < NEAR else "wrong class and poor box"}
