"""What differs between runs besides the backbone: all that their `run.json` knows and that can decide a figure.

The machine is no such thing. Another GPU or CPU, and the instruction set that torch finds on it (`settings.cpu_capability`), move the
last bits of a figure, as another order of a sum does, and its speed: the summary says that speeds are not to be compared. What a
machine changes more than that is recorded by itself: the precision as it became, and the number of devices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workbook.runs.folder import Run, with_later_parameters
from workbook.runs.listing import by_start
from workbook.views.compare.tables import ABSENT, as_text, comparison, numbers_of, value_at

# what can decide a result besides the backbone → where run.json has it
ASPECTS = {
    "dataset": "parameters.dataset", "data contents": "data.hash", "detector": "parameters.detector",
    "recipe": "parameters.recipe", "optimizer": "optimizer.type", "initial lr": "optimizer.lr",
    "optimizer settings": "optimizer.other", "lr schedule": "schedule", "epochs": "parameters.epochs",
    "batch size": "parameters.batch_size", "devices": "parameters.devices", "image size": "parameters.image_size",
    "pretraining": "parameters.pretrained", "start weights": "parameters.load_from",
    "overrides": "parameters.overrides", "remedies": "parameters.remedies", "precision": "settings.precision", "seed": "parameters.seed",
    "use of images without objects": "parameters.empty_images", "git commit": "git_commit",
}
CONTENTS = ("data contents", "start weights' contents")  # hashes, of which eight digits are shown
OF_THE_MACHINE = ("cpu_capability",)
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


def aspects(record: Mapping[str, Any]) -> dict[str, Any]:
    """Aspect → its value, of all that can decide a result besides the backbone; what the run has not written is not there."""
    record = with_later_parameters(record)
    values = {aspect: value_at(record, path) for aspect, path in ASPECTS.items()}
    values |= {f"version of {package}": version for package, version in record.get("versions", {}).items()}
    values |= {
        f"torch setting {key}": value for key, value in record.get("settings", {}).items() if key not in ("precision", *OF_THE_MACHINE)
    }
    values |= _weight_contents(record)
    return {aspect: value for aspect, value in values.items() if value is not ABSENT}


def in_ranges(numbers: Sequence[int]) -> str:
    """[1, 2, 3, 7] → '1-3, 7'."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)


def _weight_contents(record: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of the weight files. Those of the backbone are compared between runs of the same backbone alone."""
    parameters = record.get("parameters", {})
    of_backbone = value_at(record, "model.weights")
    contents = {}
    for path, digest in record.get("files", {}).items():
        if path == of_backbone and path != parameters.get("load_from"):
            contents[f"contents of the weights of {parameters.get('backbone')}"] = digest
        else:
            contents["start weights' contents"] = digest
    return contents


def _differing(records: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> dict[str, dict[str, list[int]]]:
    """Aspect → its value in words → the experiments that have it, for the aspects with several values."""
    experiments: dict[str, dict[str, list[int]]] = {}
    for number, record in zip(numbers, records, strict=True):
        for aspect, value in aspects(record).items():
            experiments.setdefault(aspect, {}).setdefault(as_text(_words(aspect, value)), []).append(number)
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


def _words(aspect: str, value: Any) -> str:
    """A setting as a person writes it."""
    if aspect.startswith("contents") or aspect in CONTENTS:
        return str(value)[:8]
    if aspect == "image size":
        return "x".join(map(str, value))
    if value in (None, "", {}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True).replace('"', "")
