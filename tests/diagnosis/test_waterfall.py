"""The waterfall: complete by construction, and on planted scenes the cost lands at the stage that was made to fail."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mmcv import Config
from mmdet.models import build_detector

from planted import (
    CLASSES,
    Answer,
    Box,
    Scene,
    pipeline,
    scripted_detr,
    scripted_rcnn,
    scripted_vfnet,
    small_config,
    write_scenes,
)
from workbook.diagnosis.diagnosis import Diagnosis, diagnose, diagnose_run
from workbook.diagnosis.false_positives import KINDS
from workbook.diagnosis.waterfall import NOT_COUNTED, waterfall
from workbook.evaluation.coco_metrics import evaluate
from workbook.files import read_json, write_json
from workbook.runs.checkpoints import save_checkpoint
from workbook.runs.config import write_config
from workbook.runs.folder import Run

EXACT = 1e-9
SURE = {"cat": 0.9}


def at(x: float, y: float, w: float = 40, h: float = 40) -> Box:
    return (x, y, x + w, y + h)


def shifted(box: Box, by: float) -> Box:
    return (box[0] + by, box[1], box[2] + by, box[3])


SMALL, MEDIUM, LARGE = at(20, 20, 20, 24), at(80, 20), at(80, 100, 120, 130)
TRUTHS = [(SMALL, "dog"), (MEDIUM, "cat"), (LARGE, "cat")]
GOOD = [Answer(box, {name: 0.9}) for box, name in TRUTHS]
OTHER = at(20, 150)


def drops(diagnosis: Diagnosis, size: str = "all") -> dict[str, float]:
    return {step["stage"]: step["drop"] for step in diagnosis.waterfall["sizes"][size]["steps"]}


def require_complete(figures: dict[str, Any]) -> None:
    """The sums of every size, and an AP of 1 at the end."""
    for size in figures["sizes"].values():
        if size["objects"]:
            assert sum(step["drop"] for step in size["steps"]) == pytest.approx(1 - size["ap"], abs=EXACT)
            assert size["steps"][-1]["ap_after"] == pytest.approx(1, abs=EXACT)
        else:
            assert size["ap"] is None and all(step["drop"] is None for step in size["steps"])


@pytest.mark.parametrize("scripted", [scripted_rcnn, scripted_vfnet])
def test_a_perfect_detector_has_an_empty_waterfall(tmp_path: Path, scripted: Any) -> None:
    scenes = [Scene(TRUTHS, GOOD), Scene([], []), Scene(TRUTHS[:1], GOOD[:1])]
    diagnosis = diagnose(scripted(scenes), write_scenes(tmp_path, scenes))
    for size, figures in diagnosis.waterfall["sizes"].items():
        assert figures["ap"] == pytest.approx(1, abs=EXACT), size
        assert all(step["drop"] == pytest.approx(0, abs=EXACT) for step in figures["steps"]), size
        assert all(step["alone"] == pytest.approx(0, abs=EXACT) for step in figures["steps"]), size
    assert set(diagnosis.trace["stage"]) == {"detected"}
    assert diagnosis.trace["recovered_by"].isna().all()
    assert diagnosis.false_positives.empty


def test_a_perfect_query_detector_has_an_empty_waterfall(tmp_path: Path) -> None:
    """Its other queries are reported too, far below: false positives that cost nothing."""
    scenes = [Scene(TRUTHS, GOOD), Scene(TRUTHS[:1], GOOD[:1])]
    diagnosis = diagnose(scripted_detr(scenes), write_scenes(tmp_path, scenes))
    assert diagnosis.waterfall["sizes"]["all"]["ap"] == pytest.approx(1, abs=EXACT)
    assert all(drop == pytest.approx(0, abs=EXACT) for drop in drops(diagnosis).values())
    assert set(diagnosis.false_positives["kind"]) == {"background"}


# Each scene fails in one stage only, at the second object of its class.
ONE_FAILURE: dict[str, tuple[list[tuple[Box, str]], list[Answer], dict[str, Any]]] = {
    "proposals": ([*TRUTHS, (OTHER, "dog")], [*GOOD, Answer(OTHER, {"dog": 0.9}, objectness=0)], {}),
    "class, another": ([*TRUTHS, (OTHER, "dog")], [*GOOD, Answer(OTHER, {"owl": 0.9, "dog": 0.02})], {}),
    "class, background": ([*TRUTHS, (OTHER, "dog")], [*GOOD, Answer(OTHER, {"dog": 0.02})], {}),
    "box": ([*TRUTHS, (OTHER, "dog")], [*GOOD, Answer(OTHER, {"dog": 0.9}, to=shifted(OTHER, 15))], {}),
    "suppression, NMS": (
        [*TRUTHS, (shifted(SMALL, 4), "dog")], [*GOOD, Answer(shifted(SMALL, 4), {"dog": 0.8})], {},
    ),
    "suppression, threshold": (
        [*TRUTHS, (OTHER, "dog")], [*GOOD, Answer(OTHER, {"dog": 0.38, "cat": 0.31})], {"score_thr": 0.4},
    ),
    "suppression, limit": ([*TRUTHS, (OTHER, "dog")], [*GOOD, Answer(OTHER, {"dog": 0.6})], {"max_per_img": 3}),
    "ranking": (TRUTHS, [*GOOD[1:], Answer(SMALL, {"dog": 0.6}), Answer(OTHER, {"dog": 0.8})], {}),
}


@pytest.mark.parametrize("name", ONE_FAILURE)
def test_the_cost_lands_at_the_planted_stage(tmp_path: Path, name: str) -> None:
    truths, answers, options = ONE_FAILURE[name]
    scene = Scene(truths, answers)
    diagnosis = diagnose(scripted_rcnn([scene], **options), write_scenes(tmp_path, [scene]))
    require_complete(diagnosis.waterfall)
    found, planted = drops(diagnosis), name.split(",")[0]
    assert found[planted] > 0.1
    assert all(drop == pytest.approx(0, abs=EXACT) for stage, drop in found.items() if stage != planted), found
    alone = {step["stage"]: step["alone"] for step in diagnosis.waterfall["sizes"]["all"]["steps"]}
    assert alone[planted] == pytest.approx(found[planted], abs=EXACT)
    lost = diagnosis.trace[diagnosis.trace["stage"] != "detected"]
    assert set(lost["stage"]) <= {planted}
    assert set(lost["recovered_by"].dropna()) <= {planted}


def test_dense_and_query_costs_land_at_the_planted_stage(tmp_path: Path) -> None:
    planted = {
        "class": Answer(OTHER, {"owl": 0.9, "dog": 0.03}), "box": Answer(OTHER, {"dog": 0.9}, to=shifted(OTHER, 15)),
        "candidates": Answer(OTHER, {"dog": 0.04}),
    }
    for scripted, stages in ((scripted_vfnet, ("candidates", "class", "box")), (scripted_detr, ("class", "box"))):
        for stage in stages:
            scene = Scene([*TRUTHS, (OTHER, "dog")], [*GOOD, planted[stage]])
            diagnosis = diagnose(scripted([scene]), write_scenes(tmp_path / f"{scripted.__name__}-{stage}", [scene]))
            require_complete(diagnosis.waterfall)
            found = drops(diagnosis)
            assert found[stage] > 0.1, (scripted, stage, found)
            assert sum(abs(drop) for drop in found.values()) == pytest.approx(found[stage], abs=EXACT), (scripted, stage, found)


def test_a_query_that_nobody_sends_is_found_missing(tmp_path: Path) -> None:
    """Nothing looks at the object: the query, its class and its box must be made, and the sum is still complete."""
    scene = Scene([*TRUTHS, (OTHER, "dog")], GOOD)
    diagnosis = diagnose(scripted_detr([scene]), write_scenes(tmp_path, [scene]))
    require_complete(diagnosis.waterfall)
    assert diagnosis.trace.iloc[3]["stage"] == "queries"


def test_hard_scenes_are_complete(tmp_path: Path) -> None:
    """Twins, objects on the borders of sizes, out of the image and in crowds, an empty image, false positives everywhere."""
    edge, border = (236.0, 100.0, 276.0, 140.0), at(10, 60, 32, 32)
    twins = [(at(100, 60, 30, 30), "cat"), (at(101, 60, 33, 32), "cat"), (at(101, 60, 33, 32), "dog")]
    scenes = [
        Scene([*TRUTHS, *twins, (edge, "owl"), (border, "owl")],
              [Answer(at(98, 60, 30, 30), {"cat": 0.4, "dog": 0.3}), Answer(shifted(border, 12), {"owl": 0.5}), *GOOD[1:]]),
        Scene([], [Answer(at(10 + 50 * n, 100), {name: 0.5 + n / 10}) for n in range(4) for name in ("cat",)]),
        Scene([(at(60, 60, 32, 33), "owl")], [Answer(at(50, 60, 32, 33), {"owl": 0.2}), Answer(at(150, 150), {"owl": 0.9})]),
    ]
    dataset = write_scenes(tmp_path, scenes, crowds=[(1, at(0, 200, 200, 50), "cat"), (2, at(0, 0, 250, 250), "owl")])
    bins = {"tiny": (0.0, 500.0), "mid": (900.0, 1100.0), "none": (3e4, 4e4)}
    for scripted in (scripted_rcnn, scripted_vfnet, scripted_detr):
        diagnosis = diagnose(scripted(scenes), dataset, bins=bins)
        require_complete(diagnosis.waterfall)
        assert diagnosis.waterfall["sizes"]["tiny"]["objects"] == 1
        assert diagnosis.waterfall["sizes"]["mid"]["objects"] == 5


def test_what_coco_does_not_count_is_its_own_step(tmp_path: Path) -> None:
    boxes = [at(2 + 23 * (n % 11), 2 + 23 * (n // 11), 18, 18) for n in range(103)]
    scene = Scene([(box, "cat") for box in boxes], [Answer(box, {"cat": 0.95 - n / 1000}) for n, box in enumerate(boxes)])
    diagnosis = diagnose(scripted_rcnn([scene], max_per_img=300), write_scenes(tmp_path, [scene]))
    require_complete(diagnosis.waterfall)
    last = diagnosis.waterfall["sizes"]["small"]["steps"][-1]
    assert last["stage"] == NOT_COUNTED
    assert last["drop"] == pytest.approx(3 / 101, abs=EXACT)  # recall ends at .97: 98 of the 101 recall points are reached


def test_now_is_the_run_and_its_bins_are_cocos(tmp_path: Path) -> None:
    scenes = [Scene(TRUTHS, [Answer(shifted(box, 3), {name: 0.7}) for box, name in TRUTHS])]
    dataset = write_scenes(tmp_path, scenes)
    diagnosis = diagnose(scripted_rcnn(scenes), dataset, bins={"again": (0, 32**2)})
    metrics = evaluate(dataset.coco.dataset, diagnosis.detections["now"]).metrics
    sizes = diagnosis.waterfall["sizes"]
    assert [sizes[size]["ap"] for size in ("all", "small", "medium", "large")] == [
        metrics[key] for key in ("bbox_mAP", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
    ]
    assert sizes["again"] == sizes["small"]
    with pytest.raises(ValueError, match="small"):
        waterfall(dataset.coco.dataset, diagnosis.detections, diagnosis.stages, {"small": (0, 5)})


def test_kinds_of_false_positives_come_out_as_planted(tmp_path: Path) -> None:
    """Two boxes that overlap by a third, both on one object, are one hit and one duplicate; and so on."""
    truths = [(at(20, 20), "cat"), (at(120, 20), "cat"), (at(20, 120), "dog"), (at(120, 120), "dog")]
    answers = [
        Answer(shifted(at(20, 20), 10), {"cat": 0.9}), Answer(shifted(at(20, 20), -10), {"cat": 0.8}),  # hit, duplicate
        Answer(at(120, 20), {"owl": 0.85}),  # wrong class
        Answer(shifted(at(20, 120), 15), {"dog": 0.95}),  # poor box
        Answer(at(200, 200, 20, 20), {"cat": 0.99}),  # background, small
        Answer(shifted(at(120, 120), 15), {"owl": 0.7}),  # wrong class and poor box
    ]
    scene = Scene(truths, answers)
    diagnosis = diagnose(scripted_rcnn([scene]), write_scenes(tmp_path, [scene]))
    assert sorted(diagnosis.false_positives["kind"]) == sorted(KINDS)
    figures = diagnosis.waterfall["false_positives"]["sizes"]
    assert [figures["small"][kind]["count"] for kind in KINDS] == [0, 0, 0, 1, 0]
    assert [figures["medium"][kind]["count"] for kind in KINDS] == [1, 1, 1, 0, 1]
    # the only hit (IoU .6: counted at 3 of 10 IoUs) stands below one false cat; without it, precision doubles
    hit = 0.3 * 51 / 101 / 2  # recall .5 reaches 51 of 101 recall points; 2 classes have truth
    assert diagnosis.waterfall["sizes"]["all"]["ap"] == pytest.approx(hit / 2, abs=EXACT)
    assert figures["all"]["background"]["gain"] == pytest.approx(hit / 2, abs=EXACT)
    assert figures["all"]["duplicate"]["gain"] == pytest.approx(0, abs=EXACT)


def test_a_run_gets_its_two_files(tmp_path: Path) -> None:
    """From a run folder as a training leaves it; what is written reads back as it was, and nothing else is left behind."""
    scene = Scene(TRUTHS, GOOD)
    write_scenes(tmp_path / "data", [scene])
    shared = dict(type="OrderedCocoDataset", ann_file=str(tmp_path / "data/truth.json"), img_prefix=str(tmp_path / "data"),
                  classes=CLASSES, pipeline=pipeline((128, 128)))
    model_config = small_config("faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py")
    run = Run(tmp_path / "run")
    run.best_checkpoint.parent.mkdir(parents=True)
    save_checkpoint(run.best_checkpoint, {"state_dict": build_detector(copy.deepcopy(model_config)).state_dict()})
    write_config(run.folder / "config.py", Config(dict(
        model=model_config, classes=CLASSES, data=dict(train=shared, val=dict(**shared, test_mode=True)),
        custom_imports=dict(imports=["workbook.data.mmdet_dataset"]))))
    write_json(run.folder / "run.json", {"status": "done", "settings": {"precision": "fp32"}})
    diagnosis = diagnose_run(run, bins={"tiny": (0, 500)})
    assert sorted(path.name for path in run.folder.iterdir()) == ["checkpoints", "config.py", "run.json", "trace.parquet", "waterfall.json"]
    trace, figures = pd.read_parquet(run.folder / "trace.parquet"), read_json(run.folder / "waterfall.json")
    assert list(trace) == list(diagnosis.trace) and list(trace["stage"]) == list(diagnosis.trace["stage"])
    assert list(trace["bbox"][0]) == [20, 20, 20, 24]
    assert [stage["name"] for stage in figures["stages"]] == ["proposals", "class", "box", "suppression", "ranking"]
    assert figures["sizes"] == diagnosis.waterfall["sizes"]
    assert figures["ceiling"]["train"]["small"] == {"objects": 1, "never_taught": 1, "share": 1.0}  # 10 x 12 pixels at 128
