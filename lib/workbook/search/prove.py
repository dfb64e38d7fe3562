"""The proof: winner, baseline and a control of the same cost, with fresh seeds on the whole of train, on val once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbook.diagnosis.store import SavedDiagnosis
from workbook.errors import RunError
from workbook.evaluation.sizes import AREA_RANGES
from workbook.proofs.compare import AFTER, BEFORE, objects_by_size, recall
from workbook.proofs.compare import prove as compare_settings
from workbook.proofs.store import Control, Cost
from workbook.search.lab import Ask, Lab, Measurement, require_all, with_remedies
from workbook.search.plan import SAME_WORK, Arm, promised, proof_seeds
from workbook.search.question import Question
from workbook.search.work import Work, stretched
from workbook.training.parameters import Parameters

CONTROL = "control"
IS_CONTROL = ("longer_training",)  # a winner of these alone is the baseline with more steps already
Settings = Mapping[str, Sequence[Measurement]]


def prove(question: Question, winner: Arm, lab: Lab) -> dict[str, Any]:
    """Train and measure; gives the fields of the proof that are not of the search."""
    seeds = proof_seeds(question.parameters.seed)
    works = _works(question, winner, lab)
    asks = {BEFORE: [Ask(_plain(question, seed)) for seed in seeds], AFTER: [_with_winner(question, winner, seed) for seed in seeds]}
    how, times = _control(winner, works)
    if times is not None:
        asks[CONTROL] = [Ask(stretched(_plain(question, seed), works[BEFORE], times)) for seed in seeds]
    flat = [ask for of_setting in asks.values() for ask in of_setting]
    found = iter(require_all(lab.measure(flat, "The proof, on the whole of train"), "the proof"))
    settings = {name: [next(found) for _ in of_setting] for name, of_setting in asks.items()}
    promises = promised_by_size(question.diagnosis, winner.stages)
    controlled = _proof(settings, CONTROL, AFTER, promises) if CONTROL in settings else {}
    return {
        "winner": winner.remedies, "seeds": tuple(seeds), "control": Control(how, controlled),
        "sizes": _proof(settings, BEFORE, AFTER, promises, same_weights=not winner.trains),
        "cost": {name: _cost(of_setting, works[name if name in works else BEFORE]) for name, of_setting in settings.items()},
    }


def promised_by_size(diagnosis: SavedDiagnosis, stages: Sequence[str]) -> dict[str, float | None]:
    """Size → what the stages cost of its AP, by the diagnosis."""
    return {size: promised(stages, diagnosis.waterfall.metrics["AP"][size]) for size in AREA_RANGES}


def _plain(question: Question, seed: int) -> Parameters:
    return with_remedies(question.parameters, [], seed=seed)


def _with_winner(question: Question, winner: Arm, seed: int) -> Ask:
    """What of the winner needs a training is trained; the rest is how these runs are evaluated."""
    trained = [key for key in winner.remedies if key in winner.trained]
    evaluated = tuple(key for key in winner.remedies if key not in winner.trained)
    return Ask(with_remedies(question.parameters, trained, seed=seed), evaluated)


def _works(question: Question, winner: Arm, lab: Lab) -> dict[str, Work]:
    asked = [_plain(question, question.parameters.seed), _with_winner(question, winner, question.parameters.seed).parameters]
    works = lab.works(asked)
    wrong = [work for work in works if isinstance(work, str)]
    if wrong:
        raise RunError(f"the proof cannot start: {wrong[0]}")
    return dict(zip((BEFORE, AFTER), [work for work in works if isinstance(work, Work)], strict=True))


def _control(winner: Arm, works: Mapping[str, Work]) -> tuple[str, float | None]:
    """How the control is made, in words, and how many times the baseline's epochs it has; None where it is no training of its own."""
    times = works[AFTER].total / works[BEFORE].total
    if times <= SAME_WORK:
        return f"the baseline itself: a training of the winner is x{times:.2f} its steps times pixels", None
    if winner.remedies == IS_CONTROL:
        return "none: the winner is the baseline trained longer, so cost and remedy are one", None
    epochs = max(1, round(works[BEFORE].epochs * times))
    return (f"the baseline trained for {epochs} epochs instead of {works[BEFORE].epochs}, the learning rate stretched: as many steps "
            f"times pixels as the winner (x{times:.2f})"), times


def _proof(
    settings: Settings, before: str, after: str, promises: Mapping[str, float | None], same_weights: bool = False
) -> dict[str, Any]:
    first, second = ([one.samples for one in settings[name]] for name in (before, after))
    return compare_settings(first, second, promises, same_weights)


def _cost(measurements: Sequence[Measurement], work: Work) -> Cost:
    images = len(measurements[0].matches.images)
    records = [one.run.record for one in measurements]
    return Cost(
        runs=tuple(one.run.name for one in measurements), evaluation=measurements[0].evaluation,
        steps=int(records[0]["iterations"]), pixels=work.pixels,
        training_seconds=float(np.mean([record["seconds"] for record in records])),
        seconds_a_step=float(np.mean([one.seconds_a_step for one in measurements])),
        seconds_an_image=float(np.mean([one.seconds_an_image for one in measurements])),
        detections_an_image=float(np.mean([one.detections for one in measurements])) / images,
        images=images, objects=objects_by_size(measurements[0].matches), recall=recall([one.matches for one in measurements]),
    )


def not_proven(winner: Arm | None) -> dict[str, Any]:
    """The fields of a proof that was not made: nothing helps, or the budget does not hold it."""
    return {"winner": winner.remedies if winner else (), "seeds": (), "control": None, "sizes": {}, "cost": {}}


