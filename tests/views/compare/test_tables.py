"""The comparison table against run folders with known figures."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from run_folders import write_run
from workbook.errors import RunError
from workbook.runs.folder import Run, create_run
from workbook.runs.listing import unreadable
from workbook.runs.rows import FIGURES
from workbook.views.compare import tables

ORIGINAL = [
    "Exp num", "Backbone", "RoI Head", "Epoch", "Best Epoch", "initial lr", "Lr schd", "Optimizer", "Image size",
    "val/bbox_mAP", "val/bbox_mAP_50", "val/bbox_mAP_75", "val/bbox_mAP_s", "val/bbox_mAP_m", "val/bbox_mAP_l",
    "val/loss_rpn_cls", "val/loss_rpn_bbox", "val/loss_cls", "val/acc", "val/loss_bbox", "val/loss",
]
THIRD = 1 / 3  # no short decimal: a rounded file cannot give it back


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path))
    return tmp_path


def all_kinds(root: Path) -> list[Run]:
    """A resumed run with its best epoch early, a failed one, a VFNet, one without small objects, one just begun."""
    return [
        write_run(root, backbone="resnet50", maps=(0.1, THIRD, 0.2, 0.15), broken_off_after=2, hour=1),
        write_run(root, backbone="swin_t", maps=(0.1, 0.3, 0.25), status="failed", hour=2, parameters={"epochs": 12}),
        write_run(root, detector="vfnet", backbone="resnet50", maps=(0.2, 0.4), hour=3),
        write_run(root, backbone="resnet18", maps=(0.12,), no_small=True, hour=4),
        write_run(root, backbone="pvtv2_b0", maps=(), status="running", hour=5),
    ]


def test_columns_start_with_the_original_ones_in_their_order(root):
    table = tables.comparison(all_kinds(root))
    assert list(table.columns) == ORIGINAL + [
        "Detector", "status", "parameters (M)", "train images/s", "val images/s", "peak memory (MB)", "train images",
        "val images", "objects in val", "small objects in val", "medium objects in val", "large objects in val",
        "remedies", "dataset", "seed", "run"]


def test_no_runs_make_an_empty_table_with_all_columns():
    assert list(tables.comparison([]).columns) == list(tables.COLUMNS)


def test_experiments_are_numbered_by_their_start(root):
    runs = all_kinds(root)
    table = tables.comparison(runs[::-1])
    assert table["Exp num"].tolist() == [1, 2, 3, 4, 5]
    assert table["run"].tolist() == [run.name for run in runs]


def test_the_number_of_an_experiment_does_not_depend_on_the_choice(root):
    runs = all_kinds(root)
    assert tables.comparison([runs[4], runs[2]])["Exp num"].tolist() == [3, 5]
    assert tables.labels(tables.comparison(runs[2:3])) == ["3 resnet50"]
    assert tables.comparison(tables.select(runs[3].name))["Exp num"].tolist() == [4]


def test_a_run_folder_that_cannot_be_read_is_passed_over_and_named(root):
    runs = all_kinds(root)
    (runs[1].folder / "run.json").write_text('{"status"')
    assert tables.comparison(tables.select())["run"].tolist() == [run.name for run in runs if run != runs[1]]
    assert unreadable().startswith(f"Left out because unreadable: 1 run folder, {runs[1].name} (")


def test_when_no_folder_can_be_read_the_message_names_them(root):
    run = write_run(root)
    (run.folder / "run.json").write_text("{")
    with pytest.raises(RunError, match=f"no runs in (.|\n)*Left out because unreadable: 1 run folder, {run.name}"):
        tables.select()


def test_figures_are_those_of_the_best_epoch_not_of_the_last(root):
    run = all_kinds(root)[0]
    row = tables.comparison([run]).iloc[0]
    log = run.log()
    line = log[(log["mode"] == "val") & (log["epoch"] == 2)].iloc[0]
    assert (row["Epoch"], row["Best Epoch"]) == (4, 2)
    for figure in FIGURES:
        assert row[f"val/{figure}"] == line[figure]
    assert row["val/bbox_mAP"] == THIRD
    assert row["val/loss"] != log[log["mode"] == "val"].iloc[-1]["loss"]


def test_settings_and_costs_of_a_done_run(root):
    row = tables.comparison(all_kinds(root)[:1]).iloc[0]
    expected = {
        "Backbone": "resnet50", "RoI Head": "StandardRoIHead", "initial lr": 1e-4, "Lr schd": "step [8, 11]",
        "Optimizer": "AdamW", "Image size": "400x400", "Detector": "faster_rcnn", "status": "done",
        "parameters (M)": 41.1, "train images/s": 1.2345678901234567, "val images/s": 3.3,
        "peak memory (MB)": 2345.678, "train images": 35, "val images": 10, "objects in val": 214,
        "small objects in val": 66, "medium objects in val": 140, "large objects in val": 8, "dataset": "tree_crowns",
        "seed": 0}
    assert {column: row[column] for column in expected} == expected


def test_a_failed_run_shows_its_best_epoch_so_far(root):
    row = tables.comparison(all_kinds(root)).iloc[1]
    assert (row["status"], row["Epoch"], row["Best Epoch"], row["val/bbox_mAP"]) == ("failed", 3, 2, 0.3)
    assert pd.isna(row["train images/s"]) and pd.isna(row["peak memory (MB)"])


def test_a_run_without_a_finished_epoch_has_blank_figures(root):
    row = tables.comparison(all_kinds(root)).iloc[4]
    assert (row["status"], row["Epoch"]) == ("running", 0)
    assert row[["Best Epoch", *(f"val/{figure}" for figure in FIGURES)]].isna().all()


def test_a_run_that_has_only_been_created_is_in_the_table(root):
    run = create_run({"dataset": "d", "detector": "detr", "backbone": "timm/convnext", "epochs": 3}, "00")
    row = tables.comparison([run]).iloc[0]
    assert (row["status"], row["Backbone"], row["Epoch"]) == ("running", "timm/convnext", 0)
    assert pd.isna(row["initial lr"]) and pd.isna(row["small objects in val"])


def test_a_loss_that_a_detector_does_not_have_is_blank_not_zero(root):
    row = tables.comparison(all_kinds(root)).iloc[2]
    assert row[["val/loss_rpn_cls", "val/loss_rpn_bbox", "val/acc"]].isna().all()
    assert row[["val/loss_cls", "val/loss_bbox", "val/loss"]].gt(0).all()
    assert row["RoI Head"] is None


def test_an_empty_size_is_blank_in_table_and_files(root):
    table = tables.comparison(all_kinds(root)[3:4])
    csv, markdown = tables.write_comparison(table, root)
    assert pd.isna(table.loc[0, "val/bbox_mAP_s"]) and table.loc[0, "small objects in val"] == 0
    assert pd.isna(pd.read_csv(csv).loc[0, "val/bbox_mAP_s"])
    assert markdown_rows(markdown)[0]["val/bbox_mAP_s"] == ""


def test_a_val_set_without_objects_has_no_best_epoch(root):
    run = write_run(root, maps=(None, None), status="running")
    row = tables.comparison([run]).iloc[0]
    assert pd.isna(row["Best Epoch"]) and pd.isna(row["val/bbox_mAP"])
    assert row["Epoch"] == 2 and row["val/loss"] > 0


def test_csv_gives_every_figure_back_to_the_bit(root):
    table = tables.comparison(all_kinds(root))
    csv, _ = tables.write_comparison(table, root)
    back = pd.read_csv(csv, float_precision="round_trip", keep_default_na=False, na_values=[""])
    assert list(back.columns) == list(table.columns)
    for column in table:
        ours, read = (frame[column].astype(object) for frame in (table, back))
        assert ours.isna().tolist() == read.isna().tolist()
        assert ours.dropna().tolist() == read.dropna().tolist()


def test_markdown_has_the_same_rows_to_three_decimals(root):
    table = tables.comparison(all_kinds(root))
    rows = markdown_rows(tables.write_comparison(table, root)[1])
    assert [row["run"] for row in rows] == table["run"].tolist()
    assert list(rows[0]) == list(table.columns)
    assert (rows[0]["val/bbox_mAP"], rows[0]["initial lr"], rows[0]["Epoch"]) == ("0.333", "0.0001", "4")


def test_a_bar_in_a_name_does_not_break_the_markdown(root):
    run = write_run(root, data={"name": "left|right"})
    text = tables.write_comparison(tables.comparison([run]), root)[1].read_text()
    assert "left\\|right" in text


def test_writing_replaces_the_files_and_leaves_no_other(root, tmp_path):
    folder = tmp_path / "new"
    table = tables.comparison(all_kinds(root))
    for part in (table, table[:1]):
        tables.write_comparison(part, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.csv", "comparison.md"]
    assert len(pd.read_csv(folder / "comparison.csv")) == 1


def test_the_table_for_reading_has_a_column_a_run_and_escapes_names(root):
    write_run(root, backbone="resnet18", data={"name": "<b>trees</b>"})
    page = tables.for_reading(tables.comparison(tables.select())).to_html()
    assert page.count("col_heading") == 1 and "&lt;b&gt;trees" in page and "sticky" in page


def test_select_takes_names_and_dataset(root):
    trees, sea = write_run(root), write_run(root, backbone="swin_t", data={"name": "sea"}, hour=1)
    assert tables.select() == [trees, sea]
    assert tables.select(f" {sea.name}, {trees.name},{sea.name},") == [trees, sea]
    assert tables.select(dataset="sea") == [sea]


def test_select_tells_what_is_there(root):
    with pytest.raises(RunError, match="workbook run --backbone tf_efficientnet_lite0"):
        tables.select()
    run = write_run(root)
    with pytest.raises(RunError, match=f"no run 'nosuch'(.|\n)*{run.name}"):
        tables.select(f"{run.name}, nosuch")
    with pytest.raises(RunError, match="dataset 'sea': they are on tree_crowns"):
        tables.select(dataset="sea")


def test_labels_name_the_remedies(root):
    runs = [write_run(root), write_run(root, parameters={"remedies": "soft_nms,tiles"}, hour=1)]
    assert tables.labels(tables.comparison(runs)) == ["1 resnet50", "2 resnet50 + soft_nms + tiles"]


def test_labels_are_unique_and_name_the_detector_only_where_it_differs(root):
    runs = all_kinds(root)
    assert tables.labels(tables.comparison(runs[:2])) == ["1 resnet50", "2 swin_t (failed)"]
    assert tables.labels(tables.comparison(runs))[2:] == [
        "3 resnet50 · vfnet", "4 resnet18 · faster_rcnn", "5 pvtv2_b0 · faster_rcnn (running)"]


def test_the_table_needs_no_plotting_library():
    code = "import sys, workbook.views.compare.tables; assert not {'matplotlib', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def markdown_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a Markdown table, cell by cell."""
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in path.read_text().splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]
