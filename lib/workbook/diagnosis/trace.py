"""The trace: every object followed through the detector, up to the first stage that loses it.

An object that COCO does not count as found is lost by the first of these that leaves nothing for it: candidates on it →
predictions of its class → boxes that fit → detections that are reported and counted for it. One that is found is lost by
the ranking when no cut at any score shows it among detections of which half are true.

What is found, and above how many false detections, depends on the size that is asked about, as COCO's AP of a size does:
the AP of small objects counts small false detections alone. The columns `found_<size>`, `precision_<size>` and
`false_above_<size>` say it for every size that the object is of, `all` among them; `of_size` picks one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from workbook.diagnosis.follow import ObjectTrace
from workbook.diagnosis.stage import DETECTED, Stage
from workbook.diagnosis.stages.not_counted import LIMIT
from workbook.diagnosis.stages.suppression import NEIGHBOUR
from workbook.evaluation.boxes import iou_pairs
from workbook.evaluation.coco_metrics import MAX_DETECTIONS
from workbook.evaluation.columns import Detections, GroundTruth
from workbook.evaluation.matching import Matches
from workbook.evaluation.sizes import ALL, AREA_RANGES, SIZES, in_size, size_of

COLUMNS: dict[str, str] = {
    "annotation_id": "the object's id in the annotation file",
    "image_id": "its image's id",
    "file_name": "its image's file",
    "class": "its class",
    "size": "small, medium or large: COCO's, by annotation area (a border counts as the smaller here)",
    "area": "its annotation area, pixels² of the original image",
    "bbox": "its box: x, y, width, height in pixels of the original image",
    "stage": "the first stage that loses it, as the AP of its size counts; detected when none does",
    "detected": "COCO counts it as found among the objects of its size (at the trace's IoU, 100 detections of a class in an image)",
    "candidate_iou": "IoU of the best proposal, or of the best point's or query's box; before the cut where it was cut",
    "candidate_rank": "rank of that candidate by score, from 1; empty when it was cut",
    "first_rank": "rank by score, from 1, of the first candidate whose box reaches the trace's IoU; empty when none does",
    "candidate_cut": "what cut the last candidate on it, e.g. pre-NMS top-k or RPN NMS; empty when one is left",
    "candidates_on": "how many candidates are on it",
    "predictions_of_class": "how many of their predictions give it its own class: over the threshold, or before all others",
    "predictions_fitting": "how many of those have a box that reaches the trace's IoU",
    "named_class": "what the best candidate takes it for: its highest class, or background",
    "named_score": "and with what score, 0 to 1",
    "class_score": "the highest score that any candidate on it gives to its own class",
    "box_iou": "the best IoU after regression, among the boxes of its own class",
    "lost_to": "what took its best fitting prediction: score threshold, NMS, max_per_img, 100 of a class, a neighbour",
    "lost_to_annotation": "the object that the detection which took it is on, by annotation id",
    "lost_to_score": "score of that detection",
    "lost_to_iou": "IoU of that detection with the prediction that it removed (NMS), or with this object (a neighbour)",
    "over_limit": "its image holds over 100 objects of its class, more than COCO counts",
    "score": "score of the detection that found it",
    "detection_iou": "IoU of the detection that found it",
    "false_above": "false detections that the AP of its size counts above the one that found it: its class, all images",
    "precision": "the best share of true detections, as the AP of its size counts, at any score cut that still shows it",
    "best_bbox": "the box that came nearest to being its detection: x, y, width, height, pixels of the original image",
    "recovered_by": "the stages that alone, made perfect, would let COCO count it; empty when it is found, or none alone does",
    **{f"found_{size}": f"COCO counts it as found in the AP of {size} objects; empty where it is of another size"
       for size in AREA_RANGES},
    **{f"precision_{size}": f"`precision` as the AP of {size} objects counts" for size in AREA_RANGES},
    **{f"false_above_{size}": f"`false_above` as the AP of {size} objects counts" for size in AREA_RANGES},
}


@dataclass(frozen=True)
class Standing:
    """COCO's matching at one IoU as the AP of one size counts it."""

    found_by: np.ndarray  # [objects] row of the detection that found it, -1 for none
    precision: np.ndarray  # [objects] the best precision of any score cut that still shows it; NaN when not found
    false_above: np.ndarray  # [objects] false detections above the one that found it; -1 when not found


