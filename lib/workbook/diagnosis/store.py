"""A diagnosis in its run folder: made once, read again as often as the notebook is opened.

    trace.parquet       one row a truth of val                    (trace.COLUMNS, and what anchors can reach)
    reach.parquet       one row a truth of train and val          (anchors.COLUMNS, and `subset`)
    detections.parquet  one row a detection of the real detector  (DETECTION_COLUMNS)
    waterfall.json      the figures, with "intervals"; written last, so where it is, the others are

`waterfall.json` says what it was made from. When the run's detections, its val file or the code of the diagnosis have
changed since, or another IoU is asked for, the diagnosis is made again; else nothing is computed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mmcv import Config

from workbook import evaluation
from workbook.diagnosis.diagnosis import Diagnosis, diagnose_run, write_parquet
from workbook.diagnosis.intervals import waterfall_intervals
from workbook.diagnosis.matching import EXCUSED, TRUE, UNCOUNTED, match
from workbook.diagnosis.waterfall import NOW
from workbook.errors import RunError
from workbook.files import read_json, write_json
from workbook.models.device import pick_device
from workbook.runs.config import read_config
from workbook.runs.folder import Run

ROOMS = (Path(__file__).parent, Path(evaluation.__file__).parent)  # the rooms that compute a diagnosis
TABLES = ("trace", "reach", "detections")
DETECTION_COLUMNS: dict[str, str] = {
    "image_id": "its image's id", "file_name": "its image's file",
    "category_id": "its class, by id", "class": "its class", "bbox": "x, y, width, height in pixels of the original image",
    "area": "of its box, pixels²", "score": "0 to 1",
    "outcome": "true, false, excused (inside a crowd) or uncounted (beyond 100 of its class and image), as COCO matches",
    "kind": "of a false one: see false_positives.KINDS; else empty",
    "annotation_id": "of a true one the truth that it found, of a false one the truth that it overlaps most, if any",
    "iou": "with that truth",
}


@dataclass(frozen=True)
class Kept:
    """The diagnosis of a run as its folder holds it."""

    run: Run
    config: Config
    trace: pd.DataFrame
    reach: pd.DataFrame
    detections: pd.DataFrame
    figures: dict[str, Any]  # waterfall.json

    @property
    def iou(self) -> float:
        return float(self.figures["iou"])

    @property
    def stage_names(self) -> list[str]:
        return [stage["name"] for stage in self.figures["stages"]]

    @property
    def images_dir(self) -> Path:
        return Path(self.config.data.val.img_prefix)

    @property
    def anchor_iou(self) -> float | None:
        """The IoU that an object's best anchor needs before the detector is taught with it; None without such a rule."""
        taught = self.config.model.train_cfg or {}
        assigner = (taught.get("rpn") or taught).get("assigner", {})
        return float(assigner["min_pos_iou"]) if assigner.get("type") == "MaxIoUAssigner" else None

    @property
    def proposals_kept(self) -> int | None:
        """How many proposals of an image the detector looks at; None for a detector without proposals."""
        rpn = (self.config.model.get("test_cfg") or {}).get("rpn")
        return int(rpn["max_per_img"]) if rpn else None

    @cached_property
    def truth(self) -> dict[str, Any]:
        """The val set as COCO evaluates it: the images, and the annotations of the run's classes."""
        return val_truth(self.config)


def diagnosis_of(run: Run, iou: float = 0.5, device: str = "auto") -> Kept:
    """The diagnosis of a finished run: read from its folder, or made when it is not there, not of this run's detections,
    or of another IoU. Raises RunError for a run that is not done, ValueError for an impossible IoU."""
    if not 0 < iou < 1:
        raise ValueError(f"iou = {iou}: give the overlap from which a box fits, between 0 and 1 (.5 is usual)")
    if run.status != "done":
        raise RunError(f"{run.name} is {run.status}: only a finished run can be diagnosed. `workbook list` shows which are")
    config = read_config(run.folder / "config.py")
    fingerprint(run, config)  # a missing file is said before the long part
    if not _is_kept(run, config, iou):
        keep(run, config, diagnose_run(run, pick_device(device), iou=iou))
    tables = {name: pd.read_parquet(run.folder / f"{name}.parquet") for name in TABLES}
    return Kept(run, config, **tables, figures=read_json(run.folder / "waterfall.json"))


