"""Detectors with queries (DETR, Deformable DETR). The code path is mmdet 2.28's: dense_heads/detr_head.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbook.diagnosis.family import ImageProbe, ModelFamily
from workbook.diagnosis.nearest import candidates_found, nearest_candidates
from workbook.diagnosis.oracle import NEAR, Candidates, ImageObjects, Suppressed, first_of_each
from workbook.diagnosis.probing import best_object, first_cut, nms, ranks, survey, to_numpy
from workbook.evaluation.boxes import iou_table, to_xywh
from workbook.models.assigners import Assigned
from workbook.models.hooks import recorded_calls

BY_NO_QUERY = "no query's box is near it"


class Query(ModelFamily):
    """A candidate is a query."""

    key = "query"
    candidate_noun = "queries' boxes"
    cut_words = {BY_NO_QUERY: "because no query's box comes near"}

    def matches(self, model: nn.Module) -> bool:
        return hasattr(getattr(model, "bbox_head", None), "num_query")

    def assigner_head(self, model: Any) -> Any:
        return model.bbox_head

    def assign(self, model: Any, gt_boxes_xyxy: np.ndarray, resized: Mapping[str, Any]) -> Assigned:
        """The Hungarian assigner gives every object a query while there are enough; the network says which go without."""
        boxes = len(gt_boxes_xyxy)
        share = min(1.0, model.bbox_head.num_query / boxes) if boxes else 1.0
        return Assigned(np.full(boxes, np.nan), np.full(boxes, share), np.full(boxes, "", dtype=object))

    def read(
        self, model: Any, features: Any, batch: dict[str, Any], objects: ImageObjects
    ) -> tuple[ImageProbe, list[np.ndarray]]:
        head, meta = model.bbox_head, batch["img_metas"][0]
        with recorded_calls(head, "_get_bboxes_single") as calls:
            boxes_by_class = model.simple_test(batch["img"], [meta], rescale=True)[0]
        logits, boxes_cxcywh, shape, scale, *_ = calls[0].arguments
        boxes_xywh = _boxes_xywh(boxes_cxcywh, shape, scale)
        candidate, label, score, background = _predictions(logits, head.loss_cls.use_sigmoid)
        limit = head.test_cfg.get("max_per_img", head.num_query)
        suppress = _suppression(limit, getattr(head, "nms_iou", None), logits.device)
        candidates = Candidates(
            candidate, label, score, boxes_xywh[candidate], np.ones(len(label), bool), boxes_xywh,
            background, best_object(iou_table(boxes_xywh, objects.boxes_xywh), NEAR), suppress,
        )
        candidates.named[:] = candidates.score >= candidates.highest[candidate]
        candidates.named[candidates.suppressed.reported] = True
        found = survey(boxes_xywh, objects)
        cut = first_cut([BY_NO_QUERY], [found.near])
        top_label = candidates.label[first_of_each(candidates.candidate, -candidates.score)]
        added = nearest_candidates(candidates, objects, boxes_xywh, top_label, candidates.highest, np.ones(len(boxes_xywh), bool), found)
        rank = ranks(candidates)
        return ImageProbe(candidates, added, *candidates_found(rank, found, found), cut, rank), boxes_by_class


def _boxes_xywh(boxes_cxcywh: Tensor, shape: Sequence[int], scale: Sequence[float]) -> np.ndarray:
    """[queries, 4] in pixels of the file. boxes_cxcywh: shares of the resized image; shape: its height and width."""
    center, side = boxes_cxcywh.split(2, dim=-1)
    boxes_xyxy = torch.cat([center - 0.5 * side, center + 0.5 * side], dim=-1)
    size = boxes_xyxy.new_tensor([shape[1], shape[0], shape[1], shape[0]])
    boxes_xyxy = torch.minimum((boxes_xyxy * size).clamp(min=0), size) / boxes_xyxy.new_tensor(scale)
    return to_xywh(to_numpy(boxes_xyxy))


def _predictions(logits: Tensor, by_sigmoid: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The query, class and score (float32) of each prediction, and the background score of each query.

    With sigmoids every class of every query is a prediction; with a softmax a query predicts its best class.
    """
    if by_sigmoid:
        scores = to_numpy(logits.sigmoid())
        query, label = np.divmod(np.arange(scores.size), scores.shape[1])
        return query, label, scores.reshape(-1).astype(np.float32), 1 - scores.max(axis=1)
    probability = logits.softmax(-1)
    best, classes = probability[:, :-1].max(-1)
    return np.arange(len(best)), to_numpy(classes), to_numpy(best).astype(np.float32), to_numpy(probability[:, -1])


def _suppression(limit: int, nms_iou: float | None, device: torch.device) -> Callable[[Candidates], Suppressed]:
    """The best predictions up to the limit; of these, with `nms_iou`, those that no better one of the class overlaps more."""

    def suppress(candidates: Candidates) -> Suppressed:
        scores = torch.as_tensor(candidates.score, device=device)
        first = to_numpy(scores.topk(min(limit, len(scores)))[1])  # mmdet's own order among equals
        rest = np.setdiff1d(np.argsort(-candidates.score, kind="stable"), first, assume_unique=True)
        reported = limit
        if nms_iou is not None:
            asked = np.isin(np.arange(len(scores)), first)
            first = nms(candidates, asked, dict(type="nms", iou_threshold=nms_iou), limit, device).survivors
            reported = len(first)
        survivors = np.concatenate([first, rest])
        return Suppressed(np.ones(len(scores), bool), survivors, candidates.score[survivors], reported)

    return suppress


QUERY = Query()
