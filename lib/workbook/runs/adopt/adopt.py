"""A run that others trained becomes a run folder, whole or not at all.

    outputs/runs/adopted-<stem>-<8 hex>/   run.json with `origin`  config.py (the data alone)  predictions.json  metrics.json

The digits stand for the content of the files and of the dataset, so the same content again is the same folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmcv import Config

from workbook.data.catalog import Dataset, find_dataset, summary
from workbook.data.checks import require_sound
from workbook.errors import RunError
from workbook.files import WRITABLE, write_json, write_text
from workbook.partial import partial_of
from workbook.runs.adopt.choose import Chosen, choose
from workbook.runs.adopt.coco_results import read_results
from workbook.runs.adopt.epochs import Epochs, compared, epochs_of
from workbook.runs.adopt.errors import listed
from workbook.runs.adopt.find import YOLO_TXT, Found, find_results
from workbook.runs.adopt.yolo_txt import label_files, read_label_files
from workbook.runs.config import write_config
from workbook.runs.folder import Run, now, runs_root
from workbook.runs.numbers import next_number

NEARLY_NOTHING = 0.001  # bbox_mAP
MUCH = 0.2  # of the val images without a detection


@dataclass(frozen=True)
class Adopted:
    """The run folder, whether it was there before, and what is to be known of it."""

    run: Run
    was_there: bool
    notes: tuple[str, ...]


def adopt_run(path: Path, dataset: str) -> Adopted:
    """Make a run folder from the results of a detector on the val images of a dataset.

    path: a file of COCO results, a folder that holds one, or a folder of YOLO's text files.

    Raises AdoptError with all that is wrong, DataError for the dataset; then nothing is written.
    """
    found = find_results(path)
    data = find_dataset(dataset)
    require_sound(data)
    texts = label_files(found.results) if found.kind == YOLO_TXT else []
    entries = read_label_files(texts, data.val["images"]) if texts else read_results(found.results)
    epochs = epochs_of(found.results, len(data.train["images"]))
    files = {str(found.results.resolve()): _digest(texts or [found.results])}
    run = Run(runs_root() / _name(found, files, data))
    if run.folder.is_dir():
        added = _add_log(run, epochs)
        record = run.record
        return Adopted(run, True, (*record["origin"]["notes"], *record["warnings"], *added))
    chosen = _doubted(choose(entries, data.val), data)
    notes, warnings = compared(epochs, chosen.figures.metrics["bbox_mAP"])
    chosen = replace(chosen, notes=(*chosen.notes, *notes), warnings=(*chosen.warnings, *warnings))
    _write(run, found, files, data, chosen, epochs.lines)
    return Adopted(run, False, (*chosen.notes, *chosen.warnings))


def _add_log(run: Run, epochs: Epochs) -> list[str]:
    """The epochs of a log that was put beside the detections later; what is said of it."""
    if not epochs.lines or (run.folder / "log.jsonl").exists():
        return []
    write_text(run.folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in epochs.lines))
    notes, warnings = compared(epochs, run.metrics()["bbox_mAP"])
    origin = run.record["origin"]
    run.update(
        epochs_done=epochs.lines[-1]["epoch"], warnings=[*run.record["warnings"], *warnings],
        origin={**origin, "notes": [*origin["notes"], *notes]})
    return [f"the epochs of {epochs.tool} that lie beside it now are added"]


def _doubted(chosen: Chosen, data: Dataset) -> Chosen:
    """With notes on images without a detection and on odd entries, and a warning where much is missing, or nearly none fits an object."""
    found = {entry["image_id"] for entry in chosen.detections}
    without = [image["file_name"] for image in data.val["images"] if image["id"] not in found]
    notes, warnings = chosen.notes, chosen.warnings
    if without:
        words = (f"{len(without)} of {len(data.val['images'])} val images have no detection: {listed(without)}. If they were not given to "
                 "the detector, every object in them counts as missed")
        is_much = len(without) > MUCH * len(data.val["images"])
        notes, warnings = (notes, (*warnings, words)) if is_much else ((*notes, words), warnings)
    notes = (*notes, *_oddities(chosen.detections))
    if not chosen.warnings and (chosen.figures.metrics["bbox_mAP"] or 0.0) < NEARLY_NOTHING:
        warnings = (*warnings, f"bbox_mAP is below {NEARLY_NOTHING}: nearly no detection fits an object of val. Are the columns of the "
                    "boxes in another order, or are these other images?")
    return replace(chosen, notes=notes, warnings=warnings)


def _oddities(detections: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a detector seldom writes: entries twice, boxes without area, one score for all."""
    entries = [(one["image_id"], one["category_id"], *one["bbox"], one["score"]) for one in detections]
    twice = len(entries) - len(set(entries))
    flat = sum(0 in one["bbox"][2:] for one in detections)
    notes = [f"{twice} of {len(entries)} detections are listed twice or more: each one more counts as false"] if twice else []
    notes += [f"{flat} of {len(entries)} boxes have no width or no height, and fit nothing"] if flat else []
    if len(entries) > 1 and len({one["score"] for one in detections}) == 1:
        notes.append(f"all scores are {detections[0]['score']:g}, so AP follows from the order of the entries alone")
    return notes


