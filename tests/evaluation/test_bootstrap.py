"""Resampled precision against pycocotools on the data set written out, and the intervals against what must follow."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval
from scipy import stats

from coco_cases import (
    CASES,
    EXACT,
    KEYS,
    TWO,
    coco,
    detection,
    image,
    pycocotools_eval,
    pycocotools_metrics,
    random_scene,
    resampled_figures,
    truth_box,
)
from workbook.evaluation.bootstrap import Figure, Interval, bootstrap, figures_by_size
from workbook.evaluation.coco_metrics import evaluate
from workbook.evaluation.matching import match
from workbook.evaluation.resampling import STEP, average_precision, resample_weights
from workbook.evaluation.sizes import AREA_RANGES, SIZES


def of_samples(figures: Any, level: float = 0.95) -> dict[str, Interval]:
    return {name: figure.interval(level) for name, figure in figures.items()}


def intervals(truth: Any, found: Any, level: float = 0.95, resamples: int = 1_000, seed: int = 0) -> dict[str, Interval]:
    """Each figure of a set of detections with its interval."""
    return of_samples(bootstrap(match(truth, found), resamples, seed).figures, level)


def paired_difference(truth: Any, one: Any, two: Any, resamples: int = 1_000) -> dict[str, Interval]:
    """How much better the second is than the first on the same images."""
    before, after = (bootstrap(match(truth, found), resamples) for found in (one, two))
    return of_samples(after.minus(before).figures)


Scene = tuple[dict[str, Any], list[dict[str, Any]]]
ABSENT = float("nan")


def written_out(truth: dict[str, Any], found: list[dict[str, Any]], drawn: np.ndarray) -> Scene:
    """The resampled data set itself: each drawn image under a new id of its own, copies one after another."""
    ids = np.repeat(sorted(i["id"] for i in truth["images"]), drawn).tolist()
    annotations = [
        {**a, "image_id": new} for new, old in enumerate(ids) for a in truth["annotations"] if a["image_id"] == old
    ]
    return (
        {"images": [image(new) for new in range(len(ids))], "categories": truth["categories"],
         "annotations": [{**a, "id": number} for number, a in enumerate(annotations, start=1)]},
        [{**d, "image_id": new} for new, old in enumerate(ids) for d in found if d["image_id"] == old],
    )


def nan_for_none(metrics: dict[str, float | None]) -> dict[str, float]:
    return {key: ABSENT if value is None else value for key, value in metrics.items()}


def planted(images: int = 40, missing: float = 0.3, seed: int = 0) -> Scene:
    """Images of five small objects each, of which a share is missed; the others are found well, beside false ones."""
    rng = np.random.default_rng(seed)
    places = [(i + 1, 40.0 * k) for i in range(images) for k in range(5)]
    truth = coco(*(truth_box(n, image_id=i, x=x) for n, (i, x) in enumerate(places, start=1)), images=images)
    kept = [place for place in places if rng.random() >= missing]
    found = [detection(image_id=i, x=x + rng.normal(0, 1), score=rng.random()) for i, x in kept]
    return truth, found + [detection(image_id=i, x=900, score=rng.random()) for i, _ in kept if rng.random() < 0.2]


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_resamples_equal_pycocotools_on_the_data_set_written_out(first: int) -> None:
    for seed in range(first, first + 50):
        truth, found = random_scene(seed)
        matches = match(truth, found)
        weights = np.vstack([np.ones(len(matches.images), int), resample_weights(len(matches.images), 3, seed)])
        figures = resampled_figures(average_precision(matches, weights), matches)
        for row, drawn in enumerate(weights):
            expected = nan_for_none(pycocotools_metrics(*written_out(truth, found, drawn)))
            got = {key: float(figures[key][row]) for key in KEYS}
            assert got == pytest.approx(expected, abs=EXACT, rel=0, nan_ok=True), f"seed {seed}, images drawn {drawn}"


@pytest.mark.parametrize("case", CASES)
def test_difficult_cases_equal_pycocotools(case: str) -> None:
    truth, found = CASES[case]
    matches = match(truth, found)
    weights = np.vstack([np.ones(len(matches.images), int), np.arange(len(matches.images)) + 3])
    figures = resampled_figures(average_precision(matches, weights), matches)
    for row, drawn in enumerate(weights):
        expected = nan_for_none(pycocotools_metrics(*written_out(truth, found, drawn)))
        assert {key: float(figures[key][row]) for key in KEYS} == pytest.approx(expected, abs=EXACT, rel=0, nan_ok=True)


def test_a_tie_of_right_and_wrong_in_one_image_is_written_out_copy_by_copy() -> None:
    right, wrong = detection(), detection(x=300)
    scene = coco(truth_box(1), truth_box(2, x=100)), [right, wrong, detection(x=100), detection(x=400)]
    matches = match(*scene)
    got = resampled_figures(average_precision(matches, np.array([[1], [4]])), matches)["bbox_mAP_50"]
    expected = [pycocotools_metrics(*written_out(*scene, np.array([n])))["bbox_mAP_50"] for n in (1, 4)]
    assert got == pytest.approx(expected, abs=EXACT, rel=0)
    assert got[0] - got[1] > 0.01, "the example must tell copy by copy from all at once"


def test_every_class_iou_and_custom_size_equals_pycocotools() -> None:
    bins = {"tiny": (0.0, 300.0), "up to the border": (300.0, 1024.0), "above": (1024.0, 1e10)}
    for seed in range(40):
        truth, found = random_scene(seed)
        matches = match(truth, found, bins)
        engine = rerun(pycocotools_eval(truth, found), [[0, 1e10], *map(list, bins.values())])
        expected = engine.eval["precision"][..., -1].mean(axis=1)  # [IoUs, classes, areas]
        got = average_precision(matches, np.ones((1, len(matches.images)), int))[0].transpose(0, 2, 1)
        expected = np.where(expected < 0, ABSENT, expected)
        assert got == pytest.approx(expected, abs=EXACT, rel=0, nan_ok=True), f"seed {seed}"
        for place, name in enumerate(matches.areas):
            assert matches.count(name).sum() == sum(
                int((~np.array(e["gtIgnore"], bool)).sum())
                for e in engine.evalImgs if e and e["aRng"] == engine.params.areaRng[place]
            )


def rerun(engine: COCOeval, area_ranges: list[list[float]]) -> COCOeval:
    engine.params.areaRng, engine.params.areaRngLbl = area_ranges, [str(r) for r in area_ranges]
    engine.evaluate()
    engine.accumulate()
    return engine


def test_the_truth_that_is_taken_is_the_one_pycocotools_names() -> None:
    for seed in range(60):
        truth, found = random_scene(seed)
        matches = match(truth, found)
        engine = pycocotools_eval(truth, found)
        rows = matches.row[matches.candidates]
        got = {(int(row), t, a): truth["annotations"][matches.taken_truth[c, t, a]]["id"]
               for c, row in enumerate(rows) for t, a in np.argwhere(matches.taken_truth[c] >= 0)}
        expected = {}
        for entry in filter(None, engine.evalImgs):
            if entry["aRng"] in engine.params.areaRng:
                for t, d in np.argwhere(entry["dtMatches"] > 0):
                    place = entry["dtIds"][d] - 1, int(t), engine.params.areaRng.index(entry["aRng"])
                    expected[place] = int(entry["dtMatches"][t, d])
        assert got == expected, f"seed {seed}"


def test_values_are_those_of_coco_metrics() -> None:
    for seed in range(20):
        truth, found = random_scene(seed)
        samples = bootstrap(match(truth, found), resamples=2)
        values = {name: interval.value for name, interval in of_samples(samples.figures).items()}
        evaluation = evaluate(truth, found)
        assert values == pytest.approx(evaluation.metrics, abs=1e-12, rel=0)
        per_class = {name: interval.value for name, interval in of_samples(samples.per_class).items()}
        expected = {name: row["bbox_mAP"] for name, row in evaluation.per_class.items()}
        assert per_class == pytest.approx(expected, abs=1e-12, rel=0)
        objects = {name: interval.objects for name, interval in of_samples(samples.figures).items()}
        assert [objects[key] for key in KEYS[3:]] == [evaluation.counts[size] for size in ("small", "medium", "large")]
        assert objects["bbox_mAP"] == sum(c["truths"] or 0 for c in evaluation.per_class.values()) - beyond(truth)


def beyond(truth: dict[str, Any]) -> int:
    """Truths larger than COCO's largest area, which no figure counts."""
    return sum(a["area"] > 1e10 and not a["iscrowd"] for a in truth["annotations"])


