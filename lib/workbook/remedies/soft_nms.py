"""Overlapping boxes lose some of their score instead of being removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import DENSE, TEST, TWO_STAGE, Context, Remedy, Source
from workbook.remedies.config import final_test_cfg

if TYPE_CHECKING:
    from mmcv import Config


def apply(config: Config, context: Context) -> None:
    """The overlap from which it works stays the detector's own."""
    final_test_cfg(config).nms.type = "soft_nms"


def misfit(config: Config) -> str | None:
    kind = final_test_cfg(config).nms.type
    return None if kind == "nms" else f"its suppression is {kind} already, not nms"


SOFT_NMS = Remedy(
    key="soft_nms",
    title="Soft suppression",
    about="a box that overlaps a better one loses score by the overlap, and is not removed",
    stages=("suppression",),
    families=(TWO_STAGE, DENSE),
    trains=False,
    cost="evaluation alone; suppression takes longer where many boxes are left",
    sources=(
        Source("Bodla et al. 2017, arXiv:1704.04503", "Faster R-CNN on COCO +1.1 AP in the paper's own implementation"),
        Source("mmdet 2.28, configs/faster_rcnn/faster_rcnn_r50_fpn_soft_nms_1x_coco.py", "the setting that mmdet ships"),
    ),
    traps=("more boxes are left on the same object: where an image has more than the limit of detections, others are cut",),
    apply=apply,
    misfit=misfit,
    order=TEST,
)
