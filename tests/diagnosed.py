"""A planted diagnosis: the tables and figures that `diagnosis_of` would read, with numbers that a test chose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from mmcv import Config

from workbook.diagnosis.false_positives import KINDS
from workbook.diagnosis.stages import TWO_STAGE, Stages
from workbook.diagnosis.store import Kept
from workbook.diagnosis.trace import COLUMNS
from workbook.runs.folder import Run

SIDES = {"small": 20, "medium": 50, "large": 110}
DROPS = (0.3, 0.2, 0.1, 0.0, 0.15)


def lost(stage: str, count: int, size: str = "small", **values: Any) -> list[dict[str, Any]]:
    """So many rows of the trace."""
    found = stage in ("detected", "ranking")
    given = {"stage": stage, "detected": found, "size": size, "class": "cat", "candidate_cut": "", "candidate_iou": 0.3, **values}
    return [dict(given) for _ in range(count)]


def kept(
    folder: Path, rows: Sequence[dict[str, Any]], *, stages: Stages = TWO_STAGE, drops: Sequence[float] = DROPS,
    undetermined: Sequence[str] = (), images: int = 12, detections: Sequence[dict[str, Any]] = (), never_taught: int = 0,
) -> Kept:
    """The diagnosis with these rows, one image to three of them, in `folder`; drops are the same for every size with objects."""
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "1.png"), np.full((256, 256, 3), 90, np.uint8))
    usual = {**dict.fromkeys(COLUMNS), "never_taught": False, "best_anchor_iou": 0.6, "first_rank": np.nan,
             "image_id": 1, "file_name": "1.png"}
    trace = pd.DataFrame([
        {**usual, "annotation_id": number, "bbox": [30.0, 40.0, SIDES[row["size"]], SIDES[row["size"]]], **row}
        for number, row in enumerate(rows, start=1)
    ])
    val = {
        "images": [{"id": 1, "file_name": "1.png", "width": 256, "height": 256}], "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": row["annotation_id"], "image_id": 1, "category_id": 1, "bbox": row["bbox"], "area": row["bbox"][2] ** 2}
                        for row in trace.to_dict("records")],
    }
    (folder / "val.json").write_text(json.dumps(val))
    counts = {size: int((trace["size"] == size).sum()) for size in SIDES} | {"all": len(trace)}
    names = [stage.name for stage in stages]
    figures = {
        "iou": 0.5, "stages": [{"name": s.name, "question": s.question, "color": s.color, "remedies": list(s.remedies)} for s in stages],
        "sizes": {size: _size(count, names, drops) for size, count in counts.items()},
        "intervals": {size: _intervals(count, names, drops, undetermined, images) for size, count in counts.items()},
        "false_positives": {"sizes": {size: {kind: {"count": n, "gain": n / 100} for n, kind in enumerate(KINDS)} for size in counts}},
        "ceiling": {"train": {size: {"objects": 40, "never_taught": never_taught} for size in counts}},
    }
    reach = pd.DataFrame({"subset": "train", "size": "small", "never_taught": True, "best_anchor_iou": 0.2}, index=range(never_taught))
    config = Config({
        "data": {"val": {"ann_file": str(folder / "val.json"), "img_prefix": str(folder), "classes": ["cat"]}},
        "model": {"train_cfg": {"rpn": {"assigner": {"type": "MaxIoUAssigner", "min_pos_iou": 0.3}}} if stages is TWO_STAGE else {}},
    })
    columns = ["image_id", "file_name", "category_id", "class", "bbox", "area", "score", "outcome", "kind", "annotation_id", "iou"]
    return Kept(Run(folder), config, trace, reach, pd.DataFrame(list(detections), columns=columns), figures)


def detection(score: float, outcome: str = "true", kind: str = "", side: float = 20, iou: float = 0.0) -> dict[str, Any]:
    return {"image_id": 1, "file_name": "1.png", "category_id": 1, "class": "cat", "bbox": [100.0, 100.0, side, side], "area": side * side,
            "score": score, "outcome": outcome, "kind": kind, "annotation_id": None, "iou": iou}


def _size(count: int, names: Sequence[str], drops: Sequence[float]) -> dict[str, Any]:
    if not count:
        return {"ap": None, "objects": 0, "steps": [{"stage": name, "drop": None, "ap_after": None} for name in names]}
    after = 1 - sum(drops) + np.cumsum(drops)
    steps = [{"stage": n, "drop": d, "ap_after": float(a)} for n, d, a in zip(names, drops, after, strict=True)]
    return {"ap": 1 - sum(drops), "objects": count, "steps": steps}


def _intervals(count: int, names: Sequence[str], drops: Sequence[float], undetermined: Sequence[str], images: int) -> dict[str, Any]:
    def around(value: float, name: str) -> dict[str, Any]:
        width = 0.05 if value else 0.0
        return {"value": value if count else None, "low": value - width, "high": value + width, "objects": count, "images": images,
                "undetermined": name in undetermined, "largest_in": 0.9}

    return {"ap": around(1 - sum(drops), "ap"), "steps": {n: around(d, n) for n, d in zip(names, drops, strict=True)}}