def test_weights_are_drawn_with_repeats_evenly_and_from_the_seed() -> None:
    weights = resample_weights(50, 2_000, seed=1)
    assert weights.shape == (2_000, 50) and (weights.sum(axis=1) == 50).all()
    assert np.abs(weights.mean(axis=0) - 1).max() < 0.12 and weights.var() == pytest.approx(49 / 50, abs=0.02)
    assert (weights == resample_weights(50, 2_000, seed=1)).all()
    assert (weights != resample_weights(50, 2_000, seed=2)).any()


def test_the_same_seed_gives_the_same_intervals() -> None:
    truth, found = planted()
    first = intervals(truth, found, resamples=200, seed=4)
    assert first == intervals(truth, found, resamples=200, seed=4) != intervals(truth, found, resamples=200, seed=5)


def test_an_interval_narrows_with_more_images_and_less_certainty() -> None:
    few, many = (intervals(*planted(images))["bbox_mAP"] for images in (15, 240))
    assert width(many) == pytest.approx(width(few) / 4, rel=0.35)
    assert width(intervals(*planted(60), level=0.8)["bbox_mAP"]) < 0.8 * width(intervals(*planted(60))["bbox_mAP"])


def width(interval: Any) -> float:
    assert interval.low <= interval.value <= interval.high
    return float(interval.high - interval.low)


