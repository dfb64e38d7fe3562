"""The real detector, listened to: its own test run, and all that was in it before suppression.

`look` runs `model.simple_test` once, as every test does, and keeps what went into a few of its methods. From that it
writes the `Pool` whose suppression, done again here, must give the same detections to the last digit, or `look` raises.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from workbook.diagnosis.families.one_stage import look_dense, look_query
from workbook.diagnosis.families.seen import Look, to_xyxy
from workbook.diagnosis.families.two_stage import look_two_stage
from workbook.diagnosis.oracle import Pool, Truths
from workbook.diagnosis.stages import DENSE, QUERY, TWO_STAGE, Stages
from workbook.models.hooks import cached_features


def stages_of(model: nn.Module) -> Stages:
    """The stages of this detector. Raises ValueError for one that is none of the three kinds known here."""
    if getattr(model, "with_rpn", False) and getattr(model, "roi_head", None) is not None:
        return TWO_STAGE
    head = getattr(model, "bbox_head", None)
    if hasattr(head, "num_query"):
        return QUERY
    if hasattr(head, "prior_generator"):
        return DENSE
    raise ValueError(
        f"{type(model).__name__} has neither proposals, nor points, nor queries: the diagnosis does not know its stages"
    )


@torch.no_grad()
def look(model: nn.Module, batch: dict[str, Any], truths: Truths, iou: float = 0.5) -> Look:
    """One image (batch of one, see lib/workbook/training/validation.py) through the detector.

    Raises RuntimeError when the detections read here are not those that the detector gave.
    """
    kinds = {TWO_STAGE: look_two_stage, DENSE: look_dense, QUERY: look_query}
    # as mmdet's forward_test does: DETR's masks are of this size
    batch["img_metas"][0]["batch_input_shape"] = tuple(batch["img"].shape[-2:])
    with cached_features(model, batch["img"]) as features:
        seen, boxes_by_class = kinds[stages_of(model)](model, features, batch, truths, iou)
    _require_same(seen.pool, boxes_by_class)
    return seen


def _require_same(pool: Pool, boxes_by_class: list[np.ndarray]) -> None:
    answers, scores = pool.verdict.reported, pool.verdict.scores[: pool.verdict.limit]
    read = np.column_stack([to_xyxy(pool.boxes_xywh[answers]), scores])
    for label, expected in enumerate(boxes_by_class):
        if not np.array_equal(read[pool.label[answers] == label].astype(np.float32), expected):
            raise RuntimeError(
                "the detections read here are not those of the detector: is this mmdet 2.28, with its own heads?"
            )
