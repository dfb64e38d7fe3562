"""Seconds and memory of a diagnosis beyond the network's passes, on made detections of the size of COCO's val2017.

    python -m bench.diagnosis_speed [images]

5,000 images with 36,000 objects of 80 classes and about 329,000 detections: candidates are made by chance around the objects and
elsewhere, mmcv's own NMS suppresses them in every one of the 32 replays, and from there on everything is what a diagnosis does:
traces, COCO's matching, Shapley values, all intervals of 1,000 resamples, false positives.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmcv import ConfigDict

from workbook.diagnosis.diagnose import Diagnosis, ImageDiagnosis, replayed, summarize
from workbook.diagnosis.family import ImageProbe, family_by_key, prune
from workbook.diagnosis.follow import follow
from workbook.diagnosis.oracle import FITS, Candidates, ImageObjects, Replay, Suppressed
from workbook.diagnosis.probing import best_object, nms
from workbook.evaluation.boxes import iou_table
from workbook.evaluation.columns import GroundTruth
from workbook.progress import progress_bar
from workbook.training.environment import peak_memory_mb

IMAGES, OBJECTS_AN_IMAGE, CLASSES = 5_000, 7.2, 80
FALSE_AN_IMAGE = 22  # candidates on nothing; with those on objects about 66 detections an image
THRESHOLD = 0.05
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Made:
    """What was diagnosed, and what it took."""

    coco: dict[str, Any]
    diagnosis: Diagnosis
    images: int
    objects: int
    detections: int
    seconds: dict[str, float]
    peak_mb: float


def made_ground_truth(images: int, rng: np.random.Generator) -> dict[str, Any]:
    """A COCO dict: boxes of 8 to 300 pixels in images of 640 x 480, areas three quarters of the box as in COCO."""
    annotations: list[dict[str, Any]] = []
    for image in range(images):
        for _ in range(rng.poisson(OBJECTS_AN_IMAGE)):
            w, h = np.exp(rng.uniform(np.log(8), np.log(300), 2))
            x, y = rng.uniform(0, 640 - w), rng.uniform(0, 480 - min(h, 479))
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": int(rng.zipf(1.4)) % CLASSES + 1,
                "bbox": [x, y, w, h], "area": 0.75 * w * h, "iscrowd": 0,
            })
    return {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(images)],
        "categories": [{"id": n + 1, "name": f"class {n}"} for n in range(CLASSES)], "annotations": annotations,
    }


def suppress(candidates: Candidates) -> Suppressed:
    """Faster R-CNN's: threshold, NMS at .5, 100 detections."""
    return nms(candidates, candidates.score > THRESHOLD, ConfigDict(type="nms", iou_threshold=0.5), 100, CPU)


def made_probe(objects: ImageObjects, rng: np.random.Generator) -> ImageProbe:
    """Candidates around nine of ten objects, some misnamed, some badly placed, and some on nothing."""
    proposed = np.flatnonzero(rng.random(len(objects)) < 0.9)
    on = np.repeat(proposed, 4)
    w, h = np.exp(rng.uniform(np.log(8), np.log(300), (2, FALSE_AN_IMAGE)))
    false = np.stack([rng.uniform(0, 500, FALSE_AN_IMAGE), rng.uniform(0, 400, FALSE_AN_IMAGE), w, h], axis=1)
    near = objects.boxes_xywh[on]
    sides = np.concatenate([near[:, 2:], near[:, 2:]], axis=1)
    priors = np.concatenate([near + rng.normal(0, 0.12, near.shape) * sides, false])
    priors[:, 2:] = np.maximum(priors[:, 2:], 2)
    boxes = np.concatenate([near + rng.normal(0, 0.07, near.shape) * sides, false])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 2)
    count = len(boxes)
    first = np.concatenate([np.where(rng.random(len(on)) < 0.8, objects.labels[on], rng.integers(0, CLASSES, len(on))),
                            rng.integers(0, CLASSES, FALSE_AN_IMAGE)])
    top = np.concatenate([rng.beta(2, 1.5, len(on)), rng.beta(1, 4, FALSE_AN_IMAGE)])
    second = (1 - top) * rng.random(count) * 0.5
    candidate = np.repeat(np.arange(count), 2)
    label = np.stack([first, (first + 1 + rng.integers(0, CLASSES - 1, count)) % CLASSES], axis=1).reshape(-1)
    score = np.stack([top, second], axis=1).reshape(-1).astype(np.float32)
    background = 1 - top - second
    named = (score > THRESHOLD) | (score >= np.maximum(top, background).astype(np.float32)[candidate])
    gt_index = best_object(iou_table(priors, objects.boxes_xywh), FITS)
    candidates = Candidates(candidate, label, score, boxes[candidate], named, priors, background, gt_index, suppress)
    numbers = np.arange(len(objects))
    added = Candidates(
        numbers, objects.labels, rng.beta(2, 2, len(objects)).astype(np.float32), objects.boxes_xywh, np.ones(len(objects), bool),
        objects.boxes_xywh, np.zeros(len(objects)), numbers, suppress,
    )
    missing = ~np.isin(numbers, gt_index)
    cut = np.where(missing, "RPN NMS", "")
    best = iou_table(priors, objects.boxes_xywh).max(axis=0, initial=0)
    return ImageProbe(prune(candidates), added, best, np.ones(len(objects)), cut, np.arange(1.0, count + 1))


def run(images: int = IMAGES, seed: int = 0) -> Made:
    """Make the data, then diagnose it; the clock runs from the first probe."""
    rng = np.random.default_rng(seed)
    coco = made_ground_truth(images, rng)
    gt = GroundTruth.from_coco(coco)
    family = family_by_key("two_stage")
    category_ids = np.arange(1, CLASSES + 1)
    found: list[ImageDiagnosis] = []
    made = replaying = 0.0
    with progress_bar(images, "replaying", "image") as bar:
        for image, rows in enumerate(gt.of_image):
            started = time.perf_counter()
            objects = ImageObjects(gt.ids[rows], gt.label[rows], gt.boxes_xywh[rows])
            probe = made_probe(objects, rng)
            made += time.perf_counter() - started
            started = time.perf_counter()
            facts = tuple(follow(probe, objects, gt.classes, 0.5))
            real = Replay(objects, probe.candidates, probe.oracle_candidates)
            found.append(ImageDiagnosis(facts, replayed(real, family.stages, image, category_ids)))
            replaying += time.perf_counter() - started
            bar.update()
    started = time.perf_counter()
    diagnosis = summarize(family, coco, gt, found, list(range(images)), 0.5, None, "made data have no assigner")
    seconds = {"replays and traces": replaying, "waterfall, intervals, tables": time.perf_counter() - started}
    return Made(coco, diagnosis, images, len(gt.ids), len(diagnosis.detections), seconds, peak_memory_mb(CPU))


def main(images: int = IMAGES) -> None:
    """Run it and print."""
    done = run(images)
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in done.seconds.items())
    total = sum(done.seconds.values())
    print(f"{done.images:,} images, {done.objects:,} objects, {done.detections:,} detections: {total:.0f} s ({parts}), "
          f"peak memory {done.peak_mb / 1024:.1f} GB")
    small = done.diagnosis.waterfall.metrics["AP"]["small"]
    print(f"AP of small objects {small.ap:.3f}; " + ", ".join(f"{cost.stage} {cost.shapley:.3f}" for cost in small.stages))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
