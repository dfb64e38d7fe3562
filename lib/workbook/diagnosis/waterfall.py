"""The waterfall: from the real AP, replay by replay, to an AP of 1; what each stage costs, for every size.

It is complete by construction: a drop is the AP of one replay less that of the replay before, and the last replay
reports every truth with its own box and class above everything else, so the drops add up to 1 − AP. What the metric
cannot count would be left over and is a drop of its own, `not counted`: over 100 truths of a class in an image, or three of
a class on top of each other on both sides of a size's border, where COCO's greedy matching leaves one out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import hotcoco
import numpy as np

from workbook.diagnosis.oracle import Replay
from workbook.diagnosis.stages import Stage
from workbook.evaluation.coco_metrics import MAX_DETECTIONS, SIZES, evaluate, only_boxes

NOW = "now"
NOT_COUNTED = "not counted"
UNIT = 1e-9  # an AP this near to 1 is 1

Detections = dict[str, list[dict[str, Any]]]  # the COCO results of every replay
Bins = Mapping[str, tuple[float, float]]  # own sizes: name → least and most area in pixels², both inside


def replay_names(stages: Sequence[Stage]) -> list[str]:
    """`now`, then `to <stage>` (it and all before it perfect), then `only <stage>` for those that differ from it."""
    return [NOW, *(reached_by(stage) for stage in stages), *(alone_by(stage) for stage in stages[1:])]


def replays(real: Replay, stages: Sequence[Stage]) -> Iterator[tuple[str, Replay]]:
    """Every replay of one image by its name. A pool's suppression runs once, whoever asks."""
    yield NOW, real
    reached = real
    for stage in stages:
        reached = stage.replay(reached)
        yield reached_by(stage), reached
    for stage in stages[1:]:
        yield alone_by(stage), stage.replay(real)


def replayed_detections(
    images: Iterable[tuple[int, Replay]], stages: Sequence[Stage], category_ids: list[int]
) -> Detections:
    """COCO results of every replay. images: (image id, what the detector said of it)."""
    detections: Detections = {name: [] for name in replay_names(stages)}
    for image_id, real in images:
        for name, replay in replays(real, stages):
            detections[name] += replay.as_coco(image_id, category_ids)
    return detections


def waterfall(
    truth: dict[str, Any], detections: Detections, stages: Sequence[Stage], bins: Bins | None = None
) -> dict[str, dict[str, Any]]:
    """Per size: AP now, the number of objects, and per stage the drop, the AP after it, and what it would bring alone.

    bins: more sizes. A size without truth has None for every figure. A drop may be negative: there the perfect stage
    brought up errors that a later stage makes (say: more false positives).
    """
    found = {name: precisions(truth, results, bins) for name, results in detections.items()}
    counts = size_counts(truth, bins)
    return {size: _of_size(size, found, counts[size], stages) for size in counts}


def _of_size(
    size: str, found: Mapping[str, Mapping[str, float | None]], objects: int, stages: Sequence[Stage]
) -> dict[str, Any]:
    now, before = found[NOW][size], found[NOW][size]
    steps: list[dict[str, Any]] = []
    for number, stage in enumerate(stages):
        after = found[reached_by(stage)][size]
        alone = after if number == 0 else found[alone_by(stage)][size]
        steps.append({"stage": stage.name, "drop": less(after, before), "ap_after": after, "alone": less(alone, now)})
        before = after
    if before is not None and 1 - before > UNIT:
        steps.append({"stage": NOT_COUNTED, "drop": 1 - before, "ap_after": 1.0, "alone": 0.0})
    return {"ap": now, "objects": objects, "steps": steps}


def size_ranges(bins: Bins | None = None) -> dict[str, tuple[float, float]]:
    """Every size and its area in pixels², both borders inside: COCO's four, then the own ones. Raises ValueError for
    an own one that is taken or empty."""
    coco = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
    wrong = [name for name, (least, most) in (bins or {}).items() if name in coco or not 0 <= least < most]
    if wrong:
        example = "{'tiny': (0, 256)}"
        raise ValueError(f"bins {wrong}: give new names, and areas in pixels² as (least, most), e.g. {example}")
    return coco | dict(bins or {})


def size_of(area: float) -> str:
    """small, medium or large; a border belongs to the smaller one here, though COCO counts it in both."""
    return next(size for size, (_, most) in list(size_ranges().items())[1:] if area <= most)


def size_counts(truth: dict[str, Any], bins: Bins | None = None) -> dict[str, int]:
    """How many truths are of each size; one on a border is of both."""
    areas = np.array([a["area"] for a in truth["annotations"] if not a.get("iscrowd", 0)])
    return {size: int(((least <= areas) & (areas <= most)).sum()) for size, (least, most) in size_ranges(bins).items()}


def precisions(
    truth: dict[str, Any], detections: Sequence[dict[str, Any]], bins: Bins | None = None
) -> dict[str, float | None]:
    """COCO's AP (IoU .5 to .95) of every size, None where there is no truth."""
    metrics = evaluate(truth, detections).metrics
    found = {"all": metrics["bbox_mAP"], **{size: metrics[f"bbox_mAP_{size[0]}"] for size in SIZES}}
    return found | (_of_bins(truth, detections, bins) if bins else {})


def _of_bins(truth: dict[str, Any], detections: Sequence[dict[str, Any]], bins: Bins) -> dict[str, float | None]:
    gt = hotcoco.COCO(only_boxes(truth))
    engine = hotcoco.COCOeval(gt, gt.load_res(list(detections)), "bbox")
    engine.params.max_dets = [MAX_DETECTIONS]
    engine.params.area_rng, engine.params.area_rng_lbl = [list(area) for area in bins.values()], list(bins)
    engine.evaluate()
    engine.accumulate()
    assert engine.eval is not None
    precision = engine.eval["precision"][..., -1]  # [IoUs, recalls, classes, bins]
    valid = [table[table > -1] for table in np.moveaxis(precision, -1, 0)]
    return {name: float(table.mean()) if table.size else None for name, table in zip(bins, valid, strict=True)}


def less(after: float | None, before: float | None) -> float | None:
    """after − before; None where there is no truth."""
    return None if after is None or before is None else after - before


def reached_by(stage: Stage) -> str:
    """The name of the replay in which this stage and all before it are perfect."""
    return f"to {stage.name}"


def alone_by(stage: Stage) -> str:
    """The name of the replay in which this stage alone is perfect."""
    return f"only {stage.name}"
