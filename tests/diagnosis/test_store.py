"""A diagnosis in its folder: one writer, one reader, and made again whenever something that it depends on has changed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image

from diagnosed import diagnosed, jittered, lost_at
from workbook.diagnosis import store
from workbook.diagnosis.assignable import COLUMNS as ASSIGNABLE_COLUMNS
from workbook.diagnosis.diagnose import DETECTION_COLUMNS
from workbook.diagnosis.made_from import MadeFrom, statements, take_fingerprint
from workbook.diagnosis.store import SavedDiagnosis, load, load_or_diagnose
from workbook.diagnosis.trace import COLUMNS
from workbook.errors import RunError
from workbook.files import read_json, write_json
from workbook.runs.config import read_config

STAGES = ("detected", "box", "proposals")


@pytest.fixture
def saved(tmp_path: Path) -> SavedDiagnosis:
    return diagnosed(tmp_path, [lost_at(stage, box) for stage, box in zip(STAGES, jittered(3), strict=True)], resamples=20)


def test_the_folder_holds_what_others_may_read(saved: SavedDiagnosis) -> None:
    folder = saved.run.folder
    assert {path.name for path in folder.glob("*.parquet")} == {
        "trace.parquet", "detections.parquet", "assignable.parquet", "costs.parquet"}
    content = read_json(folder / "waterfall.json")
    one = content["metrics"]["AP"]["small"]
    assert set(content["metrics"]) == {"AP", "AP50"} and set(content["metrics"]["AP"]) == {"all", "small", "medium", "large"}
    assert {"ap", "objects", "images", "low", "high", "stages"} <= set(one)
    assert all({"stage", "shapley", "low", "high", "alone", "last"} == set(cost) for cost in one["stages"])
    assert one["ap"] + sum(cost["shapley"] for cost in one["stages"]) == pytest.approx(1, abs=1e-9)
    assert {"device", "precision", "versions", "fingerprint"} <= set(content["made_from"])
    assert content["made_from"]["device"] == "cpu" and content["made_from"]["precision"] == "fp32"
    assert set(COLUMNS) <= set(saved.trace) and set(DETECTION_COLUMNS) == set(saved.detections)
    assert set(ASSIGNABLE_COLUMNS) <= set(pd.read_parquet(folder / "assignable.parquet"))
    assert saved.disagreement == () and list(saved.trace["stage"]) == list(STAGES)


def test_every_detection_has_its_outcome_and_kind(saved: SavedDiagnosis) -> None:
    table = saved.detections.set_index("image_id")
    assert (table.loc[1, "outcome"], table.loc[1, "kind"], table.loc[1, "annotation_id"]) == ("true", "", 100)
    assert table.loc[1, "iou"] == pytest.approx(1, abs=1e-3)
    assert (table.loc[2, "outcome"], table.loc[2, "kind"], table.loc[2, "annotation_id"]) == ("false", "poor box", 101)
    assert table.loc[2, "iou"] == pytest.approx(6 / 14, abs=1e-2)


def test_a_current_diagnosis_is_read_and_nothing_is_computed(saved: SavedDiagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "diagnose", lambda *_, **__: pytest.fail("it was made again"))
    again = load_or_diagnose(saved.run, saved.iou, "cpu")
    pd.testing.assert_frame_equal(again.trace, saved.trace)


def change_predictions(saved: SavedDiagnosis) -> None:
    write_json(saved.run.folder / "predictions.json", [])


def change_val(saved: SavedDiagnosis) -> None:
    """The same annotation ids, another box: an id alone does not tell."""
    path = Path(saved.config.data.val.ann_file)
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][0] += 1
    write_json(path, content)


def change_checkpoint(saved: SavedDiagnosis) -> None:
    saved.run.best_checkpoint.write_bytes(b"another")


def change_code(saved: SavedDiagnosis) -> None:
    rewrite(saved, code="0" * 16)


def change_versions(saved: SavedDiagnosis) -> None:
    rewrite(saved, versions={**saved.made_from.versions, "torch": "1.0"})


def rewrite(saved: SavedDiagnosis, **changed: Any) -> None:
    path = saved.run.folder / "waterfall.json"
    content = read_json(path)
    write_json(path, {**content, "made_from": {**content["made_from"], **changed}})


def change_a_picture(saved: SavedDiagnosis) -> None:
    val = saved.config.data.val
    name = saved.ground_truth["images"][0]["file_name"]
    path = Path(val.img_prefix) / name
    Image.new("RGB", Image.open(path).size, "red").save(path)


CHANGES = {
    "predictions": change_predictions, "pictures": change_a_picture, "val": change_val, "checkpoint": change_checkpoint,
    "code": change_code, "versions": change_versions,
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_has_changed_since_makes_it_out_of_date(saved: SavedDiagnosis, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    CHANGES[what](saved)
    with pytest.raises(RunError, match=f"out of date .*{what}.*workbook diagnose run"):
        load(saved.run)
    made = again(saved, monkeypatch)
    load_or_diagnose(saved.run, saved.iou, "cpu")
    assert made == [saved.iou] and load(saved.run).iou == saved.iou


def test_another_iou_is_another_diagnosis(saved: SavedDiagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    made = again(saved, monkeypatch)
    assert load_or_diagnose(saved.run, 0.7, "cpu").iou == 0.7
    assert made == [0.7]
    load_or_diagnose(saved.run, 0.7, "cpu")
    assert made == [0.7], "the second time it is read"


def again(saved: SavedDiagnosis, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Diagnosing gives what was found before (the scripted detector cannot be loaded), and notes its IoU."""
    made: list[float] = []
    found = read_back(saved)

    def diagnose_again(*_: Any, iou: float, **__: Any) -> Any:
        made.append(iou)
        return dataclasses.replace(found, iou=iou)

    monkeypatch.setattr(store, "diagnose", diagnose_again)
    monkeypatch.setattr(store, "load_trained", lambda *_: (None, None))
    return made


