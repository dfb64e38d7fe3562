"""A finished run measured under other test settings: beside the run, never over it, and compared in pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from trained_run import Trained
from workbook import cli
from workbook.errors import ParameterError, RunError
from workbook.evaluation.coco_metrics import evaluate
from workbook.files import outputs_root, read_json
from workbook.runs.config import read_config
from workbook.runs.folder import Run
from workbook.training.evaluate import evaluate_run


@pytest.fixture
def run(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("WORKBOOK_DATA", str(trained.data))
    return trained.copy(outputs_root())


def contents(run: Run) -> dict[str, bytes]:
    files = (path for path in run.folder.rglob("*") if path.is_file() and "evaluations" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


def test_the_same_settings_give_what_the_run_has(run: Run) -> None:
    """To the bit; so all that an evaluation under other settings shows comes from them."""
    before = contents(run)
    found = evaluate_run(run)
    assert read_json(found.folder / "predictions.json") == read_json(run.folder / "predictions.json")
    own, measured = run.metrics(), read_json(found.folder / "metrics.json")
    assert all(measured[key] == own[key] for key in measured)
    assert all(row.run == row.evaluation for row in found.rows)
    assert found.folder.parent == run.folder / "evaluations" and contents(run) == before
    assert not list(found.folder.parent.glob(".*"))


def test_data_that_were_moved_are_found(run: Run, trained: Trained) -> None:
    path = run.folder / "config.py"
    config = path.read_text()
    assert str(trained.data) in config
    path.write_text(config.replace(str(trained.data), "/moved/away"))
    found = evaluate_run(run, overrides="model.test_cfg.rcnn.score_thr=0.06")
    assert found.folder.parent == run.folder / "evaluations" and read_json(found.folder / "settings.json")["images"] == 2


def test_a_higher_threshold_leaves_the_higher_scores(run: Run) -> None:
    """Suppression goes by falling score, so the detections above a threshold are those of the run above it."""
    own = read_json(run.folder / "predictions.json")
    middle = sorted(detection["score"] for detection in own)[len(own) // 2]
    found = evaluate_run(run, overrides=f"model.test_cfg.rcnn.score_thr={middle}")
    assert read_json(found.folder / "predictions.json") == [detection for detection in own if detection["score"] > middle]
    [counts] = [row for row in found.rows if row.figure == "detections an image"]
    assert counts.run == len(own) / 2 and counts.evaluation < counts.run
    settings = read_json(found.folder / "settings.json")
    assert settings["overrides"] == {"model.test_cfg.rcnn.score_thr": middle} and settings["run"] == run.name


def test_a_remedy_is_measured_and_recorded(run: Run) -> None:
    found = evaluate_run(run, "keep_more")
    assert found.folder.name.startswith("keep_more-") and not found.was_there
    detections = read_json(found.folder / "predictions.json")
    assert len(detections) > len(read_json(run.folder / "predictions.json"))
    measured = evaluate(Path(read_config(run.folder / "config.py").data.val.ann_file), detections).metrics
    assert {key: read_json(found.folder / "metrics.json")[key] for key in measured} == measured
    [remedy] = read_json(found.folder / "settings.json")["remedies"]
    assert remedy["key"] == "keep_more" and remedy["changes"]["model.test_cfg.rcnn.score_thr"] == {"before": 0.05, "after": 0.001}


def test_what_is_there_is_not_measured_again(run: Run) -> None:
    first = evaluate_run(run, "soft_nms")
    (first.folder / "settings.json").write_text("{}")
    second = evaluate_run(run, "soft_nms")
    assert second.was_there and second.folder == first.folder and second.rows == first.rows
    assert (first.folder / "settings.json").read_text() == "{}"
    assert evaluate_run(run, "soft_nms", "model.test_cfg.rcnn.score_thr=0.06").folder != first.folder


@pytest.mark.parametrize(("remedies", "overrides", "words"), [
    ("fitted_anchors", "", "fitted_anchors: a remedy that needs a training .*Allowed here: keep_more, more_proposals, soft_nms.* "
                           "workbook run --remedies fitted_anchors"),
    ("", "optimizer.lr=1", "optimizer.lr: only test settings can be changed of a finished run, keys that begin with model.test_cfg."),
    ("", "model.test_cfg.rcnn.none=1", "unknown key 'none'"),
    ("soft_nms", "model.test_cfg.rcnn.nms.type=nms", "both set model.test_cfg.rcnn.nms.type: leave one of them out"),
    ("nothing", "", "unknown remedy 'nothing'"),
])
def test_what_needs_a_training_is_refused(run: Run, remedies: str, overrides: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        evaluate_run(run, remedies, overrides)
    assert not (run.folder / "evaluations").exists()


def test_other_data_are_refused(run: Run) -> None:
    run.update(data={**run.record["data"], "hash": "0" * 64})
    with pytest.raises(RunError, match="the data of .* have changed since .*put the old files back"):
        evaluate_run(run, "soft_nms")


def test_the_command_prints_the_table_and_the_folder(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["workbook", "evaluate", run.name, "--remedies", "soft_nms"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr().out
    assert ended.value.code in (0, None) and "bbox_mAP_s" in out and "detections an image" in out
    assert out.strip().splitlines()[-1].startswith(str(run.folder / "evaluations" / "soft_nms-"))
