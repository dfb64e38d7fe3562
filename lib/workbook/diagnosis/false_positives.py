"""False positives by kind, as TIDE decides them, and what the AP would gain without them.

TIDE (Bolya et al. 2020, arXiv:2008.08115; the package tidecv 1.0.1) asks of a false detection, in this order: is it near an object of
its class but the box does not fit (poor box); on an object of another class (wrong class); on an object of its class that is found
already (duplicate); near nothing (background); else both class and box are wrong. Two gains stand side by side:

- *fixed* is TIDE's dAP at IoU .5: a poor box or a wrong class becomes a hit where its object is not found (one detection an object,
  the surest), the others are taken away, and a missed object that no such repair finds is taken out of the count. The AP is TIDE's
  own: the mean over all classes with objects *or* detections, and 100 detections of all classes together in an image.
- *removed* is COCO's AP when the detections of that kind alone are taken away. It may be negative: what is a duplicate at IoU .5 can
  be the hit at .75, where AP counts, too.

A detection that COCO excuses (inside a crowd) or does not count (beyond 100 of its class in an image) is none of the false ones here;
TIDE itself repairs excused ones as well, so for *fixed* they count as it counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask

from workbook.evaluation.boxes import iou_table
from workbook.evaluation.columns import Detections, GroundTruth
from workbook.evaluation.matching import match
from workbook.evaluation.resampling import average_precision, mean_of_known
from workbook.evaluation.sizes import AREA_RANGES, SIZES, in_size

FALSE_KINDS: dict[str, str] = {
    "poor box": "near an object of its class, but the box does not fit",
    "wrong class": "on an object of another class",
    "duplicate": "on an object of its class that another detection has already found",
    "background": "near no object",
    "wrong class and poor box": "near an object of another class, and the box does not fit",
}
BOX, CLASS, DUPLICATE, BACKGROUND, BOTH = FALSE_KINDS
MISSED = "missed"  # TIDE's sixth: an object that no repair of a detection finds
NEAR = 0.1  # TIDE's threshold of background
TIDE_LIMIT = 100  # detections of an image, all classes together
TIDE_IOU = 0.5


@dataclass(frozen=True)
class FalsePositiveGains:
    """What the AP would gain, 0 to 1.

    sizes: size → kind → `count` (sized by the detection's box), `removed_ap` and `removed_ap50` (None without such objects).
    fixed_ap50: TIDE's dAP of every kind and of `missed`, at IoU .5, over all objects. tide_ap50: the AP it starts from.
    """

    sizes: Mapping[str, Mapping[str, Mapping[str, float | int | None]]]
    fixed_ap50: Mapping[str, float]
    tide_ap50: float

    def to_json(self) -> dict[str, Any]:
        """Plain values under the names of the fields."""
        return {"sizes": self.sizes, "fixed_ap50": self.fixed_ap50, "tide_ap50": self.tide_ap50}


def classify(coco: Mapping[str, Any], results: Sequence[Mapping[str, Any]] | Detections, iou: float = TIDE_IOU) -> pd.DataFrame:
    """One row a detection that COCO counts as false at this IoU.

    coco: the ground truth as a COCO dict. results: COCO results. Columns: row (in `results`), kind, area (of its box, pixels²),
    score, annotation_id (the object that it overlaps most, if any) and iou (with that object).
    """
    gt = GroundTruth.from_coco(coco)
    detections = results if isinstance(results, Detections) else Detections.from_coco(results)
    matches = match(gt, detections, {}, np.array([iou]))
    false = np.sort(np.setdiff1d(matches.row, matches.row[matches.candidates]))
    taken = matches.taken_truth[:, 0, 0]
    used = np.zeros(len(gt.ids), bool)
    used[taken[taken >= 0]] = True
    image = np.searchsorted(gt.image_ids, detections.image_id[false])
    label = np.searchsorted(gt.category_ids, detections.category_id[false])
    kind = np.full(len(false), BACKGROUND, dtype=object)
    nearest, overlap = np.full(len(false), -1), np.zeros(len(false))
    for number, members in _by_image(image).items():
        objects = gt.of_image[number]
        if not len(objects):
            continue
        fit = iou_table(detections.boxes_xywh[false[members]], gt.boxes_xywh[objects])
        own = label[members][:, None] == gt.label[objects]
        kind[members] = _kinds(fit, own, used[objects], iou)
        overlap[members] = fit.max(axis=1)
        nearest[members] = np.where(overlap[members] > 0, objects[fit.argmax(axis=1)], -1)
    ids = pd.Series(gt.ids[nearest] if len(gt.ids) else nearest, dtype="Int64").where(nearest >= 0)
    return pd.DataFrame({
        "row": false, "kind": kind, "area": detections.area[false], "score": detections.score[false], "annotation_id": ids,
        "iou": overlap,
    })


def _kinds(fit: np.ndarray, own: np.ndarray, used: np.ndarray, iou: float) -> np.ndarray:
    """[detections] TIDE's kind of each. fit: IoU [detections, objects]; own: of its class; used: [objects] found already."""
    best_own = (fit * own).max(axis=1)
    best_other = (fit * ~own).max(axis=1)
    best_used = (fit * own * used).max(axis=1)
    tests = [(best_own >= NEAR) & (best_own <= iou), best_other >= iou, best_used >= iou, fit.max(axis=1) <= NEAR]
    return np.select(tests, [BOX, CLASS, DUPLICATE, BACKGROUND], BOTH).astype(object)


def gains(coco: Mapping[str, Any], results: Sequence[Mapping[str, Any]] | Detections, false: pd.DataFrame) -> FalsePositiveGains:
    """How many false detections of each kind there are, by size, and both gains. false: the table of `classify`."""
    gt = GroundTruth.from_coco(coco)
    detections = results if isinstance(results, Detections) else Detections.from_coco(results)
    now = _precisions(gt, detections)
    without = {kind: _without(gt, detections, false, kind, now) for kind in FALSE_KINDS}
    sizes = {
        size: {
            kind: {
                "count": int((in_size(false["area"].to_numpy(), size) & (false["kind"] == kind).to_numpy()).sum()),
                "removed_ap": _less(without[kind]["AP"][size], now["AP"][size]),
                "removed_ap50": _less(without[kind]["AP50"][size], now["AP50"][size]),
            }
            for kind in FALSE_KINDS
        }
        for size in AREA_RANGES
    }
    tide = _run_tide(gt, detections, [image["id"] for image in coco["images"]])
    before = tide.mean_precision()
    fixed = {kind: max(tide.mean_precision(kind) - before, 0.0) for kind in (*FALSE_KINDS, MISSED)}
    return FalsePositiveGains(sizes, fixed, before)


def _without(
    gt: GroundTruth, detections: Detections, false: pd.DataFrame, kind: str, now: dict[str, dict[str, float | None]]
) -> dict[str, dict[str, float | None]]:
    rows = false.loc[false["kind"] == kind, "row"].to_numpy(int)
    if not len(rows):
        return now
    left = np.setdiff1d(np.arange(len(detections)), rows)
    return _precisions(gt, detections.take(left))


def _precisions(gt: GroundTruth, detections: Detections) -> dict[str, dict[str, float | None]]:
    """COCO's AP and AP50 of every size; None where there is no object."""
    matches = match(gt, detections, {size: AREA_RANGES[size] for size in SIZES})
    table = average_precision(matches, np.ones((1, len(matches.images)), int))[0]  # [IoUs, sizes, classes]
    found: dict[str, dict[str, float | None]] = {"AP": {}, "AP50": {}}
    for number, size in enumerate(matches.areas):
        for metric, by_class in (("AP", table[:, number].mean(axis=0)), ("AP50", table[0, number])):
            value = float(mean_of_known(by_class[None])[0])
            found[metric][size] = None if np.isnan(value) else value
    return found


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _by_image(image: np.ndarray) -> dict[int, np.ndarray]:
    """Image → the positions that are of it, in their order."""
    order = np.argsort(image, kind="stable")
    numbers, starts = np.unique(image[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts)[1:], strict=True))