def standing(matches: Matches, size: str, objects: int) -> Standing:
    """objects: how many the annotation file has. matches: at one IoU, with the area range `size`."""
    area = list(matches.areas).index(size)
    taken = np.full(len(matches.row), -1)
    taken[matches.candidates] = matches.taken_truth[:, 0, area]
    found = np.flatnonzero(taken >= 0)
    counts = np.zeros(len(taken), bool)
    counts[found] = matches.truth_counts[taken[found], area]
    false = (taken < 0) & matches.in_range[:, area]
    found_by = np.full(objects, -1)
    precision = np.full(objects, np.nan)
    false_above = np.full(objects, -1)
    for label in range(len(matches.classes)):
        rows = np.flatnonzero((matches.category == label) & (counts | false))  # by falling score already
        true = np.cumsum(counts[rows])
        ratio = true / np.arange(1, len(rows) + 1)
        envelope = np.maximum.accumulate(ratio[::-1])[::-1]
        hits = np.flatnonzero(counts[rows])
        gt = taken[rows[hits]]
        found_by[gt] = matches.row[rows[hits]]
        precision[gt] = envelope[hits]
        false_above[gt] = hits + 1 - true[hits]
    return Standing(found_by, precision, false_above)


def build_trace(
    facts: Sequence[ObjectTrace], rows: np.ndarray, first: np.ndarray, gt: GroundTruth, file_names: Sequence[str],
    detections: Detections, matches: Matches, parts: Sequence[Stage],
) -> pd.DataFrame:
    """The trace, columns as in COLUMNS but `recovered_by`, one row an object.

    facts: of the objects `rows` of gt. first: [rows] row of the first detection of their image. file_names: by image.
    matches: of the detections, at the trace's IoU. parts: every stage of the family in its order.
    """
    table = pd.DataFrame([asdict(fact) for fact in facts], columns=list(ObjectTrace.__dataclass_fields__), index=range(len(rows)))
    table["lost_to_annotation"] = table["lost_to_annotation"].astype("Int64")
    table["annotation_id"] = gt.ids[rows]
    table["image_id"] = gt.image_ids[gt.image[rows]]
    table["file_name"] = [file_names[image] for image in gt.image[rows]]
    table["class"] = [gt.classes[label] for label in gt.label[rows]]
    table["area"] = gt.area[rows]
    table["bbox"] = gt.boxes_xywh[rows].tolist()
    table["size"] = [size_of(area) for area in gt.area[rows]]
    table["over_limit"] = _over_limit(gt)[rows]
    standings = {size: standing(matches, size, len(gt.ids)) for size in AREA_RANGES}
    for size, of_size_ in standings.items():
        counted = in_size(gt.area[rows], size)
        found = pd.Series(of_size_.found_by[rows] >= 0, dtype="boolean")
        table[f"found_{size}"] = found.where(counted)
        table[f"precision_{size}"] = np.where(counted, of_size_.precision[rows], np.nan)
        false_above = pd.Series(of_size_.false_above[rows], dtype="Int64")
        table[f"false_above_{size}"] = false_above.where(counted & (of_size_.found_by[rows] >= 0))
    found_by = _pick(np.stack([standings[size].found_by[rows] for size in SIZES]), table["size"])
    table["detected"] = found_by >= 0
    table["precision"] = _pick(np.stack([table[f"precision_{size}"] for size in SIZES]), table["size"])
    above = np.stack([table[f"false_above_{size}"].fillna(-1) for size in SIZES])
    table["false_above"] = pd.Series(_pick(above, table["size"]).astype(int), dtype="Int64").where(table["detected"])
    _add_finders(table, found_by, gt, rows, detections)
    _add_takers(table, first, gt, rows, detections, matches)
    table["stage"] = _first_that_loses(table.assign(found=table["detected"]), parts)
    return table[[name for name in COLUMNS if name != "recovered_by"]]


