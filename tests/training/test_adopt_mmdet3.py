"""Work_dirs of mmdet 3 as runs, against what mmdet 3.3.0 itself has written and found: tests/mmdet3_work_dir.py says what of it is real."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mmdet3_work_dir as theirs
from same_detections import require_same
from scenes import make_dataset
from workbook.data.catalog import Dataset
from workbook.diagnosis.store import load_or_diagnose
from workbook.evaluation.coco_metrics import evaluate
from workbook.files import read_json
from workbook.runs.adopt.errors import AdoptError
from workbook.runs.adopt.logs import joined_log
from workbook.runs.adopt.work_dir import read_work_dir
from workbook.runs.folder import read_log
from workbook.runs.listing import list_runs
from workbook.training.adopt import adopt_work_dir
from workbook.training.evaluate import evaluate_run


@pytest.fixture(autouse=True)
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    return make_dataset(tmp_path / "data", "scenes", **theirs.SCENES)


@pytest.mark.parametrize("detector", theirs.DETECTORS)
def test_its_detections_are_those_of_mmdet_3(detector: str, dataset: Dataset, tmp_path: Path) -> None:
    """The same boxes, scores and AP. Its config is turned into mmdet 2.28's, and every weight has found its place."""
    work = theirs.write(tmp_path / "work", detector)
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    run = adopt_work_dir(work, "scenes").run
    require_same(read_json(run.folder / "predictions.json"), theirs.detections(detector))
    ap = evaluate(dict(dataset.val), theirs.detections(detector)).metrics["bbox_mAP"]
    assert run.metrics()["bbox_mAP"] == pytest.approx(ap, abs=1e-6) and run.metrics()["loss"] > 0
    assert run.record["epochs"] == 2 and run.record["origin"]["kind"] == "mmdet 3"
    assert detector.startswith(run.record["parameters"]["detector"]) and run.record["parameters"]["image_size"] == [151, 130]
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_the_log_of_the_later_start_wins(dataset: Dataset, tmp_path: Path) -> None:
    """Its AP stands beside ours; the epoch that was trained twice is that of the start that was broken off."""
    work = theirs.write(tmp_path / "work", "faster_rcnn")
    again = work / "20991231_000000" / "vis_data"
    again.mkdir(parents=True)
    (again / "20991231_000000.json").write_text('{"lr": 0.5, "loss": 7.0, "time": 1.0, "epoch": 2, "iter": 4, "step": 4}\n{"lr": 0.')
    adopted = adopt_work_dir(work, "scenes")
    lines = read_log(adopted.run.folder / "log.jsonl")
    assert [(line["mode"], line["epoch"], line["step"]) for line in lines] == [
        ("train", 1, 1), ("train", 1, 2), ("train", 1, 3), ("val", 1, 3), ("train", 2, 4)]
    first, _, _, val, *_ = map(json.loads, theirs.log_lines().splitlines())
    assert lines[0]["loss"] == first["loss"] and lines[-1] == {"mode": "train", "epoch": 2, "step": 4, "lr": 0.5, "loss": 7.0}
    assert lines[3]["bbox_mAP_m"] == val["coco/bbox_mAP_m"] and lines[3]["bbox_mAP_l"] is None and "time" not in lines[3]
    assert adopted.notes[0].endswith("the log has none of this epoch") and adopted.run.record["warnings"] == []


def test_steps_are_those_of_the_checkpoint_where_not_every_one_is_logged(tmp_path: Path) -> None:
    work = theirs.write(tmp_path / "work", "retinanet", epoch=2, iter=40)
    assert [line["step"] for line in joined_log(work, read_work_dir(work).steps) if line["mode"] == "val"] == [20, 40]


def test_a_validation_is_of_the_epoch_before_it_where_its_steps_are_logged(tmp_path: Path) -> None:
    """default_hooks.logger.log_metric_by_epoch=False."""
    work = theirs.write(tmp_path / "work", "retinanet")
    file, = work.glob("*/vis_data/scalars.json")
    file.write_text('{"loss": 1.0, "epoch": 1, "iter": 3, "step": 3}\n{"coco/bbox_mAP": 0.25, "step": 3}\n')
    assert joined_log(work, 3)[1] == {"mode": "val", "epoch": 1, "step": 3, "bbox_mAP": 0.25}


def test_it_is_listed_evaluated_and_diagnosed(dataset: Dataset, tmp_path: Path) -> None:
    work = theirs.write(tmp_path / "work", "faster_rcnn")
    run = adopt_work_dir(work, "scenes").run
    assert "more apart than rounding" in run.record["warnings"][0]  # these weights are not those of the log
    assert adopt_work_dir(work, "scenes").was_there and list_runs() == [run]
    assert evaluate_run(run, overrides="model.test_cfg.rcnn.score_thr=0.2").rows
    assert len(load_or_diagnose(run).trace) == 6


def test_queries_are_diagnosed(dataset: Dataset, tmp_path: Path) -> None:
    run = adopt_work_dir(theirs.write(tmp_path / "work", "deformable_detr_twostage"), "scenes").run
    assert len(load_or_diagnose(run).trace) == 6


