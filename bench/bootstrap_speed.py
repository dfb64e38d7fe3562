"""How long are 1,000 resamples at the size of COCO val2017? `python -m bench.bootstrap_speed`

A made data set of that size (5,000 images, 80 classes as unevenly filled as COCO's, 36k truths, 329k detections) is
matched and resampled. For comparison: hotcoco's own bootstrap on the same data, which compares two detectors and
drops the repeats.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import hotcoco
import numpy as np

from workbook.evaluation.matching import match
from workbook.evaluation.resampling import average_precision, figures_by_class, resample_weights

IMAGES, CLASSES, TRUTHS, DETECTIONS = 5_000, 80, 36_000, 329_000


def coco_scale(
    seed: int = 0, images: int = IMAGES, truths: int = TRUTHS, detections: int = DETECTIONS
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A data set and detections as numerous, and as unevenly spread, as those of COCO val2017, or another number of them.

    Most classes are rare (Zipf); an image holds up to four, each more than once. A fifth of the detections lie near a
    truth, the others miss it by some sides, in its class or in another. A truth fills .7 of its box, as masks do.
    """
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, CLASSES + 1)
    kinds = rng.choice(CLASSES, (images, 4), p=share / share.sum())
    image = np.sort(rng.choice(images, truths, p=rng.dirichlet(np.full(images, 1.0))))
    category = kinds[image, rng.integers(0, 4, truths)]
    sides = np.exp(rng.normal(np.log(50), 1.0, (truths, 1)) + rng.normal(0, 0.3, (truths, 2))).clip(4, 500)
    xywh = np.hstack([rng.uniform(0, 640, (truths, 2)), sides])
    base = rng.integers(0, truths, detections)
    near = rng.random(detections) < 0.2
    shift = np.where(near, rng.choice([0.03, 0.1, 0.3], detections), 3.0)[:, None]
    found_xywh = xywh[base] * np.exp(rng.normal(0, shift / 2, (detections, 4)) * [0, 0, 1, 1])
    found_xywh[:, :2] += rng.normal(0, shift, (detections, 2)) * xywh[base, 2:]
    score = rng.beta(np.where(near, 3, 0.6), np.where(near, 2, 6)).astype(np.float32)
    other = rng.random(detections) < 0.4
    found_category = np.where(other & ~near, rng.choice(CLASSES, detections), category[base])
    truth = {
        "images": [{"id": i, "width": 640, "height": 480} for i in range(images)],
        "categories": [{"id": c + 1, "name": f"class {c + 1}"} for c in range(CLASSES)],
        "annotations": [
            {"id": i + 1, "image_id": int(image[i]), "category_id": int(category[i]) + 1, "bbox": xywh[i].tolist(),
             "area": float(xywh[i, 2] * xywh[i, 3] * 0.7), "iscrowd": int(i % 80 == 0)}
            for i in range(truths)
        ],
    }
    return truth, [
        {"image_id": int(image[base[i]]), "category_id": int(found_category[i]) + 1, "bbox": found_xywh[i].tolist(),
         "score": float(score[i])}
        for i in range(detections)
    ]


def hotcoco_seconds(truth: dict[str, Any], detections: list[dict[str, Any]], resamples: int) -> float:
    """Seconds a resample of hotcoco's `compare`; its cost without resamples is taken off."""
    gt = hotcoco.COCO(truth)
    engines = []
    for _ in range(2):
        engine = hotcoco.COCOeval(gt, gt.load_res(detections), "bbox")
        engine.evaluate()
        engine.accumulate()
        engines.append(engine)
    seconds = []
    for count in (0, resamples):
        start = time.perf_counter()
        hotcoco.compare(*engines, n_bootstrap=count)
        seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / resamples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    truth, detections = coco_scale()
    matching, resampling = [], []
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        matches = match(truth, detections)
        matching.append(time.perf_counter() - start)
        start = time.perf_counter()
        weights = resample_weights(len(matches.images), arguments.resamples, seed=0)
        figures = figures_by_class(average_precision(matches, weights), matches)
        resampling.append(time.perf_counter() - start)
    theirs = hotcoco_seconds(truth, detections, resamples=20)
    ours = float(np.median(resampling)) / arguments.resamples
    print(f"{IMAGES:,} images, {TRUTHS:,} truths, {DETECTIONS:,} detections, {CLASSES} classes, "
          f"{os.cpu_count()} cores; "
          f"bbox_mAP {np.nanmean(figures['bbox_mAP']):.3f}, {matches.hit[:, 0, 0].sum():,} truths found at IoU .5")
    print("| what | median | fastest to slowest |\n|---|---|---|")
    for name, seconds in (("matching, once", matching), (f"{arguments.resamples:,} resamples", resampling)):
        print(f"| {name} | {np.median(seconds):.2f} s | {min(seconds):.2f} to {max(seconds):.2f} s |")
    print(f"| a resample | {ours * 1e3:.2f} ms | |")
    print(f"| a resample of a pair | {2 * ours * 1e3:.2f} ms | |")
    print(f"| the same by hotcoco | {theirs * 1e3:.1f} ms | {theirs / ours / 2:.1f} times as long |")


if __name__ == "__main__":
    main()
