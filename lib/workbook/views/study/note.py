"""The note of a study, as a person would write one: hypothesis, method, result, cause, references."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from workbook.models.backbones import find_backbone
from workbook.models.recipes import find_recipe
from workbook.runs.folder import Run
from workbook.runs.listing import open_run
from workbook.runs.rows import FIGURES
from workbook.studies.causes import Cause
from workbook.studies.settings import shared
from workbook.studies.store import SavedStudy
from workbook.studies.verdicts import CONFOUNDED, Verdict
from workbook.views.compare.reported import with_reported
from workbook.views.compare.tables import as_text, comparison, rounded

SHOWN = ("Exp num", "Backbone", "Detector", "Epoch", "Best Epoch", "initial lr", "Optimizer", "Image size", "seed",
         *(f"val/{figure}" for figure in FIGURES[:6]), "status")


def note(study: SavedStudy) -> str:
    """Markdown. Reads the records of the study's runs."""
    runs = [open_run(name) for name in study.runs]
    parts = [
        f"# {as_text(study.name)}: {as_text(study.question or 'no question is written down')}",
        "## Hypothesis", as_text(study.hypothesis) or "None is written down.",
        "## Method", method(study, runs),
        "## Result", result(study, runs),
        "## Cause", cause(study),
        "## References", _listed(references(study, runs)),
    ]
    return "\n\n".join(parts)


def method(study: SavedStudy, runs: Sequence[Run]) -> str:
    """What varies, what is the same in every run, and how the claims are tested."""
    varies = "; ".join(f"{as_text(name)} {', '.join(map(as_text, values))}" for name, values in study.varies.items()) or "nothing"
    options = ", ".join(f"{as_text(name)}={as_text(value)}" for name, value in study.options.items())
    lines = [f"{len(runs)} trainings on {', '.join(map(as_text, study.datasets))}. What varies: {varies}."]
    if options:
        lines.append(f"Given on the command line, in place of the file's own values: {options}.")
    lines += [f"Not finished: {as_text(name)} ({as_text(why)})." for name, why in study.unfinished.items()]
    same = "; ".join(f"{as_text(aspect)} {as_text(value)}" for aspect, value in shared(runs).items())
    if same:
        lines.append(f"The same in every run, from its run.json: {same}.")
    lines.append("A difference has an interval for the chance of images and of seeds together. All claims are corrected together, so "
                 "that of all such pages at most 5% hold a wrong verdict or cause. What no claim asks is not concluded.")
    return "\n\n".join(lines)


def result(study: SavedStudy, runs: Sequence[Run]) -> str:
    """The verdicts in words and as a table, and the figures of every run."""
    lines = [f"- **{as_text(verdict.claim)}**: {as_text(verdict.words)}." for verdict in study.verdicts]
    parts = ["\n".join(lines) or "The study claims nothing: its runs are shown, and nothing is concluded."]
    if study.verdicts:
        parts.append(_markdown(verdict_table(study.verdicts)))
    if runs:
        parts.append("Figures of val at the best epoch, one row a run:")
        parts.append(_markdown(_shown(runs_table(study))))
    return "\n\n".join(parts)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of the note; remedies where a run has any."""
    columns = [*SHOWN[:-1], "remedies", SHOWN[-1]] if table["remedies"].notna().any() else [*SHOWN]
    return rounded(table)[columns]


def runs_table(study: SavedStudy) -> pd.DataFrame:
    """The comparison of the study's runs, with the reported rows of its data sets."""
    return with_reported(comparison([open_run(name) for name in study.runs]), study.datasets)


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row a claim: its verdict, the difference with its corrected interval, and what it rests on."""
    return pd.DataFrame([
        {
            "claim": verdict.claim, "verdict": verdict.verdict, "difference": _signed(verdict.value), "from": _signed(verdict.low),
            "to": _signed(verdict.high), "seeds": str(verdict.seeds), "images": str(verdict.images),
        }
        for verdict in verdicts
    ])


def cause(study: SavedStudy) -> str:
    """Which stage's cost differs between the two sides of each claim."""
    blocks = []
    for verdict in study.verdicts:
        of_claim = [one for one in study.causes if one.claim == verdict.claim]
        if verdict.verdict == CONFOUNDED:
            blocks.append(f"**{as_text(verdict.claim)}**: not asked, since the two sides differ in more than the claim is about.")
        elif of_claim:
            blocks.append(f"**{as_text(verdict.claim)}**: {_cause_words(of_claim)}\n\n{_markdown(cause_table(of_claim))}")
    blocks += [as_text(why) for why in study.why_no_causes]
    return "\n\n".join(blocks) or "No claim could be compared, so there is no cause to look for."


def cause_table(causes: Sequence[Cause]) -> pd.DataFrame:
    """One row a stage: how much more it costs the left side than the right, with its corrected interval."""
    return pd.DataFrame([
        {"stage": one.stage, f"cost of the left less that of the right ({one.metric}, {one.size} objects)": _signed(one.value),
         "from": _signed(one.low), "to": _signed(one.high), "differs": "yes" if one.differs else "open"}
        for one in sorted(causes, key=lambda one: -abs(one.value))
    ])


def references(study: SavedStudy, runs: Sequence[Run]) -> list[str]:
    """The person's own, then those of the backbones and recipes of the runs, each once."""
    asked = [run.record["parameters"] for run in runs]
    known = [find_backbone(parameters["backbone"]).source for parameters in asked]
    known += [find_recipe(parameters["recipe"]).source for parameters in asked]
    return list(dict.fromkeys(filter(None, (*study.references, *known))))


def _cause_words(causes: Sequence[Cause]) -> str:
    named = [one for one in sorted(causes, key=lambda one: -abs(one.value)) if one.differs]
    if not named:
        return "no stage's cost is shown to differ; every interval holds 0, or there are too few seeds or images."
    words = [f"{one.stage} costs the {'left' if one.value > 0 else 'right'} side {abs(one.value):.3f} {one.metric} more" for one in named]
    return f"{'; '.join(words)}. The other stages are open."


def _markdown(table: pd.DataFrame) -> str:
    cells = table.map(lambda cell: as_text(cell).replace("|", "\\|"))
    return str(cells.to_markdown(index=False, disable_numparse=True))


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {as_text(line)}" for line in lines) or "None."
