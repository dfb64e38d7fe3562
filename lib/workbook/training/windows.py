"""The detections of an image's windows, merged with those of the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector

from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.data.windows import Window, cut_by_border
from workbook.evaluation.boxes import to_xywh
from workbook.evaluation.merging import merge
from workbook.models.suppression import suppression_iou
from workbook.training.loader import as_batch, to_device

BoxesByClass = list[np.ndarray]  # mmdet's: [n, 5] a class: x1, y1, x2, y2, score


@dataclass(frozen=True)
class ViewDetections:
    """What a detector gives for one view of an image, in pixels of the image, in float64."""

    boxes_xyxy: np.ndarray  # [n, 4]
    scores: np.ndarray  # [n]
    labels: np.ndarray  # [n]


@torch.no_grad()
def with_windows(
    model: BaseDetector, dataset: OrderedCocoDataset, index: int, boxes_by_class: BoxesByClass, device: torch.device
) -> BoxesByClass:
    """The detections of the whole image `index` merged with those of its windows; they alone where it has no window.

    Each window is tested as an image is, one by one. What a window's border cuts and a neighbour shows whole is left
    to the neighbour; of what several views find, the one with the highest score stays as it is (see
    evaluation/merging.py).
    """
    if not dataset.windows(index):
        return boxes_by_class
    info = dataset.data_infos[index]
    views = [_detections(boxes_by_class)]
    for window, item in dataset.window_items(index):
        batch = to_device(as_batch([item]), device)
        batch["img_metas"][0]["batch_input_shape"] = tuple(batch["img"].shape[-2:])  # DETR's masks are of this size
        found = model.simple_test(batch["img"], batch["img_metas"], rescale=True)[0]
        views.append(of_window(_detections(found), window, info["width"], info["height"]))
    return merged(views, len(boxes_by_class), suppression_iou(model))


def of_window(found: ViewDetections, window: Window, width: int, height: int) -> ViewDetections:
    """A window's detections in pixels of the image (width x height), without those that are left to a neighbour."""
    whole = ~cut_by_border(found.boxes_xyxy, window, width, height)
    offset = np.tile(window.corners[:2], 2)
    return ViewDetections(found.boxes_xyxy[whole] + offset, found.scores[whole], found.labels[whole])


def merged(views: list[ViewDetections], classes: int, iou: float) -> BoxesByClass:
    """The detections of all views as mmdet's list, one array a class, the best first."""
    boxes_xyxy = np.concatenate([view.boxes_xyxy for view in views])
    scores = np.concatenate([view.scores for view in views])
    labels = np.concatenate([view.labels for view in views])
    number = np.repeat(np.arange(len(views)), [len(view.scores) for view in views])
    rows, _ = merge(to_xywh(boxes_xyxy), scores, labels, number, iou)
    table = np.column_stack([boxes_xyxy, scores])
    return [table[rows[labels[rows] == label]] for label in range(classes)]


def _detections(boxes_by_class: BoxesByClass) -> ViewDetections:
    table = np.concatenate(boxes_by_class).astype(float)
    labels = np.repeat(np.arange(len(boxes_by_class)), [len(boxes) for boxes in boxes_by_class])
    return ViewDetections(table[:, :4], table[:, 4], labels)
