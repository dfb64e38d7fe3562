"""The waterfall: complete, owing nothing to an order, and on planted scenes the cost is that of the stage that was made to fail."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from diagnosed import SURE, at, diagnosed, jittered, lost_at, shifted
from planted import Answer, Scene, scripted_detr, scripted_rcnn, scripted_vfnet, write_scenes
from workbook.diagnosis.diagnose import Diagnosis, diagnose
from workbook.diagnosis.waterfall import METRICS, NOT_COUNTED, SizeWaterfall, Waterfall, _never_moves, cost_column, shapley_weights
from workbook.evaluation.bootstrap import Figure
from workbook.evaluation.coco_metrics import evaluate
from workbook.evaluation.sizes import AREA_RANGES

EXACT = 1e-9
SMALL, MEDIUM, LARGE = at(20, 20, 20, 24), at(80, 20), at(80, 100, 120, 130)
TRUTHS = [(SMALL, "dog"), (MEDIUM, "cat"), (LARGE, "cat")]
GOOD = [Answer(box, {name: 0.9}) for box, name in TRUTHS]
OTHER = at(20, 150)
STAGES = ("proposals", "class", "box", "suppression", "ranking")


def require_complete(waterfall: Waterfall) -> None:
    """The parts of every size and metric add up to 1 - AP."""
    assert set(waterfall.metrics) == set(METRICS)
    for sizes in waterfall.metrics.values():
        assert set(sizes) == set(AREA_RANGES)
        for of_size in sizes.values():
            if of_size.objects:
                assert of_size.ap + sum(cost.shapley for cost in of_size.stages) == pytest.approx(1, abs=EXACT)
            else:
                assert of_size.ap is None and all(cost.shapley is None for cost in of_size.stages)


def costs(found: Diagnosis, size: str = "all", metric: str = "AP") -> dict[str, float]:
    return {cost.stage: cost.shapley for cost in found.waterfall.metrics[metric][size].stages}


def few(folder: Path, scenes: list[Scene], scripted=scripted_rcnn, **test_cfg) -> Diagnosis:
    found = diagnose(scripted(scenes, **test_cfg), write_scenes(folder, scenes), resamples=20)
    require_complete(found.waterfall)
    return found


def test_a_detector_without_fault_costs_nothing(tmp_path: Path) -> None:
    for scripted in (scripted_rcnn, scripted_vfnet, scripted_detr):
        found = few(tmp_path / scripted.__name__, [Scene(TRUTHS, GOOD)], scripted)
        for of_size in found.waterfall.metrics["AP"].values():
            assert of_size.ap == pytest.approx(1, abs=EXACT) and of_size.costliest == ()
            assert all(cost.shapley == pytest.approx(0, abs=EXACT) for cost in of_size.stages)
        assert found.trace["recovered_by"].isna().all()


@pytest.mark.parametrize("stage", [*STAGES, "background"])
def test_the_cost_is_that_of_the_planted_stage(tmp_path: Path, stage: str) -> None:
    """One cause alone: all of what is missing is its own, in every size and metric, and it is named."""
    scenes = [lost_at(stage, box) for box in jittered(12)]
    found = few(tmp_path, scenes, score_thr=0.4 if stage == "suppression" else 0.05)
    expected = "class" if stage == "background" else stage
    for metric in METRICS:
        of_size = found.waterfall.metrics[metric]["small"]
        assert of_size.costliest == (expected,), (metric, of_size)
        assert of_size.cost(expected).shapley == pytest.approx(1 - of_size.ap, abs=EXACT)
        assert of_size.cost(expected).alone == of_size.cost(expected).last == pytest.approx(1 - of_size.ap, abs=EXACT)
    assert set(found.trace["stage"]) == {expected}


def test_dense_and_query_detectors_charge_the_planted_stage(tmp_path: Path) -> None:
    planted = {
        "class": Answer(OTHER, {"cat": 0.9, "dog": 0.03}), "box": Answer(OTHER, {"dog": 0.9}, to=shifted(OTHER, 15)),
        "candidates": Answer(OTHER, {"dog": 0.04}),
    }
    for scripted, stages in ((scripted_vfnet, ("candidates", "class", "box")), (scripted_detr, ("class", "box"))):
        for stage in stages:
            scene = Scene([*TRUTHS, (OTHER, "dog")], [*GOOD, planted[stage]])
            found = costs(few(tmp_path / f"{scripted.__name__}-{stage}", [scene], scripted))
            assert found[stage] > 0.1, (scripted, stage, found)
            assert max(found, key=lambda name: found[name]) == stage


def test_two_equal_causes_are_both_named(tmp_path: Path) -> None:
    boxes = jittered(24)
    scenes = [lost_at("class" if number % 2 else "box", box) for number, box in enumerate(boxes)]
    found = few(tmp_path, scenes)
    for metric in METRICS:
        assert set(found.waterfall.metrics[metric]["small"].costliest) == {"class", "box"}


def test_the_larger_of_two_causes_is_named_alone(tmp_path: Path) -> None:
    """Where its lead has an interval, which one image does not give."""
    boxes = jittered(24)
    scenes = [lost_at("box" if number % 6 else "class", box) for number, box in enumerate(boxes)]
    for metric in METRICS:
        assert few(tmp_path / metric, scenes).waterfall.metrics[metric]["small"].costliest == ("box",)
    both = Scene([truth for scene in scenes[:2] for truth in scene.truths], [answer for scene in scenes[:2] for answer in scene.answers])
    assert set(few(tmp_path / "one", [both]).waterfall.metrics["AP50"]["small"].costliest) == {"class", "box"}


def test_a_stage_that_hides_behind_another_costs_as_much(tmp_path: Path) -> None:
    """Every object has a wrong class and a poor box: either alone mends nothing, the last one all; each costs half."""
    scenes = [Scene([(box, "cat")], [Answer(box, {"dog": 0.9, "cat": 0.02}, to=shifted(box, 10))]) for box in jittered(12)]
    of_size = few(tmp_path, scenes).waterfall.metrics["AP50"]["small"]
    assert {name: of_size.cost(name).shapley for name in ("class", "box")} == pytest.approx({"class": 0.5, "box": 0.5})
    assert (of_size.cost("class").alone, of_size.cost("box").alone) == (0, 0)
    assert (of_size.cost("class").last, of_size.cost("box").last) == (1, 1)
    assert set(of_size.costliest) == {"class", "box"}


def test_scores_that_are_too_low_for_their_own_class_are_the_rankings(tmp_path: Path) -> None:
    """Right ones at .35 below twice as many false ones at .50 of the same class, the rest of the score on background."""
    scenes = [Scene([(box, "cat")], [Answer(box, {"cat": 0.35}), *(Answer(at(10 + 40 * n, 10, 20, 20), {"cat": 0.5}) for n in range(2))])
              for box in jittered(12)]
    found = few(tmp_path, scenes)
    assert set(found.trace["stage"]) == {"ranking"}
    assert found.waterfall.metrics["AP"]["all"].costliest == ("ranking",)
    assert costs(found)["class"] == pytest.approx(0, abs=EXACT)


def test_thirds(tmp_path: Path) -> None:
    """A third never proposed, a third in poor boxes, a third below false ones: all three cost, none is named alone."""
    stages = ("proposals", "box", "ranking")
    found = few(tmp_path, [lost_at(stages[number % 3], box) for number, box in enumerate(jittered(36))])
    of_size = found.waterfall.metrics["AP50"]["small"]
    assert all(of_size.cost(stage).shapley > 0.05 for stage in stages)
    assert dict(found.trace["stage"].value_counts()) == dict.fromkeys(stages, 12)


def test_shapley_values_are_the_mean_over_all_orders() -> None:
    """Against the definition, order by order, on random values of all subsets of four stages."""
    names, rng = "abcd", np.random.default_rng(0)
    subsets = [frozenset(n for n, chosen in zip(names, f"{number:04b}", strict=True) if chosen == "1") for number in range(16)]
    value = dict(zip(subsets, rng.random(16), strict=True))
    for stage in names:
        weights = shapley_weights(stage, subsets, 4)
        gains = [value[frozenset(order[: order.index(stage) + 1])] - value[frozenset(order[: order.index(stage)])]
                 for order in permutations(names)]
        assert sum(weight * value[subset] for subset, weight in weights.items()) == pytest.approx(np.mean(gains), abs=1e-12)


def test_what_coco_does_not_count_is_a_part_of_its_own_and_can_lead(tmp_path: Path) -> None:
    boxes = [at(2 + 17 * (n % 14), 2 + 17 * (n // 14), 14, 14) for n in range(150)]
    scenes = [Scene([(box, "cat") for box in boxes], [Answer(box, {"cat": 0.95 - n / 1000}) for n, box in enumerate(boxes)])
              for _ in range(10)]
    found = few(tmp_path, scenes, max_per_img=300)
    of_size = found.waterfall.metrics["AP"]["small"]
    # 100 of 150 are counted: 67 of the 101 recall points are reached
    assert of_size.cost(NOT_COUNTED).shapley == pytest.approx(1 - 67 / 101, abs=1e-3)
    assert of_size.costliest == (NOT_COUNTED,)
    assert dict(found.trace["stage"].value_counts()) == {"detected": 1000, NOT_COUNTED: 500}


def test_detections_of_other_sizes_are_no_affair_of_a_size(tmp_path: Path) -> None:
    """A large false detection above every small object: the AP of small objects does not count it, nor does its trace."""
    scenes = [Scene([(box, "cat")], [Answer(box, {"cat": 0.5}), Answer(at(20, 20, 200, 200), {"cat": 0.9})])
              for box in jittered(12)]
    found = few(tmp_path, scenes)
    assert found.waterfall.metrics["AP"]["small"].ap == pytest.approx(1)
    assert costs(found, "small")["ranking"] == 0
    assert set(found.trace["stage"]) == {"detected"} and set(found.trace["false_above_small"]) == {0}
    assert costs(found, "all")["ranking"] > 0.3 and (found.trace["precision_all"] < 0.6).all()
    assert list(found.trace["false_above_all"].sort_values()) == [12] * 12


def test_hard_scenes_are_complete(tmp_path: Path) -> None:
    """Twins, objects on the borders of sizes, out of the image and in crowds, an empty image, false positives everywhere."""
    edge, border = (236.0, 100.0, 276.0, 140.0), at(10, 60, 32, 32)
    twins = [(at(100, 60, 30, 30), "cat"), (at(101, 60, 33, 32), "cat"), (at(101, 60, 33, 32), "dog")]
    scenes = [
        Scene([*TRUTHS, *twins, (edge, "owl"), (border, "owl")],
              [Answer(at(98, 60, 30, 30), {"cat": 0.4, "dog": 0.3}), Answer(shifted(border, 12), {"owl": 0.5}), *GOOD[1:]]),
        Scene([], [Answer(at(10 + 50 * n, 100), {"cat": 0.5 + n / 10}) for n in range(4)]),
        Scene([(at(60, 60, 32, 33), "owl")], [Answer(at(50, 60, 32, 33), {"owl": 0.2}), Answer(at(150, 150), {"owl": 0.9})]),
    ]
    dataset = write_scenes(tmp_path, scenes, crowds=[(1, at(0, 200, 200, 50), "cat"), (2, at(0, 0, 250, 250), "owl")])
    for scripted in (scripted_rcnn, scripted_vfnet, scripted_detr):
        require_complete(diagnose(scripted(scenes), dataset, resamples=2).waterfall)


def test_now_is_cocos_own(tmp_path: Path) -> None:
    scenes = [Scene(TRUTHS, [Answer(shifted(box, 3), {name: 0.7}) for box, name in TRUTHS])]
    dataset = write_scenes(tmp_path, scenes)
    found = diagnose(scripted_rcnn(scenes), dataset, resamples=2)
    results = [dict(zip(("image_id", "category_id", "bbox", "score"), row, strict=True)) for row in
               found.detections[["image_id", "category_id", "bbox", "score"]].itertuples(index=False)]
    metrics = evaluate(dataset.coco.dataset, results).metrics
    keys = dict(zip(AREA_RANGES, ("bbox_mAP", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l"), strict=True))
    for size, of_size in found.waterfall.metrics["AP"].items():
        assert of_size.ap == pytest.approx(metrics[keys[size]], abs=EXACT)
    assert found.waterfall.metrics["AP50"]["all"].ap == pytest.approx(metrics["bbox_mAP_50"], abs=EXACT)


def test_what_was_not_seen_has_a_bound_and_never_an_interval_of_width_0(tmp_path: Path) -> None:
    """Twelve images, every object lost at the box: 1.000 is sure to 3 / 12 or so, and nothing is surely free of cost."""
    of_size = few(tmp_path, [lost_at("box", box) for box in jittered(12)]).waterfall.metrics["AP50"]["small"]
    unseen = 1 - 0.05 ** (1 / 12)  # the rule of three, exactly
    box = of_size.cost("box")
    assert (box.shapley, box.high) == (pytest.approx(1), 1) and box.low == pytest.approx(1 - unseen)
    for stage in ("proposals", "class", "suppression", "ranking"):
        cost = of_size.cost(stage)
        assert (cost.shapley, cost.low) == (0, 0) and cost.high == pytest.approx(unseen)


def test_a_figure_that_no_resample_moves() -> None:
    still, moved = np.full((4, 1), 0.5), np.array([[0.5], [0.5], [0.5], [0.5 + 1e-6]])
    assert [_never_moves(Figure(drawn, np.array([9]), 9, 9)) for drawn in (still, moved)] == [True, False]


def test_a_saved_waterfall_is_read_as_it_was(tmp_path: Path) -> None:
    saved = diagnosed(tmp_path, [lost_at("class", box) for box in jittered(3)], resamples=20)
    again = Waterfall.from_json(saved.waterfall.to_json(), saved.waterfall.draws)
    assert again == saved.waterfall and isinstance(again.metrics["AP"]["small"], SizeWaterfall)
    assert again.metrics["AP"]["small"].is_few
    draws = saved.waterfall.draws
    assert len(draws) == 1 + 20 and again.draws is draws
    for metric, sizes in saved.waterfall.metrics.items():
        for cost in sizes["small"].stages:
            assert draws[cost_column(metric, "small", cost.stage)].iloc[0] == pytest.approx(cost.shapley, abs=1e-6)


def test_a_query_that_is_on_no_object_is_found_missing(tmp_path: Path) -> None:
    found = few(tmp_path, [Scene([*TRUTHS, (OTHER, "dog")], GOOD)], scripted_detr)
    assert found.trace.iloc[3]["stage"] == "queries"


def test_every_stage_alone_recovers_what_it_alone_loses(tmp_path: Path) -> None:
    stages = ("class", "box", "suppression")
    found = few(tmp_path, [lost_at(stage, box) for stage, box in zip(stages, jittered(3), strict=True)], score_thr=0.4)
    assert list(found.trace["stage"]) == list(found.trace["recovered_by"]) == list(stages)
    assert SURE  # the script's usual answer
