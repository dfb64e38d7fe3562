"""The settings of a study: runs that differ in nothing but the seed; which of them a claim compares, and what else differs there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from workbook.runs.aspects import ASPECTS, WEIGHTS_OF, aspect_words, aspects
from workbook.runs.folder import NOT_IDENTITY, Run
from workbook.studies.claim import Claim, value_words
from workbook.training.parameters import Parameters

_COUNT = re.compile(r"(?<![\w.])\d+(?!\w|\.\d)")  # 500 in "500 of 400 steps", and nothing of a version or a commit
COMPARED = tuple(name for name in Parameters.model_fields if name not in (*NOT_IDENTITY, "seed"))
# A parameter brings these with it: where it is what a claim is about, they are its consequence and no other difference. A backbone
# brings none: an optimizer that a recipe has for it alone is a second difference.
_SCHEDULE = ("optimizer", "initial lr", "optimizer settings", "lr schedule")
FOLLOWS: dict[str, tuple[str, ...]] = {
    "detector": _SCHEDULE, "recipe": _SCHEDULE, "overrides": _SCHEDULE, "remedies": _SCHEDULE, "batch_size": _SCHEDULE,
    "devices": _SCHEDULE,
    "epochs": ("lr schedule",), "load_from": ("start weights' contents",), "pretrained": ("start weights' contents",),
}


@dataclass(frozen=True)
class StudyRun:
    """A run of a study, and what was asked of it."""

    parameters: Parameters
    run: Run


@dataclass(frozen=True)
class Setting:
    """All finished runs of a study that differ in nothing but the seed."""

    parameters: Parameters  # of its first run
    runs: tuple[Run, ...]  # by rising seed

    @property
    def words(self) -> str:
        """Backbone and detector, such as `swin_t · vfnet`."""
        return f"{self.parameters.backbone} · {self.parameters.detector}"

    @property
    def records(self) -> tuple[Mapping[str, Any], ...]:
        """run.json of each."""
        return tuple(run.record for run in self.runs)


Pair = tuple[Setting, Setting]


class AnySetting(Protocol):
    """A setting, of finished runs or of planned ones."""

    @property
    def parameters(self) -> Parameters: ...

    @property
    def records(self) -> tuple[Mapping[str, Any], ...]: ...


S = TypeVar("S", bound=AnySetting)


def setting_key(parameters: Parameters) -> tuple[str, ...]:
    """The same for all runs of a setting: their parameters but the seed."""
    return tuple(str(getattr(parameters, name)) for name in COMPARED)


def settings_of(runs: Iterable[StudyRun]) -> list[Setting]:
    """The finished runs of a study by setting, in the order of the study."""
    groups: dict[tuple[str, ...], list[StudyRun]] = {}
    for one in runs:
        if one.run.folder.joinpath("run.json").is_file() and one.run.status == "done":
            groups.setdefault(setting_key(one.parameters), []).append(one)
    found = []
    for group in groups.values():
        by_seed = sorted(group, key=lambda one: one.parameters.seed)
        found.append(Setting(by_seed[0].parameters, tuple(one.run for one in by_seed)))
    return found


def pairs_of(claim: Claim, settings: Sequence[S]) -> list[tuple[S, S]]:
    """The settings that a claim compares: of all of its two sides those pairs that differ in the fewest other parameters.

    Empty where a side has no setting.
    """
    lefts = [setting for setting in settings if claim.left.selects(setting.parameters)]
    rights = [setting for setting in settings if claim.right.selects(setting.parameters)]
    pairs = [(left, right) for left in lefts for right in rights]
    counts = [len(other_parameters(claim, pair)) for pair in pairs]
    return [pair for pair, count in zip(pairs, counts, strict=True) if count == min(counts)]


def other_parameters(claim: Claim, pair: tuple[S, S]) -> list[str]:
    """The parameters in which the two settings differ besides the claimed one."""
    left, right = (setting.parameters for setting in pair)
    return [name for name in COMPARED if name != claim.parameter and getattr(left, name) != getattr(right, name)]


def confounds_of(claim: Claim, pairs: Sequence[tuple[S, S]]) -> tuple[str, ...]:
    """What else differs between the two sides of a claim, in words: parameters, and all else that `run.json` knows."""
    found: dict[str, None] = {}
    for left, right in pairs:
        found |= dict.fromkeys(_differing(claim, (*left.records, *right.records)))
    found |= dict.fromkeys(_warnings([pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    return tuple(found)


def _differing(claim: Claim, records: Iterable[Mapping[str, Any]]) -> list[str]:
    """`recipe: seed and official`, for each aspect besides the claimed one in which any two of these runs, by their run.json, differ."""
    claimed = {aspect for aspect, path in ASPECTS.items() if path in (f"parameters.{claim.parameter}", f"settings.{claim.parameter}")}
    expected = {"seed", *claimed, *FOLLOWS.get(claim.parameter, ())}
    values: dict[str, dict[str, None]] = {}
    for record in records:
        for aspect, value in aspects(record).items():
            values.setdefault(aspect, {})[aspect_words(aspect, value)] = None
    if claim.parameter == "pretrained":
        expected |= {aspect for aspect in values if aspect.startswith(WEIGHTS_OF)}
    return [f"{aspect}: {' and '.join(there)}" for aspect, there in values.items() if len(there) > 1 and aspect not in expected]


def _warnings(lefts: Sequence[AnySetting], rights: Sequence[AnySetting]) -> list[str]:
    """The warnings of one side's runs that the other's have not, such as a change of the machine in mid-run."""
    left, right = _warned(lefts), _warned(rights)
    alone = sorted({**left, **right}[kind] for kind in left.keys() ^ right.keys())
    return [f"a warning of one side alone: {warning}" for warning in alone]


def _warned(side: Sequence[AnySetting]) -> dict[str, str]:
    """The warning without its counts → the warning: a warm-up of 500 of 400 steps and one of 500 of 200 are of one kind."""
    warnings = (str(warning) for setting in side for record in setting.records for warning in record.get("warnings") or [])
    return {_COUNT.sub("#", words): words for words in (" ".join(warning.split()) for warning in warnings)}


def varying(runs: Sequence[StudyRun]) -> dict[str, list[str]]:
    """Parameter → its values, of those in which the runs of a study differ."""
    values = {name: dict.fromkeys(value_words(getattr(one.parameters, name)) for one in runs) for name in (*COMPARED, "seed")}
    return {name: list(there) for name, there in values.items() if len(there) > 1}


def shared(runs: Sequence[Run]) -> dict[str, str]:
    """Aspect → its value in words, of all that `run.json` knows and that is the same in every run."""
    by_aspect: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for run in runs:
        for aspect, value in aspects(run.record).items():
            by_aspect.setdefault(aspect, set()).add(json.dumps(aspect_words(aspect, value)))
            counts[aspect] = counts.get(aspect, 0) + 1
    return {
        aspect: json.loads(next(iter(there))) for aspect, there in by_aspect.items() if len(there) == 1 and counts[aspect] == len(runs)
    }
