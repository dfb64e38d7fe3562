"""Each object teaches two queries instead of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import MODEL, QUERY, Context, Remedy, Source
from workbook.remedies.config import import_module

if TYPE_CHECKING:
    from mmcv import Config

REPEATS = 2  # as the paper's label repetition
NMS_IOU = 0.7  # as a region proposal network: only doubles go
HEADS = {"DETRHead": "SuppressedDETRHead", "DeformableDETRHead": "SuppressedDeformableDETRHead"}


def apply(config: Config, context: Context) -> None:
    """The matching repeats each object, and the head takes the doubles out of its answer."""
    model = config.model
    import_module(config, "workbook.models.repeated_labels")
    model.train_cfg.assigner.update(type="RepeatedHungarianAssigner", repeats=REPEATS)
    model.bbox_head.update(type=HEADS[model.bbox_head.type], nms_iou=NMS_IOU)


def misfit(config: Config) -> str | None:
    kind = config.model.bbox_head.type
    return None if kind in HEADS else f"its head is {kind}. Known are {' and '.join(HEADS)}"


REPEATED_LABELS = Remedy(
    key="repeated_labels",
    title="Two queries an object",
    about="the matching gives each object to two queries, and suppression takes the doubles out of the answer",
    stages=("queries", "class"),
    families=(QUERY,),
    trains=True,
    cost="none to speak of",
    sources=(
        Source("Wang et al. 2022, arXiv:2203.09507 (encounter1997/DE-DETRs)", "Cityscapes: DETR 11.7 AP after 300 epochs, with label "
               "repetition, multi-scale features sampled by boxes and NMS 22.2 after 50; repetition alone is not stated here"),
    ),
    traps=("an image with more objects than half the queries has no room for it: look at the number of queries",),
    apply=apply,
    misfit=misfit,
    order=MODEL,
)
