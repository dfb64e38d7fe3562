"""COCO sets that are difficult to count, and pycocotools' own numbers for them."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from workbook.evaluation.coco_metrics import evaluate
from workbook.evaluation.matching import Matches
from workbook.evaluation.resampling import figures_by_class, mean_of_known

KEYS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
EXACT = 1e-9
# Sides whose squares stand on, just below and just above the borders 32² and 96².
SIDES = (8.0, 10.5, 20.0, 31.999, 32.0, 32.001, 64.0, 96.0, 96.001, 150.0)
AREAS = (0.0, 100.0, 1023.999, 1024.0, 1024.001, 9216.0, 9216.001, 1e10, 2e10)


def pycocotools_eval(truth: dict[str, Any], detections: list[dict[str, Any]]) -> COCOeval:
    """pycocotools on copies, silent. Its loadRes cannot read an empty list, so that case is made by hand."""
    truth, detections = copy.deepcopy((truth, detections))
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        found = COCO()
        if detections:
            found = gt.loadRes(detections)
        else:
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        engine = COCOeval(gt, found, "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return engine


def pycocotools_metrics(truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, float | None]:
    stats = pycocotools_eval(truth, detections).stats
    return {key: None if value == -1 else float(value) for key, value in zip(KEYS, stats[:6], strict=True)}


def image(id_: int) -> dict[str, Any]:
    return {"id": id_, "width": 400, "height": 400, "file_name": f"{id_}.jpg"}


def truth_box(id_: int, x: float = 0, side: float = 20, **changed: Any) -> dict[str, Any]:
    box = {"bbox": [x, 0, side, side], "area": side * side, "iscrowd": 0}
    return {"id": id_, "image_id": 1, "category_id": 1, **box, **changed}


def detection(x: float = 0, side: float = 20, score: float = 0.5, **changed: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 1, "bbox": [x, 0, side, side], "score": score, **changed}


def coco(*truths: dict[str, Any], images: int = 1, classes: int = 1) -> dict[str, Any]:
    return {"images": [image(i + 1) for i in range(images)], "annotations": list(truths),
            "categories": [{"id": c + 1, "name": f"class {c + 1}"} for c in range(classes)]}


def random_scene(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowds, areas at the borders, tied scores, images and classes without truth, more than 100 detections an image."""
    rng = np.random.default_rng(seed)
    images = [int(i) for i in rng.permutation(1000)[: rng.integers(1, 6)]]
    classes = [int(c) + 1 for c in rng.permutation(90)[: rng.integers(1, 5)]]
    sides = rng.permutation(SIDES)[: rng.integers(1, len(SIDES) + 1)]
    with_truth = [c for c in classes if rng.random() < 0.8]
    annotations: list[dict[str, Any]] = []
    for image_id in (i for i in images if with_truth and rng.random() < 0.8):
        for _ in range(rng.integers(0, 8)):
            w, h = rng.choice(sides, 2)
            annotations.append(truth_box(
                len(annotations) + 1, image_id=image_id, category_id=int(rng.choice(with_truth)),
                iscrowd=int(rng.random() < 0.15), bbox=[*map(float, rng.integers(0, 80, 2)), float(w), float(h)],
                area=float(w * h if rng.random() < 0.6 else rng.choice(AREAS)),
            ))
    tied, found = rng.random() < 0.5, []
    for image_id in (i for i in images if rng.random() < 0.85):
        own = [a for a in annotations if a["image_id"] == image_id]
        for _ in range(rng.integers(101, 220) if rng.random() < 0.15 else rng.integers(0, 20)):
            near = bool(own) and rng.random() < 0.75
            box = own[rng.integers(len(own))]["bbox"] if near else [*rng.integers(0, 200, 2), *rng.choice(sides, 2)]
            moved = np.maximum(np.asarray(box, float) + rng.normal(0, 3, 4) * (rng.random() < 0.5), 0)
            category = own[rng.integers(len(own))]["category_id"] if near else int(rng.choice(classes))
            score = rng.integers(0, 4) / 4 if tied else rng.random()
            found.append({"image_id": image_id, "category_id": category, "bbox": moved.tolist(), "score": float(score)})
    truth = {"images": [image(i) for i in images], "categories": [{"id": c, "name": f"class {c}"} for c in classes],
             "annotations": [annotations[i] for i in rng.permutation(len(annotations))]}
    return truth, [found[i] for i in rng.permutation(len(found))]


TWO = coco(truth_box(1), truth_box(2, x=100))
CASES = {
    "no detections": (TWO, []),
    "no truth": (coco(), [detection()]),
    "only crowds": (coco(truth_box(1, iscrowd=1)), [detection()]),
    "a class without truth": (coco(truth_box(1), classes=2), [detection(), detection(category_id=2)]),
    "an image without truth": (coco(truth_box(1), images=2), [detection(), detection(image_id=2, score=0.9)]),
    "an image without detections": (coco(truth_box(1), truth_box(2, image_id=2), images=2), [detection()]),
    "truth of exactly 32²": (coco(truth_box(1, side=32)), [detection(side=32), detection(x=200, side=32, score=0.9)]),
    "truth of exactly 96²": (coco(truth_box(1, side=96)), [detection(side=96), detection(x=200, side=96, score=0.9)]),
    "area is not w x h": (coco(truth_box(1, side=50, area=500)), [detection(side=50), detection(x=200, side=9, score=0.9)]),
    "all scores equal": (TWO, [detection(x=x) for x in (200, 0, 300, 100)]),
    "scores tied where 100 are cut": (TWO, [detection(x=x) for x in (*range(200, 320), 0, 100)]),
    "only the first 100 count": (TWO, [detection(x=200 + i, score=0.9) for i in range(100)] + [detection()]),
    "the same box twice": (TWO, [detection(score=0.9), detection(score=0.8), detection(x=100)]),
    "a crowd excuses many": (coco(truth_box(1, side=200, iscrowd=1), truth_box(2, x=300)),
                             [detection(x=x, score=0.9) for x in (0, 30, 60)] + [detection(x=300)]),
    "boxes without area": (coco(truth_box(1, side=0), truth_box(2)), [detection(side=0, score=0.9), detection()]),
    "IoU of exactly .5 and .75": (coco(truth_box(1), truth_box(2, x=100)),
                                  [detection(bbox=[0, 0, 20, 10]), detection(bbox=[100, 0, 20, 15])]),
}


def coco_metrics(truth: dict[str, Any] | Path, detections: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The six average precisions."""
    return evaluate(truth, detections).metrics


def resampled_figures(precision: np.ndarray, matches: Matches) -> dict[str, np.ndarray]:
    """The six figures from `average_precision`'s table: name → [resamples], NaN where there is no object."""
    return {name: mean_of_known(by_class) for name, by_class in figures_by_class(precision, matches).items()}
