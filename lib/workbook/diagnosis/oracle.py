"""The replays: the truth is given to the real detector one stage at a time, and the rest of it runs as it always does.

Everything a detector could still say of an image stands in a `Pool`: answers (a class, a score, a box), each given by a
candidate (a proposal's RoI, a point of a dense head, a query). A replay changes answers; what survives of them is
decided by the detector's own suppression, again. All boxes are (x, y, w, h) in pixels of the original image and in
float64, so that a truth box that is put in comes out to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from pycocotools import mask
from scipy.optimize import linear_sum_assignment

from workbook.evaluation.coco_metrics import MAX_DETECTIONS

# A box that overlaps an object by less is not about it: TIDE's threshold of background (arXiv:2008.08115, section 2.2).
NEAR = 0.1


@dataclass(frozen=True)
class Truths:
    """The objects of one image that COCO counts (no crowds), as annotated."""

    ids: np.ndarray  # [truths] annotation ids
    labels: np.ndarray  # [truths] index of the class
    boxes_xywh: np.ndarray  # [truths, 4]


@dataclass(frozen=True)
class Verdict:
    """What the detector's own suppression makes of a pool."""

    eligible: np.ndarray  # [answers] bool: over the score threshold
    survivors: np.ndarray  # [survivors] answers that NMS leaves, the best first
    scores: np.ndarray  # [survivors] (soft NMS lowers them)
    limit: int  # so many of them are reported

    @property
    def reported(self) -> np.ndarray:
        return self.survivors[: self.limit]


@dataclass(frozen=True)
class Pool:
    """The answers of one image before suppression. `suppress` is the detector's own."""

    candidate: np.ndarray  # [answers] who gives it
    label: np.ndarray  # [answers]
    score: np.ndarray  # [answers] float32
    boxes_xywh: np.ndarray  # [answers, 4]
    priors_xywh: np.ndarray  # [candidates, 4] where it stands: the proposal; its own box where there are no proposals
    background: np.ndarray  # [candidates] its confidence that there is nothing
    owner: np.ndarray  # [candidates] the truth it stands on, -1 for none
    suppress: Callable[[Pool], Verdict]

    @cached_property
    def verdict(self) -> Verdict:
        return self.suppress(self)

    @property
    def truth(self) -> np.ndarray:
        """[answers] the truth that its candidate stands on, -1 for none."""
        return self.owner[self.candidate]

    @cached_property
    def highest(self) -> np.ndarray:
        """[candidates] its highest score for any class."""
        highest = np.zeros(len(self.owner), np.float32)
        np.maximum.at(highest, self.candidate, self.score)
        return highest


@dataclass(frozen=True)
class Replay:
    """One image on its way through the replays. `answers` and `scores`: what is reported, once a replay sets that."""

    truths: Truths
    pool: Pool
    spare: Pool  # the candidates that a perfect first stage would add
    iou: float  # from here on a box is on its truth
    answers: np.ndarray | None = None
    scores: np.ndarray | None = None

    def reported(self) -> tuple[np.ndarray, np.ndarray]:
        """The answers that are reported and their scores."""
        if self.answers is None or self.scores is None:
            verdict = self.pool.verdict
            return verdict.reported, verdict.scores[: verdict.limit]
        return self.answers, self.scores

    def as_coco(self, image_id: int, category_ids: list[int]) -> list[dict[str, Any]]:
        """What is reported, as COCO results, the best first."""
        answers, scores = self.reported()
        return [
            {"image_id": image_id, "category_id": category_ids[label], "bbox": box_xywh, "score": score}
            for label, box_xywh, score in zip(
                self.pool.label[answers].tolist(), self.pool.boxes_xywh[answers].tolist(), scores.tolist(), strict=True
            )
        ]


def perfect_candidates(replay: Replay) -> Replay:
    """Every truth has a candidate that stands on it; what it answers is up to the real detector."""
    pool, spare = replay.pool, replay.spare
    arrays = {
        name: np.concatenate([getattr(pool, name), getattr(spare, name)])
        for name in ("label", "score", "boxes_xywh", "priors_xywh", "background", "owner")
    }
    candidate = np.concatenate([pool.candidate, spare.candidate + len(pool.owner)])
    return replace(replay, pool=Pool(candidate=candidate, suppress=pool.suppress, **arrays))


def perfect_class(replay: Replay) -> Replay:
    """Every candidate on a truth answers the truth's class and nothing else, with the score of its best class.

    The candidate that believes most in its truth also passes on its belief in the background, when that is higher: what
    the head is sure of is renamed, not made up. One a truth: the order among the others says which box is the better.
    """
    pool, labels = replay.pool, replay.truths.labels
    owned = np.flatnonzero(pool.truth >= 0)
    if not len(owned):
        return replay
    candidate, wrong = pool.candidate[owned], pool.label[owned] != labels[pool.truth[owned]]
    # a class-specific box head has a box for the right class; a shared one has the same for all
    answers = owned[first_of_each(candidate, wrong, -pool.score[owned])]
    label, score = pool.label.copy(), pool.score.copy()
    label[answers] = labels[pool.truth[answers]]
    score[answers] = pool.highest[pool.candidate[answers]]
    surest = answers[first_of_each(pool.truth[answers], -score[answers])]
    score[surest] = np.maximum(score[surest], pool.background[pool.candidate[surest]])
    keep = np.sort(np.concatenate([np.flatnonzero(pool.truth < 0), answers]))
    return replace(replay, pool=replace(
        pool, candidate=pool.candidate[keep], label=label[keep], score=score[keep], boxes_xywh=pool.boxes_xywh[keep]
    ))


