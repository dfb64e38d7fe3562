"""Intervals in the comparison: those of the bootstrap on the run's own detections, and the differences of the page."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest

from measured_runs import val_truth, write_measured
from run_folders import write_run
from workbook.evaluation.bootstrap import bootstrap
from workbook.evaluation.matching import match
from workbook.files import read_json, write_json
from workbook.views.compare import plots
from workbook.views.compare.intervals import compared, differences_from_the_best, for_reading, interval_table
from workbook.views.compare.reported import with_reported
from workbook.views.compare.tables import comparison, labels, write_comparison

matplotlib.use("Agg")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path))
    return tmp_path


def three_seeds(root: Path, shares: dict[str, float]) -> list:
    return [write_measured(root, backbone, share, seed=seed, hour=10 * number + seed, luck=100 * number + seed)
            for number, (backbone, share) in enumerate(shares.items()) for seed in range(3)]


def test_every_ap_of_a_run_has_the_interval_of_its_detections(root) -> None:
    run = write_measured(root, "resnet18", 0.6)
    row = interval_table([run]).iloc[0]
    figures = bootstrap(match(val_truth(), read_json(run.folder / "predictions.json"))).figures
    for name in ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_l"):
        interval = figures[name].interval()
        assert row[name].rstrip("?") == f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
        assert row[name].endswith("?") == interval.undetermined
    assert row["bbox_mAP_m"] == "no objects" and row["why not"] == ""


def test_a_run_without_detections_says_why_and_the_others_are_there(root) -> None:
    good, bad = write_measured(root, "resnet18", 0.6), write_measured(root, "swin_t", 0.6, hour=1)
    (bad.folder / "predictions.json").unlink()
    broken_off = write_run(root, backbone="resnet50", status="running", hour=2)
    table = interval_table([good, bad, broken_off])
    assert table["bbox_mAP"].iloc[0] and list(table["bbox_mAP"].iloc[1:]) == ["", ""]
    assert "predictions.json is missing" in table["why not"].iloc[1] and table["why not"].iloc[2] == "the run is running"


def test_differences_are_those_of_the_page_turned_towards_the_best(root) -> None:
    runs = three_seeds(root, {"resnet18": 0.4, "swin_t": 0.9, "resnet50": 0.42})
    found, best = compared(runs)
    table = differences_from_the_best(found, best)
    assert best == "swin_t (Exp 4-6)" and list(table["setting"]) == ["resnet50 (Exp 7-9)", "resnet18 (Exp 1-3)"]
    pair = next(each for each in found if each.figure == "bbox_mAP" and each.lower.startswith("resnet18") and each.higher == best)
    assert table["bbox_mAP"].iloc[1] == f"{-pair.value:+.3f} ({-pair.high:+.3f} to {-pair.low:+.3f})"
    assert "bbox_mAP_m" in table and set(table["bbox_mAP_m"]) == {""}


def test_an_open_difference_has_a_question_mark(root) -> None:
    found, best = compared(three_seeds(root, {"resnet18": 0.6, "swin_t": 0.62}))
    assert all(cell.endswith("?") for cell in differences_from_the_best(found, best)["bbox_mAP"])


def test_what_cannot_be_compared_has_no_differences(root) -> None:
    assert compared([write_measured(root, "resnet18", 0.5)]) == ([], "")
    assert differences_from_the_best([], "").empty
    ax, = plots.pairs_by_size([])
    assert ax.texts[0].get_text() == "no two settings that can be compared"


def test_the_figure_of_pairs_draws_every_pair_with_its_interval(root) -> None:
    found, _ = compared(three_seeds(root, {"resnet18": 0.4, "swin_t": 0.9, "resnet50": 0.42}))
    panels = plots.pairs_by_size(found)
    assert [(ax.get_title() + ax.get_title(loc="left")).partition(":")[0] for ax in panels] == ["bbox_mAP", "bbox_mAP_s", "bbox_mAP_l"]
    first = [each for each in found if each.figure == "bbox_mAP"]
    assert [line.get_xdata()[0] for line in panels[0].lines if line.get_marker() == "o"] == [each.value for each in first]
    spans = [segment[:, 0].tolist() for part in panels[0].collections for segment in part.get_segments()]
    assert spans == [[each.low, each.high] for each in first]
    filled = [line.get_markerfacecolor() != "white" for line in panels[0].lines if line.get_marker() == "o"]
    assert filled == [each.has_winner for each in first] and any(filled) and not all(filled)
    matplotlib.pyplot.close("all")


def test_names_are_text_in_the_table(root) -> None:
    run = write_measured(root, "resnet18", 0.5)
    run.update(parameters={**run.record["parameters"], "backbone": "<b>x</b>"})
    assert "<b>x" not in for_reading(interval_table([run])).to_html()


def test_reported_rows_stand_in_the_table_and_the_plots_and_have_no_interval(root) -> None:
    run = write_measured(root, "resnet18", 0.5)
    folder = root / "reported" / "tree_crowns"
    folder.mkdir(parents=True)
    row = {"Exp num": "1-1", "Backbone": "R50", "Epoch": 12, "initial lr": 0.002, "val/bbox_mAP": 0.231, "val/bbox_mAP_s": 0.0}
    write_json(folder / "t.md.json", {"dataset": "tree_crowns", "table": "t.md", "rows": [row]})
    table = with_reported(comparison([run]), ["tree_crowns"])
    assert labels(table) == ["1 resnet18", "1-1 R50 (reported)"]
    assert table["val/bbox_mAP"].tolist() == [run.metrics()["bbox_mAP"], 0.231] and table["Epoch"].tolist() == [1, 12]
    assert len(interval_table([run])) == 1
    ax = plots.map_by_size(table)
    assert "0.231" in [text.get_text() for text in ax.texts] and "1-1 R50 (reported)" in [tick.get_text() for tick in ax.get_yticklabels()]
    ax = plots.map_against_parameters(table)
    assert (ax.get_title() + ax.get_title(loc="left")).endswith("no figures: Exp 1-1)")
    _, markdown = write_comparison(table, root)
    assert "| 1-1 " in markdown.read_text() and "reported" in markdown.read_text()
    assert with_reported(comparison([run]), ["other"])["Exp num"].tolist() == [1]
    matplotlib.pyplot.close("all")
