"""Run folders whose detections, val truth and metrics belong together: what a real training leaves for a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmcv import Config

from run_folders import write_run
from workbook.evaluation.coco_metrics import evaluate
from workbook.files import write_json
from workbook.runs.config import write_config
from workbook.runs.folder import Run

IMAGES, SMALL, LARGE = 40, 3, 1  # objects of each size in an image
SIDES = {"small": 20.0, "large": 120.0}  # pixels


def val_truth(images: int = IMAGES, large: int = LARGE) -> dict[str, Any]:
    """A COCO dict: in each image three small trees and `large` large ones, none of them near another."""
    sizes = ["small"] * SMALL + ["large"] * large
    annotations = [
        {"id": len(sizes) * image + number + 1, "image_id": image, "category_id": 1, "iscrowd": 0,
         "bbox": [200.0 * number, 0.0, SIDES[size], SIDES[size]], "area": SIDES[size] ** 2}
        for image in range(images) for number, size in enumerate(sizes)
    ]
    return {"images": [{"id": image} for image in range(images)], "categories": [{"id": 1, "name": "tree"}], "annotations": annotations}


def detections(truth: dict[str, Any], share: float, seed: int) -> list[dict[str, Any]]:
    """About this share of the objects exactly; which, and with what score, is drawn with the seed."""
    rng = np.random.default_rng(seed)
    return [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": float(rng.uniform(0.3, 1))}
        for a in truth["annotations"] if rng.random() < share
    ]


def write_measured(
    root: Path, backbone: str, share: float, *, seed: int = 0, hour: float = 0, luck: int | None = None,
    truth: dict[str, Any] | None = None, parameters: dict[str, Any] | None = None,
) -> Run:
    """A finished run of this backbone and seed that finds this share of the objects. luck: which ones; by default the seed decides."""
    truth = truth or val_truth()
    found = detections(truth, share, seed if luck is None else luck)
    run = write_run(root, backbone=backbone, hour=hour, parameters={"seed": seed, **(parameters or {})}, maps=(0.1,))
    val_json = root / "data" / "val.json"
    val_json.parent.mkdir(parents=True, exist_ok=True)
    val_json.write_text(json.dumps(truth))
    write_config(run.folder / "config.py", Config({"data": {"val": {"ann_file": str(val_json), "classes": ("tree",)}}}))
    write_json(run.folder / "predictions.json", found)
    write_json(run.folder / "metrics.json", {**run.metrics(), **evaluate(truth, found).metrics})
    return run