def perfect_box(replay: Replay) -> Replay:
    """Every answer of a candidate on a truth has the truth's box."""
    pool = replay.pool
    boxes_xywh, owned = pool.boxes_xywh.copy(), pool.truth >= 0
    boxes_xywh[owned] = replay.truths.boxes_xywh[pool.truth[owned]]
    return replace(replay, pool=replace(pool, boxes_xywh=boxes_xywh))


def perfect_suppression(replay: Replay) -> Replay:
    """The surest right answer of every truth is reported, whatever threshold, NMS or limit says; its duplicates are not.

    Right is: the truth's class, and a box that reaches `iou`. A second right answer is no duplicate when its box fits
    better: at a higher IoU it is the hit. The other answers are the real suppression's, up to the limit of COCO (100 of a
    class in an image), above which they would push a truth out of the count.
    """
    pool = replay.pool
    fit = fit_of_right_answers(replay)
    chosen = np.flatnonzero(fit)
    chosen = chosen[first_of_each(pool.truth[chosen], -pool.score[chosen], -fit[chosen])]
    enough = np.zeros(len(replay.truths.ids) + 1)  # the last place is for no truth
    enough[pool.truth[chosen]] = fit[chosen]
    answers, scores = replay.reported()
    others = (fit[answers] == 0) | (fit[answers] > enough[pool.truth[answers]])
    answers = np.concatenate([chosen, answers[others]])  # the chosen come first into the count
    scores = np.concatenate([pool.score[chosen], scores[others]])
    counted = place_in_group(pool.label[answers]) < MAX_DETECTIONS
    answers, scores = answers[counted], scores[counted]
    order = np.argsort(-scores, kind="stable")
    return replace(replay, answers=answers[order], scores=scores[order])


def perfect_ranking(replay: Replay) -> Replay:
    """What is reported keeps its boxes; the scores put every true one above every false one, the better box first."""
    answers, scores = replay.reported()
    pool, truths = replay.pool, replay.truths
    same_class = pool.label[answers][:, None] == truths.labels[None]
    fit = overlaps(pool.boxes_xywh[answers], truths.boxes_xywh) * same_class  # [answers, truths]
    fit[fit < replay.iou] = 0
    rows, columns = linear_sum_assignment(-fit)
    true = fit[rows, columns] > 0
    ranked = scores.astype(float) / 2  # at most .5
    ranked[rows[true]] = 0.5 + fit[rows, columns][true] / 2  # above .5
    order = np.argsort(-ranked, kind="stable")
    return replace(replay, answers=answers[order], scores=ranked[order])


def fit_of_right_answers(replay: Replay) -> np.ndarray:
    """[answers] IoU with the truth that its candidate stands on, where it has its class and reaches `iou`; else 0."""
    pool, truths = replay.pool, replay.truths
    right = np.zeros(len(pool.label))
    asked = np.flatnonzero(pool.truth >= 0)
    asked = asked[pool.label[asked] == truths.labels[pool.truth[asked]]]
    for truth in np.unique(pool.truth[asked]):
        mine = asked[pool.truth[asked] == truth]
        right[mine] = overlaps(pool.boxes_xywh[mine], truths.boxes_xywh[[truth]])[:, 0]
    return np.where(right >= replay.iou, right, 0)


def overlaps(boxes_xywh: np.ndarray, gt_boxes_xywh: np.ndarray) -> np.ndarray:
    """IoU [boxes, truths] as COCO computes it: the same code, so that a border is the same border."""
    if not len(boxes_xywh) or not len(gt_boxes_xywh):
        return np.zeros((len(boxes_xywh), len(gt_boxes_xywh)))
    boxes, gt_boxes = (np.ascontiguousarray(side, float) for side in (boxes_xywh, gt_boxes_xywh))
    return mask.iou(boxes, gt_boxes, [0] * len(gt_boxes))


def first_of_each(groups: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """The place of each group's first member when sorted by the keys (the earlier key counts more, then the place)."""
    order = np.lexsort((*reversed(keys), groups))
    return order[np.unique(groups[order], return_index=True)[1]]


def place_in_group(groups: np.ndarray) -> np.ndarray:
    """[n] how many before it are of the same group."""
    order = np.argsort(groups, kind="stable")
    starts = np.unique(groups[order], return_index=True)[1]
    sizes = np.diff(np.append(starts, len(groups)))
    places = np.empty(len(groups), int)
    places[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return places
