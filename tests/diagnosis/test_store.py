"""What the run folder keeps of a diagnosis: intervals that belong to the waterfall, and a table of the detections."""

from pathlib import Path
from typing import Any

import pytest
from mmcv import Config

from planted import Answer, Scene, scripted_rcnn, write_scenes
from workbook.diagnosis import store as kept
from workbook.diagnosis.diagnosis import counted_truth, diagnose
from workbook.diagnosis.intervals import waterfall_intervals
from workbook.diagnosis.store import ROOMS, detection_table, fingerprint
from workbook.diagnosis.waterfall import NOW
from workbook.runs.folder import Run

FOUND, POOR, UNSEEN = (20.0, 20.0, 44.0, 44.0), (80.0, 80.0, 104.0, 104.0), (150.0, 150.0, 174.0, 174.0)
SHIFTED = (90.0, 80.0, 114.0, 104.0)  # IoU .41 with POOR
NOTHING = (200.0, 20.0, 230.0, 60.0)
SURE = {"cat": 0.9}
SCENE = Scene([(FOUND, "cat"), (POOR, "cat"), (UNSEEN, "cat")],
              [Answer(NOTHING, SURE, objectness=0.95), Answer(FOUND, SURE, objectness=0.9), Answer(POOR, SURE, to=SHIFTED, objectness=0.5)])


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    dataset = write_scenes(tmp_path_factory.mktemp("scenes"), [SCENE])
    return diagnose(scripted_rcnn([SCENE]), dataset), counted_truth(dataset)


def test_the_intervals_hold_the_figures_of_the_waterfall(diagnosed: Any) -> None:
    diagnosis, truth = diagnosed
    found = waterfall_intervals(truth, diagnosis.detections, diagnosis.stages, resamples=20)
    for size, figures in diagnosis.waterfall["sizes"].items():
        assert found[size]["ap"]["value"] == pytest.approx(figures["ap"], abs=1e-9), size
        for step in figures["steps"]:
            interval = found[size]["steps"][step["stage"]]
            assert interval["value"] == pytest.approx(step["drop"], abs=1e-9), (size, step)
            assert interval["undetermined"], "one image is too few"
            assert found[size]["alone"][step["stage"]]["value"] == pytest.approx(step["alone"], abs=1e-9), (size, step)
    costliest = max(found["small"]["steps"], key=lambda name: found["small"]["steps"][name]["value"])
    assert found["small"]["steps"][costliest]["largest_in"] == 1


def test_every_detection_has_its_outcome_and_kind(diagnosed: Any) -> None:
    diagnosis, truth = diagnosed
    table = detection_table(truth, diagnosis.detections[NOW], diagnosis.false_positives, 0.5)
    assert sorted(zip(table["outcome"], table["kind"], strict=True)) == [("false", "background"), ("false", "poor box"), ("true", "")]
    true = table[table["outcome"] == "true"].iloc[0]
    assert true["annotation_id"] == 100 and true["iou"] == pytest.approx(1, abs=1e-3) and true["class"] == "cat"
    poor = table[table["kind"] == "poor box"].iloc[0]
    assert poor["annotation_id"] == 101 and poor["iou"] == pytest.approx(14 / 34, abs=1e-3)


def test_the_trace_says_the_place_of_the_first_candidate_that_fits(diagnosed: Any, tmp_path: Path) -> None:
    diagnosis, _ = diagnosed
    ranks = diagnosis.trace.set_index("annotation_id")["first_rank"]
    assert ranks[100] == 2 and ranks[101] == 3 and ranks.isna()[102]


def test_a_diagnosis_of_other_code_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "room").mkdir()
    code = tmp_path / "room" / "trace.py"
    for path in (code, tmp_path / "predictions.json", tmp_path / "val.json"):
        path.write_text("[]")
    run, config = Run(tmp_path), Config({"data": {"val": {"ann_file": str(tmp_path / "val.json")}}})
    assert {path.name for path in ROOMS} == {"diagnosis", "evaluation"} and all((path / "matching.py").is_file() for path in ROOMS)
    monkeypatch.setattr(kept, "ROOMS", (tmp_path / "room",))
    before = fingerprint(run, config)
    assert fingerprint(run, config) == before
    code.write_text("[1]")
    assert fingerprint(run, config) != before
