"""Inside a detector with proposals (Faster R-CNN, Cascade R-CNN): the RPN's cuts, and all answers of the RoI head.

The code paths are mmdet 2.28's: dense_heads/rpn_head.py and roi_heads/bbox_heads/bbox_head.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mmcv.ops import batched_nms
from torch import nn

from workbook.diagnosis.families.seen import Look, first_cut, nms, owners, survey, to_numpy, to_xywh, to_xyxy
from workbook.diagnosis.oracle import Pool, Truths, Verdict, overlaps
from workbook.models.hooks import Call, recorded_calls


def look_two_stage(model: Any, features: Any, batch: dict[str, Any], truths: Truths, iou: float) -> tuple[Look, Any]:
    """The image in the detector, and what `simple_test` gives. A candidate is a proposal with what is said of it."""
    meta, heads = batch["img_metas"][0], model.roi_head.bbox_head
    head = heads[-1] if isinstance(heads, nn.ModuleList) else heads
    config, scale = model.roi_head.test_cfg, np.asarray(meta["scale_factor"], float)
    with recorded_calls(model.rpn_head, "_get_bboxes_single") as rpn, recorded_calls(head, "get_bboxes") as answered:
        boxes_by_class = model.simple_test(batch["img"], [meta], rescale=True)[0]
    gt_boxes_xyxy = to_xyxy(truths.boxes_xywh) * scale
    with recorded_calls(head, "get_bboxes") as answered_truths:
        gt_rois = torch.as_tensor(gt_boxes_xyxy, dtype=features[0].dtype, device=features[0].device)
        model.roi_head.simple_test(features, [gt_rois], [meta], rescale=True)

    def suppress(pool: Pool) -> Verdict:
        eligible = pool.score > config.score_thr
        limit = config.max_per_img if config.max_per_img > 0 else len(eligible)
        return nms(pool, eligible, config.nms, limit, gt_rois.device)

    proposals_xywh = to_xywh(to_numpy(rpn[0].result[:, :4]) / scale)
    pool = _roi_pool(head, answered, proposals_xywh, suppress)
    fit = np.maximum(overlaps(proposals_xywh, truths.boxes_xywh), _fit_of_right_class(pool, truths))
    pool = replace(pool, owner=owners(fit, iou))
    spare = replace(_roi_pool(head, answered_truths, truths.boxes_xywh, suppress), owner=np.arange(len(truths.ids)))
    first_answer = np.maximum(pool.highest, pool.background)[pool.candidate]
    named = (pool.score > config.score_thr) | (pool.score >= first_answer)
    lost = _proposals_lost(model.rpn_head, rpn[0], scale, truths, iou)
    return Look(pool, spare, named, *lost, np.arange(1.0, len(proposals_xywh) + 1)), boxes_by_class


def _roi_pool(head: Any, calls: list[Call], priors_xywh: np.ndarray, suppress: Callable[[Pool], Verdict]) -> Pool:
    """What the RoI head says of each proposal and each class, before threshold and NMS."""
    if not calls:  # mmdet does not ask the head when there is no proposal
        return _pool(np.zeros((0, 1)), np.zeros((0, 1, 4)), np.zeros(0), priors_xywh, suppress)
    boxes, scores = head.get_bboxes(*calls[0].arguments[:5], rescale=True, cfg=None)
    count, classes = scores.shape[0], scores.shape[1] - 1
    # a class-agnostic head has one box for all
    boxes_xyxy = np.broadcast_to(to_numpy(boxes).reshape(count, -1, 4), (count, classes, 4))
    scores = to_numpy(scores)
    return _pool(scores[:, :-1], to_xywh(boxes_xyxy), scores[:, -1], priors_xywh, suppress)


def _proposals_lost(
    rpn_head: Any, call: Call, scale: np.ndarray, truths: Truths, iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How near the RPN came to each truth before each of its cuts: (best IoU, rank, which cut lost it)."""
    scores, deltas, _, anchors, meta, config, *_ = call.arguments
    config = config or rpn_head.test_cfg
    every, chosen, start = [], [], 0  # boxes of all anchors; per level which of them are among the nms_pre highest
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
    sound = (sides > config.min_bbox_size).all(dim=1) | (config.min_bbox_size < 0)
    picked, picked_scores, levels = picked[sound], picked_scores[sound], levels[sound]
    kept = picked[batched_nms(boxes_xyxy[picked], picked_scores, levels, config.nms)[1]] if len(picked) else picked
    proposals = kept[: config.max_per_img]
    if not torch.equal(boxes_xyxy[proposals], call.result[:, :4]):
        raise RuntimeError("the proposals read here are not those of the RPN: is this mmdet 2.28, with its RPNHead?")
    boxes_xywh = to_xywh(to_numpy(boxes_xyxy) / scale)
    cuts = {"no anchor reaches it": survey(boxes_xywh, truths, iou)} | {
        name: survey(boxes_xywh[to_numpy(rows)], truths, iou)
        for name, rows in (("pre-NMS top-k", picked), ("RPN NMS", kept), ("RPN max_per_img", proposals))
    }
    reached = [found.best >= iou for found in cuts.values()]
    every_anchor, left = cuts["no anchor reaches it"], cuts["RPN max_per_img"]
    best = np.where(reached[-1], left.best, every_anchor.best)  # what was cut: how near the RPN had come before
    return best, np.where(reached[-1], left.which + 1.0, np.nan), first_cut(list(cuts), reached)


def _pool(
    scores: np.ndarray, boxes_xywh: np.ndarray, background: np.ndarray, priors_xywh: np.ndarray,
    suppress: Callable[[Pool], Verdict],
) -> Pool:
    """scores [candidates, classes], boxes_xywh [candidates, classes, 4]: answers in mmdet's order, no owners yet."""
    candidate, label = np.divmod(np.arange(scores.size), scores.shape[1])
    score, nobody = scores.reshape(-1).astype(np.float32), np.full(len(scores), -1)
    return Pool(candidate, label, score, boxes_xywh.reshape(-1, 4), priors_xywh, background, nobody, suppress)


def _fit_of_right_class(pool: Pool, truths: Truths) -> np.ndarray:
    """[candidates, truths] IoU of the box that each candidate gives for the truth's class."""
    fit = np.zeros((len(pool.owner), len(truths.ids)))
    for label in np.unique(truths.labels):
        answers, columns = np.flatnonzero(pool.label == label), np.flatnonzero(truths.labels == label)
        fit[np.ix_(pool.candidate[answers], columns)] = overlaps(pool.boxes_xywh[answers], truths.boxes_xywh[columns])
    return fit


