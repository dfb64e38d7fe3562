"""COCO's matching of detections with the truth, done once and kept for every resample and size.

The rules are pycocotools'. In an image and class the 100 detections of the highest scores are taken in falling order;
each takes the free truth of the highest IoU that is at least the threshold, the later one of two equal; a truth
outside the area range is taken only when no other is left, and the detection is then ignored; a crowd excuses any
number. A detection without truth is false, unless its own area is outside the range: then it is ignored too. All
thresholds and area ranges are matched side by side: the n-th detections of all images and classes are one step, so
there are at most 100.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workbook.evaluation.boxes import iou_pairs
from workbook.evaluation.coco_metrics import MAX_DETECTIONS, only_boxes, require_known
from workbook.evaluation.columns import Detections, GroundTruth
from workbook.evaluation.sizes import ALL, AREA_RANGES, SIZES

IOUS = np.linspace(0.5, 0.95, 10)
# the letter that ends the name of a figure → lowest and highest area in pixels², both inside
COCO_SIZES = {size[0]: AREA_RANGES[size] for size in SIZES}
PAIRS_AT_ONCE = 2_000_000  # truth-detection pairs whose IoU is computed in one piece: about 200 MB


@dataclass(frozen=True)
class Matches:
    """Which detection takes which truth, at 10 IoUs and in every area range.

    The detections are those that count (100 of a class in an image), in pycocotools' order: by class, then falling
    score, then image, then as they were given. `candidates` are those of them that took a truth at any threshold.
    """

    images: tuple[Any, ...]  # ids, rising: the order of the images in every weight
    classes: tuple[str, ...]  # names, by rising id
    areas: Mapping[str, tuple[float, float]]  # "all" is the first
    ious: np.ndarray  # [IoUs], rising: COCO's ten
    truth_image: np.ndarray  # [truths], place in `images`
    truth_class: np.ndarray  # [truths], place in `classes`
    truth_counts: np.ndarray  # [truths, areas], bool: no crowd, and inside the range
    row: np.ndarray  # [detections], place in the list that was given
    image: np.ndarray  # [detections]
    category: np.ndarray  # [detections], place in `classes`
    score: np.ndarray  # [detections]
    in_range: np.ndarray  # [detections, areas], bool: its own area is inside the range
    candidates: np.ndarray  # [candidates], places of detections, rising
    taken_truth: np.ndarray  # [candidates, IoUs, areas], place in the truth's annotations, or -1

    @property
    def hit(self) -> np.ndarray:
        """[candidates, IoUs, areas], bool: it took a truth that counts."""
        if not len(self.truth_counts):
            return np.zeros(self.taken_truth.shape, bool)
        counts = self.truth_counts[self.taken_truth, np.arange(len(self.areas))]
        return (self.taken_truth >= 0) & counts

    def count(self, area: str) -> np.ndarray:
        """[classes]: how many truths count in this area range."""
        counts = self.truth_counts[:, list(self.areas).index(area)]
        return np.bincount(self.truth_class[counts], minlength=len(self.classes))

    def images_with(self, area: str) -> np.ndarray:
        """[classes + 1]: how many images hold a truth that counts in this range: of each class, and last of any."""
        counts = self.truth_counts[:, list(self.areas).index(area)]
        pairs = np.unique(np.stack([self.truth_class[counts], self.truth_image[counts]]), axis=1)
        return np.append(np.bincount(pairs[0], minlength=len(self.classes)), len(np.unique(pairs[1])))


@dataclass(frozen=True)
class _Boxes:
    group: np.ndarray  # [n], image and class in one number
    xywh: np.ndarray  # [n, 4]


def match(
    truth: Mapping[str, Any] | Path | GroundTruth,
    detections: Sequence[dict[str, Any]] | Detections,
    area_ranges: Mapping[str, tuple[float, float]] = COCO_SIZES,
    ious: np.ndarray = IOUS,
) -> Matches:
    """Match detections with the ground truth as pycocotools does, at each of `ious`, over all areas and in each range.

    truth, detections: as `coco_metrics.evaluate` takes them, or as columns. area_ranges: name → lowest and highest area
    in pixels², both inside; `all` is added. ious: [n] rising, COCO's .50, .55 … .95 when not given. Raises ValueError
    where `evaluate` does, and when a range is not one.
    """
    areas = _checked(area_ranges)
    if not isinstance(detections, Detections):
        content = json.loads(truth.read_text()) if isinstance(truth, Path) else truth
        if not isinstance(content, GroundTruth):
            require_known(only_boxes(dict(content)), detections)
        truth, detections = content, Detections.from_coco(detections)
    gt = truth if isinstance(truth, GroundTruth) else GroundTruth.from_coco(truth)
    image, label = _index_of(gt.image_ids, detections.image_id), _index_of(gt.category_ids, detections.category_id)
    classes = len(gt.category_ids)
    gt_boxes = _Boxes(gt.image * classes + gt.label, gt.boxes_xywh)
    boxes = _Boxes(image * classes + label, detections.boxes_xywh)
    gt_counts = _inside(gt.area, areas) & ~gt.crowd[:, None]

    order = _first_of_each_group(boxes.group, detections.score)  # [counted], by image and class, falling score
    counted = _Boxes(boxes.group[order], boxes.xywh[order])
    candidates, taken = _take(counted, gt_boxes, gt.crowd, gt_counts, ious)
    by_class = np.lexsort((image[order], -detections.score[order], label[order]))  # stable
    place_of = np.empty(len(order), np.int64)
    place_of[by_class] = np.arange(len(order))
    row = order[by_class]
    by_place = np.argsort(place_of[candidates])
    return Matches(
        images=tuple(gt.image_ids.tolist()), classes=gt.classes, areas=areas, ious=ious,
        truth_image=gt.image, truth_class=gt.label, truth_counts=gt_counts,
        row=row, image=image[row], category=label[row], score=detections.score[row],
        in_range=_inside(detections.area[row], areas),
        candidates=place_of[candidates][by_place], taken_truth=taken[by_place],
    )


def _index_of(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[n] the index of each id among the known ones (rising). Raises ValueError for one that is not there."""
    index = np.searchsorted(known, ids)
    unknown = (index == len(known)) | (known[np.minimum(index, len(known) - 1)] != ids) if len(known) else ids == ids
    if unknown.any():
        raise ValueError(f"detections name the ids {sorted(set(ids[unknown].tolist()))[:10]}, which the ground truth lacks")
    return index


