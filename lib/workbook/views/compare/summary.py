"""What may be concluded from several runs: what else than the backbone differs, how far the seed moves a figure, and on how many
objects the figures rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from workbook.runs.folder import Run
from workbook.views.compare.tables import ABSENT, as_text, by_start, comparison, value_at

# what can decide a result besides the backbone → where run.json has it
ASPECTS = {
    "dataset": "parameters.dataset", "data contents": "data.hash", "detector": "parameters.detector",
    "recipe": "parameters.recipe", "optimizer": "optimizer.type", "initial lr": "optimizer.lr",
    "optimizer settings": "optimizer.other", "lr schedule": "schedule", "epochs": "parameters.epochs",
    "batch size": "parameters.batch_size", "image size": "parameters.image_size",
    "pretraining": "parameters.pretrained", "start weights": "parameters.load_from",
    "overrides": "parameters.overrides", "precision": "settings.precision", "seed": "parameters.seed",
}
SHOWN = 5  # values of one of them that a sentence names; fifty runs of fifty seeds would fill the page
OVER_SEEDS = ("bbox_mAP", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")


def differences(runs: Sequence[Run], but: str = "") -> list[str]:
    """Sentences that name what differs between the runs besides the backbone, and besides `but`; empty when nothing does.

    Numbers in brackets are experiment numbers. A run that broke off before it wrote a value is not counted for it.
    """
    ordered = by_start(runs)
    found = []
    for aspect, holders in _differing([run.record for run in ordered]).items():
        if aspect == but:
            continue
        said = ", ".join(f"{words} (Exp {_ranges(numbers)})" for words, numbers in list(holders.items())[:SHOWN])
        said += f" and {len(holders) - SHOWN} more" if len(holders) > SHOWN else ""
        found.append(f"The {aspect} {'differ' if aspect.endswith('s') else 'differs'}: {said}.")
    for row, run in zip(comparison(ordered).to_dict("records"), ordered, strict=True):
        if row["status"] != "done":
            why = str(run.record.get("error") or "").strip().partition("\n")[0]
            found.append(f"Exp {row['Exp num']} is not finished: {row['status']} after {row['Epoch']} of "
                         f"{run.record['parameters']['epochs']} epochs" + (f" ({as_text(why)})" if why else "") + ".")
    return found


def over_seeds(runs: Sequence[Run]) -> pd.DataFrame:
    """The val figures of runs that were repeated with other seeds: a row a run, with columns run, seed and those of OVER_SEEDS.

    `run` is the backbone with its experiment numbers; the best mean bbox_mAP comes first. Empty unless all runs are done and each
    setting was trained with the same seeds, two or more.
    """
    ordered = by_start(runs)
    table, repeats = comparison(ordered), dict[str, list[int]]()
    backbones = [run.record["parameters"]["backbone"] for run in ordered]
    for number, run in enumerate(ordered):
        alike = {aspect: value_at(run.record, place) for aspect, place in ASPECTS.items() if aspect != "seed"}
        repeats.setdefault(json.dumps([backbones[number], alike], sort_keys=True, default=str), []).append(number)
    names = {number: f"{backbones[numbers[0]]} (Exp {_ranges([n + 1 for n in numbers])})"
             for numbers in repeats.values() for number in numbers}
    figures = table[["seed", *(f"val/{key}" for key in OVER_SEEDS)]].rename(columns=lambda column: column.removeprefix("val/"))
    figures.insert(0, "run", [names[number] for number in range(len(ordered))])
    seeds = [sorted(ordered[number].record["parameters"]["seed"] for number in numbers) for numbers in repeats.values()]
    whole = (table["status"] == "done").all() and figures["bbox_mAP"].notna().all()  # without an object in val there is no mAP
    if not whole or any(one != seeds[0] or not 1 < len(one) == len(set(one)) for one in seeds):
        return figures.iloc[:0]
    means = figures.groupby("run")["bbox_mAP"].transform("mean")
    return figures.assign(mean=means).sort_values(["mean", "run", "seed"], ascending=[False, True, True]).drop(columns="mean")


def remarks(runs: Sequence[Run]) -> str:
    """Markdown: what may be concluded from these runs. What differs, how far the seed moves it, and on how many objects it rests."""
    repeated = over_seeds(runs)
    found = differences(runs, but="seed" if len(repeated) else "")
    if len(runs) < 2:
        lines = ["**One run**: nothing to compare it with yet.", *(f"- {sentence}" for sentence in found)]
    elif found:
        lines = ["**These runs differ in more than the backbone, so no backbone is named the better one.**",
                 *(f"- {sentence}" for sentence in found)]
    elif len(repeated):
        what = "the backbone and the seed" if repeated["run"].nunique() > 1 else "the seed"
        lines = [f"**Nothing but {what} differs between these runs.** All of it is on one val set: "
                 "other images may turn a small difference.", *(f"- {sentence}" for sentence in _seeds_in_words(repeated))]
    else:
        lines = ["**Nothing but the backbone differs between these runs.** Still, each is one seed on one val set: "
                 "a small difference of mAP may be chance."]
    records = [run.record for run in by_start(runs)]
    lines += [f"- {sentence}" for sentence in dict.fromkeys(_val_size(record) for record in records) if sentence]
    if len({json.dumps(record.get("hardware"), sort_keys=True) for record in records if record.get("hardware")}) > 1:
        lines.append("- The hardware differs: do not compare images/s and peak memory.")
    if len(repeated):
        lines += ["", _seeds_as_table(repeated)]
    return "\n".join([lines[0], "", *lines[1:]])


def _differing(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Aspect → its value in words → the experiments that have it, for the aspects with several values."""
    found = {}
    for aspect, place in ASPECTS.items():
        holders: dict[str, list[int]] = {}
        for number, record in enumerate(records, start=1):
            if (value := value_at(record, place)) is not ABSENT:
                holders.setdefault(as_text(_words(aspect, value)), []).append(number)
        if len(holders) > 1:
            found[aspect] = holders
    return found


