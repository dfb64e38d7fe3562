"""The training beside adopted detections, as lines of a run's log: what ultralytics, detectron2 and torchvision's reference leave.

    ultralytics   results.csv                         a row an epoch; its mAP is by its own code, so it keeps a name of its own
    detectron2    metrics.json, config.yaml           an object every 20 iterations (utils/events.py, JSONWriter); AP from 0 to 100
    torchvision   what its train.py printed, *.log    MetricLogger's lines and COCO's summary (references/detection/utils.py, engine.py)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbook.runs.adopt.errors import AdoptError

Line = Mapping[str, Any]
MEND = "Repair it, or move the file away, and adopt again"
SAME = 0.002  # how far COCO's AP of the same detections may lie from a logged one: scores and boxes are rounded in files
PRINTED = ("*.log", "*.txt", "*.out")  # where what a program prints is usually kept
MOST_BYTES = 50_000_000  # of a text file that is looked into for such lines
DETECTRON2_AP = {
    "bbox/AP": "bbox_mAP", "bbox/AP50": "bbox_mAP_50", "bbox/AP75": "bbox_mAP_75", "bbox/APs": "bbox_mAP_s", "bbox/APm": "bbox_mAP_m",
    "bbox/APl": "bbox_mAP_l",
}
TRAIN_LINE = re.compile(r"Epoch: \[(\d+)\]\s+\[\s*(\d+)/(\d+)\]\s.*?(loss: .*)")
METER = re.compile(r"(\w+): [-\w.]+ \(([-\w.]+)\)")  # median of the last 20 steps (mean of the epoch)
KIND_LINE = re.compile(r"IoU metric: (\w+)")
AP_LINE = re.compile(r"Average Precision\s+\(AP\) @\[ IoU=([\d.:]+)\s*\| area=\s*(\w+) \| maxDets=\s*\d+ \] = (-?[\d.]+)")
SUMMARY = {
    ("0.50:0.95", "all"): "bbox_mAP", ("0.50", "all"): "bbox_mAP_50", ("0.75", "all"): "bbox_mAP_75",
    ("0.50:0.95", "small"): "bbox_mAP_s", ("0.50:0.95", "medium"): "bbox_mAP_m", ("0.50:0.95", "large"): "bbox_mAP_l",
}


@dataclass(frozen=True)
class Epochs:
    """The lines of a training, which tool left them, and why some could not be read."""

    lines: tuple[Line, ...] = ()
    tool: str = ""
    note: str = ""

    @property
    def last_map(self) -> float | None:
        """bbox_mAP of the last validation, as the tool logged it."""
        found = [line["bbox_mAP"] for line in self.lines if line.get("bbox_mAP") is not None]
        return float(found[-1]) if found else None


def epochs_of(results: Path, images: int) -> Epochs:
    """The training beside a file (or folder) of detections; empty where there is none.

    images: of train. Raises AdoptError for a log that is broken, with its line.
    """
    if results.is_dir():  # YOLO's texts, an image each: none of them is a log
        return _ultralytics(results, images)
    folder = results.parent
    places = [folder, folder.parent] if folder.name == "inference" else [folder]
    readers: tuple[Callable[[Path, int], Epochs], ...] = (_ultralytics, _detectron2, _torchvision)
    found = (read(place, images) for place in places for read in readers)
    return next((epochs for epochs in found if epochs.lines or epochs.note), Epochs())


# ---- ultralytics -----------------------------------------------------------------------------------------------------


def _ultralytics(folder: Path, _: int) -> Epochs:
    path = folder / "results.csv"
    if not path.is_file():
        return Epochs()
    rows = [[cell.strip() for cell in line.split(",")] for line in _text(path).splitlines() if line.strip()]
    header = rows[0] if rows else []
    if "epoch" not in header:
        raise AdoptError(f"{path} has no column epoch: it is not what ultralytics writes. Move it away, or put the right one there")
    by_epoch: dict[int, list[Line]] = {}
    for number, row in enumerate(rows[1:], start=2):
        try:
            values = dict(zip(header, map(float, row), strict=True))
        except ValueError:
            raise AdoptError(f"{path}, line {number}: not {len(header)} numbers. {MEND}") from None
        if not values["epoch"].is_integer():
            raise AdoptError(f"{path}, line {number}: epoch {row[header.index('epoch')]} is no whole number. {MEND}")
        by_epoch[int(values["epoch"])] = list(_of_row(values))
    return Epochs(tuple(line for _, lines in sorted(by_epoch.items()) for line in lines), "ultralytics")


def _of_row(values: Mapping[str, float]) -> Iterator[Line]:
    epoch = int(values["epoch"])
    for mode, prefix in (("train", "train/"), ("val", "val/")):
        figures = {f"loss_{key.removeprefix(prefix).removesuffix('_loss')}": value
                   for key, value in values.items() if key.startswith(prefix) and math.isfinite(value)}
        yield {"mode": mode, "epoch": epoch, "step": epoch, **_with_sum(figures), **(_own_map(values) if mode == "val" else {})}


def _with_sum(losses: Mapping[str, float]) -> dict[str, float]:
    """Its losses are weighted already: their sum is the loss that is minimised."""
    return {"loss": sum(losses.values()), **losses} if losses else {}


def _own_map(values: Mapping[str, float]) -> dict[str, float]:
    names = {"metrics/mAP50-95(B)": "ultralytics_mAP50-95", "metrics/mAP50(B)": "ultralytics_mAP50"}
    return {name: values[key] for key, name in names.items() if math.isfinite(values.get(key, math.nan))}


# ---- detectron2 ------------------------------------------------------------------------------------------------------


def _detectron2(folder: Path, images: int) -> Epochs:
    """Its iterations as epochs: images of train by images of a step, which config.yaml says."""
    path, config = folder / "metrics.json", folder / "config.yaml"
    if not path.is_file() or '"iteration"' not in _text(path)[:10_000]:
        return Epochs()
    found = re.search(r"""^\s*IMS_PER_BATCH:\s*["']?(\d+)""", _text(config), re.MULTILINE) if config.is_file() else None
    batch = int(found[1]) if found else 0
    if not batch:
        return Epochs(note=f"the epochs of {path.name} are not read: there is no config.yaml beside it that says SOLVER.IMS_PER_BATCH")
    by_iteration: dict[int, dict[str, float]] = {}
    for number, values in enumerate(_objects(path), start=1):
        iteration = values.get("iteration") if isinstance(values, dict) else None
        if type(iteration) is not int or iteration < 0:
            raise AdoptError(f"{path}, line {number} has no iteration, a number from 0. {MEND}")
        numbers = {key: float(value) for key, value in values.items() if type(value) in (int, float)}
        by_iteration.setdefault(iteration, {}).update(numbers)  # one that was trained again after a resume comes later
    lines = [_of_iteration(iteration + 1, values, batch, images) for iteration, values in sorted(by_iteration.items())]
    return Epochs(tuple(line for of_step in lines for line in of_step), "detectron2")


