"""Which backbone is better, from the detections of the runs: repeats with other seeds are one setting."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbook.data.reading import DataError, of_classes, read_coco
from workbook.errors import RunError
from workbook.evaluation.bootstrap import Samples, bootstrap
from workbook.evaluation.comparison import FIGURES, Difference, compare
from workbook.evaluation.matching import match
from workbook.files import read_json
from workbook.runs.data import run_config
from workbook.runs.folder import Run, by_start
from workbook.views.compare.differences import aspects, in_ranges
from workbook.views.compare.tables import as_text, numbers_of

SPOKEN = ("bbox_mAP", "bbox_mAP_s")  # of these the undetermined pairs with the best are named one by one
SAME = 1e-9  # an AP that differs by more was not counted from these files


@dataclass(frozen=True)
class Setting:
    """All runs that differ in nothing but the seed."""

    name: str  # the backbone, with the experiment numbers
    runs: Mapping[int, Run]  # seed → run

    def figures(self) -> pd.DataFrame:
        """The val figures of the best epoch: a row a seed (rising), a column a figure; NaN where val has no such object."""
        rows = {seed: self.runs[seed].metrics() for seed in sorted(self.runs)}
        return pd.DataFrame({seed: {key: row[key] for key in FIGURES} for seed, row in rows.items()}, dtype=float).T


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """The runs by setting, the best mean bbox_mAP first.

    Empty unless all runs are done with a bbox_mAP, and each setting was trained with the same seeds, each once.
    """
    ordered = by_start(runs)
    if any(run.status != "done" or run.metrics()["bbox_mAP"] is None for run in ordered):
        return []
    groups: dict[str, list[tuple[int, Run]]] = {}
    for number, run in zip(numbers_of(ordered), ordered, strict=True):
        groups.setdefault(_all_but_the_seed(run), []).append((number, run))
    seeds = [sorted(run.record["parameters"]["seed"] for _, run in group) for group in groups.values()]
    if any(those != seeds[0] or len(those) > len(set(those)) for those in seeds):
        return []
    settings = [_setting(group) for group in groups.values()]
    return sorted(settings, key=lambda setting: -setting.figures()["bbox_mAP"].mean())


def differences_of(settings: Sequence[Setting]) -> list[Difference]:
    """Every pair of settings in every figure, from the detections of the runs and their val truth.

    Raises RunError where one of them is missing or is not what the run was measured with.
    """
    truths: dict[tuple[str, ...], dict[str, Any]] = {}  # each is parsed once
    samples = {
        setting.name: [samples_of(setting.runs[seed], truths) for seed in sorted(setting.runs)] for setting in settings
    }
    try:
        return compare(samples)
    except ValueError as error:
        raise RunError(f"the runs were not measured on the same val set: {error}") from error


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
    if not math.isclose(measured, counted, rel_tol=0, abs_tol=SAME):
        raise RunError(f"{run.name} was measured with bbox_mAP {measured:.4f}, but its predictions.json and {val.ann_file} give "
                       f"{counted:.4f}: one of them was changed since. Restore it, or train again")
    return samples


def in_sentences(found: Sequence[Difference], best: str) -> list[str]:
    """The pairs that are settled, then the undetermined ones with the best setting in bbox_mAP and bbox_mAP_s, then how many are left.

    best: the name of the setting with the highest mean bbox_mAP.
    """
    settled = [each for each in found if each.has_winner or (each.seeds == 1 and each.excludes_zero)]
    open_pairs = [each for each in found if each not in settled]
    named = [each for each in open_pairs if each.figure in SPOKEN and best in (each.higher, each.lower)]
    sentences = [as_text(f"{each.words()}.") for each in (*settled, *named)]
    rest = [each for each in open_pairs if each not in named]
    if rest:
        figures = ", ".join(dict.fromkeys(each.figure for each in rest))
        several = f"The other {len(rest)} comparisons ({figures}) are" if len(rest) > 1 else f"The other comparison ({figures}) is"
        sentences.append(f"{several} undetermined.")
    return sentences


def _setting(group: Sequence[tuple[int, Run]]) -> Setting:
    numbers = [number for number, _ in group]
    parameters = [run.record["parameters"] for _, run in group]
    by_seed = {each["seed"]: run for each, (_, run) in zip(parameters, group, strict=True)}
    return Setting(f"{parameters[0]['backbone']} (Exp {in_ranges(numbers)})", by_seed)


def _all_but_the_seed(run: Run) -> str:
    alike = {aspect: value for aspect, value in aspects(run.record).items() if aspect != "seed"}
    return json.dumps([run.record["parameters"]["backbone"], alike], sort_keys=True, default=str)
