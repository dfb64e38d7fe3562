"""`workbook study`: trains what a study lacks, diagnoses, judges its claims, and writes its folder and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workbook.errors import WorkbookError
from workbook.notebooks import execute_notebook
from workbook.runs.folder import Run
from workbook.studies.claim import value_words
from workbook.studies.foresight import Planned, foreseen
from workbook.studies.grids import Value
from workbook.studies.settings import StudyRun, varying
from workbook.studies.store import SavedStudy, require_own_folder, save, saved_from, write_note, writing
from workbook.studies.study import Study, StudyError, read_study
from workbook.sweep.command import INTERRUPTED, split_all, train_all
from workbook.sweep.plan import Entry
from workbook.terminal import open_console

if TYPE_CHECKING:  # it loads torch, which a dry run does not need
    from workbook.diagnosis.store import SavedDiagnosis


def run_study(file: Path, given: Mapping[str, Value], slots: int | None, on: str, address: str, dry_run: bool) -> int:
    """The exit code: 0, 1 when a run failed or was stopped from outside (the claims are judged from the others), 130 when interrupted."""
    options = split_all(given)
    study = read_study(file, options)
    require_own_folder(study)
    console = open_console()
    _print_claims(study, console)
    plan, code = train_all(study.grids, slots, on, address, dry_run, lambda plan: foreseen(study.claims, map(_planned, plan)))
    if dry_run or code == INTERRUPTED:
        return code
    with writing(study.name) as folder:
        console.print("Diagnosing, and judging the claims.")
        saved = find_out(study, plan, {name: ",".join(map(value_words, values)) for name, values in options.items()})
        save(saved)
        _write_note(saved, folder, console)
        page = execute_notebook("7_study", folder / "7_study.ipynb", {"study": study.name})
    _print_verdicts(saved, console)
    console.print(f"note: {folder / 'note.md'}", f"page: {page}", sep="\n", soft_wrap=True, markup=False)
    return code


def find_out(study: Study, plan: Sequence[Entry], options: Mapping[str, str]) -> SavedStudy:
    """Judge the claims from the finished runs of a plan, diagnose these, look for causes. Raises StudyError without a finished run."""
    from workbook.studies.causes import causes
    from workbook.studies.verdicts import judge

    runs = [StudyRun(entry.parameters, entry.run) for entry in plan]
    done = [entry.run for entry in plan if entry.state == "done"]
    if not done:
        raise StudyError(f"no run of study {study.name} has finished, so there is nothing to judge: see the reasons above, and call again")
    questions, verdicts = judge(study.claims, [one for one in runs if one.run in done])
    names = dict.fromkeys(run.name for question in questions for pair in question.pairs for setting in pair for run in setting.runs)
    diagnoses, why_not = _diagnose([one.run for one in runs if one.run.name in names])
    return saved_from(
        study, options=options, datasets=tuple(dict.fromkeys(one.parameters.dataset for one in runs)), varies=varying(runs),
        runs=tuple(run.name for run in done), causes=tuple(causes(questions, diagnoses)), why_no_causes=tuple(why_not),
        unfinished={entry.run.name: entry.progress.reason.partition("\n")[0] or entry.state for entry in plan if entry.state != "done"},
        verdicts=tuple(verdicts),
    )


def _planned(entry: Entry) -> Planned:
    """A run that is done, or that another process trains, is what its run.json says; of the others that is foreseen."""
    if entry.state in ("done", "busy"):
        return Planned(entry.parameters, entry.run.record)
    known = entry.progress.known
    assert known is not None, "the plan is checked"
    warnings = [*known.warnings, *_changed(entry, known.record)]
    return Planned(entry.parameters, {"parameters": entry.parameters.model_dump(mode="json"), **known.record, "warnings": warnings})


def _changed(entry: Entry, record: Mapping[str, Any]) -> list[str]:
    """What a run that goes on will have as a warning: that its first part was made with something else."""
    if entry.state != "to resume":
        return []
    from workbook.training.environment import changes

    before = {aspect: entry.run.record.get(aspect) for aspect in ("git_commit", "versions", "files")}
    found = changes(before, record)
    return [f"taken up where something else was: {'; '.join(map(str, found))}"] if found else []


def _diagnose(runs: Sequence[Run]) -> tuple[dict[str, SavedDiagnosis], list[str]]:
    """The diagnosis of each run by name, and for those that cannot be diagnosed, why."""
    from workbook.diagnosis.store import load_or_diagnose

    found = {}
    why_not = []
    for run in runs:
        try:
            found[run.name] = load_or_diagnose(run)
        except (WorkbookError, ValueError) as error:
            why_not.append(f"{run.name} could not be diagnosed, so its claims have no cause: {error}")
    return found, why_not


def _write_note(saved: SavedStudy, folder: Path, console: Console) -> None:
    from workbook.views.study.note import note

    if copy := write_note(folder, note(saved)):
        console.print(f"note.md was changed above its last line: the old one is {copy}", soft_wrap=True, markup=False, style="yellow")


def _print_claims(study: Study, console: Console) -> None:
    if study.question:
        console.print(study.question, markup=False)
    for claim in study.claims:
        console.print(f"  claim: {claim.text}", markup=False)


def _print_verdicts(saved: SavedStudy, console: Console) -> None:
    table = Table("claim", "verdict", "because", box=None)
    for verdict in saved.verdicts:
        table.add_row(escape(verdict.claim), verdict.verdict, escape(verdict.reason))
    console.print(table)
