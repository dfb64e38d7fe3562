"""False positives against TIDE itself: tidecv 1.0.1, detection by detection, and its gains at IoU .5."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tidecv import TIDE, Data

from coco_cases import coco, detection, image, random_scene, truth_box
from workbook.diagnosis.false_positives import FALSE_KINDS, MISSED, classify, gains
from workbook.evaluation.coco_metrics import evaluate

NAMES = {"Loc": "poor box", "Cls": "wrong class", "Dupe": "duplicate", "Bkg": "background", "Both": "wrong class and poor box",
         "Miss": MISSED}
EXACT = 1e-9
Scene = tuple[dict[str, Any], list[dict[str, Any]]]


def tide(truth: dict[str, Any], found: list[dict[str, Any]]) -> tuple[dict[int, str], dict[str, float], float]:
    """tidecv's kind of each detection (by row), its dAP of each kind, and its AP; shares, not percent."""
    gt, predictions = Data("gt"), Data("predictions")
    for entry in truth["images"]:
        gt.add_image(entry["id"], str(entry["id"]))
        predictions.add_image(entry["id"], str(entry["id"]))
    for a in truth["annotations"]:
        add = gt.add_ignore_region if a.get("iscrowd") else gt.add_ground_truth
        add(a["image_id"], a["category_id"], box=a["bbox"])
    for entry in found:
        predictions.add_detection(entry["image_id"], entry["category_id"], entry["score"], box=entry["bbox"])
    run = TIDE().evaluate(gt, predictions, pos_threshold=0.5, background_threshold=0.1, mode=TIDE.BOX)
    kinds = {error.pred["_id"]: NAMES[error.short_name] for error in run.errors if hasattr(error, "pred")}
    fixed = {NAMES[error.short_name]: value / 100 for error, value in run.fix_main_errors().items()}
    return kinds, fixed, run.ap / 100


def require_tides(truth: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """The kinds of all that both call false, and every gain."""
    kinds, fixed, ap = tide(truth, found)
    table = classify(truth, found)
    mine = dict(zip(table["row"], table["kind"], strict=True))
    # TIDE also lists what COCO excuses, and cuts an image at 100 detections of all classes
    both = set(mine) & set(kinds)
    assert {row: mine[row] for row in both} == {row: kinds[row] for row in both}
    assert len(both) >= 0.9 * len(mine)
    own = gains(truth, found, table)
    assert own.tide_ap50 == pytest.approx(ap, abs=EXACT)
    assert dict(own.fixed_ap50) == pytest.approx({name: max(value, 0) for name, value in fixed.items()}, abs=EXACT)


ONE = coco(truth_box(1), truth_box(2, x=100, category_id=2), classes=2)
CASES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "poor box": ([detection(x=8)], "poor box"),
    "wrong class": ([detection(category_id=2)], "wrong class"),
    "duplicate": ([detection(score=0.9), detection(x=1, score=0.8)], "duplicate"),
    "background": ([detection(x=300)], "background"),
    "both": ([detection(x=8, category_id=2)], "wrong class and poor box"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_kind_is_tides(case: str) -> None:
    found, kind = CASES[case]
    assert list(classify(ONE, found)["kind"]) == [kind]
    require_tides(ONE, found)


def test_the_box_is_asked_before_the_class() -> None:
    """Own class IoU .3, another class .7: TIDE calls it a poor box, and so do we."""
    truth = coco(truth_box(1), truth_box(2, x=14, category_id=2), classes=2)
    found = [detection(x=10.5)]
    table = classify(truth, found)
    assert list(table["kind"]) == ["poor box"]
    assert table["annotation_id"].tolist() == [2] and table["iou"][0] > 0.5, "the object that it overlaps most is of the other class"
    require_tides(truth, found)


def crowded(seed: int, crowds: bool) -> Scene:
    """Three classes close together, detections moved and misnamed at random, one class without objects."""
    rng = np.random.default_rng(seed)
    images = range(1, 5)
    truths = [truth_box(n + 1, x=float(rng.integers(0, 90)), side=float(rng.integers(12, 40)), image_id=int(rng.choice(images)),
                        category_id=int(rng.integers(1, 4)), iscrowd=int(crowds and rng.random() < 0.15)) for n in range(24)]
    found = []
    for _ in range(40):
        near = truths[rng.integers(len(truths))]
        box = np.array(near["bbox"], float) + rng.normal(0, 5, 4) * (rng.random() < 0.8)
        box[2:] = np.maximum(box[2:], 1)
        category = near["category_id"] if rng.random() < 0.7 else int(rng.integers(1, 5))
        found.append({"image_id": near["image_id"], "category_id": category, "bbox": box.tolist(), "score": float(rng.random())})
    truth = {"images": [image(n) for n in images], "categories": [{"id": n, "name": f"class {n}"} for n in range(1, 5)],
             "annotations": [{**a, "id": n} for n, a in enumerate(truths, start=1)]}
    return truth, found


@pytest.mark.parametrize("crowds", [False, True])
def test_crowded_scenes_equal_tidecv(crowds: bool) -> None:
    for seed in range(40):
        truth, found = crowded(seed, crowds)
        require_tides(truth, found)


def test_hard_scenes_have_tides_gains() -> None:
    """Empty images, ties, over 100 of a class: the gains are TIDE's, whatever it cuts."""
    for seed in range(40):
        truth, found = random_scene(seed)
        if not found or not any(not a.get("iscrowd") for a in truth["annotations"]):
            continue
        _, fixed, ap = tide(truth, found)
        own = gains(truth, found, classify(truth, found))
        assert own.tide_ap50 == pytest.approx(ap, abs=EXACT), seed
        assert dict(own.fixed_ap50) == pytest.approx({name: max(value, 0) for name, value in fixed.items()}, abs=EXACT), seed


def test_what_removing_brings_is_cocos_own() -> None:
    """Each kind taken away, counted by the metrics' own engine, for AP and AP50 and every size."""
    for seed in range(5):
        truth, found = crowded(seed, True)
        table = classify(truth, found)
        own = gains(truth, found, table)
        now = evaluate(truth, found).metrics
        for kind in FALSE_KINDS:
            rows = set(table.loc[table["kind"] == kind, "row"])
            without = evaluate(truth, [entry for row, entry in enumerate(found) if row not in rows]).metrics
            gain = own.sizes["all"][kind]
            assert gain["removed_ap"] == pytest.approx(without["bbox_mAP"] - now["bbox_mAP"], abs=EXACT)
            assert gain["removed_ap50"] == pytest.approx(without["bbox_mAP_50"] - now["bbox_mAP_50"], abs=EXACT)
            assert own.sizes["small"][kind]["removed_ap"] == pytest.approx(without["bbox_mAP_s"] - now["bbox_mAP_s"], abs=EXACT)
            assert gain["count"] == len(rows)


def test_a_false_detection_names_the_object_that_it_overlaps_most_if_any() -> None:
    table = classify(ONE, [detection(x=8), detection(x=300), detection(x=95, category_id=1)])
    assert [None if pd.isna(id_) else int(id_) for id_ in table.sort_values("row")["annotation_id"]] == [1, None, 2]
    assert (table.sort_values("row")["iou"] > 0).tolist() == [True, False, True]


def test_excused_and_uncounted_detections_are_no_false_ones() -> None:
    truth = coco(truth_box(1, side=200, iscrowd=1), truth_box(2, x=300))
    found = [detection(x=10, score=0.9), *(detection(x=500, score=0.5 + n / 1000) for n in range(101))]
    table = classify(truth, found)
    assert 0 not in set(table["row"]) and len(table) == 99 and set(table["kind"]) == {"background"}
