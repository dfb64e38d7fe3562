"""The oracles: one stage of a detector is given the ground truth, and the rest of it runs as it always does.

Everything a detector could still report of an image is in `Candidates`: predictions (a class, a score, a box), each given
by a candidate (a proposal's RoI, a point of a dense head, a query). An oracle changes predictions; which of them are
reported is decided by the detector's own suppression, again. All boxes are (x, y, width, height) in pixels of the original
image and in float64, so that a ground truth box that is put in comes out to the last bit.

The idea of replaying a detector with one part made perfect is that of oracle analyses (Hoiem 2012; TIDE, arXiv:2008.08115).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.optimize import linear_sum_assignment

from workbook.evaluation.boxes import iou_table
from workbook.evaluation.coco_metrics import MAX_DETECTIONS

# A box that overlaps an object by less is not about it: TIDE's threshold of background (arXiv:2008.08115, section 2.2).
NEAR = 0.1
# From this IoU on COCO counts a box as right at all.
FITS = 0.5


@dataclass(frozen=True)
class ImageObjects:
    """The objects of one image that COCO counts (no crowds), as annotated."""

    ids: np.ndarray  # [objects] annotation ids
    labels: np.ndarray  # [objects] index of the class
    boxes_xywh: np.ndarray  # [objects, 4]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Suppressed:
    """What the detector's own suppression makes of the candidates' predictions."""

    eligible: np.ndarray  # [predictions] bool: over the score threshold
    survivors: np.ndarray  # [survivors] predictions that NMS leaves, the best first
    scores: np.ndarray  # [survivors] (soft NMS lowers them)
    limit: int  # so many of them are reported

    @property
    def reported(self) -> np.ndarray:
        """[reported] the predictions that the detector gives as its detections."""
        return self.survivors[: self.limit]


@dataclass(frozen=True)
class Candidates:
    """The predictions of one image before suppression. `suppress` is the detector's own."""

    candidate: np.ndarray  # [predictions] index of the candidate that gives it
    label: np.ndarray  # [predictions]
    score: np.ndarray  # [predictions] float32, where a detector gives it
    boxes_xywh: np.ndarray  # [predictions, 4]
    named: np.ndarray  # [predictions] bool: the candidate says this class: over the threshold, or its highest of all
    priors_xywh: np.ndarray  # [candidates, 4] the proposal; the predicted box where there are no proposals
    background: np.ndarray  # [candidates] its confidence that there is nothing
    gt_index: np.ndarray  # [candidates] the object that it is on, -1 for none
    suppress: Callable[[Candidates], Suppressed]

    @cached_property
    def suppressed(self) -> Suppressed:
        """What is left of the predictions; computed once."""
        return self.suppress(self)

    @property
    def object_of(self) -> np.ndarray:
        """[predictions] the object that its candidate is on, -1 for none."""
        return self.gt_index[self.candidate]

    @cached_property
    def highest(self) -> np.ndarray:
        """[candidates] its highest score for any class."""
        highest = np.zeros(len(self.gt_index), self.score.dtype)
        np.maximum.at(highest, self.candidate, self.score)
        return highest

    def take(self, rows: np.ndarray) -> Candidates:
        """The same candidates with these predictions alone."""
        return replace(
            self, candidate=self.candidate[rows], label=self.label[rows], score=self.score[rows],
            boxes_xywh=self.boxes_xywh[rows], named=self.named[rows],
        )


@dataclass(frozen=True)
class Replay:
    """One image on its way through the oracles. `rows` and `scores`: what is reported, once an oracle sets that."""

    objects: ImageObjects
    candidates: Candidates
    oracle_candidates: Candidates  # those that a perfect first stage would add
    rows: np.ndarray | None = None
    scores: np.ndarray | None = None

    def reported(self) -> tuple[np.ndarray, np.ndarray]:
        """The predictions that are reported and their scores, the best first."""
        if self.rows is None or self.scores is None:
            suppressed = self.candidates.suppressed
            return suppressed.reported, suppressed.scores[: suppressed.limit]
        return self.rows, self.scores

    def with_reported(self, rows: np.ndarray, scores: np.ndarray) -> Replay:
        """The same, reporting these predictions with these scores, sorted by falling score."""
        order = np.argsort(-scores, kind="stable")
        return replace(self, rows=rows[order], scores=scores[order])


def oracle_candidates(replay: Replay) -> Replay:
    """Every object has a candidate on it; what that predicts is up to the real detector."""
    real, added = replay.candidates, replay.oracle_candidates
    if not len(added.gt_index):
        return replay
    names = ("label", "score", "boxes_xywh", "named", "priors_xywh", "background", "gt_index")
    arrays = {name: np.concatenate([getattr(real, name), getattr(added, name)]) for name in names}
    candidate = np.concatenate([real.candidate, added.candidate + len(real.gt_index)])
    return replace(replay, candidates=Candidates(candidate=candidate, suppress=real.suppress, **arrays))