def test_a_detector_against_itself_differs_by_nothing_that_40_images_show() -> None:
    """No resample says otherwise; what 40 images do not show has the rule of three as its bound."""
    truth, found = planted()
    for interval in paired_difference(truth, found, list(reversed(found)), resamples=100).values():
        assert interval.objects in (0, 200) and interval.undetermined
        if not interval.objects:
            assert (interval.value, interval.low, interval.high) == (None, None, None)
            continue
        unseen = 1 - 0.05 ** (1 / interval.images)
        assert (interval.value, interval.low, interval.high) == (0, pytest.approx(-unseen), pytest.approx(unseen))


def test_a_planted_difference_is_told_and_pairing_is_what_tells_it() -> None:
    truth, found = planted(60)
    better = paired_difference(truth, [d for n, d in enumerate(found) if n % 20], found)["bbox_mAP_s"]
    assert better.low is not None and better.low > 0 and not better.undetermined
    assert better.words().startswith("+0.0") and better.words().endswith("300 objects in 60 images")
    worse = paired_difference(truth, found, [d for n, d in enumerate(found) if n % 20])["bbox_mAP_s"]
    assert worse.value == -better.value and worse.high < 0 and not worse.undetermined  # type: ignore[operator]
    alone = [intervals(truth, which)["bbox_mAP_s"] for which in (found, found[1:])]
    assert width(better) < width(alone[0]) / 2


def test_two_draws_of_the_same_detector_are_not_told_apart() -> None:
    truth, found = planted(60, seed=1)
    unlike = paired_difference(truth, found, planted(60, seed=2)[1])["bbox_mAP"]
    assert unlike.undetermined and unlike.words().startswith("undetermined, the sign is open: ")


