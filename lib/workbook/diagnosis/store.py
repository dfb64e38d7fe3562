"""The diagnosis of a run in its folder: one writer, one reader, and what it was made from.

    trace.parquet       one row an object of val                  (trace.COLUMNS, and what can be assigned)
    assignable.parquet  one row an object of train and val        (assignable.COLUMNS, and `subset`); not for every detector
    detections.parquet  one row a detection of the real detector  (diagnose.DETECTION_COLUMNS)
    costs.parquet       one row a resample, a column a cost       (waterfall.Waterfall.draws)
    waterfall.json      the figures, and `made_from`; written last, so where it is whole, the others are

Pages, plots, tables and FiftyOne read only this. What it was made from is taken before it is made: a file that changes
meanwhile makes it out of date, never wrongly current.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mmcv import Config
from mmdet.datasets import build_dataset

from workbook.data.reading import of_classes, read_coco
from workbook.diagnosis.assignable import unreachable_share
from workbook.diagnosis.diagnose import Diagnosis, diagnose
from workbook.diagnosis.families.detections import DETECTIONS
from workbook.diagnosis.family import Family, family_by_key
from workbook.diagnosis.from_detections import diagnose_detections
from workbook.diagnosis.made_from import MadeFrom, take_fingerprint
from workbook.diagnosis.trace import of_size
from workbook.diagnosis.waterfall import Waterfall
from workbook.errors import RunError
from workbook.evaluation.columns import Detections
from workbook.evaluation.sizes import FIGURE_OF
from workbook.files import read_json, write_json, write_parquet
from workbook.models.device import pick_device
from workbook.runs.data import run_config
from workbook.runs.folder import Run, has_detections_alone
from workbook.runs.load import load_trained

# A figure that differs by less from the run's own is the same: sums in another order.
SAME_AP = 1e-6


@dataclass(frozen=True)
class SavedDiagnosis:
    """The diagnosis of a run as its folder holds it."""

    run: Run
    config: Config
    family: Family
    trace: pd.DataFrame
    detections: pd.DataFrame
    assignable: pd.DataFrame | None
    waterfall: Waterfall
    false_positives: Mapping[str, Any]  # see false_positives.FalsePositiveGains
    unreachable: Mapping[str, Mapping[str, Mapping[str, Any]]]  # train, val → size → objects, no_positive, share
    why_not_assignable: str
    made_from: MadeFrom
    disagreement: tuple[str, ...]  # in what it is not that of the run's own validation, and why

    @property
    def iou(self) -> float:
        """From here on a box fits, in the trace."""
        return self.made_from.iou

    @property
    def stage_names(self) -> list[str]:
        """Every stage in the order of the detector."""
        return [stage.name for stage in self.family.parts]

    @property
    def images_dir(self) -> Path:
        return Path(self.config.data.val.img_prefix)

    @property
    def of_detections_alone(self) -> bool:
        """Whether no model was at hand: see from_detections.py for what such a diagnosis can say."""
        return self.family is DETECTIONS

    @property
    def _model(self) -> Mapping[str, Any]:
        """Its config; empty where only detections are at hand."""
        return self.config.get("model") or {}

    @property
    def anchor_iou(self) -> float | None:
        """The IoU that an object's best anchor needs to be assigned; None without such a rule."""
        training = self._model.get("train_cfg") or {}
        assigner = (training.get("rpn") or training).get("assigner", {})
        return float(assigner["min_pos_iou"]) if assigner.get("type") == "MaxIoUAssigner" else None

    @property
    def proposal_limit(self) -> int | None:
        """How many proposals of an image the detector takes; None for a detector without proposals."""
        rpn = (self._model.get("test_cfg") or {}).get("rpn")
        return int(rpn["max_per_img"]) if rpn else None

    @cached_property
    def ground_truth(self) -> dict[str, Any]:
        """The val set as COCO evaluates it: the images, and the annotations of the run's classes."""
        val = self.config.data.val
        return of_classes(read_coco(Path(val.ann_file)), val.classes)

    @cached_property
    def results(self) -> Detections:
        """The detections as columns."""
        table = self.detections
        boxes = np.array(table["bbox"].tolist(), float).reshape(-1, 4)
        return Detections(table["image_id"].to_numpy(), table["category_id"].to_numpy(), boxes, table["score"].to_numpy())

    def objects(self, size: str) -> pd.DataFrame:
        """The trace of the objects of a size (borders too), with stage, detected and precision as its AP counts them."""
        return of_size(self.trace, size, self.family.parts)

    def is_unreachable(self, objects: pd.DataFrame) -> pd.Series:
        """Which of these rows have no positive because their best anchor overlaps them too little."""
        if self.anchor_iou is None or "no_positive" not in objects:
            return pd.Series(False, index=objects.index)
        return objects["no_positive"].astype("boolean").fillna(False).astype(bool) & (objects["best_anchor_iou"] < self.anchor_iou)