@dataclass(frozen=True)
class _Tide:
    """What TIDE makes of all images, detections in its own order: image by image as in the file, by falling score."""

    label: np.ndarray  # [detections]
    score: np.ndarray  # [detections]
    state: np.ndarray  # [detections] 1 right, 0 false, -1 ignored
    kind: np.ndarray  # [detections] of those that are not right
    fixed_label: np.ndarray  # [detections] the class of the hit that a repair makes of it, -1 when it makes none
    objects: np.ndarray  # [classes] how many objects there are
    missed: np.ndarray  # [classes] how many of them no repair finds

    def mean_precision(self, kind: str = "") -> float:
        """TIDE's AP, with the detections of one kind repaired (ap.py: ClassedAPDataObject.get_mAP)."""
        is_repaired = (self.kind == kind) & (self.state <= 0)
        stays = (self.state == 0) & ~is_repaired
        becomes = is_repaired & (self.fixed_label >= 0)
        label = np.where(becomes, self.fixed_label, self.label)
        # tidecv hands on errors before hits; among equal scores that is their order
        errors = np.flatnonzero(stays | becomes)
        order = np.concatenate([errors, np.flatnonzero(self.state == 1)]) if kind else np.flatnonzero(self.state >= 0)
        objects = self.objects - self.missed if kind == MISSED else self.objects
        correct = (self.state == 1) | becomes
        values = []
        for number in range(len(objects)):
            rows = order[label[order] == number]
            if len(rows) or objects[number]:
                values.append(_tide_precision(self.score[rows], correct[rows], int(objects[number])))
        return float(np.mean(values)) if values else 0.0


