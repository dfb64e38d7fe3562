"""The answer in words: planted scenes give the planted words, and no sentence says more than the figures do."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from diagnosed import at, diagnosed, jittered, lost_at
from planted import Answer, Scene, scripted_detr, scripted_rcnn, scripted_vfnet
from workbook.diagnosis.store import load
from workbook.diagnosis.waterfall import Waterfall
from workbook.files import read_json, write_json
from workbook.views.diagnosis.summary import cost_table, summarize


def test_one_cause_is_named_with_its_remedies(tmp_path: Path) -> None:
    words = summarize(diagnosed(tmp_path, [lost_at("box", box) for box in jittered(12)]))
    assert "**All 12 small objects are missed.** 12 get no box that fits (IoU 0.5), their best boxes with a median IoU of 0.4" in words
    assert "**The costliest stage both to be found (AP50) and to fit (AP) is box**: the interval of its lead" in words
    assert "What may help at box" in words and "larger images: one pixel" in words and "What may help at class" not in words
    assert "For small objects (12 objects in 12 images): AP50 0.000 (0.000 to 0.221, on simulated data" in words
    assert "on simulated data such intervals held the truth in 92%" in words
    row = next(line for line in words.splitlines() if line.startswith("| box"))
    assert "1.000 (0.779 to 1.000)" in row and "+1.000" in row
    assert "Next to nothing" not in words, "from 12 images nothing is surely free of cost: what they hide may be .22"
    assert "Diagnosed on cpu in fp32" in words


def test_two_equal_causes_are_both_named(tmp_path: Path) -> None:
    scenes = [lost_at("class" if number % 2 else "box", box) for number, box in enumerate(jittered(24))]
    words = summarize(diagnosed(tmp_path, scenes))
    assert re.search(r"\*\*What costs most .* is (class or box|box or class)\*\*: these 24 objects in 24 images cannot say which", words)
    assert "What may help at class" in words and "What may help at box" in words


def test_next_to_nothing_is_said_where_the_bound_is_small(tmp_path: Path) -> None:
    """160 images, half of them lost at the box: what was not seen in 160 images costs at most 3 / 160."""
    scenes = [lost_at("box" if number % 2 else "detected", box) for number, box in enumerate(jittered(160))]
    words = summarize(diagnosed(tmp_path, scenes))
    assert "Next to nothing of AP: proposals (at most 0.019), class (at most 0.019), suppression (at most 0.019)" in words
    assert "is box**" in words
    assert "A ? stands where the interval of a cost holds 0." in words and ") ?" in words


def test_under_ten_images_no_interval_and_no_95_is_printed(tmp_path: Path) -> None:
    words = summarize(diagnosed(tmp_path, [lost_at("class", box) for box in jittered(3)], resamples=20))
    assert "95%" not in words and " to 1.000" not in words and ") ?" not in words and "Fewer than 10 images" in words
    assert "On these 3 images **class** costs most" in words and "a hint, not a finding" in words
    assert "The costliest stage" not in words


def test_what_is_not_counted_leads_the_advice(tmp_path: Path) -> None:
    boxes = [at(2 + 17 * (n % 14), 2 + 17 * (n // 14), 14, 14) for n in range(150)]
    scenes = [Scene([(box, "cat") for box in boxes], [Answer(box, {"cat": 0.95 - n / 1000}) for n, box in enumerate(boxes)])] * 10
    words = summarize(diagnosed(tmp_path, scenes, scripted_rcnn(scenes, max_per_img=300), resamples=20))
    assert "500 are found, but beyond the 100 of their class that COCO counts in an image" in words
    assert "is not counted**" in words and "- tiles, so that no image holds more objects than COCO counts" in words
    assert "No stage costs anything" not in words


def test_boxes_that_do_not_fit_well_are_found_and_cost_the_ap(tmp_path: Path) -> None:
    """All found at IoU .5, with an AP of half: the answer says which of the two asks for what."""
    scenes = [Scene([(box, "cat")], [Answer(box, {"cat": 0.9}, to=(box[0] + 4, *box[1:3], box[3]))]) for box in jittered(12)]
    words = summarize(diagnosed(tmp_path, scenes))
    assert "**All 12 small objects are found.**" in words and "AP50 1.000" in words
    assert "For them to be found at all (AP50), nothing is missing." in words
    assert "**The costliest stage to be found and to fit (AP, IoU .50 to .95) is box**" in words


def test_large_false_detections_are_no_affair_of_the_small_ones(tmp_path: Path) -> None:
    large = [Answer(at(20, 20, 200, 200), {"cat": 0.9}), Answer(at(10, 10, 110, 110), {"cat": 0.8})]
    scenes = [Scene([(box, "cat")], [Answer(box, {"cat": 0.5}), *large]) for box in jittered(12)]
    saved = diagnosed(tmp_path, scenes)
    small, every = summarize(saved), summarize(saved, "all")
    assert "found too late" not in small and "No stage costs anything that these images show; what they may hide is at most 0.22" in small
    assert "12 are found too late" in every and "is ranking**" in every


def test_an_object_on_a_border_is_of_both_sizes(tmp_path: Path) -> None:
    saved = diagnosed(tmp_path, [lost_at("detected", box) for box in jittered(12, side=32)])
    for size in ("small", "medium"):
        assert f"**All 12 {size} objects are found.**" in summarize(saved, size)
    assert summarize(saved, "large") == "**Val has no large objects**, so nothing can be said of them. It has: 12 small."


def test_whose_mean_the_ap_is_is_said(tmp_path: Path) -> None:
    scenes = [lost_at("box" if number else "detected", box, "dog" if number == 0 else "cat") for number, box in enumerate(jittered(12))]
    words = summarize(diagnosed(tmp_path, scenes))
    assert "the mean over the 2 classes that have such objects, every class counting alike: from 1 (dog) to 11 (cat)" in words


def test_another_detector_than_the_runs_is_said_first(tmp_path: Path) -> None:
    saved = diagnosed(tmp_path, [lost_at("detected", box) for box in jittered(3)], resamples=2)
    assert "not quite the one" not in summarize(saved)
    path = saved.run.folder / "metrics.json"
    write_json(path, {**read_json(path), "bbox_mAP_s": 0.25})  # the figures of the run changed after the diagnosis was made
    saved.run.update(settings={"precision": "bf16"})
    words = summarize(load(saved.run))
    assert words.startswith("**The detector diagnosed here is not quite the one that the run measured**: AP of small objects 1.0000 "
                            "instead of 0.2500; the run computed in bf16, this diagnosis in fp32 on cpu")


def test_a_cost_whose_interval_holds_0_leads_nothing_for_sure(tmp_path: Path) -> None:
    """One image of twelve loses its object: nothing else costs anything, but that may be chance."""
    scenes = [lost_at("class" if number == 0 else "detected", box) for number, box in enumerate(jittered(12))]
    words = summarize(diagnosed(tmp_path, scenes))
    assert "The costliest stage" not in words
    assert "**Only class costs anything both to be found (AP50) and to fit (AP)** that these 12 images can show, but the interval" in words


def test_two_equal_causes_are_both_named_under_ten_images_too(tmp_path: Path) -> None:
    scenes = [lost_at("class" if number % 2 else "box", box) for number, box in enumerate(jittered(8))]
    words = summarize(diagnosed(tmp_path, scenes, resamples=20))
    assert re.search(r"On these 8 images \*\*(class or box|box or class)\*\* costs most", words)


def test_a_part_that_costs_at_one_metric_only_has_its_row(tmp_path: Path) -> None:
    saved = diagnosed(tmp_path, [lost_at("detected", box) for box in jittered(12)], resamples=2)
    costly = [replace(cost, shapley=0.1) if cost.stage == "not counted" else cost for cost in saved.waterfall.metrics["AP"]["small"].stages]
    metrics = {metric: dict(sizes) for metric, sizes in saved.waterfall.metrics.items()}
    metrics["AP"]["small"] = replace(metrics["AP"]["small"], stages=tuple(costly))
    table = cost_table(replace(saved, waterfall=Waterfall(metrics)), "small")
    assert next(line for line in table.splitlines() if "not counted" in line).count("|") == 6


@pytest.mark.parametrize(("scripted", "first", "words"), [
    (scripted_vfnet, "candidates", "12 have no point that answers for them, because no point's box comes near"),
    (scripted_detr, "queries", "12 have no query on them, because no query's box comes near")])
def test_detectors_without_proposals_have_their_own_words(tmp_path: Path, scripted, first: str, words: str) -> None:
    scenes = [Scene([(box, "cat")], []) for box in jittered(12)]
    text = summarize(diagnosed(tmp_path, scenes, scripted(scenes)))
    assert words in text and f"What may help at {first}" in text and "anchor" not in text
