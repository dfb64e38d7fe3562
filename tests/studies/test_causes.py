"""Where a difference comes from: scripted detectors, really diagnosed, of which it is known at which stage each loses what."""

from __future__ import annotations

import numpy as np
import pytest

from diagnosed import diagnosed, jittered, lost_at
from workbook.diagnosis.store import SavedDiagnosis
from workbook.evaluation.bootstrap import bootstrap
from workbook.evaluation.contrast import contrast
from workbook.evaluation.matching import match
from workbook.studies.causes import Cause, causes
from workbook.studies.claim import Claim, Side
from workbook.studies.settings import Setting
from workbook.studies.verdicts import Question, terms_of
from workbook.training.parameters import Parameters

BOXES = jittered(16)
LEFT, RIGHT = Side("backbone", "resnet18"), Side("backbone", "swin_t")
CLAIM = Claim("resnet18 > swin_t on bbox_mAP_s", LEFT, RIGHT, "bbox_mAP_s", None)
# How many of the 16 objects each seed of a side loses to a wrong class; all others are found.
LOST = {"left": (10, 11, 10), "right": (1, 2, 1)}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SavedDiagnosis]:
    """The diagnosis of three seeds of each side, by run."""
    folder = tmp_path_factory.mktemp("causes")
    found = {}
    for side, counts in LOST.items():
        for seed, count in enumerate(counts):
            scenes = [lost_at("class" if number < count else "detected", box) for number, box in enumerate(BOXES)]
            name = f"{side}-{seed}"
            found[name] = diagnosed(folder / name, scenes, name=name)
    return found


def question(known: dict[str, SavedDiagnosis], seeds: int = 3, confounds: tuple[str, ...] = ()) -> Question:
    pair = tuple(Setting(Parameters(), tuple(known[f"{side}-{seed}"].run for seed in range(seeds))) for side in LOST)
    figures = {name: bootstrap(match(one.ground_truth, one.results), 200).figures["bbox_mAP_s"] for name, one in known.items()}
    return Question(CLAIM, (pair,), confounds, contrast(terms_of([pair], figures)))


def by_stage(found: list[Cause]) -> dict[str, Cause]:
    return {one.stage: one for one in found}


def test_the_stage_that_loses_more_on_one_side_is_named(known) -> None:
    found = by_stage(causes([question(known)], known))
    of_run = {name: one.waterfall.metrics["AP"]["small"].cost("class").shapley for name, one in known.items()}
    costs = {side: np.mean([of_run[f"{side}-{seed}"] for seed in range(3)]) for side in LOST}
    assert found["class"].value == pytest.approx(costs["left"] - costs["right"], abs=1e-6) and found["class"].value > 0.3
    assert found["class"].differs and 0 < found["class"].low < found["class"].value
    assert (found["class"].claim, found["class"].metric, found["class"].size, found["class"].seeds) == (CLAIM.text, "AP", "small", 3)
    assert not any(one.differs for stage, one in found.items() if stage != "class")


def test_the_interval_is_paired_over_the_images(known) -> None:
    """The same detector on both sides: nothing differs in any draw, however much each cost moves."""
    same = {**known, **{f"right-{seed}": known[f"left-{seed}"] for seed in range(3)}}
    pair = tuple(Setting(Parameters(), tuple(known["left-0"].run for _ in range(1))) for _ in range(2))
    figures = {"left-0": bootstrap(match(known["left-0"].ground_truth, known["left-0"].results), 200).figures["bbox_mAP_s"]}
    one = Question(CLAIM, (pair,), (), contrast([(1.0, [figures["left-0"]]), (-1.0, [figures["left-0"]])]))
    assert all(cause.value == 0 for cause in causes([one], same))


def test_one_seed_names_no_cause(known) -> None:
    found = by_stage(causes([question(known, seeds=1)], known))
    assert found["class"].value > 0.3 and not found["class"].differs


def test_a_confounded_claim_and_one_without_a_diagnosis_have_no_cause(known) -> None:
    assert causes([question(known, confounds=("recipe: seed and finetune",))], known) == []
    assert causes([question(known)], {name: one for name, one in known.items() if name != "left-1"}) == []
