"""The pictures of a search: what they draw is what the proof says, named and with its numbers."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from diagnosed import diagnosed, jittered, lost_at
from made_proofs import NOTHING_HELPS, PROVEN, UNPROVEN
from workbook.views import style
from workbook.views.remedy import plots


@pytest.fixture(autouse=True)
def theme():
    style.use_theme()
    yield
    plt.close("all")


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_the_arms_stand_by_gain_with_their_intervals() -> None:
    ax = plots.gains(PROVEN)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["fitted_anchors with longer_training (winner)", "fitted_anchors", "mended_labels", "soft_nms", "longer_training"]
    marks = {line.get_ydata()[0]: line for line in ax.lines if len(line.get_xdata()) == 1 and len(line.get_ydata())}
    assert [marks[row].get_xdata()[0] for row in range(5)] == [0.041, 0.025, 0.012, 0.002, -0.004]
    lines = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_marker() == "|"]
    assert [tuple(line) for line in lines][0] == pytest.approx((0.021, 0.061)) and len(lines) == 4
    assert "n = 60 small objects in 9 images" in ax.get_title(loc="left") and "+0.041, 3 seeds" in words(ax)
    kinds = {text.get_text() for text in ax.get_legend().get_texts()}
    assert kinds == {"evaluation alone", "trained", "combined", "upper bound, on val"}
    markers = [marks[row].get_marker() for row in range(5)]
    assert len(set(markers[:4])) == 4  # a kind can be told without its colour


def test_promised_and_got_of_every_size() -> None:
    ax = plots.promised_and_got(PROVEN)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "AP_s (n = 66 small objects)", "AP (n = 214 all objects)", "AP_m (n = 148 medium objects)", "AP_l (n = 0 large objects)"]
    assert [bar.get_width() for bar in ax.patches] == [0.035, 0.011, -0.030]
    promised = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == ">" and len(line.get_xdata())]
    assert promised == [0.210, 0.180, 0.150] and "0.070 → 0.105 (+0.035)" in words(ax) and " no objects" in words(ax)


def test_every_arm_is_a_named_point_against_both_costs() -> None:
    panels = plots.score_against_cost(PROVEN)
    for ax in panels:
        assert set(words(ax)) == {"baseline", "soft_nms", "fitted_anchors", "longer_training", "fitted_anchors with longer_training"}
        assert "n = 60 small objects" in ax.get_title(loc="left") and "seconds" in ax.get_xlabel()
    points = sorted((line.get_xdata()[0], round(line.get_ydata()[0], 3)) for line in panels[0].lines)
    assert (0.62, 0.111) in points and (0.31, 0.07) in points


@pytest.mark.parametrize("proof", [NOTHING_HELPS, UNPROVEN])
def test_without_a_proof_the_pictures_say_so(proof) -> None:
    assert "nothing was put to the proof" in words(plots.promised_and_got(proof))
    plots.gains(proof)
    plots.score_against_cost(proof)


def test_the_two_waterfalls_stand_one_above_the_other(tmp_path) -> None:
    boxes = jittered(12)
    before, after = (diagnosed(tmp_path / stage, [lost_at(stage, box) for box in boxes], resamples=20, name=stage)
                     for stage in ("proposals", "detected"))
    panels = plots.two_waterfalls(before, after, "small")
    titles = [ax.get_title(loc="left") for ax in panels]
    assert [title.partition(":")[0] for title in titles] == ["before", "before", "after", "after"]
    assert all("n = 12" in title for title in titles) and len(panels[0].figure.legends) == 1
    tops = [ax.get_position().y1 for ax in panels]
    assert min(tops[:2]) > max(tops[2:])
    now = [next(bar.get_width() for bar in ax.patches) for ax in panels]
    assert now == [0, 0, 1, 1]