def _digest(files: Sequence[Path]) -> str:
    """sha256 of the files one after another; of several with their names."""
    digest = hashlib.sha256()
    for path in files:
        digest.update((f"{path.name}\n" if len(files) > 1 else "").encode() + path.read_bytes())
    return digest.hexdigest()


def _name(found: Found, files: Mapping[str, str], data: Dataset) -> str:
    content = json.dumps([found.kind, sorted(files.values()), data.name, data.hash])
    stem = re.sub(r"[^\w-]+", "_", found.stem)
    return f"adopted-{stem}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def _write(
    run: Run, found: Found, files: Mapping[str, str], data: Dataset, chosen: Chosen, lines: Sequence[Mapping[str, Any]]
) -> None:
    """The whole folder under a temporary name that no list of runs shows, then under its own."""
    try:
        with partial_of(run.folder) as partial:
            partial.mkdir(parents=True)
            write_config(partial / "config.py", _data_config(data))
            write_json(partial / "predictions.json", chosen.detections)
            write_json(partial / "metrics.json", _metrics(chosen))
            if lines:
                write_text(partial / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
            record = {**_record(run, found, files, data, chosen), **({"epochs_done": lines[-1]["epoch"]} if lines else {})}
            with next_number(run.folder.parent) as number:
                write_json(partial / "run.json", {**record, "number": number})
                partial.rename(run.folder)
    except OSError as error:
        raise RunError(f"cannot write the run folder {run.folder}: {error.strerror}. {WRITABLE}") from error


def _data_config(data: Dataset) -> Config:
    sides = {"train": data.train_json, "val": data.val_json}
    return Config({"data": {
        side: {"ann_file": str(path), "img_prefix": str(data.images_dir), "classes": list(data.classes)} for side, path in sides.items()
    }})


def _metrics(chosen: Chosen) -> dict[str, Any]:
    figures = chosen.figures
    return {**figures.metrics, "per_class": figures.per_class, "counts": figures.counts}


def _record(run: Run, found: Found, files: Mapping[str, str], data: Dataset, chosen: Chosen) -> dict[str, Any]:
    """`run.json`. What is not known of the training is not in it."""
    time = now()
    return {
        "name": run.name, "status": "done", "error": None, "started": time, "finished": time,
        "parameters": {"dataset": data.name, "detector": f"adopted ({found.kind})", "backbone": found.stem},
        "origin": {"kind": found.kind, "path": str(found.results.resolve()), "files": dict(files), "notes": list(chosen.notes)},
        "data": summary(data), "warnings": list(chosen.warnings),
    }
