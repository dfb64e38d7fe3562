"""Validation in one pass: each image's features are extracted once and give both its detections and its losses.

Stock mmdet gives two halves that do not fit: an evaluation hook (test pipeline, no losses) and a `val` workflow (losses, but
on the augmented train pipeline, from a second pass).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector

from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.errors import RunError
from workbook.models.hooks import cached_features
from workbook.progress import progress_bar
from workbook.training.distributed import SINGLE, World
from workbook.training.loader import as_batch, to_device
from workbook.training.windows import with_windows


@torch.no_grad()
def validate(
    model: BaseDetector, dataset: OrderedCocoDataset, device: torch.device, seed: int = 0, progress: str = "validating",
    world: World = SINGLE,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Detections as COCO results (bbox xywh, pixels of the original image) and the mean over images of each per-image loss.

    Where the dataset has windows, their detections are merged with those of the whole image (see training/windows.py); the
    losses are those of the whole images all the same, so that they compare with a run without windows.

    Images go one by one, as mmdet tests them, so that padding to a batch moves no figure. The sampling of RoIs inside the losses
    is seeded by image: the same weights always give the same losses, on any number of ranks. mmdet's `val` workflow averages
    batches instead, each with a normalizer of its own: those are other figures. Raises RunError when images differ in the
    names of their losses.
    """
    model.eval()
    results: dict[int, tuple[list[dict[str, Any]], dict[str, float]]] = {}
    shard = range(world.rank, len(dataset), world.size)
    gpus = [device] if device.type == "cuda" else []
    bar = progress_bar(len(shard), progress, "image", inside=True)
    for index in shard:
        batch = to_device(as_batch([dataset.with_truth(index)]), device)
        with cached_features(model, batch["img"]), torch.random.fork_rng(gpus), world.without_collectives():
            torch.manual_seed(seed * 1_000_003 + index)
            values = losses(model, batch)
            boxes_by_class = model.simple_test(batch["img"], batch["img_metas"], rescale=True)[0]
        boxes_by_class = with_windows(model, dataset, index, boxes_by_class, device)
        results[index] = as_coco(boxes_by_class, dataset.img_ids[index], dataset.cat_ids), values
        bar.update()
    bar.close()
    by_index = {index: result for part in world.gather(results) for index, result in part.items()}
    detections = [detection for index in sorted(by_index) for detection in by_index[index][0]]
    return detections, mean_losses({dataset.img_ids[index]: by_index[index][1] for index in sorted(by_index)})


def mean_losses(by_image: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """The mean over images of the per-image losses. by_image: image id → the losses of this image.

    Raises RunError when the images have losses of different names: a mean over some of them would pass for one over all.
    """
    first, *_ = by_image
    names = list(by_image[first])
    for image_id, values in by_image.items():
        if set(values) != set(names):
            differ = ", ".join(sorted(set(values) ^ set(names)))
            raise RunError(f"the detector gives the val images {first} and {image_id} different losses ({differ}), so they have "
                           "no mean over all images. Every image must have the same losses: let the head return a 0 where "
                           "it has none")
    return {name: sum(values[name] for values in by_image.values()) / len(by_image) for name in names}


def losses(model: BaseDetector, batch: dict[str, Any]) -> dict[str, float]:
    """The detector's own losses and accuracies of a batch, and their sum `loss`, with every norm and dropout in eval mode.

    Some heads compute less in eval mode (VFNetHead returns two of the three outputs that its loss needs: mmdet 2.28,
    dense_heads/vfnet_head.py), so the heads alone are switched to training mode, not the layers inside them.
    """
    heads = [m for m in (getattr(model, name, None) for name in ("rpn_head", "roi_head", "bbox_head")) if m is not None]
    try:
        for head in heads:
            head.training = True
        _, log_vars = model._parse_losses(model.forward_train(**batch))
    finally:
        for head in heads:
            head.training = False
    return dict(log_vars)


def as_coco(boxes_by_class: list[np.ndarray], image_id: int, category_ids: list[int]) -> list[dict[str, Any]]:
    """mmdet's list of [n, 5] arrays (x1, y1, x2, y2, score; one a class) as COCO results."""
    return [
        {
            "image_id": image_id,
            "category_id": category_id,
            "bbox": [float(x1), float(y1), float(x2) - float(x1), float(y2) - float(y1)],
            "score": float(score),
        }
        for category_id, boxes_xyxy in zip(category_ids, boxes_by_class, strict=True)
        for x1, y1, x2, y2, score in boxes_xyxy
    ]
