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
from workbook.data.windows import MIN_VISIBLE, clip, visible_share
from workbook.diagnosis.family import ModelFamily
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


def assignable(family: ModelFamily, model: Any, dataset: OrderedCocoDataset) -> pd.DataFrame:
    """One row an object of the dataset (no crowds), columns as in COLUMNS.

    Boxes that mmdet's loader leaves out have no positive, and the table says so. Where the dataset has windows, an object's
    row is that of the view which gives it the most positives. Raises UnknownAssignerError for an
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
        of_image = _of_image(family, model, dataset, index, annotations)
        rows += [{**about, "cells": about["resized_area"] / stride**2, "image_objects": len(annotations)} for about in of_image]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_image(
    family: ModelFamily, model: Any, dataset: OrderedCocoDataset, index: int, annotations: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row an annotation: of the view, whole or window, that gives the object the most positives; the first of equals."""
    info = dataset.data_infos[index]
    gt_boxes_xyxy = np.array([a["bbox"] for a in annotations], float)
    gt_boxes_xyxy[:, 2:] += gt_boxes_xyxy[:, :2]
    loaded = let_through(dataset, index, annotations)
    best = _of_view(family, model, dataset, info, annotations, gt_boxes_xyxy, loaded)
    for window in dataset.windows(index):
        visible = (visible_share(gt_boxes_xyxy, window) >= MIN_VISIBLE) & loaded
        if not visible.any():
            continue
        of_window = {**info, "width": window.width, "height": window.height}
        found = _of_view(family, model, dataset, of_window, annotations, clip(gt_boxes_xyxy, window), visible)
        best = [two if two["positives"] > one["positives"] else one for one, two in zip(best, found, strict=True)]
    return best


def _of_view(
    family: ModelFamily, model: Any, dataset: OrderedCocoDataset, info: dict[str, Any], annotations: list[dict[str, Any]],
    gt_boxes_xyxy: np.ndarray, loaded: np.ndarray,
) -> list[dict[str, Any]]:
    """A row an annotation. info: with the size of the view. gt_boxes_xyxy: pixels of the view. loaded: bool, is in it."""
    resized = resized_meta(dataset, info)
    gt_boxes_xyxy = gt_boxes_xyxy * resized["scale_factor"]
    assigned = family.assign(model, gt_boxes_xyxy[loaded], resized)
    numbers = np.cumsum(loaded) - 1  # of those that the loader lets through
    return [
        _row(annotation, gt_boxes_xyxy[row], dataset, assigned, int(numbers[row]) if loaded[row] else None)
        for row, annotation in enumerate(annotations)
    ]


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
