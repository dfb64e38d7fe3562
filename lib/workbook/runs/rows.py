"""A run as a row: its settings and the figures of its best epoch, by the names of the comparison's columns.

A figure that a run does not have (a size without objects, a loss its detector does not know, a run that broke off) is None, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from workbook.runs.aspects import ABSENT, value_at
from workbook.runs.folder import Run, read_log, with_later_parameters
from workbook.runs.numbers import exp_numbers

# column → where run.json has it
SETTINGS = {
    "Backbone": "parameters.backbone", "RoI Head": "model.roi_head", "Epoch": "epochs_done", "Best Epoch": "best_epoch",
    "initial lr": "optimizer.lr", "Lr schd": "schedule", "Optimizer": "optimizer.type",
    "Image size": "parameters.image_size",
}
FIGURES = (
    "bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l",
    "loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox", "loss",
)
ADDED = {
    "Detector": "parameters.detector", "status": "status", "parameters (M)": "model.parameters_m",
    "train images/s": "train_images_per_second", "val images/s": "val_images_per_second",
    "peak memory (MB)": "peak_memory_mb", "train images": "data.train_images", "val images": "data.val_images",
    "objects in val": "data.val_objects", "small objects in val": "data.val_small",
    "medium objects in val": "data.val_medium", "large objects in val": "data.val_large",
    "remedies": "parameters.remedies", "dataset": "parameters.dataset", "seed": "parameters.seed", "run": "name",
}
WHERE_DIFFERENT = {"empty images": "parameters.empty_images"}  # columns that are only there when the runs differ in them


def numbers_of(runs: Sequence[Run]) -> list[int]:
    """The experiment number of each run: that of its folder of runs, so that it is the same in every choice of runs."""
    of_root = {root: exp_numbers(root) for root in {run.folder.parent for run in runs}}
    return [of_root[run.folder.parent][run.name] for run in runs]


def row_of(number: int, run: Run) -> dict[str, Any]:
    """Column → value. Val figures are those of the best epoch (largest bbox_mAP); of a run that is not done, of its best so far."""
    record = with_later_parameters(run.record)
    row = {column: value_at(record, path) for column, path in {**SETTINGS, **ADDED, **WHERE_DIFFERENT}.items()}
    row = {column: None if value is ABSENT or value == "" else value for column, value in row.items()}
    if row["Image size"]:
        row["Image size"] = "x".join(map(str, row["Image size"]))
    line = run.metrics() if record["status"] == "done" else {}
    if record["status"] != "done":  # what run.json and metrics.json say at the end is not written yet: the log knows
        lines = _val_lines(run)
        line = _best_of(lines)
        row["Epoch"] = max((one["epoch"] for one in lines), default=0)
        row["Best Epoch"] = line["epoch"] if _is_known(line.get("bbox_mAP")) else None
    return {"Exp num": number, **row, **{f"val/{key}": line.get(key) for key in FIGURES}, "run": run.name}


def _val_lines(run: Run) -> list[dict[str, Any]]:
    path = run.folder / "log.jsonl"
    return [line for line in (read_log(path) if path.exists() else []) if line["mode"] == "val"]


def _best_of(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The val line with the largest bbox_mAP (the first of equals); the last where val has no objects, so that no epoch is best."""
    scored = [line for line in lines if _is_known(line.get("bbox_mAP"))]
    return max(scored, key=lambda line: line["bbox_mAP"]) if scored else (lines or [{}])[-1]


def _is_known(value: float | None) -> bool:
    return value is not None and not math.isnan(value)