def _seeds_in_words(repeated: pd.DataFrame) -> list[str]:
    """The best mean bbox_mAP against each other one, seed by seed."""
    by_seed = repeated.pivot(index="seed", columns="run", values="bbox_mAP")
    best, *others = repeated["run"].unique()
    found = []
    for other in others:
        ahead = by_seed[best] - by_seed[other]
        by = f"by {ahead.mean():+.3f} bbox_mAP on average ({ahead.min():+.3f} to {ahead.max():+.3f})"
        verdict = ": the seed decides which of the two is ahead" if (ahead < 0).any() else ""
        found.append(f"{as_text(best)} is ahead of {as_text(other)} with {(ahead > 0).sum()} of {len(ahead)} seeds, {by}{verdict}."
                     if ahead.mean() > 0 else f"{as_text(best)} and {as_text(other)} have the same mean bbox_mAP.")
    return found


def _seeds_as_table(repeated: pd.DataFrame) -> str:
    """Markdown: the mean over the seeds of each figure, and the standard deviation between them (n - 1)."""
    title = f"mean ± s.d. of {repeated['seed'].nunique()} seeds"
    rows = [{title: as_text(name).replace("|", "\\|"),
             **{key: "" if values.isna().any() else f"{values.mean():.3f} ± {values.std():.3f}"
                for key, values in group[list(OVER_SEEDS)].items()}}
            for name, group in repeated.groupby("run", sort=False)]
    return str(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


def _words(aspect: str, value: Any) -> str:
    """A setting as a person writes it."""
    if aspect == "data contents":
        return str(value)[:8]
    if aspect == "image size":
        return "x".join(map(str, value))
    if value in (None, "", {}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True).replace('"', "")


def _ranges(numbers: Sequence[int]) -> str:
    """[1, 2, 3, 7] → '1-3, 7'."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups)


def _val_size(record: Mapping[str, Any]) -> str:
    """How many objects the val figures of a run rest on; '' before its data was read."""
    data = record.get("data")
    if not data:
        return ""
    small = data["val_small"]
    rests = (f"bbox_mAP_s rests on these {small}; one of them more or less found moves recall by {1 / small:.3f}"
             if small else "with no small one, bbox_mAP_s is blank")
    return (f"Val of {as_text(data['name'])} ({str(data['hash'])[:8]}) has {data['val_images']} images with "
            f"{data['val_objects']} objects: {small} small, {data['val_medium']} medium, {data['val_large']} large; "
            f"{rests}.")