def oracle_class(replay: Replay) -> Replay:
    """Every candidate on an object predicts the object's class and no other, with the score of its best class.

    An object that no candidate gives its class is taken for background: the candidate that is surest of the object or of
    the background gives it that confidence. A class that is named already keeps its score, however low: whether it is
    above the false detections is the ranking's affair.
    """
    candidates, labels = replay.candidates, replay.objects.labels
    on_object = np.flatnonzero(candidates.object_of >= 0)
    if not len(on_object):
        return replay
    own_class = candidates.label[on_object] == labels[candidates.object_of[on_object]]
    has_name = np.zeros(len(labels), bool)
    has_name[candidates.object_of[on_object[own_class & candidates.named[on_object]]]] = True
    # a class-specific box head has a box for the right class; a shared one has the same for all
    chosen = on_object[first_of_each(candidates.candidate[on_object], ~own_class, -candidates.score[on_object])]
    label = candidates.label.copy()
    label[chosen] = labels[candidates.object_of[chosen]]
    score = candidates.score.copy()
    score[chosen] = candidates.highest[candidates.candidate[chosen]]
    nameless = chosen[~has_name[candidates.object_of[chosen]]]
    belief = np.maximum(score, candidates.background[candidates.candidate])
    surest = nameless[first_of_each(candidates.object_of[nameless], -belief[nameless])]
    score[surest] = belief[surest]
    named = candidates.named.copy()
    named[chosen] = True
    rows = np.sort(np.concatenate([np.flatnonzero(candidates.object_of < 0), chosen]))
    return replace(replay, candidates=replace(candidates, label=label, score=score, named=named).take(rows))


def oracle_box(replay: Replay) -> Replay:
    """Every prediction of a candidate on an object has the object's box."""
    candidates = replay.candidates
    on_object = candidates.object_of >= 0
    if not on_object.any():
        return replay
    boxes_xywh = candidates.boxes_xywh.copy()
    boxes_xywh[on_object] = replay.objects.boxes_xywh[candidates.object_of[on_object]]
    return replace(replay, candidates=replace(candidates, boxes_xywh=boxes_xywh))


def oracle_suppression(replay: Replay) -> Replay:
    """The surest right prediction of every object is reported, whatever threshold, NMS or limit says; its duplicates are not.

    Right is: the object's class, which the candidate stands by (else it is the class that fails), and a box of IoU .5 or
    more. A second right prediction is no duplicate when its box fits
    better: at a higher IoU it is the hit. The other predictions are the real suppression's, up to COCO's limit (100 of a
    class in an image), above which they would push an object out of the count.
    """
    candidates = replay.candidates
    fit = fit_of_right(replay)
    chosen = np.flatnonzero(fit)
    chosen = chosen[first_of_each(candidates.object_of[chosen], -candidates.score[chosen], -fit[chosen])]
    enough = np.zeros(len(replay.objects) + 1)  # the last is for predictions on no object
    enough[candidates.object_of[chosen]] = fit[chosen]
    rows, scores = replay.reported()
    others = (fit[rows] == 0) | (fit[rows] > enough[candidates.object_of[rows]])
    rows = np.concatenate([chosen, rows[others]])  # the chosen come first into the count
    scores = np.concatenate([candidates.score[chosen], scores[others]])
    counted = rank_in_group(candidates.label[rows]) < MAX_DETECTIONS
    return replay.with_reported(rows[counted], scores[counted])


def oracle_ranking(replay: Replay) -> Replay:
    """What is reported and right stands above everything false, the better box first.

    The false ones are left out: below every right one they change no precision that COCO reads (a find's precision
    counts what stands above it).
    """
    rows, _ = replay.reported()
    candidates, objects = replay.candidates, replay.objects
    same_class = candidates.label[rows][:, None] == objects.labels[None]
    fit = iou_table(candidates.boxes_xywh[rows], objects.boxes_xywh) * same_class  # [reported, objects]
    fit[fit < FITS] = 0
    found, of_object = linear_sum_assignment(-fit)
    right = fit[found, of_object] > 0
    return replay.with_reported(rows[found[right]], fit[found, of_object][right])


def fit_of_right(replay: Replay) -> np.ndarray:
    """[predictions] IoU with the object that its candidate is on, where it names its class and reaches .5; else 0."""
    candidates, objects = replay.candidates, replay.objects
    fit = np.zeros(len(candidates.label))
    asked = np.flatnonzero((candidates.object_of >= 0) & candidates.named)
    asked = asked[candidates.label[asked] == objects.labels[candidates.object_of[asked]]]
    for number in np.unique(candidates.object_of[asked]):
        mine = asked[candidates.object_of[asked] == number]
        fit[mine] = iou_table(candidates.boxes_xywh[mine], objects.boxes_xywh[[number]])[:, 0]
    return np.where(fit >= FITS, fit, 0)


def first_of_each(groups: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """The index of each group's first member when sorted by the keys (the earlier key counts more, then the index)."""
    order = np.lexsort((*reversed(keys), groups))
    return order[np.unique(groups[order], return_index=True)[1]]


def rank_in_group(groups: np.ndarray) -> np.ndarray:
    """[n] how many before it are of the same group."""
    order = np.argsort(groups, kind="stable")
    starts = np.unique(groups[order], return_index=True)[1]
    sizes = np.diff(np.append(starts, len(groups)))
    ranks = np.empty(len(groups), int)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, sizes)
    return ranks