def _tide_precision(score: np.ndarray, correct: np.ndarray, objects: int) -> float:
    """TIDE's 101-point AP of one class (ap.py: APDataObject.get_ap); 0 without objects."""
    if not objects:
        return 0.0
    order = np.argsort(-score, kind="stable")
    true = np.cumsum(correct[order])
    precision = np.maximum.accumulate((true / np.arange(1, len(order) + 1))[::-1])[::-1]
    nearest = np.searchsorted(true / objects, np.arange(101) / 100, side="left")
    return float(np.append(precision, 0.0)[nearest].sum() / 101)


def _run_tide(gt: GroundTruth, detections: Detections, image_ids: Sequence[int]) -> _Tide:
    """TIDE's matching and errors (quantify.py: TIDEExample, TIDERun) at IoU .5, image by image in the order of the file."""
    by_id = _by_image(detections.image_id)
    crowds = _by_image(gt.image[gt.crowd])
    crowd_rows = np.flatnonzero(gt.crowd)
    label = np.searchsorted(gt.category_ids, detections.category_id)
    parts: list[_ImageErrors] = []
    missed = np.zeros(len(gt.classes), int)
    for image_id in image_ids:
        number = int(np.searchsorted(gt.image_ids, image_id))
        objects = gt.of_image[number]
        rows = by_id.get(image_id, np.zeros(0, int))
        rows = rows[np.argsort(-detections.score[rows], kind="stable")][:TIDE_LIMIT]
        regions = crowd_rows[crowds[number]] if number in crowds else np.zeros(0, int)
        found = _image_errors(gt, detections, label, rows, objects, regions)
        np.add.at(missed, gt.label[objects[~found.reached]], 1)
        parts.append(found)
    rows = np.concatenate([part.rows for part in parts]) if parts else np.zeros(0, int)
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in ("state", "kind", "fixed_label")]
    objects = np.bincount(gt.label[~gt.crowd], minlength=len(gt.classes))
    return _Tide(label[rows], detections.score[rows], joined[0], joined[1], joined[2], objects, missed)


@dataclass(frozen=True)
class _ImageErrors:
    """One image. reached: [objects] found, or found by some repair."""

    rows: np.ndarray
    state: np.ndarray
    kind: np.ndarray
    fixed_label: np.ndarray
    reached: np.ndarray


def _image_errors(
    gt: GroundTruth, detections: Detections, label: np.ndarray, rows: np.ndarray, objects: np.ndarray, regions: np.ndarray
) -> _ImageErrors:
    boxes = detections.boxes_xywh[rows]
    fit = iou_table(boxes, gt.boxes_xywh[objects])
    own = label[rows][:, None] == gt.label[objects]
    taken = _take_greedily(fit * own)
    used = np.zeros(len(objects), bool)
    used[taken[taken >= 0]] = True
    state = (taken >= 0).astype(int)
    state[(state == 0) & _ignored(boxes, label[rows], gt, regions)] = -1
    if not len(objects):
        return _ImageErrors(rows, state, np.full(len(rows), BACKGROUND, dtype=object), np.full(len(rows), -1), used)
    kind = _kinds(fit, own, used, TIDE_IOU)
    target = np.where(kind == BOX, (fit * own).argmax(axis=1), (fit * ~own).argmax(axis=1))
    mends = (state <= 0) & ((kind == BOX) | (kind == CLASS)) & ~used[target]
    fixed_label = np.full(len(rows), -1)
    candidates = np.flatnonzero(mends)
    _, first = np.unique(target[candidates], return_index=True)  # the surest detection of each object
    surest = candidates[first]
    fixed_label[surest] = gt.label[objects[target[surest]]]
    reached = used.copy()
    reached[target[surest]] = True
    return _ImageErrors(rows, state, kind, fixed_label, reached)


def _take_greedily(fit: np.ndarray) -> np.ndarray:
    """[detections] the object that each takes, the surest first: the free one of its class that it overlaps most; -1 for none."""
    left = fit.copy()
    taken = np.full(len(fit), -1)
    if not fit.shape[1]:
        return taken
    for row in np.flatnonzero(fit.max(axis=1) >= TIDE_IOU):
        best = int(left[row].argmax())
        if left[row, best] >= TIDE_IOU:
            taken[row] = best
            left[:, best] = 0
    return taken


def _ignored(boxes_xywh: np.ndarray, label: np.ndarray, gt: GroundTruth, regions: np.ndarray) -> np.ndarray:
    """[detections] bool: more than half of the box lies in a crowd of its class."""
    if not len(regions) or not len(boxes_xywh):
        return np.zeros(len(boxes_xywh), bool)
    inside = mask.iou(np.ascontiguousarray(boxes_xywh), np.ascontiguousarray(gt.boxes_xywh[regions]), [1] * len(regions))
    return ((inside > TIDE_IOU) & (label[:, None] == gt.label[regions])).any(axis=1)
