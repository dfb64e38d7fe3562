"""The whole diagnosis of a run in one call: what it can reach, the trace, the waterfall, the false positives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mmdet.datasets import build_dataset
from torch import nn

from workbook.data.mmdet_dataset import OrderedCocoDataset
from workbook.diagnosis.assignable import ceiling, reach
from workbook.diagnosis.false_positives import KINDS, false_positives, gains
from workbook.diagnosis.families.inside import look, stages_of
from workbook.diagnosis.matching import match, standing
from workbook.diagnosis.oracle import Replay, Truths
from workbook.diagnosis.stages import Stages
from workbook.diagnosis.trace import finish, follow
from workbook.diagnosis.waterfall import (
    NOW,
    Bins,
    Detections,
    reached_by,
    replay_names,
    replays,
    size_of,
    size_ranges,
    waterfall,
)
from workbook.files import write_json
from workbook.progress import progress_bar
from workbook.runs.folder import Run
from workbook.runs.load import load_trained
from workbook.training.loader import as_batch, to_device


@dataclass(frozen=True)
class Diagnosis:
    """Why objects are missed. `detections` are the COCO results of every replay (see `waterfall.replay_names`)."""

    stages: Stages
    reach: pd.DataFrame  # one row a truth of train and val, see anchors.COLUMNS, and `subset`
    trace: pd.DataFrame  # one row a truth of val, see trace.COLUMNS, with what it can reach
    waterfall: dict[str, Any]  # what waterfall.json holds
    false_positives: pd.DataFrame  # one row a false detection, see false_positives.false_positives
    detections: Detections


def diagnose_run(run: Run, device: torch.device | str = "cpu", **options: Any) -> Diagnosis:
    """Diagnose a finished run on its validation images and write `trace.parquet` and `waterfall.json` into its folder.

    options: those of `diagnose`. Raises RunError when the run has no checkpoint or config.
    """
    model, config = load_trained(run, device)
    diagnosis = diagnose(model, build_dataset(config.data.val), build_dataset(config.data.train), **options)
    write_parquet(run.folder / "trace.parquet", diagnosis.trace)
    write_json(run.folder / "waterfall.json", diagnosis.waterfall)
    return diagnosis


def diagnose(
    model: nn.Module,
    val: OrderedCocoDataset,
    train: OrderedCocoDataset | None = None,
    *,
    iou: float = 0.5,
    bins: Bins | None = None,
) -> Diagnosis:
    """Follow every object of `val` through the detector. `train` adds what the detector can never be taught.

    iou: from here on a box fits, in the trace and for the kinds of false positives; AP is always COCO's, .5 to .95.
    bins: more sizes for the waterfall, name → (least, most) area in pixels².
    """
    stages, truth, device = stages_of(model), counted_truth(val), next(model.parameters()).device
    size_ranges(bins)  # a wrong bin is refused before the long part
    reached = pd.concat([
        reach(model, dataset).assign(subset=name)
        for name, dataset in (("train", train), ("val", val)) if dataset is not None
    ], ignore_index=True)
    places: dict[int, list[int]] = {image_id: [] for image_id in val.img_ids}  # of the annotations of each image
    for place, annotation in enumerate(truth["annotations"]):
        if not annotation.get("iscrowd", 0):
            places[annotation["image_id"]].append(place)
    rows: list[dict[str, Any]] = []
    detections: Detections = {name: [] for name in replay_names(stages)}
    bar = progress_bar(len(val), "diagnosing", "image")
    for index in range(len(val)):
        here = [truth["annotations"][place] for place in places[val.img_ids[index]]]
        truths = truths_of(here, val)
        batch = to_device(as_batch([val.with_truth(index)]), device)
        seen = look(model, batch, truths, iou)
        first = len(detections[NOW])
        facts = follow(seen, truths, tuple(val.CLASSES), iou)
        for place, annotation, fact in zip(places[val.img_ids[index]], here, facts, strict=True):
            rows.append(_about(annotation, val, index) | fact | {"_row": place, "_first": first})
        for name, replay in replays(Replay(truths, seen.pool, seen.spare, iou), stages):
            detections[name] += replay.as_coco(val.img_ids[index], val.cat_ids)
        bar.update()
    bar.close()
    matching = match(truth, detections[NOW], iou)
    trace = finish(rows, truth, detections[NOW], matching, standing(detections[NOW], matching), stages)
    trace["recovered_by"] = _recovered_by(rows, truth, detections, stages, iou)
    false = false_positives(truth, detections[NOW], matching, iou)
    figures = {
        "iou": iou,
        "stages": [
            {"name": s.name, "question": s.question, "color": s.color, "remedies": list(s.remedies)} for s in stages
        ],
        "sizes": waterfall(truth, detections, stages, bins),
        "false_positives": {"kinds": KINDS, "sizes": gains(truth, detections[NOW], false, bins)},
        "ceiling": {name: ceiling(part, bins) for name, part in reached.groupby("subset")},
    }
    known = [name for name in reached if name not in trace or name == "annotation_id"]
    of_val = reached.loc[reached["subset"] == "val", known].drop(columns="subset")
    trace = trace.merge(of_val, on="annotation_id", how="left", validate="one_to_one")
    return Diagnosis(stages, reached, trace, figures, false, detections)


def counted_truth(dataset: OrderedCocoDataset) -> dict[str, Any]:
    """The dataset's truth as COCO evaluates it: the annotations of its classes, crowds among them."""
    whole, known = dataset.coco.dataset, set(dataset.cat_ids)
    return {
        "images": whole["images"],
        "categories": [category for category in whole["categories"] if category["id"] in known],
        "annotations": [a for a in whole["annotations"] if a["category_id"] in known],
    }


def truths_of(annotations: list[dict[str, Any]], dataset: OrderedCocoDataset) -> Truths:
    """The annotations of one image (no crowds) as arrays."""
    return Truths(
        np.array([a["id"] for a in annotations], int),
        np.array([dataset.cat2label[a["category_id"]] for a in annotations], int),
        np.array([a["bbox"] for a in annotations], float).reshape(-1, 4),
    )


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write the table; readers see the old file or the new one, never half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        table.to_parquet(partial, index=False)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _about(annotation: dict[str, Any], dataset: OrderedCocoDataset, index: int) -> dict[str, Any]:
    return {
        "annotation_id": annotation["id"], "image_id": annotation["image_id"],
        "file_name": dataset.data_infos[index]["filename"],
        "class": dataset.CLASSES[dataset.cat2label[annotation["category_id"]]],
        "size": size_of(annotation["area"]), "area": float(annotation["area"]),
        "bbox": [float(number) for number in annotation["bbox"]],
    }


def _recovered_by(
    rows: list[dict[str, Any]], truth: dict[str, Any], detections: Detections, stages: Stages, iou: float
) -> list[str | None]:
    """Per row: the first replay, stages in order, that finds it; None when it is found without, or never."""
    places = np.array([row["_row"] for row in rows], int)
    recovered = np.full(len(rows), None, dtype=object)
    for stage in reversed(stages):
        recovered[match(truth, detections[reached_by(stage)], iou).taken_by[places] >= 0] = stage.name
    recovered[[bool(row["detected"]) for row in rows]] = None
    return recovered.tolist()
