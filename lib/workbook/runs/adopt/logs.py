"""The logs of every start of an mmdet training, joined by epoch.

mmdet 2 writes <time>.log.json, whose lines say their mode; mmdet 3 writes <time>/vis_data/scalars.json (mmengine/visualization/
vis_backend.py, LocalVisBackend), where a line of a validation has neither epoch nor losses: it is of the epoch before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbook.runs.adopt.errors import AdoptError

NO_FIGURES = ("time", "data_time", "memory", "mode", "epoch", "iter", "step", "bbox_mAP_copypaste")  # in a line of the log


def logs_of(folder: Path) -> list[Path]:
    """In the order of their starts, which the names of files (mmdet 2) or folders (mmdet 3) say."""
    starts = (sorted(place.glob("*.json")) for place in sorted(folder.glob("*/vis_data")))
    of_start = [next((file for file in files if file.name == "scalars.json"), files[0]) for files in starts if files]
    return [*sorted(folder.glob("*.log.json")), *of_start]


def joined_log(folder: Path, steps: int | None = None) -> list[dict[str, Any]]:
    """The lines of all starts as a run of the workbook logs them: of an epoch that was trained twice those of the later start.

    steps: of an epoch, where it is known. A figure of -1 (a size without objects) is None. mmdet 2 rounds AP to four digits and mmdet 3 to
    three, and both count AP50, AP75 and the sizes with up to 1,000 detections an image.
    """
    by_epoch: dict[int, list[dict[str, Any]]] = {}
    for path in logs_of(folder):
        lines = [line for line in _with_modes(_lines(path)) if "epoch" in line]
        for epoch in dict.fromkeys(line["epoch"] for line in lines):
            by_epoch[epoch] = [line for line in lines if line["epoch"] == epoch]
    steps = steps or max((line["iter"] for lines in by_epoch.values() for line in lines if line.get("mode") == "train"), default=0)
    return [_as_ours(line, steps) for epoch in sorted(by_epoch) for line in by_epoch[epoch]]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The last line of a broken-off start may be half a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except ValueError:
            if number == len(lines):
                return
            raise AdoptError(f"{path}, line {number} is no JSON: repair it, or move the file away") from None
        if isinstance(content, dict):
            yield content


def _with_modes(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines of mmdet 3 in the words of mmdet 2; those that say their mode, or count no steps, as they are."""
    epoch = None
    for line in lines:
        if "mode" in line or "step" not in line:
            yield line
        elif "epoch" in line:
            epoch = line["epoch"]
            yield {**line, "mode": "train"}
        else:  # `step` is the epoch, or with log_metric_by_epoch=False the step
            figures = {key.removeprefix("coco/"): value for key, value in line.items() if key != "step"}
            yield {"mode": "val", "epoch": epoch or line["step"], **figures}


def _as_ours(line: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """steps: of an epoch, as far as lines were logged."""
    is_train = line.get("mode") == "train"
    step = line.get("step", (line["epoch"] - 1) * steps + line["iter"]) if is_train else line["epoch"] * steps
    figures: dict[str, Any] = {key: value for key, value in line.items() if key not in NO_FIGURES and isinstance(value, int | float)}
    if not is_train:
        figures = {key: None if key.startswith("bbox_") and value == -1 else value for key, value in figures.items() if key != "lr"}
    return {"mode": "train" if is_train else "val", "epoch": line["epoch"], "step": step, **figures}


def logged(lines: Sequence[Mapping[str, Any]], epoch: int | None) -> float | None:
    """The bbox_mAP that the log has for this epoch."""
    found = [line["bbox_mAP"] for line in lines if line["mode"] == "val" and line["epoch"] == epoch and line.get("bbox_mAP") is not None]
    return found[-1] if found else None
