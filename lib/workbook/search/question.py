"""What a search is about: a finished run, its diagnosis, its data, and every remedy that may be tried on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workbook.data.catalog import Dataset, find_dataset
from workbook.data.cuts import cut_for_search
from workbook.diagnosis.store import SavedDiagnosis, load_or_diagnose
from workbook.diagnosis.waterfall import SizeWaterfall
from workbook.errors import ParameterError, RunError
from workbook.evaluation.sizes import AREA_RANGES, FIGURE_OF, in_size
from workbook.remedies.base import Remedy
from workbook.remedies.registry import all_remedies, parse_remedies
from workbook.runs.folder import Run, require_trained_here
from workbook.search.lab import Lab, with_remedies
from workbook.search.plan import Arm, promised
from workbook.search.work import Work
from workbook.training.parameters import Parameters, check_parameters


@dataclass(frozen=True)
class Question:
    """What would raise the AP of this size of this run?"""

    run: Run
    size: str
    parameters: Parameters  # of the run, without a tracker
    dataset: Dataset
    cut: str  # the dataset of the search, see data/cuts.py
    diagnosis: SavedDiagnosis

    @property
    def figure(self) -> str:
        """bbox_mAP_s for small objects."""
        return FIGURE_OF[self.size]

    @property
    def costs(self) -> SizeWaterfall:
        """What each stage costs of the AP of the size."""
        return self.diagnosis.waterfall.metrics["AP"][self.size]

    def on_cut(self, seed: int, keys: Sequence[str] = (), cut: str = "") -> Parameters:
        """The run with these remedies more, trained on the part of train to fit on. cut: another one than the search's."""
        return with_remedies(self.parameters, keys, dataset=cut or self.cut, seed=seed)


def ask_question(run: Run, size: str) -> Question:
    """The question of a finished run. It is diagnosed first where it is not.

    Raises ParameterError for a size that is not one, RunError when the run's data have changed, or train has too few such
    objects to be cut.
    """
    if size not in AREA_RANGES:
        raise ParameterError(f"size={size}: allowed are {', '.join(AREA_RANGES)}")
    require_trained_here(run, "a search for remedies")
    parameters = check_parameters({**run.record["parameters"], "tracker": "none"})
    dataset = find_dataset(parameters.dataset)
    if dataset.hash != run.record["data"]["hash"]:
        raise RunError(f"{dataset.folder} has changed since {run.name} was trained: train the run again on the data as they are "
                       "(`workbook run` with its parameters), and search for that one")
    diagnosis = load_or_diagnose(run)
    cut = cut_for_search(dataset)
    _require_objects(cut, size)
    return Question(run, size, parameters, dataset, cut, diagnosis)


def _require_objects(cut: str, size: str) -> None:
    dataset = find_dataset(cut)
    for split, tables in (("fit", dataset.train), ("score", dataset.val)):
        areas = [a["area"] for a in tables["annotations"] if not a.get("iscrowd", 0)]
        if not in_size(areas, size).any():
            noun = "object" if size == "all" else f"{size} object"
            raise RunError(f"{dataset.folder}: the part of train to {split} on has no {noun}, so a search can learn nothing of them. "
                           f"Label more of them in train, or search for another size")


def arms_of(question: Question, lab: Lab) -> list[Arm]:
    """Every remedy that there is for this kind of detector, with what it promises and costs; those that do not fit say why."""
    own = {remedy.key for remedy in parse_remedies(question.parameters.remedies)}
    remedies = [
        remedy for remedy in all_remedies() if question.diagnosis.family.key in remedy.families and remedy.key not in own
    ]
    evaluated = [remedy.key for remedy in remedies if not remedy.trains]
    misfits = dict(zip(evaluated, lab.misfits(question.run, evaluated), strict=True))
    asked: dict[str, Parameters] = {}
    for remedy in remedies:
        if not remedy.trains:
            continue
        try:
            asked[remedy.key] = question.on_cut(question.parameters.seed, [remedy.key])
        except ParameterError as error:
            misfits[remedy.key] = str(error)
    baseline, *works = lab.works([question.on_cut(question.parameters.seed), *asked.values()])
    if isinstance(baseline, str):
        raise RunError(f"{question.run.name} cannot be trained again here: {baseline}")
    found = {**misfits, **dict(zip(asked, works, strict=True))}
    return [_arm(remedy, remedies, question, baseline, found[remedy.key]) for remedy in remedies]


def _arm(remedy: Remedy, others: Sequence[Remedy], question: Question, baseline: Work, found: Work | str) -> Arm:
    """found: the work of the run with this remedy, or why it does not fit."""
    excludes = frozenset(other.key for other in others if remedy.key in other.excludes) | frozenset(remedy.excludes)
    work = found.total / baseline.total if isinstance(found, Work) and remedy.trains else 0.0
    misfit = " ".join(found.split()).rpartition(f"- {remedy.key}: ")[2] if isinstance(found, str) else ""
    trained = frozenset({remedy.key} if remedy.trains else ())
    stages = tuple(stage for stage in remedy.stages if stage in question.diagnosis.stage_names)
    return Arm(
        (remedy.key,), trained, stages, promised(stages, question.costs) or 0.0, work, excludes, misfit,
    )
