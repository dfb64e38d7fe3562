"""How sure each figure of the comparison is: an interval on every AP, and the paired differences against the best setting.

A reported row has none: an interval is counted from detections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from workbook.errors import RunError
from workbook.evaluation.bootstrap import Interval
from workbook.evaluation.comparison import FIGURES, Difference
from workbook.runs.folder import Run
from workbook.runs.listing import by_start
from workbook.runs.rows import numbers_of
from workbook.runs.samples import samples_of
from workbook.views.compare.winners import differences_of, settings_of

INTERVALS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")


def interval_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a run, a cell an AP: `0.231 (0.180 to 0.290)`, with a question mark where the interval is undetermined.

    95% of images drawn again; it says nothing of other seeds. A run without detections says why it has no interval.
    """
    truths: dict[tuple[str, ...], dict[str, Any]] = {}  # each is parsed once
    rows = []
    ordered = by_start(runs)
    for number, run in zip(numbers_of(ordered), ordered, strict=True):
        parameters = run.record["parameters"]
        row = {"Exp num": str(number), "Backbone": parameters["backbone"], "seed": str(parameters.get("seed", ""))}
        rows.append({**row, **_cells(run, truths)})
    return pd.DataFrame(rows, columns=["Exp num", "Backbone", "seed", *INTERVALS, "why not"]).fillna("")


def differences_from_the_best(found: Sequence[Difference], best: str) -> pd.DataFrame:
    """A row a setting, a cell a figure: how far it lies from the best one in bbox_mAP, with the interval that is corrected for the page.

    found: of every pair. best: the name of the setting with the highest mean bbox_mAP.
    """
    rows: dict[str, dict[str, str]] = {}
    for each in found:
        if best not in (each.higher, each.lower):
            continue
        other = each.lower if best == each.higher else each.higher
        sign = -1 if best == each.higher else 1
        rows.setdefault(other, {"setting": other})[each.figure] = _signed(each, sign)
    return pd.DataFrame(list(rows.values()), columns=["setting", *FIGURES]).fillna("")


def compared(runs: Sequence[Run]) -> tuple[list[Difference], str]:
    """The difference of every pair of settings, and the name of the best one; nothing and "" where they cannot be compared."""
    settings = settings_of(runs)
    if len(settings) < 2:
        return [], ""
    try:
        return differences_of(settings), settings[0].name
    except RunError:  # the summary says why
        return [], ""


def for_reading(table: pd.DataFrame) -> Styler:
    """The table for a notebook; names are text."""
    props = "text-align: left; vertical-align: top; min-width: 5em; font-size: 90%"
    return table.style.format(escape="html").hide(axis="index").set_table_styles([{"selector": "td, th", "props": props}])


def _cells(run: Run, truths: dict[tuple[str, ...], dict[str, Any]]) -> dict[str, str]:
    if run.status != "done":
        return {"why not": f"the run is {run.status}"}
    try:
        figures = samples_of(run, truths).figures
    except RunError as error:
        return {"why not": str(error)}
    intervals = {name: figures[name].interval() for name in INTERVALS}
    rare = next((interval.rests_on for interval in intervals.values() if interval.rests_on), "")
    return {**{name: _words(interval) for name, interval in intervals.items()}, "why not": f"undetermined: {rare}" if rare else ""}


def _words(interval: Interval) -> str:
    if interval.value is None:
        return "no objects"
    if interval.is_few:
        return f"{interval.value:.3f} (too few images)"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f}){'?' if interval.undetermined else ''}"


def _signed(difference: Difference, sign: int) -> str:
    """`-0.020 (-0.050 to +0.010)?`: the question mark stands where the sign is open."""
    value = sign * difference.value
    if difference.low is None or difference.high is None:
        return f"{value:+.3f} (too few images)"
    low, high = sorted((sign * difference.low, sign * difference.high))
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f}){'' if difference.excludes_zero else '?'}"
