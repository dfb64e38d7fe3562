"""Before the model: how large each object is after the pipeline's resize, and what the detector can be taught of it.

No image is read: the pipeline's own resize and pad see an empty picture of the image's size, then the detector's own
anchor generator and assigner work as in its training (mmdet 2.28, dense_heads/anchor_head.py and atss_head.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from mmdet.core import anchor_inside_flags
from mmdet.core.bbox.assigners import ATSSAssigner, MaxIoUAssigner

from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.diagnosis.waterfall import Bins, size_of, size_ranges
from workbook.models.hooks import recorded_ious

COLUMNS: dict[str, str] = {
    "annotation_id": "the truth's id in the annotation file",
    "image_id": "its image's id",
    "class": "its class",
    "size": "small, medium or large: COCO's, by annotation area",
    "area": "its annotation area, pixels² of the original image",
    "side": "the square root of its box's area, pixels of the original image",
    "resized_side": "the same after the pipeline's resize, pixels",
    "resized_area": "its box's area after the pipeline's resize, pixels²",
    "cells": "its box's area on the finest feature map, in cells",
    "best_anchor_iou": "the highest IoU of any anchor with its box; empty for a detector without anchors",
    "positives": "how many anchors (points, queries) the detector's assigner would teach with it, before sampling",
    "never_taught": "positives is 0: the detector cannot learn it from this object",
    "why_not": "why it is never taught",
    "image_objects": "how many objects its image has: against the number of queries",
}


@dataclass(frozen=True)
class Assigned:
    """What the assigner makes of one image's boxes."""

    best_iou: np.ndarray  # [boxes]
    positives: np.ndarray  # [boxes]
    why_not: np.ndarray  # [boxes] the reason where there is no positive


def reach(model: Any, dataset: OrderedCocoDataset) -> pd.DataFrame:
    """One row a truth of the dataset (no crowds), columns as in COLUMNS.

    Boxes that mmdet's loader leaves out (under one pixel, outside the image) are never taught, and the table says so.
    """
    head = model.rpn_head if getattr(model, "with_rpn", False) else model.bbox_head
    stride = _finest_stride(head, model)
    rows: list[dict[str, Any]] = []
    for index, info in enumerate(dataset.data_infos):
        annotations = [
            a for a in dataset.coco.imgToAnns[info["id"]]
            if not a.get("iscrowd", 0) and a["category_id"] in dataset.cat_ids
        ]
        if not annotations:
            continue
        resized = _resized(dataset, info)
        gt_boxes_xyxy = np.array([a["bbox"] for a in annotations], float)
        gt_boxes_xyxy[:, 2:] += gt_boxes_xyxy[:, :2]
        gt_boxes_xyxy *= resized["scale_factor"]
        loaded = _loaded(dataset, index, annotations)
        assigned = _assign(head, gt_boxes_xyxy[loaded], resized)
        places = iter(range(int(loaded.sum())))
        for a, box_xyxy, is_loaded in zip(annotations, gt_boxes_xyxy, loaded, strict=True):
            place = next(places) if is_loaded else None
            rows.append(_row(a, box_xyxy, dataset, stride, len(annotations), assigned, place))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def ceiling(reached: pd.DataFrame, bins: Bins | None = None) -> dict[str, dict[str, Any]]:
    """Per size: the objects, how many of them are never taught, and their share (None without objects)."""
    table: dict[str, dict[str, Any]] = {}
    for size, (least, most) in size_ranges(bins).items():
        inside = reached[reached["area"].between(least, most)]
        never = int(inside["never_taught"].sum())
        share = never / len(inside) if len(inside) else None
        table[size] = {"objects": len(inside), "never_taught": never, "share": share}
    return table


def _row(
    annotation: dict[str, Any], box_xyxy: np.ndarray, dataset: OrderedCocoDataset, stride: float,
    image_objects: int, assigned: Assigned, place: int | None,
) -> dict[str, Any]:
    """place: the box's among those that the loader lets through, None when it does not."""
    resized_area = float(max(box_xyxy[2] - box_xyxy[0], 0) * max(box_xyxy[3] - box_xyxy[1], 0))
    positives = 0 if place is None else float(assigned.positives[place])
    left_out = "mmdet's loader leaves it out: under one pixel wide or high, without area, or outside the image"
    return {
        "annotation_id": annotation["id"], "image_id": annotation["image_id"],
        "class": dataset.CLASSES[dataset.cat2label[annotation["category_id"]]],
        "size": size_of(annotation["area"]), "area": float(annotation["area"]),
        "side": math.sqrt(max(annotation["bbox"][2] * annotation["bbox"][3], 0)),
        "resized_side": math.sqrt(resized_area), "resized_area": resized_area, "cells": resized_area / stride**2,
        "best_anchor_iou": np.nan if place is None else assigned.best_iou[place],
        "positives": positives, "never_taught": positives == 0,
        "why_not": "" if positives else left_out if place is None else assigned.why_not[place],
        "image_objects": image_objects,
    }


