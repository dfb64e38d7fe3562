"""Writes run folders as a training leaves them, with figures that a test chose: no model, no images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from workbook.files import write_json, write_text
from workbook.runs.folder import Run, run_name

LOSSES = {
    "faster_rcnn": ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox"),
    "vfnet": ("loss_cls", "loss_bbox", "loss_bbox_rf"),
    "detr": ("loss_cls", "loss_bbox", "loss_iou", "d0.loss_cls", "d0.loss_bbox"),
}
PARAMETERS_M = {"tf_efficientnet_lite0": 20.1, "resnet18": 28.1, "resnet50": 41.1, "swin_t": 44.7, "pvtv2_b0": 20.6,
                "pvtv2_b5": 98.3}
DATA = {"name": "tree_crowns", "hash": "5f" * 32, "classes": ["tree"], "train_images": 35, "val_images": 10,
        "train_objects": 737, "val_objects": 214, "val_small": 66, "val_medium": 140, "val_large": 8}
FIRST_START = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


def write_run(
    root: Path,
    *,
    backbone: str = "resnet50",
    detector: str = "faster_rcnn",
    maps: Sequence[float | None] = (0.1, 0.2),
    status: str = "done",
    hour: float = 0,
    broken_off_after: int | None = None,
    no_small: bool = False,
    data: Mapping[str, Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    steps_an_epoch: int = 18,
) -> Run:
    """Write `<root>/runs/<name>` with run.json, log.jsonl, config.py and, when done, metrics.json and predictions.json.

    `maps` is bbox_mAP per epoch, one for each epoch that finished. `hour` sets the start. `broken_off_after` is the
    epoch after which a resumed run was killed: its log then has other steps in the next epoch. `no_small` empties the
    small bucket. `data`, `optimizer`, `parameters` and `record` change single values of run.json.
    """
    data = {**DATA, **(data or {}), **({"val_small": 0} if no_small else {})}
    optimizer = {"type": "AdamW", "lr": 1e-4, "weight_decay": 0.05, **(optimizer or {})}
    asked = {"dataset": data["name"], "detector": detector, "backbone": backbone, "recipe": "official",
             "pretrained": True, "epochs": max(len(maps), 1), "image_size": [400, 400], "batch_size": 2, "seed": 0,
             "device": "cpu", "tracker": "none", "overrides": {}, "load_from": None, **(parameters or {})}
    run = Run(root / "runs" / run_name(asked, data["hash"]))
    run.folder.mkdir(parents=True)
    vals = [_val_line(epoch, value, detector, steps_an_epoch, no_small) for epoch, value in enumerate(maps, start=1)]
    log = [line for val in vals for line in (*_train_lines(val, optimizer["lr"], detector, broken_off_after), val)]
    write_text(run.folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log))
    write_text(run.folder / "config.py", "# the whole config\n")
    started = FIRST_START + timedelta(hours=hour)
    written: dict[str, Any] = {
        "name": run.name, "parameters": asked, "status": status, "error": None, "started": started.isoformat(),
        "finished": None, "git_commit": "0123abc", "versions": {"torch": "2.11.0", "mmdet": "2.28.2"},
        "hardware": {"device": "cpu", "cpu": "Xeon", "cores": 2, "memory_gb": 8.0, "gpu": None}, "data": data,
        "model": {"roi_head": "StandardRoIHead" if "rcnn" in detector else None,
                  "parameters_m": PARAMETERS_M.get(backbone, 30.0), "weights": "ImageNet"},
        "settings": {"precision": "fp32"}, "optimizer": optimizer, "schedule": "step [8, 11]", "warnings": [],
    }
    if status == "done":
        best = max((line for line in vals if line["bbox_mAP"] is not None), key=lambda line: line["bbox_mAP"])
        written |= {"finished": (started + timedelta(minutes=30)).isoformat(), "seconds": 1800.0,
                    "iterations": steps_an_epoch * len(maps), "best_epoch": best["epoch"], "epochs_done": len(maps),
                    "train_images_per_second": 1.2345678901234567, "val_images_per_second": 3.3,
                    "peak_memory_mb": 2345.678}
        metrics = {**best, "best_epoch": best["epoch"], **_metrics(best["bbox_mAP"], data)}
        write_json(run.folder / "metrics.json", metrics)
        write_json(run.folder / "predictions.json", [
            {"image_id": 1, "category_id": 1, "bbox": [10.0, 10.0, 20.0, 20.0], "score": 0.9}])
    if status == "failed":
        written["error"] = "RuntimeError: the loss is not finite at step 40\nlower the learning rate"
    write_json(run.folder / "run.json", {**written, **(record or {})})
    return run


def _val_line(epoch: int, value: float | None, detector: str, steps: int, no_small: bool) -> dict[str, Any]:
    scores = {"bbox_mAP": value, "bbox_mAP_50": _times(value, 2.1), "bbox_mAP_75": _times(value, 0.7),
              "bbox_mAP_s": None if no_small else _times(value, 0.4), "bbox_mAP_m": _times(value, 1.3),
              "bbox_mAP_l": _times(value, 1.6)}
    return {"mode": "val", "epoch": epoch, "step": epoch * steps, **scores, **_losses(epoch, detector), "seconds": 4.2}


def _train_lines(val: dict[str, Any], lr: float, detector: str, broken_off_after: int | None) -> list[dict[str, Any]]:
    """Two or three lines an epoch; the epoch after the break is taken up at another step than it was left."""
    last, epoch = val["step"], val["epoch"]
    resumed = broken_off_after is not None and epoch == broken_off_after + 1
    steps = [last - 13, last - 11, last - 3] if resumed else [last - 12, last - 4]
    return [{"mode": "train", "epoch": epoch, "step": step, "lr": lr * (0.1 if epoch > 8 else min(1.0, step / 20)),
             **{key: value * 0.9 for key, value in _losses(epoch - 0.5, detector).items()}} for step in steps]


def _losses(epoch: float, detector: str) -> dict[str, float]:
    losses = {key: (90.0 if key == "acc" else 1 / number) * (1 if key == "acc" else 1 / (1 + 0.3 * epoch))
              for number, key in enumerate(LOSSES[detector], start=2)}
    return {**losses, "loss": sum(value for key, value in losses.items() if key != "acc")}


def _metrics(value: float, data: Mapping[str, Any]) -> dict[str, Any]:
    truths = data["val_objects"]
    classes = {name: {"bbox_mAP": value, "bbox_mAP_50": value * 2.1, "truths": truths if number == 0 else 0}
               for number, name in enumerate(data["classes"])}
    for name in data["classes"][1:]:
        classes[name] |= {"bbox_mAP": None, "bbox_mAP_50": None}
    counts = {"images": data["val_images"], "truths": truths, "small": data["val_small"], "medium": data["val_medium"],
              "large": data["val_large"], "detections": 1}
    return {"per_class": classes, "counts": counts}


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def cut(run: Run) -> None:
    """The record as a full disk or a careless editor leaves it."""
    path = run.folder / "run.json"
    path.write_text(path.read_text()[:-20])