def read_back(saved: SavedDiagnosis) -> Any:
    from workbook.diagnosis.diagnose import Diagnosis

    class AsSaved:
        def to_json(self) -> Any:
            return saved.false_positives

    return Diagnosis(saved.family, saved.iou, saved.trace, saved.detections, saved.waterfall, AsSaved(), saved.assignable)  # type: ignore[arg-type]


def test_what_it_was_made_from_is_taken_before(saved: SavedDiagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A val.json that changes while the diagnosis is made is not signed as the one that it was made from."""
    found = read_back(saved)

    def meanwhile(*_: Any, **__: Any) -> Any:
        change_val(saved)
        return found

    change_predictions(saved)
    monkeypatch.setattr(store, "diagnose", meanwhile)
    monkeypatch.setattr(store, "load_trained", lambda *_: (None, None))
    load_or_diagnose(saved.run, saved.iou, "cpu")
    with pytest.raises(RunError, match="out of date .*val"):
        load(saved.run)


def test_only_one_process_writes_a_diagnosis(saved: SavedDiagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    change_predictions(saved)
    again(saved, monkeypatch)
    with saved.run.acquire(), pytest.raises(RunError, match="process"):
        load_or_diagnose(saved.run, saved.iou, "cpu")


def test_a_diagnosis_in_other_numbers_says_so_and_is_made_again_where_they_are_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained in bf16 and diagnosed in fp32, with other figures: another detector, and the page says so."""
    saved = diagnosed(tmp_path, [lost_at("detected", box) for box in jittered(3)], resamples=20,
                      record={"settings": {"precision": "bf16"}, "versions": {"torch": "2.0.0"}})
    write_json(saved.run.folder / "metrics.json", {**read_json(saved.run.folder / "metrics.json"), "bbox_mAP_s": 0.5})
    monkeypatch.setattr("workbook.diagnosis.made_from.has_bf16", lambda _: False)
    made_from = take_fingerprint(saved.run, saved.config, 0.5, torch.device("cpu"))
    assert made_from.precision == "fp32"
    words = "; ".join(store.disagreement(saved.run, saved.waterfall, len(saved.detections), made_from))
    assert "AP of small objects 1.0000 instead of 0.5000" in words
    assert "the run computed in bf16, this diagnosis in fp32 on cpu" in words and "torch was 2.0.0" in words
    store.save(saved.run, read_back(saved), made_from)
    made = again(saved, monkeypatch)
    load_or_diagnose(saved.run, 0.5, "cpu")
    assert made == [], "there is no bf16 here, so what is saved is the best there is"
    monkeypatch.setattr("workbook.diagnosis.made_from.has_bf16", lambda _: True)
    load_or_diagnose(saved.run, 0.5, "cpu")
    assert made == [0.5]


def test_a_missing_file_is_named(saved: SavedDiagnosis) -> None:
    (saved.run.folder / "waterfall.json").unlink()
    with pytest.raises(RunError, match="run has no diagnosis: `workbook diagnose run` first"):
        load(saved.run)
    Path(saved.config.data.val.ann_file).unlink()
    with pytest.raises(RunError, match=r"truth.json is missing"):
        load_or_diagnose(saved.run, 0.5, "cpu")


def test_an_assigner_that_nobody_knows_costs_a_table_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbook.diagnosis.families.two_stage import TwoStage
    from workbook.models.assigners import UnknownAssignerError

    def unknown(*_: Any) -> Any:
        raise UnknownAssignerError("the assigner SimOTA is not known here")

    monkeypatch.setattr(TwoStage, "assign", unknown)
    saved = diagnosed(tmp_path, [lost_at("box", box) for box in jittered(2)], resamples=2)
    assert saved.assignable is None and "SimOTA" in saved.why_not_assignable
    assert list(saved.trace["stage"]) == ["box", "box"] and not saved.is_unreachable(saved.trace).any()


def test_comments_and_docstrings_are_no_code() -> None:
    code = 'def f(x):\n    """Words."""\n    return x + 1  # more\n'
    assert statements(code) == statements("def f(x):\n    return x + 1\n") != statements("def f(x):\n    return x + 2\n")


def test_the_fingerprint_is_of_every_field(saved: SavedDiagnosis) -> None:
    made = take_fingerprint(saved.run, read_config(saved.run.folder / "config.py"), 0.5, torch.device("cpu"))
    assert made == saved.made_from
    for name, value in dataclasses.asdict(made).items():
        changed: Any = {**value, "x": "1"} if isinstance(value, dict) else 0.7 if isinstance(value, float) else f"{value}x"
        assert dataclasses.replace(made, **{name: changed}).fingerprint != made.fingerprint, name
    assert set(MadeFrom.__dataclass_fields__) >= {"val", "train", "predictions", "checkpoint", "code", "versions", "iou"}


@pytest.mark.parametrize("iou", [0.0, 1.0, -0.1, 1.5])
def test_an_impossible_iou_is_refused(saved: SavedDiagnosis, iou: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        load_or_diagnose(saved.run, iou, "cpu")


def test_the_detections_are_read_back_as_columns(saved: SavedDiagnosis) -> None:
    results = saved.results
    assert len(results) == len(saved.detections) == 2
    assert results.to_coco() == read_json(saved.run.folder / "predictions.json")


def test_limits_are_the_configs(saved: SavedDiagnosis) -> None:
    assert saved.proposal_limit == 300 and saved.anchor_iou == 0.3
    assert saved.images_dir == Path(saved.config.data.val.img_prefix)
    trace = saved.trace.assign(no_positive=[True, True, None], best_anchor_iou=[0.2, 0.4, 0.1])
    assert saved.is_unreachable(trace).tolist() == [True, False, False]


def test_an_unfinished_run_is_refused(saved: SavedDiagnosis) -> None:
    saved.run.update(status="running")
    for ask in (load, load_or_diagnose):
        with pytest.raises(RunError, match="run is running: only a finished run"):
            ask(saved.run)