def load_or_diagnose(run: Run, iou: float = 0.5, device: str = "auto") -> SavedDiagnosis:
    """The diagnosis of a finished run: read from its folder, or made when it is not there or out of date.

    Raises RunError for a run that is not done or that another process works on, ValueError for an impossible IoU.
    """
    if not 0 < iou < 1:
        raise ValueError(f"iou = {iou}: give the overlap from which a box fits, between 0 and 1 (.5 is usual)")
    _require_done(run)
    config = run_config(run)
    made_from = take_fingerprint(run, config, iou, pick_device(device))
    if _why_not_current(run, made_from):
        with run.acquire():
            save(run, _diagnose(run, config, made_from), made_from)
    return _read(run, config)


def _diagnose(run: Run, config: Config, made_from: MadeFrom) -> Diagnosis:
    if has_detections_alone(run):
        val = config.data.val
        found = Detections.from_coco(read_json(run.folder / "predictions.json"))
        return diagnose_detections(of_classes(read_coco(Path(val.ann_file)), val.classes), found, iou=made_from.iou)
    model, _ = load_trained(run, made_from.device)
    # without augmentation: each object in the size in which validation shows it
    train = build_dataset({**config.data.train, "pipeline": config.data.val.pipeline})
    return diagnose(model, build_dataset(config.data.val), train, iou=made_from.iou)


def load(run: Run) -> SavedDiagnosis:
    """The diagnosis that the run's folder holds. Raises RunError when there is none, or when it is out of date."""
    _require_done(run)
    path = run.folder / "waterfall.json"
    if not path.is_file():
        raise RunError(f"{run.name} has no diagnosis: `workbook diagnose {run.name}` first")
    config = run_config(run)
    saved = _made_from(path)
    now = take_fingerprint(run, config, saved.iou if saved else 0.5, torch.device("cpu"))
    if reason := _why_not_current(run, now, same_place=True):
        raise RunError(f"the diagnosis of {run.name} is out of date ({reason}): `workbook diagnose {run.name}` again")
    return _read(run, config)


def save(run: Run, diagnosis: Diagnosis, made_from: MadeFrom) -> None:
    """Write the diagnosis; waterfall.json last. The caller holds the run."""
    (run.folder / "waterfall.json").unlink(missing_ok=True)
    write_parquet(run.folder / "trace.parquet", diagnosis.trace)
    write_parquet(run.folder / "detections.parquet", diagnosis.detections)
    write_parquet(run.folder / "costs.parquet", diagnosis.waterfall.draws)
    if diagnosis.assignable is not None:
        write_parquet(run.folder / "assignable.parquet", diagnosis.assignable)
    tables = diagnosis.assignable.groupby("subset") if diagnosis.assignable is not None else ()
    family = diagnosis.family
    write_json(run.folder / "waterfall.json", {
        "family": family.key,
        "stages": [
            {"stage": part.name, "question": part.question, "color": part.color, "remedies": list(part.remedies_for(family.key))}
            for part in family.parts
        ],
        "metrics": diagnosis.waterfall.to_json(),
        "false_positives": diagnosis.false_positives.to_json(),
        "unreachable": {str(subset): unreachable_share(table) for subset, table in tables},
        "why_not_assignable": diagnosis.why_not_assignable,
        "made_from": made_from.to_json(),
    })


