"""`workbook study` from a file to its folder: real trainings and diagnoses, the verdicts, the note and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from run_folders import write_run
from scenes import make_dataset
from small_run import NARROW
from workbook.files import read_json
from workbook.runs.aspects import aspects
from workbook.runs.listing import list_runs
from workbook.studies.store import load, study_folder
from workbook.studies.study import StudyError, read_study
from workbook.sweep.command import train_all
from workbook.sweep.plan import Entry, Known, Progress
from workbook.sweep.study import _planned, run_study
from workbook.training.parameters import check_parameters

TINY: dict[str, Any] = {
    "dataset": "scenes", "backbone": "tf_efficientnet_lite0", "recipe": "finetune", "image_size": 64, "batch_size": 2,
    "device": "cpu", "precision": "fp32", "overrides": NARROW,
}
STUDY = {
    "question": "Do two epochs beat <b>one</b>?", "hypothesis": "Yes.",
    "claims": ["epochs=2 > epochs=1 on bbox_mAP", "lite0 > lite1 on bbox_mAP_s"],
    "grid": [{**TINY, "epochs": [1, 2]}, {**TINY, "backbone": "tf_efficientnet_lite1", "epochs": 1}],
    "references": ["Somebody 2020, a book"],
}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    make_dataset(tmp_path / "data", "scenes", train_images=4, val_images=12, width=64, height=64, sizes=("small",))


def written(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "longer.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_study_trains_diagnoses_judges_and_writes_and_the_same_call_trains_nothing_again(tmp_path, capsys) -> None:
    file = written(tmp_path, STUDY)
    assert run_study(file, {}, 1, "local", "", dry_run=True) == 0
    foreseen = capsys.readouterr().out
    assert all(f"claim '{claim}' can only stay open: 1 seed of" in foreseen for claim in STUDY["claims"]) and "confounded" not in foreseen
    assert not study_folder("longer").exists() and not list_runs()
    plan, _ = train_all(read_study(file, {}).grids, 1, "local", "", dry_run=True)
    expected = {entry.run.name: aspects(_planned(entry).record) for entry in plan}
    assert run_study(file, {}, 2, "local", "", dry_run=False) == 0
    assert len(list_runs()) == 3
    for run in list_runs():
        assert len(expected[run.name]) > 20 and expected[run.name].items() <= aspects(run.record).items()
    folder = study_folder("longer")
    verdicts = read_json(folder / "verdicts.json")
    assert [each["claim"] for each in verdicts] == STUDY["claims"]
    assert {each["verdict"] for each in verdicts} == {"open"} and all("these two trainings" in each["words"] for each in verdicts)
    maps = {(run.record["parameters"]["backbone"], run.record["parameters"]["epochs"]): run.metrics()["bbox_mAP"] for run in list_runs()}
    lite0 = "tf_efficientnet_lite0"
    assert verdicts[0]["value"] == pytest.approx(maps[lite0, 2] - maps[lite0, 1], abs=1e-9)
    note = (folder / "note.md").read_text()
    for words in ("# longer: Do two epochs beat &lt;b&gt;one&lt;/b&gt;?", "## Hypothesis\n\nYes.", "What varies: ", "epochs 1, 2",
                  "recipe finetune", "## Cause", "- Somebody 2020, a book", "- Tan and Le 2019, EfficientNet", "Decoupled Weight Decay"):
        assert words in note, words
    assert {cause.stage for cause in load("longer").causes} <= {"proposals", "class", "box", "suppression", "ranking", "not counted"}
    page = (folder / "7_study.html").read_text()
    assert "The claims" in page and "<b>one</b>" not in page and (folder / "figures" / "claims.png").is_file()
    (folder / "note.md").write_text(note + "All in shade.\n")
    capsys.readouterr()
    assert run_study(file, {}, 1, "local", "", dry_run=False) == 0
    said = capsys.readouterr().out
    assert "3 runs: 3 done. Nothing is left to train." in said and str(folder / "note.md") in said
    assert (folder / "note.md").read_text().endswith("All in shade.\n")


def test_a_run_that_goes_on_under_another_commit_is_foreseen(tmp_path) -> None:
    parameters = check_parameters({**TINY, "epochs": 1})
    run = write_run(tmp_path, record={"git_commit": "old"})
    known = Known(2, {}, 0, ("a warning of the plan",), 1, {"git_commit": "new", "versions": run.record["versions"]})
    warnings = {state: _planned(Entry(parameters, run, Progress(state, known), {})).record["warnings"] for state in ("new", "to resume")}
    assert warnings["new"] == ["a warning of the plan"]
    assert warnings["to resume"] == [*warnings["new"], "taken up where something else was: git_commit: old → new"]


def test_a_study_without_a_finished_run_judges_nothing(tmp_path) -> None:
    broken = f"{NARROW} optimizer.lr=1e9 optimizer_config.grad_clip=None lr_config.warmup=None"
    file = written(tmp_path, {"grid": {**TINY, "epochs": 1, "overrides": broken}})
    with pytest.raises(StudyError, match="no run of study longer has finished"):
        run_study(file, {}, 1, "local", "", dry_run=False)
    assert not (study_folder("longer") / "verdicts.json").exists()
