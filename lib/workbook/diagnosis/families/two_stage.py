"""Detectors with proposals (Faster R-CNN, Cascade R-CNN): the RPN's cuts, and all predictions of the RoI head.

The code paths are mmdet 2.28's: dense_heads/rpn_head.py and roi_heads/bbox_heads/bbox_head.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mmcv.ops import batched_nms
from torch import nn

from workbook.diagnosis.family import ImageProbe, ModelFamily, prune
from workbook.diagnosis.oracle import FITS, Candidates, ImageObjects, Suppressed
from workbook.diagnosis.probing import best_object, first_cut, nms, survey, to_numpy
from workbook.evaluation.boxes import iou_table, to_xywh, to_xyxy
from workbook.models.assigners import Assigned, assign_anchors
from workbook.models.hooks import Call, recorded_calls

Suppress = Callable[[Candidates], Suppressed]
BY_NO_ANCHOR, BY_TOP_K, BY_NMS, BY_LIMIT = "no anchor reaches it", "pre-NMS top-k", "RPN NMS", "RPN max_per_img"


class TwoStage(ModelFamily):
    """A candidate is a proposal with what the RoI head predicts for it."""

    key = "two_stage"
    candidate_noun = "proposals"
    cut_words = {
        BY_NO_ANCHOR: "because no anchor's predicted box comes near",
        BY_TOP_K: "because what was there scored too low for the pre-NMS top-k",
        BY_NMS: "because the RPN's NMS removed what was there",
        BY_LIMIT: "because what was there scored too low for the limit of proposals",
    }

    def matches(self, model: nn.Module) -> bool:
        return bool(getattr(model, "with_rpn", False)) and getattr(model, "roi_head", None) is not None

    def assigner_head(self, model: Any) -> Any:
        return model.rpn_head

    def assign(self, model: Any, gt_boxes_xyxy: np.ndarray, resized: Mapping[str, Any]) -> Assigned:
        return assign_anchors(model.rpn_head, gt_boxes_xyxy, resized)

    def read(
        self, model: Any, features: Any, batch: dict[str, Any], objects: ImageObjects
    ) -> tuple[ImageProbe, list[np.ndarray]]:
        meta = batch["img_metas"][0]
        heads = model.roi_head.bbox_head
        head = heads[-1] if isinstance(heads, nn.ModuleList) else heads
        scale = np.asarray(meta["scale_factor"], float)
        with recorded_calls(model.rpn_head, "_get_bboxes_single") as rpn, recorded_calls(head, "get_bboxes") as answered:
            boxes_by_class = model.simple_test(batch["img"], [meta], rescale=True)[0]
        with recorded_calls(head, "get_bboxes") as answered_objects:
            gt_rois = to_xyxy(objects.boxes_xywh) * scale
            rois = torch.as_tensor(gt_rois, dtype=features[0].dtype, device=features[0].device)
            model.roi_head.simple_test(features, [rois], [meta], rescale=True)

        suppress = _suppression(model.roi_head.test_cfg, rois.device)
        threshold = model.roi_head.test_cfg.score_thr
        proposals_xywh = to_xywh(to_numpy(rpn[0].result[:, :4]) / scale)
        candidates = _of_rois(head, answered, proposals_xywh, threshold, suppress)
        fit = np.maximum(iou_table(proposals_xywh, objects.boxes_xywh), _fit_of_right_class(candidates, objects))
        candidates = replace(candidates, gt_index=best_object(fit, FITS))
        added = _of_rois(head, answered_objects, objects.boxes_xywh, threshold, suppress)
        added = replace(added, gt_index=np.arange(len(objects)))
        cuts = _cuts_of_rpn(model.rpn_head, rpn[0], scale, objects)
        rank = np.arange(1.0, len(proposals_xywh) + 1)
        probe = ImageProbe(prune(candidates), added, cuts.iou, cuts.rank, cuts.cut, rank)
        return probe, boxes_by_class


def _suppression(config: Any, device: torch.device) -> Suppress:
    """The RoI head's own threshold, NMS and limit. config: its test_cfg."""

    def suppress(candidates: Candidates) -> Suppressed:
        eligible = candidates.score > config.score_thr
        limit = config.max_per_img if config.max_per_img > 0 else len(eligible)
        return nms(candidates, eligible, config.nms, limit, device)

    return suppress


def _of_rois(
    head: Any, calls: list[Call], priors_xywh: np.ndarray, threshold: float, suppress: Suppress
) -> Candidates:
    """What the RoI head predicts for each RoI and each class, before threshold and NMS; on no object yet."""
    if not calls:  # mmdet does not ask the head when there is no proposal
        return _candidates(np.zeros((0, 1)), np.zeros((0, 1, 4)), np.zeros(0), priors_xywh, threshold, suppress)
    boxes, scores = head.get_bboxes(*calls[0].arguments[:5], rescale=True, cfg=None)
    count, classes = scores.shape[0], scores.shape[1] - 1
    # a class-agnostic head has one box for all
    boxes_xyxy = np.broadcast_to(to_numpy(boxes).reshape(count, -1, 4), (count, classes, 4))
    scores = to_numpy(scores)
    return _candidates(scores[:, :-1], to_xywh(boxes_xyxy), scores[:, -1], priors_xywh, threshold, suppress)