def test_figures_by_size_are_those_of_the_bootstrap_draw_by_draw() -> None:
    truth, found = planted(30, missing=0.5)
    plain = bootstrap(match(truth, found), 50).figures
    by_size = figures_by_size(match(truth, found, {size: AREA_RANGES[size] for size in SIZES}), 50)
    for size, name in zip(AREA_RANGES, ("bbox_mAP", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l"), strict=True):
        assert np.array_equal(by_size["AP"][size].values, plain[name].values, equal_nan=True)
        assert (by_size["AP"][size].objects, by_size["AP"][size].images) == (plain[name].objects, plain[name].images)
    assert np.array_equal(by_size["AP50"]["all"].values, plain["bbox_mAP_50"].values)


@pytest.mark.parametrize("seed", range(5))
def test_figures_by_size_of_several_classes_count_the_images_of_any(seed: int) -> None:
    matches = match(*random_scene(seed), {size: AREA_RANGES[size] for size in SIZES})
    for size, figure in figures_by_size(matches, 2)["AP"].items():
        counts = matches.truth_counts[:, list(matches.areas).index(size)]
        assert figure.images == len(set(matches.truth_image[counts])), size
        assert figure.objects == counts.sum()
        assert figure.class_images.tolist() == [
            len(set(matches.truth_image[counts & (matches.truth_class == label)])) for label in range(len(matches.classes))]


def test_a_weighted_sum_of_figures_goes_draw_by_draw() -> None:
    """With weights 1 and -1 it is the paired difference, with its interval; three parts of a whole add up in every draw."""
    truth, found = planted(30, missing=0.5)
    one, two = (bootstrap(match(truth, which), 50).figures["bbox_mAP_s"] for which in (found, found[::2]))
    assert Figure.combine([one, two], [1, -1]).interval() == one.minus(two).interval()
    whole = Figure.combine([one, two, one], [0.5, -0.25, 0.75])
    assert np.allclose(whole.values, 0.5 * one.values - 0.25 * two.values + 0.75 * one.values) and whole.is_difference


def test_figures_that_are_the_same_in_every_resample_are_not_taken_for_certain() -> None:
    truth, _ = planted(30)
    none = intervals(truth, [], resamples=50)["bbox_mAP_s"]
    assert none.value == none.low == 0 and none.high == pytest.approx(1 - 0.05 ** (1 / 30))  # the rule of three
    perfect = [detection(image_id=a["image_id"], bbox=a["bbox"]) for a in truth["annotations"]]
    all_found = intervals(truth, perfect, resamples=50)["bbox_mAP_s"]
    assert all_found.high == 1 and all_found.low == pytest.approx(0.05 ** (1 / 30)) and not all_found.undetermined


def test_a_bucket_too_small_or_too_vague_is_undetermined() -> None:
    small, large = (intervals(*planted(4))[name] for name in ("bbox_mAP_s", "bbox_mAP_l"))
    assert small.undetermined and small.words() == "undetermined: 20 objects in 4 images are too few for an interval"
    assert large.value is None and large.undetermined and large.words() == "no objects"
    rng = np.random.default_rng(0)
    drawn = rng.normal(0.3, 0.1, 1001)
    vague = Figure(np.c_[np.r_[0.3, drawn]], np.array([12]), objects=12, images=12).interval()
    assert vague.undetermined and vague.words().startswith("undetermined, too wide: 0.300 (0.")
    drawn = 0.3 + (drawn - 0.3) / 10
    sharp = Figure(np.c_[np.r_[0.3, drawn]], np.array([12]), objects=12, images=12).interval()
    borders = f"{sharp.low:.3f} to {sharp.high:.3f}"
    expected = f"0.300 ({borders}; on simulated data such intervals held the truth in 92%), 12 objects in 12 images"
    assert not sharp.undetermined and sharp.words() == expected
    assert dataclasses.asdict(sharp)["images"] == 12
    few = Figure(np.c_[np.r_[0.3, drawn]], np.array([9]), objects=12, images=9).interval()
    assert few.undetermined and few.words() == "undetermined: 12 objects in 9 images are too few for an interval"
    one = Figure(np.c_[np.r_[0.3, drawn]], np.array([1]), objects=1, images=1).interval()
    assert one.words() == "undetermined: 1 object in 1 image is too few for an interval"


def test_95_percent_is_written_only_where_it_was_measured() -> None:
    drawn = np.r_[0.3, np.random.default_rng(0).normal(0.3, 0.01, 1001)]

    def words(classes: int, images_of_a_class: int, images: int, **options: Any) -> str:
        by_class = np.repeat(drawn[:, None], classes, axis=1)
        figure = Figure(by_class, np.full(classes, images_of_a_class), objects=900, images=images, **options)
        return figure.interval().words()

    assert "(95%: 0.2" in words(3, 40, 60) and "(95%: 0.2" in words(30, 60, 200)
    assert words(30, 5, 200).startswith("undetermined, half of its 30 classes are in 5 images or fewer, and what so few say is too high: 0")
    assert "held the truth in 92%" in words(3, 40, 49)
    assert "held the truth in 84%" in words(30, 5, 200) and "95%" not in words(30, 5, 200)
    assert "(95%: +0.2" in words(30, 5, 200, is_difference=True)
    assert "(95%: 0.2" in words(3, 5, 60)  # few rare classes hide nothing


def test_the_bias_of_resamples_is_taken_off_a_precision_twice() -> None:
    drawn = np.r_[0.3, np.random.default_rng(0).normal(0.32, 0.03, 5001)]  # resamples score .02 higher than the data
    figure = Figure(np.c_[drawn], np.array([500]), objects=900, images=500)
    interval, difference = figure.interval(), dataclasses.replace(figure, is_difference=True).interval()
    assert interval.value == 0.3 and interval.low + interval.high == pytest.approx(2 * (0.3 - 0.02), abs=0.004)
    assert difference.low + difference.high == pytest.approx(2 * 0.32, abs=0.004)


def test_a_class_in_few_images_makes_the_mean_less_certain() -> None:
    rng = np.random.default_rng(0)
    steady, wild = np.full(2001, 0.3), np.r_[0.3, rng.normal(0.3, 0.02, 2000)]
    both = np.stack([steady, wild], axis=1)
    by_few, by_many = (Figure(both, np.array(n), 500, 100).interval() for n in ([100, 4], [4, 100]))
    assert 1.4 < width(by_few) / width(by_many) < 2  # Student's t of 3 degrees of freedom, not of 99
    assert width(by_many) == pytest.approx(2 * 1.984 * 0.01, rel=0.1)


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("images", [12, 200])
def test_an_interval_is_the_quantiles_that_student_s_t_asks_for(level: float, images: int) -> None:
    """Of a difference, so without the bias that is taken off a precision; by sqrt(n / (n - 1)) wider (expanded percentiles, Hesterberg
    2015, arXiv:1411.5279)."""
    drawn = np.random.default_rng(0).normal(0.1, 0.02, 5_000)
    interval = Figure(np.r_[0.1, drawn][:, None], np.array([images]), 900, images, is_difference=True).interval(level)
    freedom = images - 1
    shares = [stats.norm.cdf(np.sqrt(images / freedom) * stats.t.ppf(q, freedom)) for q in ((1 - level) / 2, (1 + level) / 2)]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(drawn, shares)), abs=1e-12)


