"""Diagnosed runs for tests: a scripted detector, really diagnosed, written by the real writer and read by the real reader."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from torch import nn

import planted
from planted import Answer, Box, Scene, pipeline, scripted_rcnn, small_config, write_scenes
from workbook.diagnosis.diagnose import diagnose
from workbook.diagnosis.made_from import take_fingerprint
from workbook.diagnosis.store import SavedDiagnosis, load, save
from workbook.evaluation.coco_metrics import evaluate
from workbook.files import write_json
from workbook.runs.checkpoints import save_checkpoint
from workbook.runs.config import read_config, write_config
from workbook.runs.folder import Run

SURE = {"cat": 0.9}
MODEL = "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py"


def at(x: float, y: float, w: float = 40, h: float = 40) -> Box:
    return (x, y, x + w, y + h)


def shifted(box: Box, by: float) -> Box:
    return (box[0] + by, box[1], box[2] + by, box[3])


def jittered(count: int, side: float = 24, seed: int = 0) -> list[Box]:
    """One box an image, each elsewhere: so many images of one object."""
    rng = random.Random(seed)
    return [at(rng.randint(10, 200), rng.randint(60, 200), side, side) for _ in range(count)]


def lost_at(stage: str, box: Box, name: str = "cat") -> Scene:
    """An image whose one object is lost at this stage of Faster R-CNN, or found."""
    return Scene([(box, name)], answers(stage, box, name))


def answers(stage: str, box: Box, name: str = "cat") -> list[Answer]:
    """The script by which an object is lost at this stage, or found. `suppression` needs `score_thr` .4."""
    other = next(label for label in planted.CLASSES if label != name)
    found: dict[str, list[Answer]] = {
        "detected": [Answer(box, {name: 0.9})],
        "proposals": [Answer(box, {name: 0.9}, objectness=0)],
        "class": [Answer(box, {other: 0.85, name: 0.02})],
        "background": [Answer(box, {name: 0.03})],
        "box": [Answer(box, {name: 0.85}, to=shifted(box, 0.4 * (box[2] - box[0])))],
        "suppression": [Answer(box, {name: 0.38, other: 0.31})],  # its first class, under the threshold
        "ranking": [Answer(box, {name: 0.5}), *(Answer(at(10 + 30 * n, 10, 20, 20), {name: 0.8}) for n in range(2))],
    }
    return found[stage]


def diagnosed(
    folder: Path, scenes: Sequence[Scene], model: nn.Module | None = None, crowds: Sequence[tuple[int, Box, str]] = (),
    resamples: int = 200, iou: float = 0.5, record: dict[str, Any] | None = None, name: str = "run", runs: Path | None = None,
) -> SavedDiagnosis:
    """These scenes diagnosed, as the run folder `runs/name` (folder/run) holds it; the data are in `folder/data`.

    model: scripted Faster R-CNN when not given."""
    dataset = write_scenes(folder / "data", scenes, crowds)
    found = diagnose(model or scripted_rcnn(scenes), dataset, dataset, iou=iou, resamples=resamples)
    run = Run((runs or folder) / name)
    run.best_checkpoint.parent.mkdir(parents=True)
    save_checkpoint(run.best_checkpoint, {"state_dict": {"w": torch.zeros(1)}})
    shared = dict(type="OrderedCocoDataset", ann_file=str(folder / "data/truth.json"), img_prefix=str(folder / "data"),
                  classes=planted.CLASSES, pipeline=pipeline((256, 256)))
    write_config(run.folder / "config.py", Config(dict(
        model=small_config(MODEL), classes=planted.CLASSES, data=dict(train=shared, val=dict(**shared, test_mode=True)),
        custom_imports=dict(imports=["workbook.data.mmdet_dataset"]))))
    columns = ["image_id", "category_id", "bbox", "score"]
    results = [dict(zip(columns, row, strict=True)) for row in found.detections[columns].itertuples(index=False)]
    write_json(run.folder / "predictions.json", results)
    metrics = evaluate(json.loads((folder / "data/truth.json").read_text()), results).metrics
    write_json(run.folder / "metrics.json", metrics)
    write_json(run.folder / "run.json", {
        "name": name, "status": "done", "started": "2026-01-01", "parameters": {"backbone": "scripted"},
        "data": {"name": "scenes", "hash": "0" * 64}, "settings": {"precision": "fp32"}, "hardware": {"gpu": None}, **(record or {})})
    save(run, found, take_fingerprint(run, read_config(run.folder / "config.py"), iou, torch.device("cpu")))
    return load(run)
