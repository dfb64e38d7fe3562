"""How many objects the anchors of a config teach: the detector's own anchors and assigner, asked about train before any training."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mmcv import Config, ConfigDict


@dataclass(frozen=True)
class InputImage:
    """One image as the network gets it: its meta after resize and pad, and its objects' boxes [n, 4], xyxy, pixels of the input."""

    resized: Mapping[str, Any]
    gt_boxes_xyxy: np.ndarray


@dataclass(frozen=True, order=True)
class Reached:
    """How well anchors reach objects; the larger one is better."""

    objects: int  # that get a positive from the assigner
    mean_iou: float  # of each object's best anchor


def anchor_head_config(config: Config) -> ConfigDict | None:
    """The part of the config that has the anchors: of the region proposal network, or of a dense head; None without anchors."""
    model = config.model
    head = model.get("rpn_head") or model.bbox_head
    return head if "anchor_generator" in head else None


def input_images(config: Config) -> list[InputImage]:
    """What training shows that has objects, in the file's order: images, and their windows where train is read in windows.

    Scaled as validation scales them. No image is read.
    """
    from mmdet.datasets import build_dataset

    from workbook.data.mmdet_dataset import resized_meta

    dataset = build_dataset({**config.data.train, "pipeline": config.data.val.pipeline})
    found = []
    for info, boxes_xyxy in (view for index in range(len(dataset.data_infos)) for view in dataset.shown_boxes(index)):
        if len(boxes_xyxy):
            resized = {**resized_meta(dataset, info), "img": None}
            found.append(InputImage(resized, boxes_xyxy * resized["scale_factor"]))
    return found


def build_anchor_head(config: Config, part: ConfigDict) -> Any:
    """The head with its anchors and its assigner, as the detector builds it, with weights that nobody uses. part: its config."""
    from mmdet.models import build_head

    model = config.model
    train_cfg = model.train_cfg.rpn if "rpn_head" in model else model.train_cfg
    return build_head({**copy.deepcopy(part), "train_cfg": copy.deepcopy(train_cfg)})


def reached(head: Any, generator: Mapping[str, Any], images: Sequence[InputImage]) -> Reached:
    """How many objects of the images get a positive when the head has the anchors of this generator."""
    from mmdet.core.anchor import build_prior_generator

    from workbook.models.assigners import assign_anchors

    head.prior_generator = build_prior_generator(dict(generator))
    assigned = [assign_anchors(head, image.gt_boxes_xyxy, image.resized) for image in images]
    objects = sum(int((one.positives > 0).sum()) for one in assigned)
    return Reached(objects, float(np.mean(np.concatenate([one.best_iou for one in assigned]))))


def spread(images: Sequence[InputImage], most: int) -> list[InputImage]:
    """At most so many of the images, evenly spread over the list."""
    if len(images) <= most:
        return list(images)
    return [images[place] for place in np.linspace(0, len(images) - 1, most).round().astype(int)]
