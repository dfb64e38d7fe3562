"""How often the waterfall's claims hold, on made detectors whose true costs are known.

    python -m bench.costs [how many data sets]        # 60 take about 2 minutes on 2 cores

A made detector loses each object, by chance, at a stage of Faster R-CNN, with given probabilities. Its true costs are those on 6,000
images. Val sets of 20 and 60 images are drawn from it; of each the waterfall is made, as a diagnosis makes it. Stated is how many of the
95% intervals of a stage's cost hold the true cost (none where nothing was seen is left out), and how often one stage alone is called the
costliest: wrongly, where two stages cost the same, and rightly, where one costs most.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from mmcv import ConfigDict

from workbook.diagnosis.diagnose import replayed
from workbook.diagnosis.family import family_by_key
from workbook.diagnosis.oracle import Candidates, ImageObjects, Replay, Suppressed
from workbook.diagnosis.probing import nms
from workbook.diagnosis.waterfall import SizeWaterfall, waterfall
from workbook.evaluation.columns import Detections, GroundTruth
from workbook.progress import progress_bar

OBJECTS_AN_IMAGE = 3.0
TRUE_IMAGES, RESAMPLES = 6_000, 200
SIZES_OF_VAL = (20, 60)
FAMILY = family_by_key("two_stage")
STAGES = tuple(stage.name for stage in FAMILY.stages)
# stage → the share of the objects that it loses
DETECTORS: dict[str, dict[str, float]] = {
    "two cost the same": {"proposals": 0.25, "class": 0.25, "box": 0.05, "suppression": 0.05},
    "one costs most": {"proposals": 0.05, "class": 0.10, "box": 0.40, "suppression": 0.05},
    "one is rare": {"proposals": 0.30, "class": 0.05, "box": 0.10, "suppression": 0.012},
}


@dataclass(frozen=True)
class Claims:
    """Of so many data sets: the share of intervals that hold the true cost, by stage, and of single names, right and wrong."""

    holds: dict[str, float]
    right: float
    wrong: float


def suppress(candidates: Candidates) -> Suppressed:
    """Threshold .05, NMS at .5, 100 detections."""
    return nms(candidates, candidates.score > 0.05, ConfigDict(type="nms", iou_threshold=0.5), 100, torch.device("cpu"))


def made_image(lost: Mapping[str, float], rng: np.random.Generator) -> tuple[np.ndarray, Replay]:
    """Boxes [objects, 4] of 24 pixels on a grid, and the detector's candidates for them and for nothing."""
    count = min(int(rng.poisson(OBJECTS_AN_IMAGE)), 20)
    cells = rng.choice(100, count + 2, replace=False)
    boxes = np.stack([cells % 10 * 60.0, cells // 10 * 60.0, np.full(count + 2, 24.0), np.full(count + 2, 24.0)], axis=1)
    gt_boxes, false = boxes[:count], boxes[count:]
    shares = [*lost.values(), 1 - sum(lost.values())]
    fate = rng.choice([*lost, "found"], count, p=shares)
    score = rng.uniform(0.3, 1.0, count).astype(np.float32)
    placed = gt_boxes.copy()
    placed[fate == "box", 0] += 12  # IoU 1/3
    placed[:, 0] += rng.uniform(0, 3, count)
    named = fate != "class"
    own = np.where(named, score, 0.03).astype(np.float32)
    background = np.where(named, 0.0, score)
    own[fate == "suppression"] = 0.04
    there = fate != "proposals"
    index = np.flatnonzero(there)
    real = Candidates(
        candidate=np.arange(len(index) + 2), label=np.zeros(len(index) + 2, int),
        score=np.concatenate([own[there], rng.uniform(0.05, 0.8, 2)]).astype(np.float32),
        boxes_xywh=np.concatenate([placed[there], false]), named=np.concatenate([named[there], [True, True]]),
        priors_xywh=np.concatenate([gt_boxes[there], false]), background=np.concatenate([background[there], [0.0, 0.0]]),
        gt_index=np.concatenate([index, [-1, -1]]), suppress=suppress,
    )
    missing = np.flatnonzero(~there)
    added = Candidates(
        np.arange(len(missing)), np.zeros(len(missing), int), score[missing], placed[missing], np.ones(len(missing), bool),
        gt_boxes[missing], np.zeros(len(missing)), missing, suppress,
    )
    return gt_boxes, Replay(ImageObjects(np.arange(count), np.zeros(count, int), gt_boxes), real, added)


def small_of(lost: Mapping[str, float], images: int, seed: int, resamples: int) -> SizeWaterfall:
    """The waterfall of the small objects of a data set of so many images."""
    rng = np.random.default_rng(seed)
    annotations = []
    found: dict[frozenset[str], list[Detections]] = {}
    for image in range(images):
        boxes, replay = made_image(lost, rng)
        annotations += [{"id": len(annotations) + n, "image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3]}
                        for n, box in enumerate(boxes.tolist(), start=1)]
        for subset, detections in replayed(replay, FAMILY.stages, image, np.array([1])).items():
            found.setdefault(subset, []).append(detections)
    gt = GroundTruth.from_coco({"images": [{"id": n} for n in range(images)], "categories": [{"id": 1, "name": "a"}],
                                "annotations": annotations})
    joined = {subset: Detections.concatenate(parts) for subset, parts in found.items()}
    return waterfall(gt, joined, FAMILY.parts, resamples).metrics["AP"]["small"]


def claims(lost: Mapping[str, float], true: SizeWaterfall, images: int, sets: int) -> Claims:
    """What the waterfalls of so many data sets claim, against the true one."""
    costs = {name: true.cost(name).shapley or 0.0 for name in STAGES}
    ranked = sorted(costs, key=lambda name: -costs[name])
    first = ranked[0] if costs[ranked[0]] - costs[ranked[1]] > 0.02 else ""
    inside: dict[str, list[bool]] = {name: [] for name in STAGES}
    single: list[str] = []
    for seed in range(sets):
        of_size = small_of(lost, images, 1_000_000 + seed, RESAMPLES)
        for name in STAGES:
            cost = of_size.cost(name)
            inside[name].append(cost.low is not None and cost.high is not None and cost.low <= costs[name] <= cost.high)
        single.append(of_size.leader or "")
    right = sum(name == first and name != "" for name in single)
    wrong = sum(name not in ("", first) for name in single)
    return Claims({name: float(np.mean(held)) for name, held in inside.items()}, right / sets, wrong / sets)


def main(sets: int = 60) -> None:
    """Print a line a detector and number of images."""
    started = time.monotonic()
    print(f"{sets} data sets each; of the intervals of each stage's cost so many hold the true cost (nominal 95%)")
    with progress_bar(len(DETECTORS) * len(SIZES_OF_VAL), "made detectors", "row") as bar:
        for name, lost in DETECTORS.items():
            true = small_of(lost, TRUE_IMAGES, 1, 2)
            for images in SIZES_OF_VAL:
                found = claims(lost, true, images, sets)
                held = ", ".join(f"{stage} {true.cost(stage).shapley:.3f}: {share:.0%}" for stage, share in found.holds.items())
                print(f"{name}, {images} images: {held}; one stage named, right {found.right:.0%}, wrong {found.wrong:.0%}", flush=True)
                bar.update()
    print(f"{(time.monotonic() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