def disagreement(run: Run, figures: Waterfall, detections: int, made_from: MadeFrom) -> tuple[str, ...]:
    """In what the diagnosed detector is not the one that the run's own validation measured; empty when it is the same.

    Where the numbers of the layers differ (bfloat16 there, float32 here), it is another detector. Read anew each time, for
    `metrics.json` may have changed since.
    """
    metrics = run.metrics()
    found = []
    for size, key in FIGURE_OF.items():
        before, here = metrics.get(key), figures.metrics["AP"][size].ap
        if before is not None and here is not None and abs(before - here) > SAME_AP:
            found.append(f"AP of {size} objects {here:.4f} instead of {before:.4f}")
    count = metrics.get("counts", {}).get("detections", detections)
    if count != detections:
        found.append(f"{detections:,} detections instead of {count:,}")
    return (*found, *_why_another(run, made_from)) if found else ()


def _why_another(run: Run, made_from: MadeFrom) -> Iterator[str]:
    """What was another when the run was trained."""
    record = run.record
    trained_in = (record.get("settings") or {}).get("precision")
    if trained_in and trained_in != made_from.precision:
        yield f"the run computed in {trained_in}, this diagnosis in {made_from.precision} on {made_from.device}"
    before = record.get("versions") or {}
    for name, version in made_from.versions.items():
        if name in before and before[name] != version:
            yield f"{name} was {before[name]} and is {version}"
    gpu = (record.get("hardware") or {}).get("gpu")
    if (gpu is None) != (made_from.device == "cpu"):
        yield f"the run computed on {gpu or 'a CPU'}, this diagnosis on {made_from.device}"


def _require_done(run: Run) -> None:
    if run.status != "done":
        raise RunError(f"{run.name} is {run.status}: only a finished run can be diagnosed. `workbook list` shows which are")


def _why_not_current(run: Run, made_from: MadeFrom, same_place: bool = False) -> str:
    """Why the saved diagnosis is not the one asked for, "" when it is.

    One that was made in another precision than the run's is made again where the run's is to be had. same_place: where it
    was made does not matter.
    """
    path = run.folder / "waterfall.json"
    saved = _made_from(path)
    if saved is None:
        return "it is not whole, or of an earlier version of the workbook"
    tables = ["trace", "detections", "costs"]
    if not read_json(path).get("why_not_assignable"):
        tables.append("assignable")
    if missing := [f"{name}.parquet" for name in tables if not (run.folder / f"{name}.parquet").is_file()]:
        return f"{', '.join(missing)} is missing"
    if changed := saved.changed(made_from):
        return f"changed since: {', '.join(changed)}"
    trained_in = (run.record.get("settings") or {}).get("precision")
    if not same_place and saved.precision != trained_in == made_from.precision:
        return "it was made in another precision than the run's"
    return ""


def _made_from(path: Path) -> MadeFrom | None:
    try:
        return MadeFrom.from_json(json.loads(path.read_text())["made_from"])
    except (OSError, ValueError, KeyError, TypeError):  # it is derived: a broken one is made again
        return None


def _read(run: Run, config: Config) -> SavedDiagnosis:
    content = read_json(run.folder / "waterfall.json")
    detections = pd.read_parquet(run.folder / "detections.parquet")
    figures = Waterfall.from_json(content["metrics"], pd.read_parquet(run.folder / "costs.parquet"))
    made_from = MadeFrom.from_json(content["made_from"])
    return SavedDiagnosis(
        run=run, config=config, family=family_by_key(content["family"]),
        trace=pd.read_parquet(run.folder / "trace.parquet"), detections=detections,
        assignable=None if content["why_not_assignable"] else pd.read_parquet(run.folder / "assignable.parquet"),
        waterfall=figures, false_positives=content["false_positives"], unreachable=content["unreachable"],
        why_not_assignable=content["why_not_assignable"], made_from=made_from,
        disagreement=disagreement(run, figures, len(detections), made_from),
    )
