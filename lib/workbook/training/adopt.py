"""A detector that mmdet 2 or 3 has trained elsewhere becomes a run: its weights in mmdet 2.28's model, measured by one pass over val.

    outputs/runs/adopted-<stem>-<8 hex>/   run.json with `origin`  config.py  best.pth  log.jsonl  predictions.json  metrics.json

Nothing of the work_dir is run or changed. The config is rewritten for the dataset as it lies here; what validation and a diagnosis need of
it are the model and how an image is prepared.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmcv import Config
from mmdet.datasets import build_dataset
from torch import nn

from workbook.data.catalog import Dataset, find_dataset, summary
from workbook.data.checks import require_sound
from workbook.errors import RunError
from workbook.evaluation.coco_metrics import Evaluation, evaluate
from workbook.files import WRITABLE, write_json, write_text
from workbook.models.config import build_untrained
from workbook.models.device import pick_device
from workbook.models.precision import set_precision
from workbook.models.weights import sha256
from workbook.partial import partial_of
from workbook.runs.adopt.adopt import Adopted
from workbook.runs.adopt.choose import other_order
from workbook.runs.adopt.errors import AdoptError
from workbook.runs.adopt.logs import joined_log, logged
from workbook.runs.adopt.mmdet_config import own_config
from workbook.runs.adopt.work_dir import MMDET_2, MMDET_3, WorkDir, read_work_dir
from workbook.runs.checkpoints import save_checkpoint
from workbook.runs.config import write_config
from workbook.runs.folder import Run, now, runs_root
from workbook.runs.numbers import next_number
from workbook.training.environment import made_with
from workbook.training.validation import validate

OUR_KEY = {"FasterRCNN": "faster_rcnn", "CascadeRCNN": "cascade_rcnn", "RetinaNet": "retinanet", "VFNet": "vfnet", "DETR": "detr",
           "DeformableDETR": "deformable_detr"}
# how far the same AP may lie from the logged one: mmdet 2 rounds it to four digits, mmdet 3 to three
SAME = {MMDET_2: 0.0005, MMDET_3: 0.00051}
WRITTEN = {
    MMDET_2: "tools/test.py --format-only",
    MMDET_3: "tools/test.py --cfg-options test_evaluator.format_only=True test_evaluator.outfile_prefix=results",
}


@dataclass(frozen=True)
class _Measured:
    detections: list[dict[str, Any]]
    losses: Mapping[str, float]
    figures: Evaluation
    images_per_second: float


def adopt_work_dir(path: Path, dataset: str, device: str = "auto") -> Adopted:
    """Make a run folder of a work_dir of mmdet 2 or 3, or of a checkpoint in one, measured in float32 on the val images of a dataset.

    Raises AdoptError for what does not fit, with the classes of both sides where it is they; DataError for the dataset. Then nothing
    is written.
    """
    found = read_work_dir(path)
    data = find_dataset(dataset)
    require_sound(data)
    hashes = {str(file.resolve()): sha256(file) for file in found.files}
    run = Run(runs_root() / _name(found, hashes, data))
    if run.folder.is_dir():
        return Adopted(run, True, (*run.record["origin"]["notes"], *run.record["warnings"]))
    config = own_config(found, data)
    model = _model(found, config)
    where = pick_device(device)
    measured = _measure(set_precision(model, where, "fp32"), config, data, where)
    lines = joined_log(found.folder, found.steps)
    notes, warnings = _compared(found, lines, measured, data)
    record = {
        **made_with(where, "fp32", []), "name": run.name, "status": "done", "error": None, "started": now(), "finished": now(),
        "parameters": _parameters(found, config, data), "origin": {
            "kind": found.kind, "path": str(found.folder.resolve()), "files": hashes, "notes": list(notes)},
        "data": summary(data), "warnings": list(warnings), "model": {
            "type": config.model.type, "roi_head": (config.model.get("roi_head") or {}).get("type"),
            "backbone": config.model.backbone.type, "weights": None, "parameters_m": sum(p.numel() for p in model.parameters()) / 1e6},
        "epochs": found.epoch, "epochs_done": found.epoch, "best_epoch": found.epoch,
        "val_images_per_second": measured.images_per_second,
    }
    _write(run, found, config, lines, measured, record)
    return Adopted(run, False, (*notes, *warnings))


def _name(found: WorkDir, hashes: Mapping[str, str], data: Dataset) -> str:
    content = json.dumps([found.kind, sorted(hashes.values()), data.name, data.hash])
    stem = re.sub(r"[^\w-]+", "_", _stem(found))
    return f"adopted-{stem}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _stem(found: WorkDir) -> str:
    return found.config_file.stem if found.config_file else found.folder.resolve().name


# ---- model and figures -----------------------------------------------------------------------------------------------


def _model(found: WorkDir, config: Config) -> nn.Module:
    try:
        model = build_untrained(config)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise AdoptError(f"mmdet 2.28 cannot build the model of {found.config_file or found.checkpoint} ({type(error).__name__}: "
                         f"{reason}): was it made for another version, or with code of its own? Its detections can be adopted: write "
                         f"them with {WRITTEN[found.kind]}") from error
    try:
        model.load_state_dict(found.weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise AdoptError(f"{found.checkpoint} is not of the model in {found.config_file or 'its own config'}: {reason}. Give the "
                         "checkpoint that this config has trained") from error
    return model


def _measure(model: Any, config: Config, data: Dataset, device: Any) -> _Measured:
    val_set: Any = build_dataset(config.data.val)
    started = time.monotonic()
    detections, losses = validate(model.eval(), val_set, device, 0, "measuring val")
    seconds = time.monotonic() - started
    return _Measured(detections, losses, evaluate(dict(data.val), detections), len(val_set) / seconds)


def _compared(
    found: WorkDir, lines: Sequence[Mapping[str, Any]], measured: _Measured, data: Dataset
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Notes and warnings: whose weights these are, and how their AP here compares with that of the log."""
    ours, theirs = measured.figures.metrics["bbox_mAP"], logged(lines, found.epoch)
    named = f"{found.checkpoint.name}, epoch {found.epoch}" if found.epoch else found.checkpoint.name
    shown = "none" if ours is None else f"{ours:.4f}"
    if theirs is None:
        notes, differs = f"{named}: bbox_mAP {shown} here; the log has none of this epoch", ""
    else:
        notes = f"{named}: bbox_mAP {shown} here, {theirs:.4f} in the log"
        is_same = ours is not None and abs(ours - theirs) <= SAME[found.kind]
        differs = "" if is_same else (f"{notes}: more apart than rounding. Other val images or labels than in the training, another test "
                                      "size, or a checkpoint of another epoch?")
    order = other_order(measured.detections, data.val, ours or 0.0) if measured.detections else ""
    return (notes, *found.notes), tuple(words for words in (differs, order) if words)


