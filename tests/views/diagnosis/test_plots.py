"""The pictures and tables of a diagnosis: planted tables give the planted bars, read back from the Axes."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from diagnosed import DROPS, detection, kept, lost
from workbook.errors import RunError
from workbook.views.diagnosis import pictures as diagnosis_pictures
from workbook.views.diagnosis import plots as diagnosis_plots
from workbook.views.diagnosis import tables as diagnosis_tables
from workbook.views.style import use_theme

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    matplotlib.pyplot.close("all")


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_the_waterfall_draws_each_drop_where_the_last_ended(tmp_path: Path) -> None:
    use_theme()
    small, medium, large, every = diagnosis_plots.waterfall(kept(tmp_path, lost("box", 4), undetermined=("class",)))
    bars = small.patches
    assert np.allclose([bar.get_width() for bar in bars], [0.25, *DROPS])
    assert np.allclose([bar.get_x() for bar in bars[1:]], 0.25 + np.cumsum([0, *DROPS[:-1]]))
    assert [tick.get_text() for tick in small.get_yticklabels()] == ["AP now", "proposals", "class", "box", "suppression", "ranking"]
    assert len({bar.get_hatch() for bar in bars[1:]}) == len({to_hex(bar.get_facecolor()) for bar in bars[1:]}) == 5
    assert {"0.250 (0.20 to 0.30)", "+0.300 (0.25 to 0.35)", "+0.200 (0.15 to 0.25) ?", "+0.000 (0.00 to 0.00)"} <= set(words(small))
    assert words(medium) == words(large) == ["no objects"] and not medium.patches
    assert "n = 4 in 12 images" in small.get_title(loc="left") and len(every.patches) == 6


def test_stages_are_counted_by_size_and_by_class(tmp_path: Path) -> None:
    rows = [*lost("proposals", 5), *lost("box", 2, **{"class": "dog"}), *lost("detected", 3), *lost("box", 4, "medium")]
    ax = diagnosis_plots.stages_by_size(kept(tmp_path, rows))
    widths = {group.get_label(): [bar.get_width() for bar in group] for group in ax.containers}
    assert widths["proposals (5)"] == [5, 0, 0] and widths["box (6)"] == [2, 4, 0] and widths["detected (3)"] == [3, 0, 0]
    assert [bar.get_x() for bar in ax.containers[2]] == [5, 0, 0] and "no objects" in words(ax)
    ax = diagnosis_plots.stages_by_class(kept(tmp_path, rows))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["cat (n = 8)", "dog (n = 2)"]


def test_recall_counts_the_first_candidate_that_fits(tmp_path: Path) -> None:
    rows = [*lost("box", 1, first_rank=40.0), *lost("box", 1, first_rank=250.0), *lost("box", 1, first_rank=900.0), *lost("proposals", 1)]
    ax = diagnosis_plots.candidate_recall(kept(tmp_path, rows))
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75] and words(ax).count("no objects") == 2
    diagnosis = kept(tmp_path, rows)
    diagnosis.config.model.test_cfg = {"rpn": {"max_per_img": 300}}
    title = diagnosis_plots.candidate_recall(diagnosis).get_title(loc="left")
    assert title.endswith("the detector keeps at most 300")


def test_calibration_and_false_positives_show_share_and_n(tmp_path: Path) -> None:
    found = [detection(0.95), detection(0.93, "false", "background"), detection(0.25, "false", "poor box"), detection(0.96, "excused")]
    diagnosis = kept(tmp_path, lost("detected", 1), detections=found)
    small, medium, _ = diagnosis_plots.calibration(diagnosis)
    assert [bar.get_height() for bar in small.patches] == [0, 0.5] and words(small) == ["1", "2"] and words(medium) == ["no detections"]
    panels = diagnosis_plots.false_positives(diagnosis)
    assert [bar.get_width() for bar in panels[0].patches] == [0, 1, 2, 3, 4] and " 3, AP +0.030" in words(panels[0])


def test_missed_objects_show_every_stage_with_truth_and_candidate(tmp_path: Path) -> None:
    poor = lost("box", 1, box_iou=0.4, best_bbox=[33.0, 44.0, 20.0, 20.0])
    rows = [*lost("proposals", 9, candidate_cut="RPN NMS"), *poor, *lost("detected", 2)]
    figure = diagnosis_pictures.missed_objects(kept(tmp_path, rows), most=4)
    titles = [ax.get_title(loc="left") + ax.get_title() for ax in figure.axes if ax.has_data()]
    assert sum("proposals: RPN NMS" in title for title in titles) == 3 and sum("box: IoU 0.40" in title for title in titles) == 1
    last = next(ax for ax in figure.axes if "box:" in ax.get_title(loc="left") + ax.get_title())
    dashed = [path for boxes in last.collections if boxes.get_linestyle()[0][1] for path in boxes.get_paths()]
    assert [path.get_extents().bounds for path in dashed] == [(33.0, 44.0, 20.0, 20.0)] and "4 of 10 missed small" in figure.get_suptitle()
    empty = diagnosis_pictures.missed_objects(kept(tmp_path, lost("detected", 1)))
    assert words(empty.axes[0]) == ["no small objects are missed"]


def test_suspects_are_sure_detections_of_nothing_and_sure_other_classes(tmp_path: Path) -> None:
    found = [detection(0.9, "false", "background"), detection(0.8, "false", "background", iou=0.05), detection(0.4, "false", "background"),
             detection(0.95, "false", "poor box", iou=0.4), *(detection(score) for score in (0.99, 0.99, 0.5, 0.3, 0.3))]
    rows = [*lost("class", 1, named_class="dog", named_score=0.85), *lost("class", 1, named_class="background", named_score=0.99),
            *lost("class", 1, named_class="dog", named_score=0.3)]
    diagnosis = kept(tmp_path, rows, detections=found)
    table = diagnosis_tables.suspects(diagnosis)
    assert table["score"].tolist() == [0.9, 0.85, 0.8] and table["why"].tolist() == ["no label here?", "another class?", "no label here?"]
    assert len([ax for ax in diagnosis_pictures.suspect_labels(diagnosis, table).axes if ax.has_data()]) == 3
    hardest = diagnosis_tables.hardest_images(diagnosis)
    assert hardest.loc["1.png", ["objects", "missed", "class", "false positives from 0.50"]].tolist() == [3, 3, 3, 3]


def test_two_runs_are_compared_on_the_same_images_only(tmp_path: Path) -> None:
    good = {**detection(0.9), "bbox": [30.0, 40.0, 20.0, 20.0]}
    blind, sharp = (kept(tmp_path / name, lost("box", 2), detections=found) for name, found in (("a", []), ("b", [good])))
    table = diagnosis_tables.differences(blind, sharp)
    assert table.loc["small", "difference"] > 0.4 and table.loc["small", "undetermined"]  # one image is too few
    with pytest.raises(RunError, match="a and c cannot be set side by side: the images are the same, but 1 labels are not"):
        diagnosis_tables.differences(blind, kept(tmp_path / "c", lost("box", 2) + lost("box", 1, "medium")))