def test_the_degrees_of_freedom_are_satterthwaite_s() -> None:
    """Of one class its images less one; of two that vary alike, one of them surely known, between both; a class without truth is none."""
    rng = np.random.default_rng(0)
    one, two = (np.r_[0.0, rng.normal(0, 1, 5_000)] for _ in range(2))
    nowhere = np.full(5_001, np.nan)

    def freedom(columns: list[np.ndarray], images: list[int], all_images: int = 1_000) -> float:
        return Figure(np.stack(columns, axis=1), np.array(images), 500, all_images).freedom()

    assert freedom([one], [20]) == pytest.approx(19)
    assert freedom([one], [1]) == 1
    assert freedom([one, nowhere], [20, 0]) == pytest.approx(19)
    first, second = one[1:].var(), two[1:].var()
    assert freedom([one, two], [11, 41]) == pytest.approx((first + second) ** 2 / (first**2 / 10 + second**2 / 40))
    assert freedom([one, two], [11, 41], all_images=15) == 14
    assert freedom([np.zeros(5_001)], [20]) == 999


@pytest.mark.parametrize(("images", "undetermined", "holds"), [(9, True, 0.92), (10, False, 0.92), (11, False, 0.92), (49, False, 0.92),
                                                               (50, False, 0.95)])
def test_from_how_many_images_an_interval_is_given_and_is_one_of_95_percent(images: int, undetermined: bool, holds: float) -> None:
    drawn = np.r_[0.3, np.random.default_rng(0).normal(0.3, 0.001, 1001)]
    interval = Figure(drawn[:, None], np.array([images]), objects=900, images=images).interval()
    assert (interval.undetermined, interval.is_few, interval.holds) == (undetermined, undetermined, holds)


