"""The pictures: what is drawn, read back from the Axes."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from run_folders import write_run
from workbook.files import write_json
from workbook.views import style
from workbook.views.compare import plots, tables
from workbook.views.run import plots as run_plots

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    matplotlib.pyplot.close("all")


def twelve(root: Path) -> list:
    """Twelve runs with near figures: names and lines crowd."""
    names = [f"timm/backbone_{number}" for number in range(12)]
    return [write_run(root, backbone=name, maps=(0.1 + number / 1000, 0.15 + number / 1000), hour=number,
                      record={"model": {"roi_head": None, "parameters_m": 20.0 + number / 5}})
            for number, name in enumerate(names)]


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def overlaps(boxes) -> int:
    return sum(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])


def test_map_by_size_draws_one_bar_a_figure_at_one_scale(tmp_path):
    runs = [write_run(tmp_path, backbone=name, maps=(0.1, top), hour=hour)
            for hour, (name, top) in enumerate((("resnet18", 0.25), ("swin_t", 0.5)))]
    ax = plots.map_by_size(tables.comparison(runs))
    widths = [[bar.get_width() for bar in group] for group in ax.containers]
    assert np.allclose(widths, [[top * factor for top in (0.25, 0.5)] for factor in (1, 0.4, 1.3, 1.6)])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1 resnet18", "2 swin_t"]
    assert {"all\nn = 214", "small\nn = 66", "medium\nn = 140", "large\nn = 8"} <= set(words(ax))
    assert {"0.250", "0.500", "0.100", "0.200"} <= set(words(ax))
    assert len({group[0].get_hatch() for group in ax.containers}) == 4
    assert "10 val images" in ax.get_title(loc="left") + ax.get_title()


def test_map_by_size_draws_no_bar_where_there_is_no_object_or_no_figure(tmp_path):
    runs = [write_run(tmp_path, backbone="resnet18", maps=(0.2,), no_small=True),
            write_run(tmp_path, backbone="swin_t", maps=(), status="running", hour=1, data={"val_small": 0})]
    ax = plots.map_by_size(tables.comparison(runs))
    assert [len(group) for group in ax.containers] == [1, 0, 1, 1]
    assert words(ax).count("no objects") == 2 and words(ax).count("no figures") == 3


def test_map_by_size_draws_a_true_zero(tmp_path):
    ax = plots.map_by_size(tables.comparison([write_run(tmp_path, maps=(0.0,))]))
    assert [len(group) for group in ax.containers] == [1, 1, 1, 1]
    assert words(ax).count("0.000") == 4


def test_map_by_size_of_twelve_runs_lets_no_words_touch(tmp_path):
    style.use_theme()
    ax = plots.map_by_size(tables.comparison(twelve(tmp_path)))
    ax.figure.draw_without_rendering()
    assert overlaps([text.get_window_extent() for text in (*ax.texts, *ax.get_yticklabels())]) == 0
    assert ax.xaxis.label.get_window_extent().x1 <= ax.figure.bbox.x1


def test_no_figure_asks_for_a_weight_that_the_fonts_for_other_scripts_lack(tmp_path, caplog):
    style.use_theme()
    plots.map_by_size(tables.comparison(twelve(tmp_path))).figure.canvas.draw()
    assert not [record for record in caplog.records if record.name.startswith("matplotlib")]


def test_a_count_that_differs_between_runs_is_a_span(tmp_path):
    runs = [write_run(tmp_path), write_run(tmp_path, hour=1, data={"name": "sea", "val_small": 120})]
    assert "small\nn = 66 to 120" in words(plots.map_by_size(tables.comparison(runs)))


def test_curves_draw_a_line_a_run_with_the_logged_figures(tmp_path):
    runs = [write_run(tmp_path, backbone=name, maps=maps, hour=hour) for hour, (name, maps) in enumerate(
        (("resnet18", (0.1, 0.3, 0.2)), ("swin_t", (0.2, 0.25, 0.4))))]
    left, right = run_plots.curves(runs[::-1])
    assert [line.get_ydata().tolist() for line in left.lines] == [[0.1, 0.3, 0.2], [0.2, 0.25, 0.4]]
    assert [line.get_xdata().tolist() for line in left.lines] == [[1, 2, 3]] * 2
    log = runs[0].log()
    assert right.lines[0].get_ydata().tolist() == log.loc[log["mode"] == "val", "loss"].tolist()
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["1 resnet18", "2 swin_t"]
    assert [ring.get_offsets()[0].tolist() for ring in left.collections] == [[2, 0.3], [3, 0.4]]
    assert "n = 10 images" in left.get_title(loc="left") + left.get_title()


def test_curves_of_one_run_show_train_too_and_a_resumed_run_goes_forward(tmp_path):
    run = write_run(tmp_path, maps=(0.1, 0.2, 0.3), broken_off_after=1)
    left, right = run_plots.curves([run])
    assert len(left.lines) == 2 and len(left.lines[0].get_xdata()) == 0  # no mAP is logged while training
    train, val = right.lines
    assert np.all(np.diff(train.get_xdata()) > 0) and train.get_xdata()[-1] < val.get_xdata()[-1] == 3
    assert np.allclose(train.get_xdata(), run.log().query("mode == 'train'")["step"] / 18)


def test_curves_of_twelve_runs_can_be_told_apart(tmp_path):
    left, right = run_plots.curves(twelve(tmp_path))
    assert len({line.get_marker() for line in left.lines}) == 12
    assert len({to_hex(line.get_color()) for line in left.lines}) == 12
    assert len(right.get_legend().get_texts()) == 12


def test_curves_keep_a_run_without_figures_in_the_legend(tmp_path):
    runs = [write_run(tmp_path), write_run(tmp_path, backbone="swin_t", maps=(), status="failed", hour=1)]
    assert "2 swin_t (failed): no figures" in [
        text.get_text() for text in run_plots.curves(runs)[-1].get_legend().get_texts()]
    assert "no figures" in words(run_plots.curves(runs[1:])[0])


def test_curves_say_no_objects_where_val_has_none_of_a_size(tmp_path):
    ax, = run_plots.curves([write_run(tmp_path, no_small=True)], keys=["bbox_mAP_s"])
    assert words(ax) == ["no objects"]


def test_curves_name_an_unknown_key_and_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="no run has logged mAP: its log has (.*)bbox_mAP, "):
        run_plots.curves([write_run(tmp_path)], keys=["mAP"])


def test_losses_of_different_detectors_are_marked_as_not_comparable(tmp_path):
    runs = [write_run(tmp_path), write_run(tmp_path, detector="vfnet", hour=1)]
    assert "do not compare" in run_plots.curves(runs)[1].get_ylabel()
    assert "do not compare" not in run_plots.curves(runs[:1])[1].get_ylabel()


def test_learning_rate_is_the_logged_one(tmp_path):
    style.use_theme()
    run = write_run(tmp_path, maps=[0.1] * 12)
    ax = run_plots.learning_rate(run)
    ax.figure.draw_without_rendering()
    ticks = [text.get_text() for minor in (False, True) for text in ax.get_yticklabels(minor=minor)]
    assert "1e\N{MINUS SIGN}05" in ticks and not any("$" in tick for tick in ticks)
    train = run.log().query("mode == 'train'")
    assert ax.lines[0].get_ydata().tolist() == train["lr"].tolist() and ax.get_yscale() == "log"
    assert not run_plots.learning_rate(write_run(tmp_path, maps=(), status="failed")).lines


def test_map_against_parameters_names_each_point(tmp_path):
    runs = [write_run(tmp_path, backbone="resnet18", maps=(0.2,)),
            write_run(tmp_path, backbone="swin_t", maps=(0.3,), hour=1),
            write_run(tmp_path, backbone="resnet50", detector="vfnet", maps=(0.4,), hour=2),
            write_run(tmp_path, backbone="pvtv2_b5", maps=(0.1,), status="failed", hour=3),
            write_run(tmp_path, backbone="pvtv2_b0", maps=(), status="running", hour=4)]
    ax = plots.map_against_parameters(tables.comparison(runs))
    points = [point.tolist() for group in ax.collections for point in group.get_offsets()]
    assert points == [[28.1, 0.2], [44.7, 0.3], [98.3, 0.1], [41.1, 0.4]]
    assert words(ax) == ["1 resnet18", "2 swin_t", "3 resnet50", "4 pvtv2_b5"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "faster_rcnn", "faster_rcnn, not done", "vfnet"]
    assert to_hex(ax.collections[1].get_facecolor()[0]) == "#ffffff"
    assert "no figures: Exp 5" in ax.get_title(loc="left") + ax.get_title()
    assert ax.get_ylim()[0] == 0


def test_map_against_parameters_of_twelve_near_points_lets_no_names_overlap(tmp_path):
    style.use_theme()
    ax = plots.map_against_parameters(tables.comparison(twelve(tmp_path)))
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    assert len(boxes) == 12 and overlaps(boxes) == 0


def test_pictures_of_runs_without_any_figure_are_empty_not_broken(tmp_path):
    table = tables.comparison([write_run(tmp_path, maps=(), status="failed")])
    assert not plots.map_against_parameters(table).collections
    assert words(plots.map_by_size(table)).count("no figures") == 4


def test_per_class_draws_most_objects_first_and_no_bar_without_objects(tmp_path):
    run = write_run(tmp_path)
    write_json(run.folder / "metrics.json", {**run.metrics(), "per_class": {
        "rare": {"bbox_mAP": 0.1, "bbox_mAP_50": 0.3, "truths": 2},
        "none": {"bbox_mAP": None, "bbox_mAP_50": None, "truths": 0},
        "common": {"bbox_mAP": 0.5, "bbox_mAP_50": 0.8, "truths": 40}}})
    ax = run_plots.per_class(run)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["common (n = 40)", "rare (n = 2)", "none (n = 0)"]
    assert [bar.get_width() for bar in ax.patches] == [0.5, 0.1]
    assert ax.lines[0].get_xdata().tolist() == [0.8, 0.3]
    assert words(ax) == ["no objects"] and ax.texts[0].get_position()[1] == 2


def test_a_given_ax_is_drawn_on_and_returned(tmp_path):
    run = write_run(tmp_path)
    table = tables.comparison([run])
    figure, axes = matplotlib.pyplot.subplots(6)
    assert plots.map_by_size(table, ax=axes[0]) is axes[0]
    assert plots.map_against_parameters(table, ax=axes[1]) is axes[1]
    assert run_plots.per_class(run, ax=axes[2]) is axes[2]
    assert run_plots.learning_rate(run, ax=axes[3]) is axes[3]
    assert run_plots.curves([run], axes=axes[4:]) == list(axes[4:])
    assert matplotlib.pyplot.get_fignums() == [figure.number]
