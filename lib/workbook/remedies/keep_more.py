"""Weaker detections, and more of them, are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbook.remedies.base import FAMILIES, QUERY, TEST, Context, Remedy, Source
from workbook.remedies.config import final_test_cfg

if TYPE_CHECKING:
    from mmcv import Config

THRESHOLD = 0.001
COUNTED = 100  # of a class in an image: what COCO counts
MOST = 1000  # of an image


def apply(config: Config, context: Context) -> None:
    """As many as COCO counts of each class, up to 1000; a query detector has no more predictions than queries."""
    test_cfg = final_test_cfg(config)
    limit = min(MOST, COUNTED * len(context.classes))
    if context.family == QUERY:
        limit = min(limit, predictions(config))
    else:
        test_cfg.score_thr = min(THRESHOLD, test_cfg.score_thr)
    test_cfg.max_per_img = max(limit, test_cfg.max_per_img)


def misfit(config: Config) -> str | None:
    """A query detector that reports all it has cannot report more."""
    head = config.model.get("bbox_head")
    if head and "num_query" in head and predictions(config) <= config.model.test_cfg.max_per_img:
        return f"its {head.num_query} queries predict one class each, and all of them are reported already"
    return None


def predictions(config: Config) -> int:
    """How many a query detector has of an image: with sigmoid every class of every query is one."""
    head = config.model.bbox_head
    return int(head.num_query * (head.num_classes if head.loss_cls.use_sigmoid else 1))


KEEP_MORE = Remedy(
    key="keep_more",
    title="More detections",
    about="detections from score .001 on, and as many of an image as COCO counts of all classes (at most 1000)",
    stages=("suppression", "candidates"),
    families=FAMILIES,
    trains=False,
    cost="evaluation alone; suppression takes longer, and the file of detections grows",
    sources=(
        Source("ucas-vg/TOV_mmdetection, TinyPerson.md", "TinyPerson AP50_tiny: 42.93 with 100 detections of an image, 46.11 with 1000"),
    ),
    traps=(
        "max_per_img limits all classes together, and COCO's 100 is of each class",
        "more false alarms: for use with a score threshold the gain is smaller than AP says",
    ),
    apply=apply,
    misfit=misfit,
    order=TEST,
)