def test_of_an_ema_the_averaged_weights_are_taken(tmp_path: Path) -> None:
    """mmdet 3 saves them as the plain ones, and the raw ones apart (mmengine/hooks/ema_hook.py)."""
    work = theirs.write(tmp_path / "work", "retinanet")
    content = theirs.content("retinanet")
    raw = {f"module.{name}": torch.zeros_like(value) for name, value in content["state_dict"].items()}
    theirs.save_checkpoint(work / "epoch_2.pth", {**content, "ema_state_dict": {"steps": torch.tensor(6), **raw}})
    found = read_work_dir(work)
    assert found.notes == ("epoch_2.pth was saved by an EMA: its averaged weights are taken",)
    assert all(torch.equal(found.weights[name], value) for name, value in content["state_dict"].items())


def test_the_best_one_is_taken_and_colours_among_the_weights_are_left(tmp_path: Path) -> None:
    work = theirs.write(tmp_path / "work", "retinanet")
    content = theirs.content("retinanet", epoch=1)
    content["state_dict"]["data_preprocessor.mean"] = torch.zeros(3, 1, 1)
    theirs.save_checkpoint(work / "best_coco_bbox_mAP_epoch_1.pth", content)
    found = read_work_dir(work)
    assert (found.checkpoint.name, found.epoch) == ("best_coco_bbox_mAP_epoch_1.pth", 1)
    assert found.weights.keys() == theirs.shapes("retinanet").keys()


@pytest.mark.parametrize("path", ["mmdet.", "mmdet.models.backbones.resnet."])
def test_types_may_say_where_they_are_from(path: str, tmp_path: Path) -> None:
    work = theirs.write(tmp_path / "work", "retinanet")
    text = theirs.config("retinanet")
    (work / "retinanet.py").write_text(text.replace("type='ResNet'", f"type='{path}ResNet'"))
    assert read_work_dir(work).config["model"]["backbone"]["type"] == "ResNet"


def test_images_are_prepared_as_mmdet_3_does(tmp_path: Path) -> None:
    """BGR, another padding on all three channels, and sides that do not keep their ratio."""
    work = theirs.write(tmp_path / "work", "retinanet")
    text = theirs.config("retinanet").replace("bgr_to_rgb=True", "bgr_to_rgb=False, pad_value=7").replace("keep_ratio=True, ", "")
    (work / "retinanet.py").write_text(text)
    outer = read_work_dir(work).config["data"]["val"]["pipeline"][1]
    resize, _, normalize, pad, *_ = outer["transforms"]
    assert outer["img_scale"] == (151, 130) and resize["keep_ratio"] is False
    assert normalize["to_rgb"] is False and normalize["mean"] == [123.675, 116.28, 103.53]
    assert pad == {"type": "Pad", "size_divisor": 32, "pad_val": {"img": (7, 7, 7)}}


def test_without_its_config_file_the_text_in_the_checkpoint_is_read(tmp_path: Path) -> None:
    work = theirs.write(tmp_path / "work", "detr")
    (work / "detr.py").unlink()
    found = read_work_dir(work)
    assert found.config_file is None and found.config["model"]["type"] == "DETR"


def test_of_two_configs_the_one_of_the_experiment_is_read(tmp_path: Path) -> None:
    work = theirs.write(tmp_path / "work", "retinanet")
    (work / "other.py").write_text("a = 1")
    assert read_work_dir(work).config_file == work / "retinanet.py"


def test_classes_are_those_of_the_checkpoint_else_of_the_config(tmp_path: Path) -> None:
    work = theirs.write(tmp_path / "work", "retinanet", dataset_meta={"classes": ["b", "a"]})
    assert read_work_dir(work).classes == ("b", "a")
    theirs.save_checkpoint(work / "epoch_2.pth", theirs.content("retinanet", dataset_meta=None))
    assert read_work_dir(work).classes == theirs.CLASSES


def test_code_beside_the_tensors_is_not_run_and_nothing_is_left(dataset: Dataset, tmp_path: Path) -> None:
    """getattr is passed over where mmengine's own objects need it; what it would lead to is not."""
    work = theirs.write(tmp_path / "work", "retinanet")
    proof = tmp_path / "proof"

    class RunsCode:
        def __reduce__(self) -> Any:
            return getattr, (proof, "mkdir")

    theirs.save_checkpoint(work / "epoch_2.pth", {**theirs.content("retinanet"), "hook": RunsCode()})
    read_work_dir(work)
    assert not proof.exists() and "mmengine" not in sys.modules

    class Worse:
        def __reduce__(self) -> Any:
            return exec, (f"import os; os.mkdir({str(proof)!r})",)

    theirs.save_checkpoint(work / "epoch_2.pth", {**theirs.content("retinanet"), "hook": Worse()})
    with pytest.raises(AdoptError, match="would run code"):
        adopt_work_dir(work, "scenes")
    assert not proof.exists() and list_runs() == [] and not (tmp_path / "outputs" / "runs").exists()


def test_the_weights_of_the_tests_tell_queries_and_images_apart() -> None:
    """Else the detections would agree whatever was read."""
    for detector in theirs.DETECTORS:
        found = theirs.detections(detector)
        scores = np.array([entry["score"] for entry in found])
        assert len(found) == 30 and len(set(scores)) > 25, detector
        assert scores[:10].tolist() != scores[10:20].tolist() and np.ptp(scores) > 0.005, detector
