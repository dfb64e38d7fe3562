"""The metrics against numbers that others published, and against pycocotools itself on scenes made to be difficult."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lib.evaluation.coco_metrics import coco_metrics, evaluate

EVALSETS = Path(__file__).parent / "data" / "evalsets"
EXPECTED = json.loads((EVALSETS / "expected.json").read_text())
KEYS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
EXACT = 1e-9
# Sides whose squares stand on, just below and just above the borders 32² and 96².
SIDES = (8.0, 10.5, 20.0, 31.999, 32.0, 32.001, 64.0, 96.0, 96.001, 150.0)
AREAS = (0.0, 100.0, 1023.999, 1024.0, 1024.001, 9216.0, 9216.001, 1e10, 2e10)


def pycocotools_eval(truth: dict[str, Any], detections: list[dict[str, Any]]) -> COCOeval:
    """pycocotools on copies, silent. Its loadRes cannot read an empty list, so that case is made by hand."""
    truth, detections = copy.deepcopy((truth, detections))
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        gt.dataset = truth
        gt.createIndex()
        found = COCO()
        if detections:
            found = gt.loadRes(detections)
        else:
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        engine = COCOeval(gt, found, "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return engine


def pycocotools_metrics(truth: dict[str, Any], detections: list[dict[str, Any]]) -> dict[str, float | None]:
    stats = pycocotools_eval(truth, detections).stats
    return {key: None if value == -1 else float(value) for key, value in zip(KEYS, stats[:6], strict=True)}


def image(id_: int) -> dict[str, Any]:
    return {"id": id_, "width": 400, "height": 400, "file_name": f"{id_}.jpg"}


def truth_box(id_: int, x: float = 0, side: float = 20, **changed: Any) -> dict[str, Any]:
    box = {"bbox": [x, 0, side, side], "area": side * side, "iscrowd": 0}
    return {"id": id_, "image_id": 1, "category_id": 1, **box, **changed}


def detection(x: float = 0, side: float = 20, score: float = 0.5, **changed: Any) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 1, "bbox": [x, 0, side, side], "score": score, **changed}


def coco(*truths: dict[str, Any], images: int = 1, classes: int = 1) -> dict[str, Any]:
    return {"images": [image(i + 1) for i in range(images)], "annotations": list(truths),
            "categories": [{"id": c + 1, "name": f"class {c + 1}"} for c in range(classes)]}


def random_scene(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowds, areas at the borders, tied scores, images and classes without truth, more than 100 detections an image."""
    rng = np.random.default_rng(seed)
    images = [int(i) for i in rng.permutation(1000)[: rng.integers(1, 6)]]
    classes = [int(c) + 1 for c in rng.permutation(90)[: rng.integers(1, 5)]]
    sides = rng.permutation(SIDES)[: rng.integers(1, len(SIDES) + 1)]
    with_truth = [c for c in classes if rng.random() < 0.8]
    annotations: list[dict[str, Any]] = []
    for image_id in (i for i in images if with_truth and rng.random() < 0.8):
        for _ in range(rng.integers(0, 8)):
            w, h = rng.choice(sides, 2)
            annotations.append(truth_box(
                len(annotations) + 1, image_id=image_id, category_id=int(rng.choice(with_truth)),
                iscrowd=int(rng.random() < 0.15), bbox=[*map(float, rng.integers(0, 80, 2)), float(w), float(h)],
                area=float(w * h if rng.random() < 0.6 else rng.choice(AREAS)),
            ))
    tied, found = rng.random() < 0.5, []
    for image_id in (i for i in images if rng.random() < 0.85):
        own = [a for a in annotations if a["image_id"] == image_id]
        for _ in range(rng.integers(101, 220) if rng.random() < 0.15 else rng.integers(0, 20)):
            near = bool(own) and rng.random() < 0.75
            box = own[rng.integers(len(own))]["bbox"] if near else [*rng.integers(0, 200, 2), *rng.choice(sides, 2)]
            moved = np.maximum(np.asarray(box, float) + rng.normal(0, 3, 4) * (rng.random() < 0.5), 0)
            category = own[rng.integers(len(own))]["category_id"] if near else int(rng.choice(classes))
            score = rng.integers(0, 4) / 4 if tied else rng.random()
            found.append({"image_id": image_id, "category_id": category, "bbox": moved.tolist(), "score": float(score)})
    truth = {"images": [image(i) for i in images], "categories": [{"id": c, "name": f"class {c}"} for c in classes],
             "annotations": [annotations[i] for i in rng.permutation(len(annotations))]}
    return truth, [found[i] for i in rng.permutation(len(found))]


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


TWO = coco(truth_box(1), truth_box(2, x=100))
CASES = {
    "no detections": (TWO, []),
    "no truth": (coco(), [detection()]),
    "only crowds": (coco(truth_box(1, iscrowd=1)), [detection()]),
    "a class without truth": (coco(truth_box(1), classes=2), [detection(), detection(category_id=2)]),
    "an image without truth": (coco(truth_box(1), images=2), [detection(), detection(image_id=2, score=0.9)]),
    "an image without detections": (coco(truth_box(1), truth_box(2, image_id=2), images=2), [detection()]),
    "truth of exactly 32²": (coco(truth_box(1, side=32)), [detection(side=32), detection(x=200, side=32, score=0.9)]),
    "truth of exactly 96²": (coco(truth_box(1, side=96)), [detection(side=96), detection(x=200, side=96, score=0.9)]),
    "area is not w x h": (coco(truth_box(1, side=50, area=500)), [detection(side=50), detection(x=200, side=9, score=0.9)]),
    "all scores equal": (TWO, [detection(x=x) for x in (200, 0, 300, 100)]),
    "scores tied where 100 are cut": (TWO, [detection(x=x) for x in (*range(200, 320), 0, 100)]),
    "only the first 100 count": (TWO, [detection(x=200 + i, score=0.9) for i in range(100)] + [detection()]),
    "the same box twice": (TWO, [detection(score=0.9), detection(score=0.8), detection(x=100)]),
    "a crowd excuses many": (coco(truth_box(1, side=200, iscrowd=1), truth_box(2, x=300)),
                             [detection(x=x, score=0.9) for x in (0, 30, 60)] + [detection(x=300)]),
    "boxes without area": (coco(truth_box(1, side=0), truth_box(2)), [detection(side=0, score=0.9), detection()]),
    "IoU of exactly .5 and .75": (coco(truth_box(1), truth_box(2, x=100)),
                                  [detection(bbox=[0, 0, 20, 10]), detection(bbox=[100, 0, 20, 15])]),
}


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
    ({"images": [], "categories": []}, [], "no 'annotations'"),
    (coco({"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}), [], "no 'area'"),
])
def test_what_cannot_be_evaluated_is_named(truth: dict[str, Any], found: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(truth, found)