def _candidates(
    scores: np.ndarray, boxes_xywh: np.ndarray, background: np.ndarray, priors_xywh: np.ndarray, threshold: float,
    suppress: Suppress,
) -> Candidates:
    """scores [candidates, classes], boxes_xywh [candidates, classes, 4]: predictions in mmdet's order."""
    candidate, label = np.divmod(np.arange(scores.size), scores.shape[1])
    score = scores.reshape(-1).astype(np.float32)
    highest = np.maximum(scores.max(axis=1, initial=0).astype(np.float32), background)
    named = (score > threshold) | (score >= highest[candidate])
    on_none = np.full(len(scores), -1)
    return Candidates(candidate, label, score, boxes_xywh.reshape(-1, 4), named, priors_xywh, background, on_none, suppress)


@dataclass(frozen=True)
class _Cuts:
    """How near the RPN came to each object: best IoU, rank by score, and which of its cuts lost it."""

    iou: np.ndarray
    rank: np.ndarray
    cut: np.ndarray


def _cuts_of_rpn(rpn_head: Any, call: Call, scale: np.ndarray, objects: ImageObjects) -> _Cuts:
    """The RPN's own steps again, one by one. Raises RuntimeError when they do not end in its proposals."""
    scores, deltas, _, anchors, meta, config, *_ = call.arguments
    config = config or rpn_head.test_cfg
    every: list[Any] = []  # predicted boxes of all anchors
    chosen: list[Any] = []  # per level which of them are among the nms_pre highest
    start = 0
    for level, (score, delta, prior) in enumerate(zip(scores, deltas, anchors, strict=True)):
        flat = score.permute(1, 2, 0)
        flat = flat.reshape(-1).sigmoid() if rpn_head.use_sigmoid_cls else flat.reshape(-1, 2).softmax(dim=1)[:, 0]
        order = torch.arange(len(flat), device=flat.device)
        if 0 < config.nms_pre < len(flat):
            order = flat.sort(descending=True)[1][: config.nms_pre]
        deltas_flat = delta.permute(1, 2, 0).reshape(-1, 4)
        every.append(rpn_head.bbox_coder.decode(prior, deltas_flat, max_shape=meta["img_shape"]))
        chosen.append((order + start, flat[order], torch.full_like(order, level)))
        start += len(flat)
    boxes_xyxy = torch.cat(every)
    picked, picked_scores, levels = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    sides = boxes_xyxy[picked, 2:] - boxes_xyxy[picked, :2]
    large_enough = (sides > config.min_bbox_size).all(dim=1) | (config.min_bbox_size < 0)
    picked, picked_scores, levels = picked[large_enough], picked_scores[large_enough], levels[large_enough]
    left = picked[batched_nms(boxes_xyxy[picked], picked_scores, levels, config.nms)[1]] if len(picked) else picked
    proposals = left[: config.max_per_img]
    if not torch.equal(boxes_xyxy[proposals], call.result[:, :4]):
        raise RuntimeError("the proposals read here are not those of the RPN: is this mmdet 2.28, with its RPNHead?")
    boxes_xywh = to_xywh(to_numpy(boxes_xyxy) / scale)
    after = {BY_NO_ANCHOR: survey(boxes_xywh, objects)} | {
        name: survey(boxes_xywh[to_numpy(rows)], objects)
        for name, rows in ((BY_TOP_K, picked), (BY_NMS, left), (BY_LIMIT, proposals))
    }
    reached = [found.best >= FITS for found in after.values()]
    last = after[BY_LIMIT]
    best = np.where(reached[-1], last.best, after[BY_NO_ANCHOR].best)  # cut: how near the RPN had come before
    return _Cuts(best, np.where(reached[-1], last.which + 1.0, np.nan), first_cut(list(after), reached))


def _fit_of_right_class(candidates: Candidates, objects: ImageObjects) -> np.ndarray:
    """[candidates, objects] IoU of the box that each candidate gives for the object's class."""
    fit = np.zeros((len(candidates.gt_index), len(objects)))
    for label in np.unique(objects.labels):
        rows = np.flatnonzero(candidates.label == label)
        columns = np.flatnonzero(objects.labels == label)
        table = iou_table(candidates.boxes_xywh[rows], objects.boxes_xywh[columns])
        fit[np.ix_(candidates.candidate[rows], columns)] = table
    return fit


TWO_STAGE = TwoStage()
