"""A diagnosis of detections alone: planted losses are named as far as reported boxes show them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diagnosed import diagnosed, jittered, lost_at, shifted
from planted import Answer, Scene, scripted_rcnn
from workbook.diagnosis.diagnose import Diagnosis
from workbook.diagnosis.families.detections import BY_NO_BOX, BY_POOR_BOX
from workbook.diagnosis.from_detections import diagnose_detections
from workbook.diagnosis.store import SavedDiagnosis
from workbook.evaluation.sizes import AREA_RANGES

# where the model's own diagnosis says that an object is lost → where its detections do
SEEN_AS = {
    "detected": "detected", "class": "class", "box": "unreported", "ranking": "ranking", "proposals": "unreported",
    "suppression": "unreported", "background": "unreported",
}


def both(folder: Path, planted: list[str]) -> tuple[SavedDiagnosis, Diagnosis]:
    """The scenes, lost at these stages one an image, diagnosed with the scripted model and from its detections."""
    scenes = [lost_at(stage, box) for stage, box in zip(planted, jittered(len(planted)), strict=True)]
    saved = diagnosed(folder, scenes, scripted_rcnn(scenes, score_thr=0.4), resamples=50)
    return saved, diagnose_detections(saved.ground_truth, saved.results, resamples=50)


def test_each_loss_is_named_as_far_as_reported_boxes_show_it(tmp_path: Path) -> None:
    _, found = both(tmp_path, list(SEEN_AS))
    assert found.trace["stage"].tolist() == list(SEEN_AS.values())


def test_what_is_found_and_its_ap_are_those_of_the_model(tmp_path: Path) -> None:
    saved, found = both(tmp_path, [*SEEN_AS, *SEEN_AS])
    assert found.trace["detected"].tolist() == saved.trace["detected"].tolist()
    for metric in ("AP", "AP50"):
        for size in AREA_RANGES:
            of_size, with_model = found.waterfall.metrics[metric][size], saved.waterfall.metrics[metric][size]
            assert of_size.ap == pytest.approx(with_model.ap, abs=1e-9) if with_model.ap is not None else of_size.ap is None
            if of_size.ap is not None:
                assert of_size.ap + sum(cost.shapley or 0 for cost in of_size.stages) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("hidden", ["proposals", "background", "suppression", "box"])
def test_what_is_lost_before_a_report_costs_unreported(tmp_path: Path, hidden: str) -> None:
    """A third of the objects is lost where detections show nothing: all of that stands under unreported, none elsewhere."""
    saved, found = both(tmp_path, ["detected", "detected", hidden] * 8)
    of_size = found.waterfall.metrics["AP"]["small"]
    stage = "class" if hidden == "background" else hidden
    inside = saved.waterfall.metrics["AP"]["small"].cost(stage).shapley
    assert of_size.cost("unreported").shapley >= inside - 1e-9
    assert of_size.cost("unreported").shapley == pytest.approx(1 - of_size.ap)
    assert np.abs([cost.shapley for cost in of_size.stages if cost.stage != "unreported"]).max() < 1e-9


@pytest.mark.parametrize("shown", ["class", "ranking"])
def test_what_the_reports_show_costs_its_own_stage(tmp_path: Path, shown: str) -> None:
    saved, found = both(tmp_path, ["detected", "detected", shown] * 8)
    of_size = found.waterfall.metrics["AP"]["small"]
    assert max(of_size.stages, key=lambda cost: cost.shapley).stage == shown
    assert of_size.cost(shown).shapley == pytest.approx(saved.waterfall.metrics["AP"]["small"].cost(shown).shapley, abs=0.02)


def test_boxes_that_fit_loosely_cost_the_box_stage(tmp_path: Path) -> None:
    """At IoU .6 all are found (AP50 1) and none fits well."""
    scenes = [Scene([(box, "cat")], [Answer(box, {"cat": 0.9}, to=shifted(box, 6.0))]) for box in jittered(12)]
    saved = diagnosed(tmp_path, scenes, resamples=50)
    found = diagnose_detections(saved.ground_truth, saved.results, resamples=50)
    of_size, with_model = (one.waterfall.metrics["AP"]["small"] for one in (found, saved))
    assert found.waterfall.metrics["AP50"]["small"].ap == 1
    assert of_size.cost("box").shapley == pytest.approx(with_model.cost("box").shapley) == pytest.approx(1 - of_size.ap)


def test_an_object_says_how_near_a_reported_box_comes(tmp_path: Path) -> None:
    _, found = both(tmp_path, ["box", "proposals", "detected"])
    assert found.trace["candidate_cut"].tolist() == [BY_POOR_BOX, BY_NO_BOX, ""]


def test_detections_say_nothing_of_background(tmp_path: Path) -> None:
    """Reported under another class with a low score: taken for that class, and the score stays its own."""
    scenes = [Scene([(box, "cat")], [Answer(box, {"dog": 0.2, "cat": 0.01})]) for box in jittered(4)]
    saved = diagnosed(tmp_path, scenes, resamples=50)
    found = diagnose_detections(saved.ground_truth, saved.results, resamples=50)
    assert found.trace["stage"].tolist() == ["class"] * 4 and found.trace["named_class"].tolist() == ["dog"] * 4
