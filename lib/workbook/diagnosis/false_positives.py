"""False positives by kind and size, and what the AP would be without each kind.

The kinds are TIDE's (arXiv:2008.08115, section 2.2, with its IoUs .5 and .1), decided in this order so that each
detection has one: a second detection of a found object, an object of another class, a poor box on an object of its
class, nothing there, and what is left: a poor box on an object of another class. A kind's gain may be negative: what is a
duplicate at IoU .5 can be the hit at .75, where AP counts as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbook.diagnosis.matching import FALSE, Matching
from workbook.diagnosis.oracle import NEAR, overlaps
from workbook.diagnosis.waterfall import Bins, less, precisions, size_ranges

KINDS: dict[str, str] = {
    "duplicate": "on an object of its class that another detection has already found",
    "wrong class": "on an object of another class",
    "poor box": "near an object of its class, but the box does not fit",
    "background": "near no object",
    "wrong class and poor box": "near an object of another class, and the box does not fit",
}


def false_positives(
    truth: dict[str, Any], detections: Sequence[dict[str, Any]], matching: Matching, iou: float
) -> pd.DataFrame:
    """One row a false detection.

    Columns: row (its place in `detections`), kind, area (of its box, pixels²), score, annotation_id (the truth that it
    overlaps most, if any) and iou (with that truth).
    """
    annotations = [a for a in truth["annotations"] if not a.get("iscrowd", 0)]
    of_image = pd.Series(range(len(annotations)), dtype=int).groupby([a["image_id"] for a in annotations]).indices
    false = np.flatnonzero(matching.outcome == FALSE)
    image_ids = np.array([detections[int(row)]["image_id"] for row in false])
    rows: list[dict[str, Any]] = []
    for image_id in np.unique(image_ids):
        mine, near = false[image_ids == image_id].tolist(), of_image.get(image_id, np.zeros(0, int))
        gt_boxes_xywh = np.array([annotations[n]["bbox"] for n in near])
        fit = overlaps(np.array([detections[row]["bbox"] for row in mine]), gt_boxes_xywh)
        labels = np.array([annotations[n]["category_id"] for n in near])
        for row, fits in zip(mine, fit, strict=True):
            rows.append({"row": row, **_kind(fits, labels == detections[row]["category_id"], iou)} | {
                "area": detections[row]["bbox"][2] * detections[row]["bbox"][3], "score": detections[row]["score"],
                "annotation_id": annotations[near[fits.argmax()]]["id"] if len(near) and fits.max() > 0 else None,
                "iou": fits.max(initial=0.0),
            })
    table = pd.DataFrame(rows, columns=["row", "kind", "area", "score", "annotation_id", "iou"])
    return table.astype({"annotation_id": "Int64"})


def _kind(fits: np.ndarray, same_class: np.ndarray, iou: float) -> dict[str, str]:
    own, other = fits[same_class].max(initial=0.0), fits[~same_class].max(initial=0.0)
    if own >= iou:
        return {"kind": "duplicate"}
    if other >= iou:
        return {"kind": "wrong class"}
    if own >= NEAR:
        return {"kind": "poor box"}
    return {"kind": "background" if other < NEAR else "wrong class and poor box"}


def gains(
    truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    false: pd.DataFrame,
    bins: Bins | None = None,
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Per size and kind: how many there are (sized by their box), and how much AP rises when they alone are removed."""
    now = precisions(truth, detections, bins)
    without = {}
    for kind in KINDS:
        removed = set(false.loc[false["kind"] == kind, "row"])
        left = [d for row, d in enumerate(detections) if row not in removed]
        without[kind] = precisions(truth, left, bins) if removed else now
    return {
        size: {
            kind: {
                "count": int(((false["kind"] == kind) & false["area"].between(least, most)).sum()),
                "gain": less(without[kind][size], now[size]),
            }
            for kind in KINDS
        }
        for size, (least, most) in size_ranges(bins).items()
    }
