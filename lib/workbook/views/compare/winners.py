"""Which backbone is better, from the detections of the runs: repeats with other seeds are one setting."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from workbook.errors import RunError
from workbook.evaluation.comparison import FIGURES, Difference, compare
from workbook.runs.aspects import aspects
from workbook.runs.folder import Run
from workbook.runs.listing import by_start
from workbook.runs.rows import numbers_of
from workbook.runs.samples import samples_of_all
from workbook.views.compare.differences import in_ranges
from workbook.views.compare.tables import as_text

SPOKEN = ("bbox_mAP", "bbox_mAP_s")  # of these the undetermined pairs with the best are named one by one


@dataclass(frozen=True)
class Setting:
    """All runs that differ in nothing but the seed."""

    name: str  # the backbone, with the experiment numbers
    runs: Mapping[int | None, Run]  # seed → run; None where it is not known

    def figures(self) -> pd.DataFrame:
        """The val figures of the best epoch: a row a seed (rising), a column a figure; NaN where val has no such object."""
        rows = {seed: self.runs[seed].metrics() for seed in sorted(self.runs, key=_order)}
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
    seeds = [sorted((_seed(run) for _, run in group), key=_order) for group in groups.values()]
    if any(those != seeds[0] or len(those) > len(set(those)) for those in seeds):
        return []
    settings = [_setting(group) for group in groups.values()]
    return sorted(settings, key=lambda setting: -setting.figures()["bbox_mAP"].mean())


def differences_of(settings: Sequence[Setting]) -> list[Difference]:
    """Every pair of settings in every figure, from the detections of the runs and their val truth.

    Raises RunError where one of them is missing or is not what the run was measured with.
    """
    runs = {setting.name: [setting.runs[seed] for seed in sorted(setting.runs, key=_order)] for setting in settings}
    found = iter(samples_of_all([run for its in runs.values() for run in its]))
    samples = {name: [next(found) for _ in its] for name, its in runs.items()}
    try:
        return compare(samples)
    except ValueError as error:
        raise RunError(f"the runs were not measured on the same val set: {error}") from error


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
    by_seed = {_seed(run): run for _, run in group}
    return Setting(f"{parameters[0]['backbone']} (Exp {in_ranges(numbers)})", by_seed)


def _seed(run: Run) -> int | None:
    """None where it is not known, of an adopted run."""
    seed: int | None = run.record["parameters"].get("seed")
    return seed


def _order(seed: int | None) -> tuple[bool, int]:
    return seed is None, seed or 0


def _all_but_the_seed(run: Run) -> str:
    alike = {aspect: value for aspect, value in aspects(run.record).items() if aspect != "seed"}
    return json.dumps([run.record["parameters"]["backbone"], alike], sort_keys=True, default=str)
