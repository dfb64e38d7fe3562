"""The trace against planted scenes: whatever the script makes fail, the trace must name, for every object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from planted import Answer, Box, Scene, scripted_detr, scripted_rcnn, scripted_vfnet, write_scenes
from workbook.diagnosis.diagnose import diagnose
from workbook.diagnosis.trace import COLUMNS


def at(x: float, y: float, w: float = 40, h: float = 40) -> Box:
    return (x, y, x + w, y + h)


def shifted(box: Box, by: float) -> Box:
    return (box[0] + by, box[1], box[2] + by, box[3])


def traced(folder: Path, model: Any, scenes: list[Scene], **options: Any) -> pd.DataFrame:
    return diagnose(model, write_scenes(folder, scenes), resamples=2, **options).trace


HERE = at(60, 100)
SURE = {"cat": 0.9}
OTHERS = [(at(10 + 60 * n, 10), "cat") for n in range(4)]


# 40 pixel boxes shifted by s overlap by (40 - s) / (40 + s): 11 → .57, 15 → .45, 4 → .82, 8 → .67
TWO_STAGE = {
    "found": (Scene([(HERE, "cat")], [Answer(HERE, SURE)]), "detected", ""),
    "never proposed": (Scene([(HERE, "cat")], [Answer(HERE, SURE, objectness=0)]), "proposals", "no anchor reaches it"),
    "cut by pre-NMS top-k": (Scene([(HERE, "cat")], [Answer(HERE, SURE, objectness=1e-5, level=0)]), "proposals", "pre-NMS top-k"),
    "cut by RPN NMS": (
        Scene([(HERE, "cat")], [Answer(shifted(HERE, 11), SURE, objectness=0.5), Answer(shifted(HERE, 15), objectness=0.9)]),
        "proposals", "RPN NMS",
    ),
    "cut by RPN max_per_img": (Scene([(HERE, "cat")], [Answer(HERE, SURE, objectness=1e-4, level=4)]), "proposals", "RPN max_per_img"),
    "named otherwise": (Scene([(HERE, "cat")], [Answer(HERE, {"dog": 0.9, "cat": 0.02})]), "class", "dog"),
    "taken for background": (Scene([(HERE, "cat")], [Answer(HERE, {"cat": 0.03})]), "class", "background"),
    "poor box": (Scene([(HERE, "cat")], [Answer(HERE, SURE, to=shifted(HERE, 15))]), "box", 25 / 55),
    "proposal good, box regressed away": (
        Scene([(HERE, "cat")], [Answer(shifted(HERE, 4), SURE, to=shifted(HERE, 20))]), "box", 20 / 60,
    ),
}


@pytest.mark.parametrize("name", TWO_STAGE)
def test_two_stage_names_the_planted_stage(tmp_path: Path, name: str) -> None:
    scene, stage, detail = TWO_STAGE[name]
    # specks of objectness .0067 everywhere: 300 a level pass the top-k, 350 proposals are kept
    row = traced(tmp_path, scripted_rcnn([scene], rpn={"nms_pre": 300, "max_per_img": 350}), [scene]).iloc[0]
    assert row["stage"] == stage
    assert row["detected"] == (stage == "detected")
    if stage == "proposals":
        assert row["candidate_cut"] == detail
        assert pd.isna(row["candidate_rank"])
    if stage == "class":
        assert row["named_class"] == detail
    if stage == "box":
        assert row["box_iou"] == pytest.approx(detail, abs=1e-3)


def test_a_proposal_that_is_regressed_onto_the_object_counts(tmp_path: Path) -> None:
    """IoU .45 before, 1 after: the RPN did not lose it, whatever its own overlap says."""
    scene = Scene([(HERE, "cat")], [Answer(shifted(HERE, 15), SURE, to=HERE)])
    row = traced(tmp_path, scripted_rcnn([scene]), [scene]).iloc[0]
    assert row["stage"] == "detected"
    assert row["candidate_iou"] == pytest.approx(25 / 55, abs=1e-3)
    assert row["candidates_on"] == 1


def test_lost_to_nms_names_the_neighbour(tmp_path: Path) -> None:
    """Not a surer one of its class that lies elsewhere."""
    other = shifted(HERE, 8)
    far, _ = OTHERS[0]
    scene = Scene([(HERE, "cat"), (other, "cat")], [Answer(far, {"cat": 0.95}), Answer(HERE, {"cat": 0.9}), Answer(other, {"cat": 0.8})])
    first, second = (row for _, row in traced(tmp_path, scripted_rcnn([scene]), [scene]).iterrows())
    assert (first["stage"], second["stage"]) == ("detected", "suppression")
    assert second["lost_to"] == "NMS"
    assert second["lost_to_annotation"] == first["annotation_id"]
    assert second["lost_to_score"] == pytest.approx(0.9, abs=1e-5)
    assert second["lost_to_iou"] == pytest.approx(32 / 48, abs=1e-3)
    assert second["recovered_by"] == "suppression"


def test_lost_to_the_score_threshold(tmp_path: Path) -> None:
    """The head says cat before anything else, and the threshold is higher: the threshold loses it, not the head."""
    scene = Scene([(HERE, "cat")], [Answer(HERE, {"cat": 0.38, "dog": 0.31})])
    row = traced(tmp_path, scripted_rcnn([scene], score_thr=0.4), [scene]).iloc[0]
    assert (row["stage"], row["lost_to"]) == ("suppression", "score threshold")
    assert row["class_score"] == pytest.approx(0.38, abs=1e-5)


def test_lost_to_max_per_img(tmp_path: Path) -> None:
    truths = [*OTHERS, (HERE, "cat")]
    scene = Scene(truths, [*(Answer(box, SURE) for box, _ in OTHERS), Answer(HERE, {"cat": 0.6})])
    rows = traced(tmp_path, scripted_rcnn([scene], max_per_img=4), [scene])
    assert list(rows["stage"]) == ["detected"] * 4 + ["suppression"]
    assert rows.iloc[-1]["lost_to"] == "max_per_img"


@pytest.mark.parametrize(("limit", "found"), [(-1, 5), (0, 5), (1, 1)])
def test_no_limit_is_written_as_0_or_less(tmp_path: Path, limit: int, found: int) -> None:
    """As mmdet reads the max_per_img of a head."""
    truths = [*OTHERS, (HERE, "cat")]
    scene = Scene(truths, [Answer(box, {"cat": 0.9 - number / 100}) for number, (box, _) in enumerate(truths)])
    rows = traced(tmp_path, scripted_rcnn([scene], max_per_img=limit), [scene])
    assert list(rows["stage"]) == ["detected"] * found + ["suppression"] * (5 - found)


def test_taken_by_a_neighbour(tmp_path: Path) -> None:
    """One box lies on two objects; COCO gives it to one of them."""
    other, between = shifted(HERE, 20), shifted(HERE, 10)  # 10: IoU .6 with both
    scene = Scene([(HERE, "cat"), (other, "cat")], [Answer(between, SURE)])
    rows = traced(tmp_path, scripted_rcnn([scene]), [scene])
    assert sorted(rows["stage"]) == ["detected", "suppression"]
    lost, found = (rows[rows["stage"] == stage].iloc[0] for stage in ("suppression", "detected"))
    assert lost["lost_to"] == "a neighbour"
    assert lost["lost_to_annotation"] == found["annotation_id"]
    assert lost["lost_to_iou"] == pytest.approx(0.6, abs=1e-3)


@pytest.mark.parametrize("between", [8, 10, 12])  # IoU of .67, .6 and .54 with both: enough at .5, and not at .55 and up
def test_the_neighbour_is_whose_detection_it_is_at_iou_50(tmp_path: Path, between: float) -> None:
    other = shifted(HERE, 2 * between)
    scene = Scene([(HERE, "cat"), (other, "cat")], [Answer(shifted(HERE, between), SURE)])
    lost, = (row for _, row in traced(tmp_path, scripted_rcnn([scene]), [scene]).iterrows() if row["stage"] == "suppression")
    assert lost["lost_to"] == "a neighbour" and lost["lost_to_annotation"] in (100, 101)


def test_lost_to_the_limit_of_coco(tmp_path: Path) -> None:
    """103 objects of a class: COCO counts the 100 detections of the highest scores."""
    boxes = [at(2 + 23 * (n % 11), 2 + 23 * (n // 11), 18, 18) for n in range(103)]
    scene = Scene([(box, "cat") for box in boxes], [Answer(box, {"cat": 0.95 - n / 1000}) for n, box in enumerate(boxes)])
    rows = traced(tmp_path, scripted_rcnn([scene], max_per_img=300), [scene])
    assert list(rows["stage"]) == ["detected"] * 100 + ["not counted"] * 3
    assert set(rows["lost_to"][100:]) == {"100 of a class"}


def test_ranking_loses_what_drowns_in_false_detections(tmp_path: Path) -> None:
    """Four false detections above the only true one: no score cut shows it among detections of which half are true."""
    false = [Answer(box, {"owl": 0.8}) for box, _ in OTHERS]
    scenes = [Scene([(HERE, "owl")], [Answer(HERE, {"owl": 0.5})]), Scene([], false), Scene([(HERE, "cat")], [Answer(HERE, SURE)])]
    owl, cat = (row for _, row in traced(tmp_path, scripted_rcnn(scenes), scenes).iterrows())
    assert (owl["stage"], owl["detected"], owl["false_above"]) == ("ranking", True, 4)
    assert owl["precision"] == pytest.approx(1 / 5)
    assert (cat["stage"], cat["false_above"], cat["precision"]) == ("detected", 0, 1.0)


def test_all_failures_in_one_image(tmp_path: Path) -> None:
    """Every stage at once, among 350 proposals: none may be mistaken for another."""
    near = at(190, 190)
    answers = [
        Answer(at(10, 10), SURE),
        Answer(at(70, 10), {"dog": 0.9}), Answer(at(130, 10), {"cat": 0.02}),
        Answer(at(190, 10), SURE, to=shifted(at(190, 10), 15)),
        Answer(near, {"cat": 0.9}), Answer(shifted(near, 8), {"cat": 0.8}),
        *(Answer(at(10 + 50 * n, 130), {"owl": 0.8}) for n in range(4)), Answer(at(70, 200), {"owl": 0.5}),
    ]
    truths = [(at(10, 10), "cat"), (at(70, 10), "cat"), (at(130, 10), "cat"), (at(190, 10), "cat"), (near, "cat"),
              (shifted(near, 8), "cat"), (at(10, 200), "cat"), (at(70, 200), "owl")]
    scene = Scene(truths, answers)
    rows = traced(tmp_path, scripted_rcnn([scene]), [scene])
    assert list(rows["stage"]) == [
        "detected", "class", "class", "box", "detected", "suppression", "proposals", "ranking",
    ]


# VFNet's NMS threshold is .6, so 40 pixel boxes must be shifted by less than 10 to be one.
DENSE = {
    "found": ([Answer(HERE, SURE)], "detected", None),
    "no point answers": ([], "candidates", "no point's box is near it"),
    "below the score threshold": ([Answer(HERE, {"cat": 0.04})], "candidates", "score threshold"),
    "named otherwise": ([Answer(HERE, {"dog": 0.9})], "class", "dog"),
    "poor box": ([Answer(shifted(HERE, 15), SURE)], "box", None),
}


@pytest.mark.parametrize("name", DENSE)
def test_dense_names_the_planted_stage(tmp_path: Path, name: str) -> None:
    answers, stage, detail = DENSE[name]
    scene = Scene([(HERE, "cat")], answers)
    row = traced(tmp_path, scripted_vfnet([scene]), [scene]).iloc[0]
    assert row["stage"] == stage
    if stage == "candidates":
        assert row["candidate_cut"] == detail
    if stage == "class":
        assert row["named_class"] == detail


def test_dense_loses_to_top_k_nms_limit_and_ranking(tmp_path: Path) -> None:
    other = shifted(HERE, 8)
    scenes = [
        Scene([(HERE, "cat")], [Answer(HERE, {"cat": 0.5}), *(Answer(box, SURE) for box, _ in OTHERS)]),
        Scene([(HERE, "cat"), (other, "cat")], [Answer(HERE, SURE), Answer(other, {"cat": 0.8})]),
    ]
    model = scripted_vfnet(scenes, nms_pre=4)
    rows = traced(tmp_path / "a", model, scenes)
    assert list(rows["stage"]) == ["candidates", "ranking", "suppression"]
    assert rows.iloc[0]["candidate_cut"] == "pre-NMS top-k"
    assert (rows.iloc[2]["lost_to"], rows.iloc[2]["lost_to_annotation"]) == ("NMS", rows.iloc[1]["annotation_id"])
    limited = Scene([*OTHERS, (HERE, "cat")], [*(Answer(box, SURE) for box, _ in OTHERS), Answer(HERE, {"cat": 0.5})])
    rows = traced(tmp_path / "b", scripted_vfnet([limited], max_per_img=4), [limited])
    assert (rows.iloc[4]["stage"], rows.iloc[4]["lost_to"]) == ("suppression", "max_per_img")


QUERY = {
    "found": ([Answer(HERE, SURE)], "detected"),
    "no query looks": ([Answer(at(200, 10), SURE)], "queries"),
    "named otherwise": ([Answer(HERE, {"dog": 0.9, "cat": 0.05})], "class"),
    "poor box": ([Answer(shifted(HERE, 15), SURE)], "box"),
    "unsure, but first": ([Answer(HERE, {"cat": 0.01})], "detected"),
    "below false ones": ([Answer(HERE, {"cat": 0.2}), *(Answer(box, SURE) for box, _ in OTHERS)], "ranking"),
}


@pytest.mark.parametrize("name", QUERY)
def test_query_names_the_planted_stage(tmp_path: Path, name: str) -> None:
    answers, stage = QUERY[name]
    scene = Scene([(HERE, "cat")], answers)
    row = traced(tmp_path, scripted_detr([scene]), [scene]).iloc[0]
    assert row["stage"] == stage


def test_query_loses_to_the_neighbour_and_to_the_limit(tmp_path: Path) -> None:
    other, between = shifted(HERE, 20), shifted(HERE, 10)
    shared = Scene([(HERE, "cat"), (other, "cat")], [Answer(between, SURE)])
    rows = traced(tmp_path / "a", scripted_detr([shared]), [shared])
    assert sorted(rows["stage"]) == ["detected", "suppression"]
    assert "a neighbour" in set(rows["lost_to"])
    limited = Scene([*OTHERS, (HERE, "cat")], [*(Answer(box, SURE) for box, _ in OTHERS), Answer(HERE, {"cat": 0.5})])
    rows = traced(tmp_path / "b", scripted_detr([limited], max_per_img=4), [limited])
    assert (rows.iloc[4]["stage"], rows.iloc[4]["lost_to"]) == ("suppression", "max_per_img")


def test_any_other_iou(tmp_path: Path) -> None:
    """A box of IoU .67 is a find at .5, and a poor box at .75."""
    scene = Scene([(HERE, "cat")], [Answer(HERE, SURE, to=shifted(HERE, 8))])
    model = scripted_rcnn([scene])
    stages = [traced(tmp_path, model, [scene], iou=iou).iloc[0]["stage"] for iou in (0.5, 0.75)]
    assert stages == ["detected", "box"]


def test_columns_are_documented_and_crowds_are_no_rows(tmp_path: Path) -> None:
    scene = Scene([(HERE, "cat")], [Answer(HERE, SURE)])
    dataset = write_scenes(tmp_path, [scene], crowds=[(1, at(150, 150, 90, 90), "cat")])
    trace = diagnose(scripted_rcnn([scene]), dataset, resamples=2).trace
    assert len(trace) == 1
    assert set(COLUMNS) <= set(trace)


def test_a_crowd_may_be_the_last_of_all(tmp_path: Path) -> None:
    """Of the last class, in the last image, which has no object."""
    scenes = [Scene([(HERE, "cat")], [Answer(HERE, SURE)]), Scene([], [])]
    dataset = write_scenes(tmp_path, scenes, crowds=[(2, at(150, 150, 90, 90), "owl")])
    trace = diagnose(scripted_rcnn(scenes), dataset, resamples=2).trace
    assert list(trace["stage"]) == ["detected"] and not trace["over_limit"].any()


def test_boxes_are_in_pixels_of_the_original_image(tmp_path: Path) -> None:
    """The network sees the image at half its size; what the trace says is about the original."""
    half, other = (tuple(side / 2 for side in box) for box in (HERE, at(160, 20)))
    scene = Scene([(HERE, "cat"), (at(160, 20), "cat")], [Answer(half, SURE), Answer(other, SURE, to=shifted(other, 10))])
    dataset = write_scenes(tmp_path, [scene])
    next(t for t in dataset.pipeline.transforms if type(t).__name__ == "Resize").img_scale = [(128, 128)]
    row, moved = (row for _, row in diagnose(scripted_rcnn([scene]), dataset, resamples=2).trace.iterrows())
    assert (moved["stage"], moved["candidates_on"]) == ("box", 1)  # its proposal stands on it, its box does not
    assert moved["box_iou"] == pytest.approx(20 / 60, abs=1e-3)
    assert row["stage"] == "detected"
    assert row["best_bbox"] == pytest.approx([60, 100, 40, 40], abs=0.01)
    assert row["resized_side"] == pytest.approx(20)
    assert (row["candidate_iou"], row["candidate_cut"]) == (pytest.approx(1, abs=1e-3), "")


def test_what_the_rpn_lost_is_measured_in_pixels_of_the_original_image_too(tmp_path: Path) -> None:
    """At half the size its proposal comes from a place where none is looked for at full size."""
    half = tuple(side / 2 for side in HERE)
    scene = Scene([(HERE, "cat")], [Answer(half, SURE, objectness=1e-5, level=0)])
    dataset = write_scenes(tmp_path, [scene])
    next(t for t in dataset.pipeline.transforms if type(t).__name__ == "Resize").img_scale = [(128, 128)]
    row = diagnose(scripted_rcnn([scene], rpn={"nms_pre": 300, "max_per_img": 350}), dataset, resamples=2).trace.iloc[0]
    assert (row["stage"], row["candidate_cut"]) == ("proposals", "pre-NMS top-k")


def test_the_detection_of_the_first_object_is_true(tmp_path: Path) -> None:
    scene = Scene([(HERE, "cat")], [Answer(HERE, SURE)])
    assert list(diagnose(scripted_rcnn([scene]), write_scenes(tmp_path, [scene]), resamples=2).detections["outcome"]) == ["true"]


def test_without_a_pre_nms_limit_nothing_is_cut_by_it(tmp_path: Path) -> None:
    """nms_pre = 0 means no limit to mmdet, and so to the cuts that are read beside it."""
    scene = Scene([(HERE, "cat")], [Answer(HERE, SURE)])
    row = traced(tmp_path, scripted_rcnn([scene], rpn={"nms_pre": 0, "max_per_img": 100}), [scene]).iloc[0]
    assert row["stage"] == "detected" and row["candidate_cut"] == ""


def test_what_one_object_says_of_its_way(tmp_path: Path) -> None:
    """Every column of one found and one missed object, by hand."""
    other = at(160, 160)
    scene = Scene([(HERE, "cat"), (other, "dog")], [
        Answer(shifted(HERE, 4), SURE, to=HERE, objectness=0.8), Answer(shifted(other, 8), {"cat": 0.6, "dog": 0.3}, objectness=0.9),
        Answer(at(10, 10), {"cat": 0.95}, objectness=0.95)])
    found, missed = (row for _, row in traced(tmp_path, scripted_rcnn([scene]), [scene], iou=0.75).iterrows())
    assert (found["stage"], found["candidate_rank"], found["first_rank"], found["candidates_on"]) == ("detected", 3, 3, 1)
    assert (found["predictions_of_class"], found["predictions_fitting"], found["named_class"]) == (1, 1, "cat")
    assert (found["false_above"], found["precision"], found["size"]) == (1, pytest.approx(0.5), "medium")
    assert found["detection_iou"] == pytest.approx(1, abs=1e-3) and found["score"] == pytest.approx(0.9, abs=1e-4)
    assert (missed["stage"], missed["candidate_rank"], missed["named_class"]) == ("box", 2, "cat")
    assert pd.isna(missed["first_rank"]), "no candidate reaches IoU .75"
    assert missed["class_score"] == pytest.approx(0.3, abs=1e-4) and missed["named_score"] == pytest.approx(0.6, abs=1e-4)
    assert missed["box_iou"] == pytest.approx(32 / 48, abs=1e-3) == missed["candidate_iou"]
    assert pd.isna(missed["score"]) and pd.isna(missed["false_above"]) and pd.isna(missed["detection_iou"])
    assert missed["best_bbox"] == pytest.approx([168, 160, 40, 40], abs=0.1)
    for size in ("all", "medium"):
        assert (found[f"found_{size}"], missed[f"found_{size}"]) == (True, False) and found[f"false_above_{size}"] == 1
    assert pd.isna(found["found_small"]) and pd.isna(found["precision_large"]) and pd.isna(found["false_above_small"])