def _parameters(found: WorkDir, config: Config, data: Dataset) -> dict[str, Any]:
    """What a training here would be asked for, as far as it is known. What is not known of the training is not in it."""
    width, height = config.data.val.pipeline[2]["img_scale"]
    theirs = found.config
    epochs = (theirs.get("runner") or {}).get("max_epochs") or theirs.get("total_epochs")  # until mmdet 2.5
    known = {"batch_size": theirs["data"].get("samples_per_gpu"), "epochs": epochs, "load_from": theirs.get("load_from")}
    return {"dataset": data.name, "detector": OUR_KEY.get(config.model.type, f"adopted ({config.model.type})"), "backbone": _stem(found),
            "image_size": [width, height], "seed": 0, **{key: value for key, value in known.items() if value is not None}}


def _write(
    run: Run, found: WorkDir, config: Config, lines: Sequence[Mapping[str, Any]], measured: _Measured, record: Mapping[str, Any]
) -> None:
    """The whole folder under a temporary name that no list of runs shows, then under its own."""
    figures = {**measured.figures.metrics, **measured.losses, "per_class": measured.figures.per_class, "counts": measured.figures.counts}
    try:
        with partial_of(run.folder) as folder:
            partial = Run(folder)
            partial.best_checkpoint.parent.mkdir(parents=True)
            write_config(folder / "config.py", config)
            save_checkpoint(partial.best_checkpoint, {"state_dict": found.weights, "epoch": found.epoch})
            write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
            write_json(folder / "predictions.json", measured.detections)
            write_json(folder / "metrics.json", {"epoch": found.epoch, "best_epoch": found.epoch, **figures})
            with next_number(run.folder.parent) as number:
                write_json(folder / "run.json", {**record, "number": number})
                folder.rename(run.folder)
    except OSError as error:
        raise RunError(f"cannot write the run folder {run.folder}: {error.strerror}. {WRITABLE}") from error
