"""What differs between runs besides the backbone, in sentences: `runs.aspects` knows what can decide a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbook.runs.aspects import aspect_words, aspects
from workbook.runs.folder import Run
from workbook.runs.listing import by_start
from workbook.runs.rows import numbers_of
from workbook.views.compare.tables import as_text, comparison

SHOWN = 5  # values of one of them that a sentence names; fifty runs of fifty seeds would fill the page


def differences(runs: Sequence[Run], but: str = "") -> list[str]:
    """Sentences that name what differs between the runs besides the backbone, and besides `but`; empty when nothing does.

    A warning of a run and a run that is not finished are differences too. Numbers in brackets are experiment numbers. A run that broke
    off before it wrote a value is not counted for it.
    """
    ordered = by_start(runs)
    numbers = numbers_of(ordered)
    records = [run.record for run in ordered]
    found = [_sentence(aspect, experiments) for aspect, experiments in _differing(records, numbers).items() if aspect != but]
    return found + _warnings(records, numbers) + _unfinished(ordered)


def in_ranges(numbers: Sequence[int]) -> str:
    """[1, 2, 3, 7] → '1-3, 7'."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)


def _differing(records: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> dict[str, dict[str, list[int]]]:
    """Aspect → its value in words → the experiments that have it, for the aspects with several values."""
    experiments: dict[str, dict[str, list[int]]] = {}
    for number, record in zip(numbers, records, strict=True):
        for aspect, value in aspects(record).items():
            experiments.setdefault(aspect, {}).setdefault(as_text(aspect_words(aspect, value)), []).append(number)
    return {aspect: by_value for aspect, by_value in experiments.items() if len(by_value) > 1}


def _sentence(aspect: str, experiments: Mapping[str, list[int]]) -> str:
    values = ", ".join(f"{words} (Exp {in_ranges(numbers)})" for words, numbers in list(experiments.items())[:SHOWN])
    more = f" and {len(experiments) - SHOWN} more" if len(experiments) > SHOWN else ""
    verb = "differ" if aspect.partition(" of ")[0].endswith("s") else "differs"
    return f"The {as_text(aspect)} {verb}: {values}{more}."


def _warnings(records: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> list[str]:
    """What the runs warn of themselves, such as a change of the machine in mid-run: a sentence a warning."""
    experiments: dict[str, list[int]] = {}
    for number, record in zip(numbers, records, strict=True):
        for warning in record.get("warnings") or []:
            experiments.setdefault(as_text(warning).rstrip("."), []).append(number)
    return [f"Exp {in_ranges(those)} warns: {warning}." for warning, those in experiments.items()]


def _unfinished(ordered: Sequence[Run]) -> list[str]:
    found = []
    for row, run in zip(comparison(ordered).to_dict("records"), ordered, strict=True):
        if row["status"] == "done":
            continue
        why = str(run.record.get("error") or "").strip().partition("\n")[0]
        reason = f" ({as_text(why)})" if why else ""
        epochs = run.record.get("epochs", run.record["parameters"]["epochs"])
        found.append(f"Exp {row['Exp num']} is not finished: {row['status']} after {row['Epoch']} of {epochs} epochs{reason}.")
    return found
