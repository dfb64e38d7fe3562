"""Before the model: how large each object is after the pipeline's resize, and whether the training can assign it at all.

No image is read: the pipeline's own resize and pad see an empty picture of the image's size, then the detector's own
anchors and assigner work as in its training.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from workbook.data.mmdet_dataset import OrderedCocoDataset, let_through, resized_meta
from workbook.diagnosis.family import Family
from workbook.evaluation.sizes import AREA_RANGES, in_size, size_of
from workbook.models.assigners import Assigned

COLUMNS: dict[str, str] = {
    "annotation_id": "the object's id in the annotation file",
    "image_id": "its image's id",
    "class": "its class",
    "size": "small, medium or large: COCO's, by annotation area",
    "area": "its annotation area, pixels² of the original image",
    "side": "the square root of its box's area, pixels of the original image",
    "resized_side": "the same after the pipeline's resize, pixels",
    "resized_area": "its box's area after the pipeline's resize, pixels²",
    "cells": "its box's area on the finest feature map, in cells",
    "best_anchor_iou": "the highest IoU of any anchor with its box; empty for a detector without anchors",
    "positives": "how many anchors (points, queries) the detector's assigner gives it, before sampling",
    "no_positive": "positives is 0: the detector cannot learn it from this object",
    "why_not": "why it has no positive",
    "image_objects": "how many objects its image has: against the number of queries",
}
LEFT_OUT = "mmdet's loader leaves it out: under one pixel wide or high, without area, or outside the image"


def assignable(family: Family, model: Any, dataset: OrderedCocoDataset) -> pd.DataFrame:
    """One row an object of the dataset (no crowds), columns as in COLUMNS.

    Boxes that mmdet's loader leaves out have no positive, and the table says so. Raises UnknownAssignerError for an
    assigner that the family does not know.
    """
    stride = family.finest_stride(model)
    rows: list[dict[str, Any]] = []
    for index, info in enumerate(dataset.data_infos):
        annotations = [
            a for a in dataset.coco.imgToAnns[info["id"]]
            if not a.get("iscrowd", 0) and a["category_id"] in dataset.cat_ids
        ]
        if not annotations:
            continue
        resized = resized_meta(dataset, info)
        gt_boxes_xyxy = np.array([a["bbox"] for a in annotations], float)
        gt_boxes_xyxy[:, 2:] += gt_boxes_xyxy[:, :2]
        gt_boxes_xyxy *= resized["scale_factor"]
        loaded = let_through(dataset, index, annotations)
        assigned = family.assign(model, gt_boxes_xyxy[loaded], resized)
        numbers = np.cumsum(loaded) - 1  # of those that the loader lets through
        for row, annotation in enumerate(annotations):
            number = int(numbers[row]) if loaded[row] else None
            about = _row(annotation, gt_boxes_xyxy[row], dataset, assigned, number)
            rows.append({**about, "cells": about["resized_area"] / stride**2, "image_objects": len(annotations)})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def unreachable_share(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Per size: the objects, how many of them have no positive, and their share (None without objects)."""
    shares: dict[str, dict[str, Any]] = {}
    for size in AREA_RANGES:
        of_size = table[in_size(table["area"].to_numpy(), size)]
        without = int(of_size["no_positive"].sum())
        share = without / len(of_size) if len(of_size) else None
        shares[size] = {"objects": len(of_size), "no_positive": without, "share": share}
    return shares


def _row(
    annotation: dict[str, Any], box_xyxy: np.ndarray, dataset: OrderedCocoDataset, assigned: Assigned, number: int | None
) -> dict[str, Any]:
    """number: the box's index among those that the loader lets through, None when it does not."""
    resized_area = float(max(box_xyxy[2] - box_xyxy[0], 0) * max(box_xyxy[3] - box_xyxy[1], 0))
    best, positives, why_not = np.nan, 0.0, LEFT_OUT
    if number is not None:
        best, positives, why_not = assigned.best_iou[number], float(assigned.positives[number]), assigned.why_not[number]
    return {
        "annotation_id": annotation["id"], "image_id": annotation["image_id"],
        "class": dataset.CLASSES[dataset.cat2label[annotation["category_id"]]],
        "size": size_of(annotation["area"]), "area": float(annotation["area"]),
        "side": math.sqrt(max(annotation["bbox"][2] * annotation["bbox"][3], 0)),
        "resized_side": math.sqrt(resized_area), "resized_area": resized_area,
        "best_anchor_iou": best, "positives": positives, "no_positive": positives == 0,
        "why_not": "" if positives else why_not,
    }
