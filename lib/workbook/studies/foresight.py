"""What is known of a verdict before anything trains: that a claim will be confounded, or can only stay open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbook.data.catalog import find_dataset
from workbook.data.reading import is_crowd
from workbook.evaluation.bootstrap import FEWEST_IMAGES
from workbook.evaluation.comparison import FEWEST_SEEDS
from workbook.evaluation.sizes import in_size
from workbook.studies.claim import Claim
from workbook.studies.settings import confounds_of, pairs_of, setting_key
from workbook.training.parameters import Parameters
from workbook.words import counted


@dataclass(frozen=True)
class Planned:
    """A run that a study asks for, and what its run.json says or, as far as that is known, will say."""

    parameters: Parameters
    record: Mapping[str, Any]


@dataclass(frozen=True)
class PlannedSetting:
    """Runs that differ in nothing but the seed."""

    runs: tuple[Planned, ...]

    @property
    def parameters(self) -> Parameters:
        """Of its first run."""
        return self.runs[0].parameters

    @property
    def records(self) -> tuple[Mapping[str, Any], ...]:
        """run.json of each."""
        return tuple(run.record for run in self.runs)


Pair = tuple[PlannedSetting, PlannedSetting]


def foreseen(claims: Sequence[Claim], planned: Iterable[Planned]) -> list[str]:
    """A line for every claim of which it is known that it will be confounded, or can only stay open, whatever the trainings find."""
    groups: dict[tuple[str, ...], list[Planned]] = {}
    for run in planned:
        groups.setdefault(setting_key(run.parameters), []).append(run)
    settings = [PlannedSetting(tuple(runs)) for runs in groups.values()]
    lines = []
    for claim in claims:
        pairs = pairs_of(claim, settings)
        reasons = [*_confounded(claim, pairs), *_open(claim, pairs)]
        lines += [f"claim '{claim.text}' {'; and even without that it '.join(reasons)}"] if reasons else []
    return lines


def _confounded(claim: Claim, pairs: Sequence[Pair]) -> list[str]:
    others = [*confounds_of(claim, pairs), *_several_datasets(pairs)]
    return [f"will be confounded, its two sides differ in more than it is about ({'; '.join(others)})"] if others else []


def _several_datasets(pairs: Sequence[Pair]) -> list[str]:
    names = dict.fromkeys(setting.parameters.dataset for pair in pairs for setting in pair)
    return [f"dataset: {' and '.join(names)}, whose images cannot be paired: make a study of each"] if len(names) > 1 else []


def _open(claim: Claim, pairs: Sequence[Pair]) -> list[str]:
    settings = [setting for pair in pairs for setting in pair]
    if not settings:
        return [f"can only stay open: {claim.left.words} and {claim.right.words} are the same runs here"]
    fewest = min(settings, key=lambda setting: len(setting.runs))
    images = min(_images(claim, dataset) for dataset in {setting.parameters.dataset for setting in settings})
    reasons = []
    if len(fewest.runs) < FEWEST_SEEDS:
        few = f"{counted(len(fewest.runs), 'seed')} of {_side(claim, fewest)}"
        reasons.append(f"{few}, and a verdict needs {FEWEST_SEEDS} of each setting: give seed more values")
    if images < FEWEST_IMAGES:
        reasons.append(f"{claim.figure} rests on {counted(images, 'image')} of val, and an interval needs {FEWEST_IMAGES}")
    return [f"can only stay open: {'; '.join(reasons)}"] if reasons else []


def _side(claim: Claim, setting: PlannedSetting) -> str:
    return (claim.left if claim.left.selects(setting.parameters) else claim.right).words


def _images(claim: Claim, dataset: str) -> int:
    """How many val images hold an object that the claim's figure counts."""
    objects = [a for a in find_dataset(dataset).val["annotations"] if not is_crowd(a)]
    counts = in_size([a["area"] for a in objects], claim.size)
    return len({a["image_id"] for a, is_counted in zip(objects, counts, strict=True) if is_counted})