def _checked(area_ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    wrong = [f"{name}: {low} to {high}" for name, (low, high) in area_ranges.items() if not low <= high]
    if wrong or "all" in area_ranges:
        what = f"not a range: {', '.join(wrong)}" if wrong else "'all' is always there"
        raise ValueError(f"area ranges are name → (lowest, highest) in pixels², other than 'all', but {what}")
    return {ALL: AREA_RANGES[ALL], **{name: (float(low), float(high)) for name, (low, high) in area_ranges.items()}}


def _inside(area: np.ndarray, areas: Mapping[str, tuple[float, float]]) -> np.ndarray:
    """[n, areas], bool. Both borders belong to a range, as in COCO."""
    return np.stack([(low <= area) & (area <= high) for low, high in areas.values()], axis=1)


def _first_of_each_group(group: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The places of the 100 highest scores of each group, by group and falling score; equal ones stay as given."""
    order = np.lexsort((-score, group))
    return order[_rank(group[order]) < MAX_DETECTIONS]


def _rank(sorted_keys: np.ndarray) -> np.ndarray:
    """For keys that stand together: 0, 1, 2 … within each run of equal ones."""
    starts = np.flatnonzero(np.diff(sorted_keys, prepend=-1))
    return np.arange(len(sorted_keys)) - np.repeat(starts, np.diff(starts, append=len(sorted_keys)))


def _take(
    found: _Boxes, gt: _Boxes, crowd: np.ndarray, counts: np.ndarray, ious: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Let each detection, in turn, take a truth.

    found: by group and falling score. Returns the places of the detections that reach any truth, [candidates], and the
    truths they take, [candidates, IoUs, areas], -1 for none.
    """
    detection, truth, iou = _near(found, gt, crowd, ious[0])
    by_choice = np.lexsort((truth, iou, detection))  # the last of a detection's truths is its first choice
    detection, truth, iou = detection[by_choice], truth[by_choice], iou[by_choice]
    candidates, candidate = np.unique(detection, return_inverse=True)
    turn = _rank(found.group[candidates])
    taken = np.full((len(candidates), len(ious), counts.shape[1]), -1, np.int64)
    gone = np.zeros((len(gt.xywh), len(ious), counts.shape[1]), bool)
    by_turn = np.argsort(turn[candidate], kind="stable")
    for pairs in np.split(by_turn, np.flatnonzero(np.diff(turn[candidate][by_turn])) + 1):
        if not len(pairs):
            continue
        free = ~gone[truth[pairs]] | crowd[truth[pairs], None, None]
        reached = iou[pairs, None] >= np.minimum(ious, 1 - 1e-10)  # [pairs, IoUs]
        # a truth that counts comes before any other; then the place in the order of choice decides
        wish = np.arange(1, len(pairs) + 1)[:, None] + len(pairs) * counts[truth[pairs]]  # [pairs, areas]
        starts = np.flatnonzero(np.diff(candidate[pairs], prepend=-1))
        best = np.maximum.reduceat(np.where(free & reached[..., None], wish[:, None], 0), starts)
        chosen = np.where(best > 0, truth[pairs][(best - 1) % len(pairs)], -1)
        taken[candidate[pairs][starts]] = chosen
        who, at_iou, at_area = np.nonzero(chosen >= 0)
        gone[chosen[who, at_iou, at_area], at_iou, at_area] = True
    reached_any = (taken >= 0).any(axis=(1, 2))
    return candidates[reached_any], taken[reached_any]


def _near(
    found: _Boxes, gt: _Boxes, crowd: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of one image and class whose IoU is `least` or more: places of detection and truth, IoU."""
    by_group = np.argsort(gt.group, kind="stable")
    first = np.searchsorted(gt.group[by_group], found.group)
    each = np.searchsorted(gt.group[by_group], found.group, side="right") - first  # truths beside each detection
    total = np.concatenate([[0], np.cumsum(each)])
    pieces = []
    for piece in np.split(np.arange(len(each)), np.flatnonzero(np.diff(total[1:] // PAIRS_AT_ONCE)) + 1):
        detection = np.repeat(piece, each[piece])
        nth = np.arange(len(detection)) - np.repeat(total[piece] - total[piece[:1]], each[piece])
        truth = by_group[first[detection] + nth]
        iou = iou_pairs(found.xywh[detection], gt.xywh[truth], crowd[truth])
        near = iou >= least
        pieces.append((detection[near], truth[near], iou[near]))
    detections, truths, ious = zip(*pieces, strict=True)
    return np.concatenate(detections), np.concatenate(truths), np.concatenate(ious)
