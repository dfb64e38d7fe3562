"""Which reading of foreign results is right, by the AP of each; and whether boxes or classes look like something else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from workbook.data.reading import Coco
from workbook.evaluation.boxes import iou_table
from workbook.evaluation.coco_metrics import Evaluation, evaluate
from workbook.runs.adopt.coco_results import with_ids
from workbook.runs.adopt.errors import AdoptError
from workbook.runs.adopt.ids import category_readings, image_readings

LITERAL = "category_id as in val.json"
MARGIN = 0.005  # another reading must score twice as much, and this more, before it is believed
REORDERED = 0.05  # and another order of the classes this more, for it is picked from many
OUTSIDE = 0.2  # share of boxes beyond their image from which on they are looked at as corners
CORNERS = 0.99  # share of boxes that must make sense as corners


@dataclass(frozen=True)
class Chosen:
    """The detections with the ids of val.json, their figures, what was decided about the ids, and what is doubtful."""

    detections: list[dict[str, Any]]
    figures: Evaluation
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    words: tuple[str, str]
    detections: list[dict[str, Any]]
    figures: Evaluation

    @property
    def ap(self) -> float:
        return self.figures.metrics["bbox_mAP"] or 0.0


def choose(entries: Sequence[dict[str, Any]], val: Coco) -> Chosen:
    """The results as detections on val. Raises AdoptError where ids, boxes or classes do not fit, and where two readings do."""
    readings = product(image_readings(entries, val["images"]), category_readings(entries, val["categories"]))
    candidates = []
    for images, categories in readings:
        detections = with_ids(entries, images.ids, categories.ids)
        candidates.append(_Candidate((images.words, categories.words), detections, evaluate(dict(val), detections)))
    best = _best(candidates)
    _require_xywh(best, val)
    order = other_order(best.detections, val, best.ap)
    return Chosen(best.detections, best.figures, _notes(best, candidates), (order,) if order else ())


def _best(candidates: Sequence[_Candidate]) -> _Candidate:
    """The most literal one, unless another scores much better."""
    first = candidates[0]
    top = max(candidates, key=lambda candidate: candidate.ap)
    if _is_much_better(top.ap, first.ap, MARGIN):
        first = top
    rivals = [other for other in candidates if other.words[1] != first.words[1] and not _is_much_better(first.ap, other.ap, MARGIN)]
    if rivals and first.words[1] != LITERAL:
        raise AdoptError(f"the classes can be read in two ways, and AP does not decide: {_scored(first)}; {_scored(rivals[0])}. Write the "
                         "category ids of val.json into the results, or a category_name")
    return first


def _is_much_better(ap: float, other: float, margin: float) -> bool:
    return ap >= 2 * other + margin


def _scored(candidate: _Candidate) -> str:
    return f"{' and '.join(candidate.words)}: AP {candidate.ap:.3f}"


def _notes(best: _Candidate, candidates: Sequence[_Candidate]) -> tuple[str, ...]:
    others = [_scored(candidate) for candidate in candidates if candidate is not best]
    instead = f" (otherwise {'; '.join(others)})" if others else ""
    return (f"read with {_scored(best)}{instead}",)


def _require_xywh(best: _Candidate, val: Coco) -> None:
    """Raises AdoptError for boxes that are shares of the image, or corners in the place of widths and heights."""
    boxes = np.array([detection["bbox"] for detection in best.detections])
    if boxes.max() <= 1:
        raise AdoptError("all boxes lie between 0 and 1: they are shares of the image. Multiply x and w by its width, y and h by its "
                         "height; COCO results are in pixels")
    sides = {image["id"]: (image["width"], image["height"]) for image in val["images"]}
    limits = np.array([sides[detection["image_id"]] for detection in best.detections], float) + 1  # a pixel of rounding
    beyond = ((boxes[:, :2] + boxes[:, 2:]) > limits).any(axis=1)
    is_corner = ((boxes[:, 2:] >= boxes[:, :2]) & (boxes[:, 2:] <= limits)).all(axis=1)
    if is_corner.mean() < CORNERS:
        return
    widths = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    turned = [{**detection, "bbox": box} for detection, box in zip(best.detections, widths.tolist(), strict=True)]
    ap = evaluate(dict(val), turned).metrics["bbox_mAP"] or 0.0
    is_beyond = beyond.mean() >= OUTSIDE and not _is_much_better(best.ap, ap, MARGIN)
    if not is_beyond and not _is_much_better(ap, best.ap, MARGIN):
        return
    raise AdoptError(f"the boxes look like corners (x1, y1, x2, y2), where COCO results have x, y, width, height: {int(beyond.sum())} of "
                     f"{len(boxes)} reach beyond their images, and as corners AP is {ap:.3f} instead of {best.ap:.3f}. "
                     "Write x1, y1, x2 - x1, y2 - y1 and adopt again")


def other_order(detections: Sequence[dict[str, Any]], val: Coco, ap: float) -> str:
    """What to say where another order of the classes scores much better; empty where none does.

    The order is the assignment (Kuhn 1955) of detected to true classes that agrees with most objects, each with the detection of the
    highest score that overlaps it by .5.
    """
    ids = sorted(category["id"] for category in val["categories"])
    names = {category["id"]: category["name"] for category in val["categories"]}
    agreement = _agreement(detections, val, ids)
    rows, columns = linear_sum_assignment(agreement, maximize=True)
    order = {ids[row]: ids[column] for row, column in zip(rows, columns, strict=True)}
    if all(one == other for one, other in order.items()):
        return ""
    renamed = [{**detection, "category_id": order[detection["category_id"]]} for detection in detections]
    better = evaluate(dict(val), renamed).metrics["bbox_mAP"] or 0.0
    if not _is_much_better(better, ap, REORDERED):
        return ""
    words = ", ".join(f"{names[one]} as {names[other]}" for one, other in order.items() if one != other)
    return (f"the classes seem to be in another order: with {words}, AP is {better:.3f} instead of {ap:.3f}. If so, write the right "
            "category ids into the results and adopt again")


def _agreement(detections: Sequence[dict[str, Any]], val: Coco, ids: Sequence[int]) -> np.ndarray:
    """[detected classes, true classes]: how many objects the best detection of any class names so."""
    place = {id_: number for number, id_ in enumerate(ids)}
    of_image = defaultdict(list)
    for detection in detections:
        of_image[detection["image_id"]].append(detection)
    objects = defaultdict(list)
    for annotation in val["annotations"]:
        if not annotation.get("iscrowd", 0):
            objects[annotation["image_id"]].append(annotation)
    counts = np.zeros((len(ids), len(ids)))
    for image in objects.keys() & of_image.keys():
        found = sorted(of_image[image], key=lambda detection: -detection["score"])
        boxes, gt_boxes = (np.array([entry["bbox"] for entry in entries], float) for entries in (found, objects[image]))
        overlaps = iou_table(boxes, gt_boxes) >= 0.5
        for number in np.flatnonzero(overlaps.any(axis=0)):
            named = found[int(overlaps[:, number].argmax())]
            counts[place[named["category_id"]], place[objects[image][number]["category_id"]]] += 1
    return counts