@pytest.mark.parametrize(("classes", "images", "rare"), [(9, 49, False), (10, 49, True), (10, 50, False), (11, 49, True)])
def test_from_how_many_classes_and_images_a_mean_rests_on_rare_ones(classes: int, images: int, rare: bool) -> None:
    drawn = np.r_[0.3, np.random.default_rng(0).normal(0.3, 0.001, 101)]
    figure = Figure(np.repeat(drawn[:, None], classes + 1, axis=1), np.array([*[images] * classes, 0]), objects=900, images=600)
    assert bool(figure.rare_classes) == rare


def test_resamples_without_the_object_are_left_out() -> None:
    truth = coco(truth_box(1), truth_box(2, image_id=2, side=50), truth_box(3, image_id=3, side=50), images=3)
    found = [detection(), detection(image_id=2, side=50)]
    samples = bootstrap(match(truth, found), resamples=400)
    small = samples.figures["bbox_mAP_s"]
    assert np.isnan(small.values[1:]).mean() == pytest.approx((2 / 3) ** 3, abs=0.08)
    interval = small.interval()
    assert (interval.value, interval.high, interval.objects, interval.images) == (1, 1, 1, 1) and interval.undetermined


def test_nothing_given_is_changed_and_a_path_is_read(tmp_path: Path) -> None:
    scene = random_scene(5)
    before = copy.deepcopy(scene)
    weights = resample_weights(len(scene[0]["images"]), 5, 0)
    average_precision(match(*scene), weights)
    assert scene == before and (weights == resample_weights(len(scene[0]["images"]), 5, 0)).all()
    (tmp_path / "val.json").write_text(json.dumps(scene[0]))
    assert intervals(tmp_path / "val.json", scene[1], resamples=5) == intervals(*scene, resamples=5)


def test_the_recalls_are_those_of_pycocotools() -> None:
    assert (np.linspace(0, 1, 101) == np.arange(101) * STEP).all()


@pytest.mark.parametrize("call, message", [
    (lambda: match(TWO, [detection(image_id=77)]), "name image_id 77"),
    (lambda: match(TWO, [detection(image_id=0)]), "name image_id 0"),
    (lambda: match(TWO, [], {"odd": (5, 2)}), "not a range: odd: 5 to 2"),
    (lambda: match(TWO, [], {"all": (0, 2)}), "'all' is always there"),
    (lambda: average_precision(match(TWO, []), np.ones((1, 2))), r"\[resamples, 1 images\], but are \[1, 2\]"),
    (lambda: average_precision(match(TWO, []), np.full((1, 1), 0.5)), "whole numbers"),
    (lambda: average_precision(match(TWO, []), np.full((1, 1), -1)), "whole numbers"),
    (lambda: intervals(TWO, [], level=95), "between 0 and 1"),
    (lambda: intervals(TWO, [], resamples=1), "2 resamples .* 1 resamples"),
    (lambda: intervals({**coco(), "images": []}, []), "0 images"),
    (lambda: pair(coco(images=2), coco(images=3)), "of 2 and 3 images 1 are in one only, such as 3"),
    (lambda: pair(TWO, coco(truth_box(1))), r"objects of each \(2, 2"),
    (lambda: pair(TWO, TWO, seeds=(0, 1)), r"differ in seed \(0 and 1\)"),
    (lambda: bootstrap(match(TWO, []), 3).minus(bootstrap(match(TWO, []), 2)), r"differ in resamples \(3 and 2\)"),
])
def test_what_cannot_be_done_is_said(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def pair(first: dict[str, Any], second: dict[str, Any], seeds: tuple[int, int] = (0, 0)) -> None:
    a, b = (bootstrap(match(truth, []), 2, seed) for truth, seed in zip((first, second), seeds, strict=True))
    a.minus(b)
