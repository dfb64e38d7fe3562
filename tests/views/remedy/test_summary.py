"""What is said of a search and its proof: a gain only where the interval says so, and what else there is to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from made_proofs import CURVE, NOTHING_HELPS, PROVEN, SMALL, UNPROVEN
from workbook.proofs.store import Control, Proof, SizeProof
from workbook.views.remedy.summary import answer, arms_table, summarize
from workbook.views.style import use_theme


def of_small(**changed: float | None) -> Proof:
    return replace(PROVEN, sizes={**PROVEN.sizes, "small": replace(SMALL, **changed)})


def test_a_proven_gain_is_the_first_sentence_with_its_interval_and_its_promise() -> None:
    words = summarize(PROVEN)
    assert words.startswith("**fitted_anchors with longer_training raises AP_s from 0.070 to 0.105: +0.035 (95%: +0.012 to +0.058 over 3 "
                            "seeds and the val images, corrected for the sizes).**")
    assert "cost 0.210 AP_s; the remedy brought +0.035 of that" in words
    assert "AP_m 0.180 to 0.150 (-0.030, 95%: -0.050 to -0.010): falls" in words
    assert "AP 0.120 to 0.131 (+0.011, 95%: -0.004 to +0.026): open" in words and "AP_l: val has no such object" in words
    assert "workbook browse before-1 after-1" in words and "| seconds a step" in words and "| detections an image" in words


@pytest.mark.parametrize(("changed", "verdict"), [
    ({"low": -0.001}, "undetermined"), ({"low": 0.0}, "undetermined"), ({"low": None, "high": None}, "too few images for an interval"),
    ({"after": 0.05, "difference": -0.02, "low": -0.03, "high": -0.01}, "a loss")])
def test_nothing_else_is_called_a_gain(changed: dict[str, float | None], verdict: str) -> None:
    words = answer(of_small(**changed))
    assert words.startswith("**No gain is proven.**") and verdict in words and "raises" not in words


def test_the_control_decides_whether_it_is_the_remedy() -> None:
    assert "so its cost alone may explain as much" in summarize(PROVEN)
    assert PROVEN.control is not None
    beaten = replace(PROVEN, control=replace(PROVEN.control, sizes=PROVEN.sizes))
    assert "so the gain is not that of its cost alone" in summarize(beaten)
    same = replace(PROVEN, control=Control("the baseline itself: a training of the winner is x1.00 its steps times pixels", {}))
    assert "The control of the same cost: the baseline itself" in summarize(same)


def test_when_nothing_helps_it_says_so_and_what_more_images_and_labels_may_bring() -> None:
    words = summarize(NOTHING_HELPS)
    assert words.startswith("**No remedy helps.** 3 were tried on images cut from train")
    assert "twice as many would bring +0.019 AP_s (95%: +0.004 to +0.034, if the law holds)" in words
    assert "if all 7 suspect labels of val were wrong, AP_s would be 0.082, +0.012; that is a bound" in words
    open_curve = replace(NOTHING_HELPS, arms=(*NOTHING_HELPS.arms[:-1], replace(CURVE, low=-0.01)))
    assert "twice as many may bring, or not, +0.019" in summarize(open_curve)


def test_what_the_budget_left_unproven_is_no_gain() -> None:
    words = summarize(UNPROVEN)
    assert "it is not proven" in words and "no gain is claimed" in words and "raises" not in words


def test_the_table_has_every_arm_the_best_first_and_those_not_tried_with_their_reason() -> None:
    table = arms_table(NOTHING_HELPS)
    assert len(table) == len(NOTHING_HELPS.arms)
    gains = [float(value) for value in table["gain"] if value]
    assert gains == sorted(gains, reverse=True)
    assert table.set_index("arm")["what became of it"]["coco_start"] == "not tried: load_from is empty"


def test_what_to_do_is_not_cut_in_a_notebook() -> None:
    use_theme()
    advice = "not tried: it starts from COCO's weights, " + "and load_from is empty. " * 10 + "Give load_from=/path/to/it.pth"
    shown = arms_table(replace(NOTHING_HELPS, arms=(replace(NOTHING_HELPS.arms[0], outcome=advice),)))._repr_html_()
    assert "Give load_from=/path/to/it.pth" in shown


def test_a_size_that_val_lacks_is_named() -> None:
    nothing = SizeProof(None, None, None, None, None, 0.2)
    assert "val has no small object" in answer(replace(PROVEN, sizes={**PROVEN.sizes, "small": nothing}))