def of_size(trace: pd.DataFrame, size: str, parts: Sequence[Stage]) -> pd.DataFrame:
    """The objects that the AP of this size counts, borders too, with `stage`, `detected`, `precision` as that AP counts them."""
    table = trace[in_size(trace["area"].to_numpy(), size)].copy()
    table["detected"] = table[f"found_{size}"].astype(bool)
    table["precision"] = table[f"precision_{size}"]
    table["false_above"] = table[f"false_above_{size}"]
    table["stage"] = _first_that_loses(table.assign(found=table["detected"]), parts)
    return table


def _first_that_loses(table: pd.DataFrame, parts: Sequence[Stage]) -> np.ndarray:
    stage = np.full(len(table), DETECTED, dtype=object)
    for part in reversed(parts):
        stage[part.loses(table).to_numpy(bool)] = part.name
    return stage


def _over_limit(gt: GroundTruth) -> np.ndarray:
    """[objects] bool: its image holds more objects of its class than COCO counts detections."""
    group = gt.image * len(gt.classes) + gt.label
    counts = np.bincount(group[~gt.crowd], minlength=int(group.max(initial=0)) + 1)
    return counts[group] > MAX_DETECTIONS


def _pick(by_size: np.ndarray, size: pd.Series) -> np.ndarray:
    """[objects] of [sizes, objects] the row of each object's own size."""
    return by_size[size.map(SIZES.index).to_numpy(int), np.arange(len(size))]


def _add_finders(table: pd.DataFrame, found_by: np.ndarray, gt: GroundTruth, rows: np.ndarray, detections: Detections) -> None:
    """Score, IoU and box of the detection that found each object."""
    hit = np.flatnonzero(found_by >= 0)
    by = found_by[hit]
    score, fit = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    score[hit] = detections.score[by]
    fit[hit] = iou_pairs(detections.boxes_xywh[by], gt.boxes_xywh[rows[hit]])
    boxes = table["best_bbox"].tolist()
    for row, box in zip(hit.tolist(), detections.boxes_xywh[by].tolist(), strict=True):
        boxes[row] = box
    table["score"] = score
    table["detection_iou"] = fit
    table["best_bbox"] = pd.Series(boxes, dtype=object)
    table.loc[table.index[hit], ["lost_to", "lost_to_annotation", "lost_to_score", "lost_to_iou"]] = [None, pd.NA, np.nan, np.nan]


def _add_takers(
    table: pd.DataFrame, first: np.ndarray, gt: GroundTruth, rows: np.ndarray, detections: Detections, matches: Matches
) -> None:
    """Objects with a fitting detection that COCO gave to another object, or did not count."""
    taken = np.full(len(detections), -1)
    taken[matches.row[matches.candidates]] = matches.taken_truth[:, 0, list(matches.areas).index(ALL)]
    for row in np.flatnonzero(~table["detected"] & (table["reported"] >= 0)):
        by = int(first[row] + table["reported"].iloc[row])
        other = taken[by]
        table.loc[row, "lost_to"] = NEIGHBOUR if other >= 0 else LIMIT
        table.loc[row, "lost_to_annotation"] = gt.ids[other] if other >= 0 else pd.NA
        table.loc[row, "lost_to_score"] = detections.score[by]
        table.loc[row, "lost_to_iou"] = iou_pairs(detections.boxes_xywh[[by]], gt.boxes_xywh[[rows[row]]])[0]