def _of_iteration(step: int, values: Mapping[str, float], batch: int, images: int) -> Iterator[Line]:
    place = {"epoch": math.ceil(step * batch / images), "step": step}
    losses = {key.replace("total_loss", "loss"): value for key, value in values.items() if "loss" in key and math.isfinite(value)}
    if losses:
        yield {"mode": "train", **place, **losses, **({"lr": values["lr"]} if math.isfinite(values.get("lr", math.nan)) else {})}
    if "bbox/AP" in values:
        found = {name: values[key] / 100 for key, name in DETECTRON2_AP.items() if key in values}
        yield {"mode": "val", **place, **{name: value if math.isfinite(value) else None for name, value in found.items()}}


def _objects(path: Path) -> Iterator[Any]:
    """One a line; the last line of a broken-off training may be half of one."""
    lines = _text(path).splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError:
            if number < len(lines):
                raise AdoptError(f"{path}, line {number} is no JSON. {MEND}") from None


# ---- torchvision -----------------------------------------------------------------------------------------------------


def _torchvision(folder: Path, _: int) -> Epochs:
    """Of an epoch that was trained twice, the lines of the later file by name."""
    by_epoch: dict[int, list[Line]] = {}
    for path in sorted(path for pattern in PRINTED for path in folder.glob(pattern)):
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            by_epoch |= _printed_epochs(path.read_text(encoding="utf-8", errors="replace"))
    return Epochs(tuple(line for _, lines in sorted(by_epoch.items()) for line in lines), "torchvision" if by_epoch else "")


def _printed_epochs(text: str) -> dict[int, list[Line]]:
    """Epoch from 1 → the means of its training, and COCO's summary after it."""
    train: dict[int, Line] = {}
    val: dict[int, dict[str, Any]] = {}
    epoch, kind = 0, ""
    for line in text.splitlines():
        if match := TRAIN_LINE.search(line):
            epoch, kind = int(match[1]) + 1, ""
            means = {name: _finite(mean) for name, mean in METER.findall(match[4]) if name.startswith("loss")}
            means = {name: mean for name, mean in means.items() if mean is not None}
            train[epoch] = {"mode": "train", "epoch": epoch, "step": int(match[1]) * int(match[3]) + int(match[2]) + 1, **means}
        elif match := KIND_LINE.search(line):
            kind = match[1]
        elif epoch and kind == "bbox" and (match := AP_LINE.search(line)) and (match[1], match[2]) in SUMMARY:
            value = _finite(match[3])
            figures = val.setdefault(epoch, {"mode": "val", "epoch": epoch, "step": train[epoch]["step"]})
            figures[SUMMARY[match[1], match[2]]] = None if value == -1 else value
    return {epoch: [line, *([val[epoch]] if epoch in val else [])] for epoch, line in train.items()}


def _finite(text: str) -> float | None:
    """The number; None for nan, inf and what is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AdoptError(f"{path} cannot be read as text ({error})") from None


def compared(epochs: Epochs, ours: float | None) -> tuple[list[str], list[str]]:
    """Notes and warnings: the AP that the tool logged beside ours of the detections; none where it logged none."""
    if epochs.tool == "ultralytics":
        own = [line["ultralytics_mAP50-95"] for line in epochs.lines if "ultralytics_mAP50-95" in line]
        theirs = max(own, default=None)
        logged = f"ultralytics logged mAP50-95 {theirs or 0:.4f} at its best, by its own code"
        is_other = theirs is not None and (ours or 0.0) < theirs / 2 - SAME
    else:
        theirs = epochs.last_map
        logged = f"{epochs.tool} logged {theirs or 0:.4f} at its last validation"
        is_other = theirs is not None and abs((ours or 0.0) - theirs) > SAME
    notes = [epochs.note] if epochs.note else []
    if theirs is None:
        return notes, []
    words = f"bbox_mAP {'none' if ours is None else format(ours, '.4f')} here; {logged}"
    if is_other:
        return notes, [f"{words}: these are detections of another epoch or of other images, or their boxes are of another image size"]
    return [*notes, words], []