def _resized(dataset: OrderedCocoDataset, info: dict[str, Any]) -> dict[str, Any]:
    """`scale_factor`, `img_shape` and `pad_shape` that the dataset's Resize and Pad give to an image of this size."""
    results = {
        "img": np.zeros((info["height"], info["width"], 1), np.uint8), "img_fields": ["img"], "bbox_fields": [],
        "img_shape": (info["height"], info["width"], 1),
    }
    results["pad_shape"] = results["img_shape"]
    for transform in dataset.pipeline.transforms:
        if type(transform).__name__ in ("Resize", "Pad"):
            results = transform(results)
            results["img"] = results["img"].reshape(*results["img"].shape[:2], 1)
    return {"scale_factor": np.ones(4, np.float32), **results}


def _loaded(dataset: OrderedCocoDataset, index: int, annotations: list[dict[str, Any]]) -> np.ndarray:
    """[annotations] bool: mmdet's loader lets it through. Asked one by one, for it does not say which it leaves out."""
    info = dataset.data_infos[index]
    return np.array([len(dataset._parse_ann_info(info, [a])["bboxes"]) == 1 for a in annotations])


def _assign(head: Any, gt_boxes_xyxy: np.ndarray, resized: dict[str, Any]) -> Assigned:
    gt = torch.as_tensor(gt_boxes_xyxy, dtype=torch.float32)
    if hasattr(head, "num_query"):
        return _to_queries(len(gt), head.num_query)
    # VFNet predicts from points, but is taught by anchors
    generator = getattr(head, "atss_prior_generator", head.prior_generator)
    height, width = resized["pad_shape"][:2]
    sizes = [(math.ceil(height / y), math.ceil(width / x)) for x, y in generator.strides]
    levels = generator.grid_priors(sizes, device="cpu")
    flags = torch.cat(generator.valid_flags(sizes, resized["pad_shape"], device="cpu"))
    inside = anchor_inside_flags(torch.cat(levels), flags, resized["img_shape"][:2], head.train_cfg.allowed_border)
    anchors = torch.cat(levels)[inside]
    with recorded_ious(head.assigner) as remembered:
        if isinstance(head.assigner, ATSSAssigner):
            per_level = [int(part.sum()) for part in inside.split([len(level) for level in levels])]
            result = head.assigner.assign(anchors, per_level, gt)
        elif isinstance(head.assigner, MaxIoUAssigner):
            result = head.assigner.assign(anchors, gt)
        else:
            name = type(head.assigner).__name__
            raise ValueError(f"the assigner {name} is not known here, only MaxIoU, ATSS and Hungarian")
    overlaps = remembered[0].T if isinstance(head.assigner, ATSSAssigner) else remembered[0]  # [boxes, anchors]
    best = overlaps.max(dim=1)[0] if overlaps.numel() else overlaps.new_zeros(len(gt))
    positives = torch.bincount(result.gt_inds.clamp(min=0), minlength=len(gt) + 1)[1:]
    why_not = np.array([_why(head.assigner, float(iou)) for iou in best], dtype=object)
    return Assigned(best.numpy(), positives.numpy(), why_not)


def _to_queries(boxes: int, queries: int) -> Assigned:
    """The Hungarian assigner gives every object a query while there are enough; the network says which go without."""
    share = np.full(boxes, min(1.0, queries / boxes) if boxes else 1.0)
    return Assigned(np.full(boxes, np.nan), share, np.full(boxes, "", dtype=object))


def _why(assigner: Any, best_iou: float) -> str:
    """Why a box of this best IoU has no positive."""
    if isinstance(assigner, ATSSAssigner):
        return f"no anchor center lies inside it with an IoU well above its other anchors' (the best: {best_iou:.2f})"
    least = assigner.min_pos_iou if assigner.match_low_quality else assigner.pos_iou_thr
    if best_iou < least:
        return f"the best anchor reaches IoU {best_iou:.2f}, and {least:g} is needed"
    return f"its best anchors (IoU {best_iou:.2f}) are given to other objects"


@torch.no_grad()
def _finest_stride(head: Any, model: Any) -> float:
    """Pixels of the network's input that one cell of the finest feature map covers."""
    if hasattr(head, "prior_generator"):
        return float(min(min(stride) for stride in head.prior_generator.strides))
    side = 128
    device = next(model.parameters()).device
    return side / max(level.shape[-1] for level in model.extract_feat(torch.zeros(1, 3, side, side, device=device)))
