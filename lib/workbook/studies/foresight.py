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
from workbook.studies.settings import differing, pairs_of, setting_key
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


def foreseen(claims: Sequence[Claim], planned: Iterable[Planned]) -> list[str]:
    """A line for every claim that will be confounded or can only stay open, whatever the trainings find, and what to change."""
    groups: dict[tuple[str, ...], list[Planned]] = {}
    for run in planned:
        groups.setdefault(setting_key(run.parameters), []).append(run)
    settings = [PlannedSetting(tuple(runs)) for runs in groups.values()]
    lines = []
    for claim in claims:
        pairs = pairs_of(claim, settings)
        reasons = [*_confounded(claim, pairs), *_open(claim, [setting for pair in pairs for setting in pair])]
        lines += [f"claim '{claim.text}' {'; and even without that it '.join(reasons)}"] if reasons else []
    return lines


def _confounded(claim: Claim, pairs: Sequence[tuple[PlannedSetting, PlannedSetting]]) -> list[str]:
    others = dict.fromkeys(
        words for left, right in pairs for words in differing(claim, [run.record for run in (*left.runs, *right.runs)]))
    return [f"will be confounded, its two sides differ in more than it is about ({'; '.join(others)})"] if others else []


def _open(claim: Claim, settings: Sequence[PlannedSetting]) -> list[str]:
    fewest = min(settings, key=lambda setting: len(setting.runs))
    images = _images(claim, fewest.parameters.dataset)
    reasons = []
    if len(fewest.runs) < FEWEST_SEEDS:
        reasons.append(f"{counted(len(fewest.runs), 'seed')} of {_side(claim, fewest)}, and a verdict needs {FEWEST_SEEDS} of each setting "
                       f"(--seed {','.join(map(str, range(FEWEST_SEEDS)))})")
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