def keep(run: Run, config: Config, diagnosis: Diagnosis) -> None:
    """Write what `diagnosis_of` reads, with the intervals of the waterfall."""
    truth, now = val_truth(config), diagnosis.detections[NOW]
    intervals = waterfall_intervals(truth, diagnosis.detections, diagnosis.stages)
    write_parquet(run.folder / "reach.parquet", diagnosis.reach)
    table = detection_table(truth, now, diagnosis.false_positives, diagnosis.waterfall["iou"])
    write_parquet(run.folder / "detections.parquet", table)
    write_parquet(run.folder / "trace.parquet", diagnosis.trace)
    made_from = fingerprint(run, config)
    write_json(run.folder / "waterfall.json", {**diagnosis.waterfall, "intervals": intervals, "made_from": made_from})


def detection_table(
    truth: Mapping[str, Any], detections: list[dict[str, Any]], false: pd.DataFrame, iou: float
) -> pd.DataFrame:
    """Every detection with what COCO's matching says of it, columns as in DETECTION_COLUMNS. false: its false positives."""
    matching = match(dict(truth), detections, iou)
    words = {TRUE: "true", EXCUSED: "excused", UNCOUNTED: "uncounted"}
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    table = pd.DataFrame(detections, columns=["image_id", "category_id", "bbox", "score"])
    table["file_name"], table["class"] = table["image_id"].map(files), table["category_id"].map(names)
    table["area"] = [box[2] * box[3] for box in table["bbox"]]
    table["outcome"] = [words.get(outcome, "false") for outcome in matching.outcome]
    ids = np.array([a["id"] for a in truth["annotations"]] or [0])
    found = matching.taken_truth >= 0
    annotation_id = pd.Series(ids[matching.taken_truth * found], dtype="Int64").where(found)
    of_false = false.set_index("row")
    table["annotation_id"] = annotation_id.fillna(of_false["annotation_id"].reindex(table.index))
    table["kind"] = of_false["kind"].reindex(table.index).fillna("")
    table["iou"] = of_false["iou"].reindex(table.index).astype(float)
    boxes = {a["id"]: a["bbox"] for a in truth["annotations"]}
    table.loc[found, "iou"] = [
        _iou(box, boxes[id_]) for box, id_ in zip(table.loc[found, "bbox"], table.loc[found, "annotation_id"], strict=True)
    ]
    return table[list(DETECTION_COLUMNS)]


def val_truth(config: Config) -> dict[str, Any]:
    """The run's val set as COCO evaluates it, without building mmdet's dataset. Raises RunError when the file is gone."""
    val = config.data.val
    whole = read_json(Path(val.ann_file))
    categories = [category for category in whole["categories"] if category["name"] in val.classes]
    known = {category["id"] for category in categories}
    annotations = [a for a in whole["annotations"] if a["category_id"] in known]
    return {"images": whole["images"], "categories": categories, "annotations": annotations}


def fingerprint(run: Run, config: Config) -> str:
    """What a diagnosis stands on, as 16 hex: the run's detections, its val file, and the code, of which no one must
    remember to raise a number."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for source in sorted(room.glob("*.py")):
            digest.update(source.read_bytes())
    for path in (run.folder / "predictions.json", Path(config.data.val.ann_file)):
        if not path.is_file():
            raise RunError(f"{path} is missing: the run or its dataset was moved or changed by hand. Put it back, or train again")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _is_kept(run: Run, config: Config, iou: float) -> bool:
    path = run.folder / "waterfall.json"
    if not path.is_file() or not all((run.folder / f"{name}.parquet").is_file() for name in TABLES):
        return False
    try:
        figures = json.loads(path.read_text())
    except ValueError:  # it is derived, so a broken one is made again
        return False
    return "intervals" in figures and figures["iou"] == iou and figures["made_from"] == fingerprint(run, config)


def _iou(a: list[float], b: list[float]) -> float:
    across, down = (max(0.0, min(a[k] + a[k + 2], b[k] + b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    both = across * down
    return both / (a[2] * a[3] + b[2] * b[3] - both) if both else 0.0
