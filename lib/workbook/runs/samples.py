"""The figures of a finished run with their resamples, counted from its files alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbook.data.reading import DataError, of_classes, read_coco
from workbook.errors import RunError
from workbook.evaluation.bootstrap import Samples, bootstrap
from workbook.evaluation.matching import match
from workbook.files import read_json
from workbook.progress import progress_bar
from workbook.runs.data import run_config
from workbook.runs.folder import Run

SAME = 1e-9  # an AP that differs by more was not counted from these files


def samples_of_all(runs: Sequence[Run]) -> list[Samples]:
    """Those of each run, under a bar: thousands of images take seconds a run. Raises RunError as `samples_of` does."""
    truths: dict[tuple[str, ...], dict[str, Any]] = {}  # each is parsed once
    found = []
    with progress_bar(len(runs), "resampling", "run", inside=True) as bar:
        for run in runs:
            found.append(samples_of(run, truths))
            bar.update()
    return found


def samples_of(run: Run, truths: dict[tuple[str, ...], dict[str, Any]]) -> Samples:
    """The figures of a finished run on its val set, with their resamples.

    truths: val file and classes → the parsed truth, filled here. Raises RunError where a file is missing, or where the bbox_mAP counted
    from these files is not the one that the run has in `metrics.json`.
    """
    val = run_config(run, images=False).data.val
    key = (val.ann_file, *val.classes)
    if key not in truths:
        try:
            truths[key] = of_classes(read_coco(Path(val.ann_file)), val.classes)
        except DataError as error:
            raise RunError(str(error)) from error
    try:
        samples = bootstrap(match(truths[key], read_json(run.folder / "predictions.json")))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"the predictions.json of {run.name} does not fit {val.ann_file} ({error}): restore them, or train again") from error
    measured, counted = run.metrics()["bbox_mAP"], float(samples.figures["bbox_mAP"].values[0])
    before, now = ("none" if value is None or math.isnan(value) else f"{value:.4f}" for value in (measured, counted))  # none: no objects
    if (before == "none") != (now == "none") or (now != "none" and not math.isclose(measured, counted, rel_tol=0, abs_tol=SAME)):
        raise RunError(f"{run.name} was measured with bbox_mAP {before}, but its predictions.json and {val.ann_file} give "
                       f"{now}: one of them was changed since. Restore it, or train again")
    return samples
