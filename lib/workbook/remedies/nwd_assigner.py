"""Small objects get the anchors that are nearest to them, by a distance of Gaussians."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbook.remedies.base import DENSE, FITTED, TWO_STAGE, Context, MisfitError, Remedy, Source
from workbook.remedies.config import import_module

if TYPE_CHECKING:
    from mmcv import Config, ConfigDict

TOPK, NEG_NWD = 2, 0.3  # of the ranking assigner (jwwangchn/NWD and its NWD-RKA)
SMALL_SIDE = 32  # pixels of the network's input: COCO's small


def apply(config: Config, context: Context) -> None:
    """The assigner of the anchors by rank for small objects; the constant is the mean size of train's objects after the resize."""
    from workbook.remedies.anchors import input_images

    boxes_xyxy = [image.gt_boxes_xyxy for image in input_images(config)]
    if not boxes_xyxy:
        raise MisfitError("train has no object whose size the assigner could be set to")
    sides = np.concatenate(boxes_xyxy)[:, 2:] - np.concatenate(boxes_xyxy)[:, :2]
    constant = float(np.sqrt(sides.prod(axis=1)).mean())
    import_module(config, "workbook.models.nwd")
    assigner_config(config).update(type="SmallByRankAssigner", constant=round(constant, 2), topk=TOPK, small_side=SMALL_SIDE,
                                   neg_nwd=NEG_NWD)


def assigner_config(config: Config) -> ConfigDict | Any:
    """Of the anchors: the region proposal network's, or the dense head's."""
    train_cfg = config.model.train_cfg
    return train_cfg.rpn.assigner if "rpn" in train_cfg else train_cfg.assigner


def misfit(config: Config) -> str | None:
    kind = assigner_config(config).type
    if kind != "MaxIoUAssigner":
        return f"the assigner of {config.model.type} is {kind}, which does not go by IoU alone"
    return None


NWD_ASSIGNER = Remedy(
    key="nwd_assigner",
    title="Anchors by nearness",
    about="objects up to 32 px in the network's input get their two nearest anchors (NWD), larger ones go by IoU as before",
    stages=("proposals", "candidates"),
    families=(TWO_STAGE, DENSE),
    trains=True,
    cost="none to speak of in training, none at inference",
    sources=(
        Source("Wang et al. 2021, arXiv:2110.13389 (jwwangchn/NWD)", "Faster R-CNN on AI-TOD 11.1 to 17.8 AP; fitted anchors alone "
               "reach 20.9"),
        Source("Xu et al. 2022, arXiv:2206.13996 (Chasel-Tsui/mmdet-aitod)", "its ranking on AI-TOD-v2: Faster R-CNN 12.8 to 21.4 AP, "
               "RetinaNet 8.9 to 10.5 with AP_m 20.4 to 14.2"),
    ),
    traps=(
        "compare with fitted_anchors, not with the default alone",
        "a distance in pixels is not the same for every size: this is why larger objects stay with IoU",
    ),
    apply=apply,
    misfit=misfit,
    order=FITTED,
)
