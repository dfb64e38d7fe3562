"""COCO's own numbers for detections: the average precisions, the same per class, and the counts behind them.

The engine is hotcoco, a rewrite of pycocotools. Its precision tables were equal to the bit on two published cases and on
random ones with crowds, ties and empty buckets (`tests/evaluation/test_coco_metrics.py`), and 300,000 detections take about a second,
not half a minute. One difference is wanted: pycocotools counts a truth of annotation id 0 as never found, because 0 means
"no match" to it; here the id of an annotation has no influence.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np

from workbook.evaluation.sizes import SIZES

MAX_DETECTIONS = 100  # of a class in an image, the highest scores first, as COCO's AP is defined
# The index of each area range in the tables: hotcoco and pycocotools both list all, small, medium, large.
INDEX_OF = {size: number for number, size in enumerate(SIZES, start=1)}


@dataclass(frozen=True)
class Evaluation:
    """What COCO says of one set of detections. A precision is in 0..1, unrounded, or None where there is no truth."""

    metrics: dict[str, float | None]  # bbox_mAP, bbox_mAP_50, bbox_mAP_75, bbox_mAP_s, bbox_mAP_m, bbox_mAP_l
    per_class: dict[str, dict[str, float | int | None]]  # class name → bbox_mAP, bbox_mAP_50, truths
    counts: dict[str, int]  # images, truths, small, medium, large, detections


def evaluate(truth: dict[str, Any] | Path, detections: Sequence[dict[str, Any]]) -> Evaluation:
    """Compare detections with the truth as COCO does for boxes.

    truth: a COCO dict, or the path of its JSON. Each annotation needs `area`, which decides its size; a missing `iscrowd`
    is 0. Crowds are no truths, and excuse the detections in them.
    detections: COCO results in any order: `image_id`, `category_id`, `bbox` (x, y, w, h in pixels of the original image),
    `score`. Sizes are COCO's: small to 32², medium 32² to 96², large from 96², a border belongs to both.
    Raises ValueError when an image or category is unknown, a number is not finite, or an annotation lacks a key.
    """
    boxes_truth = only_boxes(json.loads(truth.read_text()) if isinstance(truth, Path) else truth)
    require_known(boxes_truth, detections)
    engine, precision = _run(boxes_truth, detections)  # precision: [10 IoUs, 101 recalls, classes, 4 sizes]
    names = {category["id"]: category["name"] for category in boxes_truth["categories"]}
    classes = [(index, names[id_], id_) for index, id_ in enumerate(engine.params.cat_ids)]
    truths = [a for a in boxes_truth["annotations"] if not a["iscrowd"]]
    of_class = Counter(truth["category_id"] for truth in truths)
    return Evaluation(
        metrics={
            "bbox_mAP": _mean(precision[..., 0]),
            "bbox_mAP_50": _mean(precision[0, ..., 0]),
            "bbox_mAP_75": _mean(precision[5, ..., 0]),
            **{f"bbox_mAP_{size[0]}": _mean(precision[..., place]) for size, place in INDEX_OF.items()},
        },
        per_class={
            name: {
                "bbox_mAP": _mean(precision[:, :, index, 0]),
                "bbox_mAP_50": _mean(precision[0, :, index, 0]),
                "truths": of_class[id_],
            }
            for index, name, id_ in classes
        },
        counts={
            "images": len(boxes_truth["images"]),
            "truths": len(truths),
            **{size: _count(truths, engine.params.area_rng[place]) for size, place in INDEX_OF.items()},
            "detections": len(detections),
        },
    )


def _run(truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> tuple[hotcoco.COCOeval, np.ndarray]:
    gt = hotcoco.COCO(truth)
    engine = hotcoco.COCOeval(gt, gt.load_res(list(detections)), "bbox")
    engine.params.max_dets = [MAX_DETECTIONS]
    engine.evaluate()
    engine.accumulate()  # not summarize(), which prints
    assert engine.eval is not None
    return engine, engine.eval["precision"][..., -1]


def only_boxes(truth: dict[str, Any]) -> dict[str, Any]:
    """What the engine needs of the truth, numbered anew: it refuses a file for other fields, such as a licence in words."""
    keys = ("image_id", "category_id", "bbox", "area")
    try:
        return {
            "images": [{"id": image["id"]} for image in truth["images"]],
            "categories": [{"id": category["id"], "name": category["name"]} for category in truth["categories"]],
            "annotations": [
                {**{key: a[key] for key in keys}, "iscrowd": a.get("iscrowd", 0), "id": number}
                for number, a in enumerate(truth["annotations"], start=1)
            ],
        }
    except KeyError as error:
        raise ValueError(f"the truth is not complete COCO: an entry has no {error}. Check the dataset first") from None


def require_known(truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> None:
    """Raises ValueError naming the ids that the truth does not list, or the first detection that is no number."""
    for key, table in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in truth[table]}
        for who, entries in (("annotations", truth["annotations"]), ("detections", detections)):
            unknown = sorted(set(map(itemgetter(key), entries)) - known)
            if unknown:
                listed = _some(sorted(known))
                raise ValueError(f"{who} name {key} {_some(unknown)}, but the truth's `{table}` list {listed}")
    boxes = np.fromiter(chain.from_iterable(map(itemgetter("bbox"), detections)), float).reshape(-1, 4)
    scores = np.fromiter(map(itemgetter("score"), detections), float)
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    if not finite.all():
        first = detections[int(np.flatnonzero(~finite)[0])]
        raise ValueError(f"box and score must be finite numbers, but there is {first}: has the training diverged?")


def _some(ids: Sequence[Any], most: int = 10) -> str:
    """`3, 7, 9 and 12 more`."""
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return (", ".join(map(str, ids[:most])) or "none") + more


def _mean(precision: np.ndarray) -> float | None:
    """The mean over what has truth; the engine marks what has none with -1."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _count(truths: Iterable[dict[str, Any]], area_range: Sequence[float]) -> int:
    low, high = area_range  # pixels², both borders belong to the range
    return sum(low <= truth["area"] <= high for truth in truths)
