"""Detectors that predict from every point of their feature maps (RetinaNet, VFNet).

The code path is mmdet 2.28's: dense_heads/base_dense_head.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmdet.core.utils import filter_scores_and_topk
from torch import Tensor, nn

from workbook.diagnosis.family import ImageProbe, ModelFamily
from workbook.diagnosis.nearest import candidates_found, nearest_candidates
from workbook.diagnosis.oracle import NEAR, Candidates, ImageObjects, Suppressed
from workbook.diagnosis.probing import best_object, first_cut, nms, ranks, survey, to_numpy
from workbook.evaluation.boxes import iou_table, to_xywh
from workbook.models.assigners import Assigned, assign_anchors
from workbook.models.hooks import recorded_calls

BY_NO_POINT, BY_THRESHOLD, BY_TOP_K = "no point's box is near it", "score threshold", "pre-NMS top-k"


class Dense(ModelFamily):
    """A candidate is a point with a prediction in the NMS."""

    key = "dense"
    candidate_noun = "points' boxes"
    cut_words = {
        BY_NO_POINT: "because no point's box comes near",
        BY_THRESHOLD: "because what was there scored below the threshold",
        BY_TOP_K: "because what was there scored too low for the pre-NMS top-k",
    }

    def matches(self, model: nn.Module) -> bool:
        head = getattr(model, "bbox_head", None)
        return hasattr(head, "prior_generator") and not hasattr(head, "num_query")

    def assigner_head(self, model: Any) -> Any:
        return model.bbox_head

    def assign(self, model: Any, gt_boxes_xyxy: np.ndarray, resized: Mapping[str, Any]) -> Assigned:
        return assign_anchors(model.bbox_head, gt_boxes_xyxy, resized)

    def read(
        self, model: Any, features: Any, batch: dict[str, Any], objects: ImageObjects
    ) -> tuple[ImageProbe, list[np.ndarray]]:
        head, meta, device = model.bbox_head, batch["img_metas"][0], batch["img"].device
        config = head.test_cfg
        with recorded_calls(head, "_get_bboxes_single") as calls:
            boxes_by_class = model.simple_test(batch["img"], [meta], rescale=True)[0]
        points = _points(head, calls[0].arguments[:4], meta)

        def suppress(candidates: Candidates) -> Suppressed:
            eligible = np.ones(len(candidates.label), bool)
            return nms(candidates, eligible, config.nms, config.max_per_img, device)

        reached, candidate = np.unique(points.of_prediction, return_inverse=True)
        candidates = Candidates(
            candidate, points.label, points.score, points.boxes_xywh[points.of_prediction], np.ones(len(points.label), bool),
            points.boxes_xywh[reached], 1 - points.highest[reached],
            best_object(iou_table(points.boxes_xywh[reached], objects.boxes_xywh), NEAR), suppress,
        )
        passes = points.highest > config.score_thr
        above = np.flatnonzero(passes)
        every, passing, left = (survey(points.boxes_xywh[rows], objects) for rows in (slice(None), above, reached))
        after = {BY_NO_POINT: every, BY_THRESHOLD: passing, BY_TOP_K: left}
        cut = first_cut(list(after), [found.near for found in after.values()])
        added = nearest_candidates(candidates, objects, points.boxes_xywh, points.top_label, points.highest, passes, every)
        rank = ranks(candidates)
        return ImageProbe(candidates, added, *candidates_found(rank, left, every), cut, rank), boxes_by_class


@dataclass(frozen=True)
class _Points:
    """What the head predicts at all points of all maps of one image."""

    boxes_xywh: np.ndarray  # [points, 4] in pixels of the file
    highest: np.ndarray  # [points] the highest score of any class
    top_label: np.ndarray  # [points] the class that has it
    of_prediction: np.ndarray  # [predictions] the point of each prediction that reaches the NMS
    label: np.ndarray  # [predictions]
    score: np.ndarray  # [predictions] float32


def _points(head: Any, maps: Any, meta: Mapping[str, Any]) -> _Points:
    """The points of one image. maps: for each level the scores, deltas, score factors and priors that the head was given."""
    boxes: list[Tensor] = []
    highest: list[Tensor] = []
    entries: list[tuple[Tensor, Tensor, Tensor]] = []
    start = 0
    for score, delta, factor, prior in zip(*maps, strict=True):
        scores = score.permute(1, 2, 0).reshape(-1, head.cls_out_channels)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[:, :-1]
        boxes.append(head.bbox_coder.decode(prior, delta.permute(1, 2, 0).reshape(-1, 4), max_shape=meta["img_shape"]))
        config = head.test_cfg
        passed, label, point, _ = filter_scores_and_topk(scores, config.score_thr, config.get("nms_pre", -1))
        if factor is not None:  # centerness: multiplied after the threshold, as mmdet does
            passed = passed * factor.permute(1, 2, 0).reshape(-1).sigmoid()[point]
        highest.append(torch.stack([*scores.max(dim=1)], dim=1))  # [points, (score, class)]
        entries.append((point + start, label, passed))
        start += len(scores)
    boxes_xyxy = torch.cat(boxes) / torch.cat(boxes).new_tensor(meta["scale_factor"])
    top = to_numpy(torch.cat(highest))
    point, label, passed = (to_numpy(torch.cat(parts)) for parts in zip(*entries, strict=True))
    return _Points(to_xywh(to_numpy(boxes_xyxy)), top[:, 0], top[:, 1].astype(int), point, label, passed.astype(np.float32))


DENSE = Dense()
