"""Inside a detector without proposals: the points of a dense head (VFNet, RetinaNet), the queries of DETR and its kin.

The code paths are mmdet 2.28's: dense_heads/base_dense_head.py and dense_heads/detr_head.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet.core.utils import filter_scores_and_topk

from workbook.diagnosis.families.seen import Look, Survey, first_cut, nms, owners, survey, to_numpy, to_xywh
from workbook.diagnosis.oracle import NEAR, Pool, Truths, Verdict, first_of_each, overlaps
from workbook.models.hooks import recorded_calls


def look_dense(model: Any, features: Any, batch: dict[str, Any], truths: Truths, iou: float) -> tuple[Look, Any]:
    """The image in the detector, and what `simple_test` gives. A candidate is a point with an answer in the NMS."""
    head, meta, device = model.bbox_head, batch["img_metas"][0], batch["img"].device
    config = head.test_cfg
    with recorded_calls(head, "_get_bboxes_single") as calls:
        boxes_by_class = model.simple_test(batch["img"], [meta], rescale=True)[0]
    # of all points; entries are the (point, class, score) that reach the NMS
    boxes, highest, entries, start = [], [], [], 0
    for score, delta, factor, prior in zip(*calls[0].arguments[:4], strict=True):
        scores = score.permute(1, 2, 0).reshape(-1, head.cls_out_channels)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[:, :-1]
        decoded = head.bbox_coder.decode(prior, delta.permute(1, 2, 0).reshape(-1, 4), max_shape=meta["img_shape"])
        passed, label, point, _ = filter_scores_and_topk(scores, config.score_thr, config.get("nms_pre", -1))
        if factor is not None:  # centerness: multiplied after the threshold, as mmdet does
            passed = passed * factor.permute(1, 2, 0).reshape(-1).sigmoid()[point]
        boxes.append(decoded)
        highest.append(torch.stack([*scores.max(dim=1)], dim=1))  # [points, (score, class)]
        entries.append((point + start, label, passed))
        start += len(scores)
    boxes_xyxy = torch.cat(boxes) / torch.cat(boxes).new_tensor(meta["scale_factor"])
    boxes_xywh, top = to_xywh(to_numpy(boxes_xyxy)), to_numpy(torch.cat(highest))
    point, label, passed = (to_numpy(torch.cat(parts)) for parts in zip(*entries, strict=True))

    def suppress(pool: Pool) -> Verdict:
        return nms(pool, np.ones(len(pool.label), bool), config.nms, config.max_per_img, device)

    points, candidate = np.unique(point, return_inverse=True)
    fit = overlaps(boxes_xywh[points], truths.boxes_xywh)
    pool = Pool(
        candidate, label, passed.astype(np.float32), boxes_xywh[point], boxes_xywh[points],
        1 - top[points, 0], owners(fit, NEAR), suppress,
    )
    above = np.flatnonzero(top[:, 0] > config.score_thr)
    every, passing, left = (survey(boxes_xywh[rows], truths, iou) for rows in (slice(None), above, points))
    cuts = {"no point's box is near it": every, "score threshold": passing, "pre-NMS top-k": left}
    cut = first_cut(list(cuts), [found.near for found in cuts.values()])
    spare = _spare(pool, truths, boxes_xywh, top[:, 1].astype(int), top[:, 0], every)
    found = _candidates_found(pool, left, every)
    return Look(pool, spare, np.ones(len(label), bool), *found, cut, _places(pool)), boxes_by_class


def look_query(model: Any, features: Any, batch: dict[str, Any], truths: Truths, iou: float) -> tuple[Look, Any]:
    """The image in the detector, and what `simple_test` gives. A candidate is a query."""
    head, meta = model.bbox_head, batch["img_metas"][0]
    with recorded_calls(head, "_get_bboxes_single") as calls:
        boxes_by_class = model.simple_test(batch["img"], [meta], rescale=True)[0]
    logits, boxes_cxcywh, shape, scale, *_ = calls[0].arguments
    center, side = boxes_cxcywh.split(2, dim=-1)
    boxes_xyxy = torch.cat([center - 0.5 * side, center + 0.5 * side], dim=-1)
    size = boxes_xyxy.new_tensor([shape[1], shape[0], shape[1], shape[0]])
    boxes_xyxy = torch.minimum((boxes_xyxy * size).clamp(min=0), size) / boxes_xyxy.new_tensor(scale)
    boxes_xywh = to_xywh(to_numpy(boxes_xyxy))
    if head.loss_cls.use_sigmoid:  # every class of every query is an answer
        scores = to_numpy(logits.sigmoid())
        background = 1 - scores.max(axis=1)
        candidate, label = np.divmod(np.arange(scores.size), scores.shape[1])
        score = scores.reshape(-1)
    else:  # a query answers its best class
        probability = logits.softmax(-1)
        best, classes = probability[:, :-1].max(-1)
        background, score, label = to_numpy(probability[:, -1]), to_numpy(best), to_numpy(classes)
        candidate = np.arange(len(score))
    limit = head.test_cfg.get("max_per_img", head.num_query)

    def suppress(pool: Pool) -> Verdict:
        scores = torch.as_tensor(pool.score, device=logits.device)
        first = to_numpy(scores.topk(min(limit, len(scores)))[1])  # mmdet's own order among equals
        rest = np.setdiff1d(np.argsort(-pool.score, kind="stable"), first, assume_unique=True)
        survivors = np.concatenate([first, rest])
        return Verdict(np.ones(len(survivors), bool), survivors, pool.score[survivors], limit)

    fit = overlaps(boxes_xywh, truths.boxes_xywh)
    pool = Pool(
        candidate, label, score.astype(np.float32), boxes_xywh[candidate], boxes_xywh, background,
        owners(fit, NEAR), suppress,
    )
    named = pool.score >= pool.highest[candidate]
    named[pool.verdict.reported] = True
    found = survey(boxes_xywh, truths, iou)
    cut = first_cut(["no query's box is near it"], [found.near])
    top = pool.label[first_of_each(pool.candidate, -pool.score)]
    spare = _spare(pool, truths, boxes_xywh, top, pool.highest, found)
    return Look(pool, spare, named, *_candidates_found(pool, found, found), cut, _places(pool)), boxes_by_class


def _spare(
    pool: Pool, truths: Truths, boxes_xywh: np.ndarray, top_label: np.ndarray, top_score: np.ndarray, found: Survey
) -> Pool:
    """For each truth without a candidate the nearest point or query: its first answer and, when it is near, its box."""
    missing = np.setdiff1d(np.arange(len(truths.ids)), pool.owner)
    source = found.which[missing]
    placed = np.where((found.best[missing] >= NEAR)[:, None], boxes_xywh[source], truths.boxes_xywh[missing])
    score = top_score[source].astype(np.float32)
    return Pool(np.arange(len(missing)), top_label[source], score, placed, placed, 1 - score, missing, pool.suppress)


def _candidates_found(pool: Pool, left: Survey, every: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Per truth: IoU of the best candidate (of any box, where no candidate is left), and its place by score, from 1."""
    place = _places(pool) if len(pool.owner) else np.ones(1)
    return np.where(left.near, left.best, every.best), np.where(left.near, place[left.which], np.nan)


def _places(pool: Pool) -> np.ndarray:
    """[candidates] the place of each by its highest score, from 1."""
    place = np.empty(len(pool.owner))
    place[np.argsort(-pool.highest, kind="stable")] = np.arange(1.0, len(pool.owner) + 1)
    return place
