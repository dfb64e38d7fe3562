"""Adopted runs on the pages that compare runs, alone and beside one that was trained here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from run_folders import write_run
from small_dataset import load, write_dataset
from workbook.cli import app
from workbook.data.catalog import find_dataset, summary
from workbook.errors import RunError
from workbook.runs.adopt.adopt import adopt_run
from workbook.runs.folder import Run
from workbook.runs.listing import finished_run
from workbook.views.compare.intervals import compared, interval_table
from workbook.views.compare.summary import summarize
from workbook.views.compare.tables import comparison
from workbook.views.report import page
from workbook.views.run.plots import curves


@pytest.fixture
def adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Two runs of another tool: perfect boxes, and boxes that are two pixels beside them."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    return [adopt_run(results(write_dataset(tmp_path / "data" / "pets", 12), tmp_path / "yolo.json", 0.0), "pets").run,
            adopt_run(results(tmp_path / "data" / "pets", tmp_path / "rtdetr.json", 2.0), "pets").run]


def results(pets: Path, path: Path, shift: float) -> Path:
    entries = []
    for truth in load(pets, "val")["annotations"]:
        x, *others = truth["bbox"]
        entries.append({"image_id": truth["image_id"], "category_id": truth["category_id"], "bbox": [x + shift, *others], "score": 0.9})
    path.write_text(json.dumps(entries))
    return path


def test_the_table_shows_what_is_known_and_leaves_the_rest_blank(adopted: list[Run]) -> None:
    table = comparison(adopted).set_index("Backbone")
    assert table.loc["yolo", "val/bbox_mAP"] == pytest.approx(1)
    assert table.loc["yolo", "Detector"] == "adopted (COCO results)"
    assert table.loc["yolo", ["Epoch", "seed", "initial lr", "Optimizer", "remedies"]].isna().all()
    assert "empty images" not in table


def test_each_has_its_intervals(adopted: list[Run]) -> None:
    table = interval_table(adopted).set_index("Backbone")
    assert (table["why not"] == "").all() or table["why not"].str.startswith("undetermined").all()
    assert table.loc["yolo", "bbox_mAP"].startswith("1.000")
    assert (table["seed"] == "").all()


def test_no_winner_is_named_of_runs_whose_training_is_unknown(adopted: list[Run]) -> None:
    words = summarize(adopted)
    assert "no backbone is named the better one" in words
    assert "The origin differs:" in words and "yolo.json (Exp 1)" in words
    assert compared(adopted)[1].startswith("yolo")


def test_they_stand_beside_a_run_that_was_trained_here(adopted: list[Run], tmp_path: Path) -> None:
    own = write_run(tmp_path / "outputs", data=summary(find_dataset("pets")), parameters={"remedies": "soft_nms"})
    runs = [*adopted, own]
    assert list(comparison(runs)["run"]) == [run.name for run in (own, *sorted(adopted, key=lambda run: run.name))]
    assert "The detector differs:" in summarize(runs)
    assert len(interval_table(runs)) == 3
    assert compared(runs) == ([], "")


def test_curves_without_a_log_say_so(adopted: list[Run]) -> None:
    panels = curves(adopted)
    assert [text.get_text() for text in panels[0].texts] == ["no figures"]


def test_the_epochs_of_ultralytics_alone_are_drawn_under_their_own_name(adopted: list[Run], tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("epoch,train/box_loss,metrics/mAP50-95(B),val/box_loss\n1,5,0.1,6\n2,4,0.2,5\n")
    again = adopt_run(tmp_path / "yolo.json", "pets")
    assert again.run == adopted[0]
    panels = curves([again.run])
    assert [panel.get_ylabel() for panel in panels] == ["loss", "ultralytics_mAP50-95"]
    assert [list(line.get_ydata()) for line in panels[1].lines if len(line.get_xdata())] == [[0.1, 0.2]]
    assert comparison([again.run])["Epoch"].tolist() == [2]


def test_the_report_and_the_list_name_the_origin(adopted: list[Run], tmp_path: Path) -> None:
    assert page(tmp_path / "outputs").count("adopted (COCO results)") == 2
    listed = CliRunner().invoke(app, ["list"]).output
    assert "adopted-yolo-" in listed and "None" not in listed


def test_the_command_prints_the_reading_and_the_folder(adopted: list[Run], tmp_path: Path) -> None:
    given = CliRunner().invoke(app, ["adopt", str(tmp_path / "yolo.json"), "--dataset", "pets"])
    assert given.exit_code == 0
    first, odd, last = given.output.strip().splitlines()
    assert odd.startswith("all scores are 0.9") and first == "read with image_id as in val.json and category_id as in val.json: AP 1.000"
    assert last == f"already there: {adopted[0].folder}"


def test_what_needs_a_model_takes_the_newest_run_that_was_trained_here(adopted: list[Run], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished run"):
        finished_run()
    trained = write_run(tmp_path / "outputs", backbone="resnet18")
    assert finished_run().name == trained.name
    assert finished_run(adopted[0].name).name == adopted[0].name
