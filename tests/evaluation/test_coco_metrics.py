"""The metrics against numbers that others published, and against pycocotools itself on scenes made to be difficult."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coco_cases import (
    CASES,
    EXACT,
    KEYS,
    TWO,
    coco,
    coco_metrics,
    detection,
    pycocotools_eval,
    pycocotools_metrics,
    random_scene,
    truth_box,
)
from workbook.evaluation.coco_metrics import evaluate

EVALSETS = Path(__file__).parent / "evalsets"
EXPECTED = json.loads((EVALSETS / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_published_numbers(name: str) -> None:
    truth = EVALSETS / f"{name}.json"
    found = json.loads((EVALSETS / "detections.json").read_text())
    published = {key: EXPECTED[name][key] for key in KEYS}
    metrics = coco_metrics(truth, found)
    assert metrics == pytest.approx(published, abs=EXPECTED[name]["tolerance"], rel=0)
    assert metrics == pytest.approx(pycocotools_metrics(json.loads(truth.read_text()), found), abs=EXACT, rel=0)


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_random_scenes_equal_pycocotools(first: int) -> None:
    nones = 0
    for seed in range(first, first + 50):
        truth, found = random_scene(seed)
        expected = pycocotools_metrics(truth, found)
        assert coco_metrics(truth, found) == pytest.approx(expected, abs=EXACT, rel=0), f"seed {seed}"
        nones += sum(value is None for value in expected.values())
    assert 0 < nones < 300, "the scenes must hold empty and full buckets"


@pytest.mark.parametrize("case", CASES)
def test_difficult_cases_equal_pycocotools(case: str) -> None:
    truth, found = CASES[case]
    assert coco_metrics(truth, found) == pytest.approx(pycocotools_metrics(truth, found), abs=EXACT, rel=0)


def test_each_class_equals_pycocotools() -> None:
    for seed in range(30):
        truth, found = random_scene(seed)
        precision = pycocotools_eval(truth, found).eval["precision"][..., 0, -1]  # [IoU, recall, class]
        for index, category in enumerate(sorted(truth["categories"], key=lambda c: c["id"])):
            ours = evaluate(truth, found).per_class[category["name"]]
            for key, part in (("bbox_mAP", precision[..., index]), ("bbox_mAP_50", precision[0, :, index])):
                theirs = None if part.mean() == -1 else pytest.approx(part.mean(), abs=EXACT, rel=0)
                assert ours[key] == theirs, (seed, category)
            own = [a for a in truth["annotations"] if a["category_id"] == category["id"] and not a["iscrowd"]]
            assert ours["truths"] == len(own)


def test_an_empty_bucket_is_none_and_a_missed_one_is_zero() -> None:
    metrics = coco_metrics(coco(truth_box(1, side=20)), [])
    assert metrics == dict(zip(KEYS, (0, 0, 0, 0, None, None), strict=True))
    assert set(coco_metrics(coco(), []).values()) == {None}


def test_counts_leave_out_crowds_and_put_a_border_in_both_sizes() -> None:
    sides = (20, 32, 50, 96, 200)
    truth = coco(*(truth_box(i, side=side) for i, side in enumerate(sides, 1)), truth_box(9, iscrowd=1), images=3)
    counts = evaluate(truth, [detection(), detection()]).counts
    assert counts == {"images": 3, "truths": 5, "small": 2, "medium": 3, "large": 2, "detections": 2}


def test_annotation_ids_have_no_influence() -> None:
    """pycocotools never finds the truth of id 0: it says .25 here. Numbered from 1, it says what we say for any ids."""
    found = [detection(), detection(x=100)]
    from_zero = coco(truth_box(0), truth_box(1, x=100))
    assert pycocotools_metrics(from_zero, found)["bbox_mAP"] == pytest.approx(0.2524752475)
    assert coco_metrics(from_zero, found) == pytest.approx(pycocotools_metrics(TWO, found), abs=EXACT, rel=0)


def test_fields_of_other_tools_do_no_harm() -> None:
    truth, found = copy.deepcopy((TWO, [detection(), detection(x=100)]))
    truth["images"][0]["license"] = truth["info"] = "MIT"
    truth["annotations"][0].update(segmentation=None, ignore=1, attributes={"occluded": True})
    del truth["annotations"][1]["iscrowd"]
    for index, entry in enumerate(found):
        entry.update(id=7, area=1.0, iscrowd=1, segmentation=[], track=index)
    assert coco_metrics(truth, found) == coco_metrics(TWO, [detection(), detection(x=100)])


def test_numpy_numbers_are_taken_and_nothing_is_changed() -> None:
    truth, found = random_scene(3)
    as_numpy = [
        {"image_id": np.int64(d["image_id"]), "category_id": np.int32(d["category_id"]),
         "bbox": np.asarray(d["bbox"], np.float32), "score": np.float32(d["score"])}
        for d in found
    ]
    as_python = [
        {**d, "bbox": n["bbox"].tolist(), "score": float(n["score"])} for d, n in zip(found, as_numpy, strict=True)
    ]
    before = copy.deepcopy((truth, as_python))
    assert found and coco_metrics(truth, as_numpy) == coco_metrics(truth, as_python)
    assert (truth, as_python) == before


def test_a_path_gives_the_same_as_its_dict(tmp_path: Path) -> None:
    truth, found = random_scene(5)
    (tmp_path / "val.json").write_text(json.dumps(truth))
    assert evaluate(tmp_path / "val.json", found) == evaluate(truth, found)


def test_it_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    for truth, found in CASES.values():
        evaluate(truth, found)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("truth, found, message", [
    (TWO, [detection(image_id=77)], "detections name image_id 77, but the truth's `images` list 1"),
    (TWO, [detection(category_id=5), detection(category_id=9)], "category_id 5, 9, but the truth's `categories` list 1"),
    (coco(truth_box(1, image_id=4)), [], "annotations name image_id 4"),
    (TWO, [detection(score=float("nan"))], "must be finite"),
    (TWO, [detection(), detection(bbox=[0, float("inf"), 1, 1])], "must be finite .* inf"),
    (coco(images=10), [detection(image_id=77)], r"list 1, 2, 3, 4, 5, 6, 7, 8, 9, 10$"),
    (coco(images=12), [detection(image_id=77)], r"list 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more$"),
    ({"images": [], "categories": []}, [], "no 'annotations'"),
    (coco({"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}), [], "no 'area'"),
])
def test_what_cannot_be_evaluated_is_named(truth: dict[str, Any], found: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(truth, found)
