"""What may be concluded from several runs: what else than the backbone differs, which backbone is better, how far the seed moves a
figure, and on how many objects the figures rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbook.errors import RunError
from workbook.evaluation.comparison import FIGURES
from workbook.runs.folder import Run
from workbook.runs.listing import by_start, unreadable
from workbook.views.compare.differences import differences
from workbook.views.compare.tables import as_text
from workbook.views.compare.winners import Setting, differences_of, in_sentences, settings_of


def summarize(runs: Sequence[Run]) -> str:
    """Markdown: what may be concluded from these runs. Reads their records, their detections and the val truth.

    A backbone is called better only where nothing but the backbone (and the seed) differs, and then at most 5% of such pages name a
    wrong one (`evaluation/comparison.py`).
    """
    settings = settings_of(runs)
    is_repeated = bool(settings) and len(settings[0].runs) > 1
    found = differences(runs, but="seed" if is_repeated else "")
    records = [run.record for run in by_start(runs)]
    lines = [_headline(runs, settings, found), "", *(f"- {sentence}" for sentence in found)]
    if len(runs) > 1 and not found:
        lines += [f"- {sentence}" for sentence in _winners(settings)]
    lines += [f"- {sentence}" for sentence in dict.fromkeys(map(_val_size, records)) if sentence]
    if len({json.dumps(record.get("hardware"), sort_keys=True) for record in records if record.get("hardware")}) > 1:
        lines.append("- The hardware differs: do not compare images/s and peak memory.")
    lines += [f"- {as_text(line)}" for line in _unreadable({run.folder.parent for run in runs})]
    if is_repeated:
        lines += ["", _seeds_as_table(settings)]
    return "\n".join(lines)


def _headline(runs: Sequence[Run], settings: Sequence[Setting], found: Sequence[str]) -> str:
    if len(runs) < 2:
        return "**One run**: nothing to compare it with yet."
    if found:
        return "**These runs differ in more than the backbone, or warn of themselves, so no backbone is named the better one.**"
    if len(settings) == 1:
        return "**Nothing but the seed differs between these runs.**"
    if settings and len(settings[0].runs) > 1:
        return "**Nothing but the backbone and the seed differs between these runs.**"
    return ("**Nothing but the backbone differs between these runs.** Each is one seed: what follows is about these trainings, and no "
            "backbone is named the better one.")


def _winners(settings: Sequence[Setting]) -> list[str]:
    """Who is better, in sentences; or why none can be named."""
    if len(settings) == 1:
        return []
    if not settings:
        return ["No winner can be named: val has no objects, or the same training is there twice."]
    try:
        return in_sentences(differences_of(settings), best=settings[0].name)
    except RunError as error:
        return [f"No winner can be named: {as_text(error)}."]


def _unreadable(roots: set[Path]) -> list[str]:
    lines = map(unreadable, sorted(roots))
    return [line for line in lines if line]


def _seeds_as_table(settings: Sequence[Setting]) -> str:
    """Markdown: the mean over the seeds of each figure, and the standard deviation between them (n - 1)."""
    title = f"mean ± s.d. of {len(settings[0].runs)} seeds"
    rows = [{title: as_text(setting.name).replace("|", "\\|"), **_mean_and_deviation(setting.figures())} for setting in settings]
    return str(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


def _mean_and_deviation(figures: pd.DataFrame) -> dict[str, str]:
    cells = {}
    for key in FIGURES:
        values = figures[key]
        cells[key] = "" if values.isna().any() else f"{values.mean():.3f} ± {values.std():.3f}"
    return cells


def _val_size(record: Mapping[str, Any]) -> str:
    """How many objects the val figures of a run rest on; '' before its data was read."""
    data = record.get("data")
    if not data:
        return ""
    small = data["val_small"]
    rests = "with no small one, bbox_mAP_s is blank"
    if small:
        rests = f"bbox_mAP_s rests on these {small}; one of them more or less found moves recall by {1 / small:.3f}"
    return (f"Val of {as_text(data['name'])} ({str(data['hash'])[:8]}) has {data['val_images']} images with "
            f"{data['val_objects']} objects: {small} small, {data['val_medium']} medium, {data['val_large']} large; "
            f"{rests}.")
