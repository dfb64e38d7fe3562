"""The pictures and tables of a diagnosis: planted scenes give the planted bars, read back from the Axes."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from diagnosed import at, diagnosed, jittered, lost_at, shifted
from planted import Answer, Scene
from workbook.diagnosis.store import SavedDiagnosis
from workbook.errors import RunError
from workbook.views.diagnosis import pictures, summary, tables
from workbook.views.diagnosis.plots.calibration import calibration
from workbook.views.diagnosis.plots.candidate_recall import candidate_recall
from workbook.views.diagnosis.plots.false_positives import false_positives
from workbook.views.diagnosis.plots.stages_by_class import stages_by_class
from workbook.views.diagnosis.plots.stages_by_size import stages_by_size
from workbook.views.diagnosis.plots.waterfall import waterfall
from workbook.views.style import use_theme

matplotlib.use("Agg")
STAGES = ["proposals"] * 5 + ["box"] * 4 + ["detected"] * 3


@pytest.fixture(autouse=True)
def close_figures():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedDiagnosis:
    """Twelve images of a small cat: five never proposed, four in poor boxes, three found."""
    scenes = [lost_at(stage, box) for stage, box in zip(STAGES, jittered(12), strict=True)]
    return diagnosed(tmp_path_factory.mktemp("planted"), scenes)


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def title(ax) -> str:
    return ax.get_title(loc="left") + ax.get_title()


def test_the_waterfall_draws_each_cost_where_the_last_ended_with_what_it_brings_alone_and_last(saved: SavedDiagnosis) -> None:
    use_theme()
    panels = waterfall(saved)
    small = panels[1]  # AP; the first is AP50
    of_size = saved.waterfall.metrics["AP"]["small"]
    costs = [cost for cost in of_size.stages if cost.stage != "not counted"]
    values = [cost.shapley for cost in costs]
    assert np.allclose([bar.get_width() for bar in small.patches], [of_size.ap, *values])
    starts = of_size.ap + np.cumsum([0, *values[:-1]])
    assert np.allclose([bar.get_x() for bar in small.patches[1:]], starts)
    assert [tick.get_text() for tick in small.get_yticklabels()] == ["AP now", *(cost.stage for cost in costs)]
    colors = {to_hex(bar.get_facecolor()) for bar in small.patches[1:]}
    assert len({bar.get_hatch() for bar in small.patches[1:]}) == len(colors) == 5
    marks = {marker: [line.get_xdata()[0] for line in small.lines if line.get_marker() == marker] for marker in (">", "s")}
    assert np.allclose(marks[">"], starts + [cost.alone for cost in costs])
    assert np.allclose(marks["s"], starts + [cost.last for cost in costs])
    box = of_size.cost("box")
    assert f"{box.shapley:+.3f} ({box.low:.2f} to {box.high:.2f})" in words(small)
    suppression = of_size.cost("suppression")
    assert f"{suppression.shapley:+.3f} (0.00 to {suppression.high:.2f}) ?" in words(small), "not seen: open, with its bound"
    assert "n = 12 in 12 images" in title(small)
    assert words(panels[2]) == ["no objects"] and not panels[2].patches


def test_under_ten_images_no_interval_is_drawn(tmp_path: Path) -> None:
    few = diagnosed(tmp_path, [lost_at("box", box) for box in jittered(3)], resamples=20)
    panel = waterfall(few)[1]
    assert "too few for intervals" in title(panel)
    assert not [line for line in panel.lines if line.get_marker() == "|"[0] and line.get_linewidth() == 1.6 and len(line.get_xdata()) == 2
                and line.get_ydata()[0] == line.get_ydata()[1]]
    assert not [text for text in words(panel) if " to " in text]


def test_stages_are_counted_by_size_and_by_class(saved: SavedDiagnosis) -> None:
    ax = stages_by_size(saved)[0]
    widths = {group.get_label(): [bar.get_width() for bar in group] for group in ax.containers}
    assert widths["proposals (5)"] == [5, 0, 0] and widths["box (4)"] == [4, 0, 0] and widths["detected (3)"] == [3, 0, 0]
    box = next(group for group in ax.containers if group.get_label() == "box (4)")
    assert [bar.get_x() for bar in box] == [5, 0, 0] and words(ax).count("no objects") == 2
    ax = stages_by_class(saved)[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["cat (n = 12)"]


def test_recall_counts_the_first_candidate_that_fits(saved: SavedDiagnosis) -> None:
    ax = candidate_recall(saved)[0]
    assert np.allclose([bar.get_height() for bar in ax.patches], 7 / 12) and words(ax).count("no objects") == 2
    assert "proposals of an image" in title(ax) and title(ax).endswith("the detector takes at most 300")


def test_calibration_shows_share_and_n(saved: SavedDiagnosis) -> None:
    small, medium, _ = calibration(saved)
    assert [bar.get_height() for bar in small.patches] == [pytest.approx(3 / 7)] and words(small) == ["7"]
    assert words(medium) == ["no detections"]


def test_false_positives_show_their_number(saved: SavedDiagnosis) -> None:
    panels = false_positives(saved)
    assert sum(bar.get_width() for bar in panels[0].patches) == 4, "the four poor boxes, small"


def test_missed_objects_show_every_stage_with_object_and_candidate(saved: SavedDiagnosis) -> None:
    figure = pictures.missed_objects(saved, most=4)
    titles = [title(ax) for ax in figure.axes if ax.has_data()]
    assert sum("proposals: no anchor reaches it" in one for one in titles) == 2 and sum("box: IoU 0.4" in one for one in titles) == 2
    last = next(ax for ax in figure.axes if "box:" in title(ax))
    number = int(title(last).split()[1])
    row = saved.trace.set_index("annotation_id").loc[number]
    dashed = [path for boxes in last.collections if boxes.get_linestyle()[0][1] for path in boxes.get_paths()]
    assert np.allclose([path.get_extents().bounds for path in dashed], [row["best_bbox"]])
    assert "4 of 9 missed small" in figure.get_suptitle()
    empty = pictures.missed_objects(saved, size="large")
    assert words(empty.axes[0]) == ["no large objects are missed"]


def test_the_hardest_images_come_first(tmp_path: Path) -> None:
    boxes = [at(20, 20, 24, 24), at(80, 20, 24, 24), at(140, 20, 24, 24)]
    hard = Scene([(box, "cat") for box in boxes], [Answer(boxes[0], {"cat": 0.9}), Answer(shifted(boxes[1], 10), {"cat": 0.8})])
    saved = diagnosed(tmp_path, [lost_at("detected", boxes[0]), hard], resamples=2)
    table = tables.hardest_images(saved)
    assert list(table.index) == ["2.png", "1.png"] and list(table["missed"]) == [2, 0] and table.loc["2.png", "proposals"] == 2


def test_two_runs_are_compared_on_the_same_images_only(tmp_path: Path) -> None:
    boxes = jittered(12)
    blind, sharp = (diagnosed(tmp_path / stage, [lost_at(stage, box) for box in boxes], resamples=20, name=stage)
                    for stage in ("box", "detected"))
    found = {one.figure: one for one in tables.differences(blind, sharp)}
    assert set(found) == {"bbox_mAP", "bbox_mAP_s"}, "val has no medium and no large objects"
    small = found["bbox_mAP_s"]
    assert (small.higher, small.lower, small.comparisons) == ("detected", "box", 2) and small.value > 0.9
    words = summary.difference(blind, sharp, [small])
    assert "is better than" not in words and "with one seed each, another seed may turn it" in words
    other = diagnosed(tmp_path / "c", [lost_at("box", box) for box in jittered(12, seed=1)], resamples=2, name="c")
    with pytest.raises(RunError, match="box and c cannot be set side by side: the images are the same, but 24 labels are not"):
        tables.differences(blind, other)
