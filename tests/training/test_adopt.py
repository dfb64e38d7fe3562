"""Work_dirs of mmdet 2 as runs: detections and AP against mmdet's own program, logs against its lines; nothing of them is ever run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.apis import single_gpu_test
from mmdet.datasets import build_dataloader, build_dataset
from mmdet.utils import build_dp

from mmdet_work_dir import NARROW, own_config, saved, train
from same_detections import require_same
from scenes import make_dataset
from workbook.data.catalog import Dataset
from workbook.data.reading import DataError
from workbook.diagnosis.store import load_or_diagnose
from workbook.files import read_json
from workbook.models.gpu_ops import use_wheel_kernels
from workbook.runs.adopt.errors import AdoptError
from workbook.runs.folder import read_log
from workbook.runs.listing import list_runs
from workbook.training.adopt import adopt_work_dir
from workbook.training.evaluate import evaluate_run
from workbook.training.validation import as_coco

CLASSES = ("square", "bar")
FASTER_RCNN = "faster_rcnn/faster_rcnn_r50_fpn_1x_coco.py"
SMALL_HEAD = {"model.backbone.depth": 18, "model.neck.in_channels": [64, 128, 256, 512]}
LOW = {"model.test_cfg.score_thr": 0.001}  # random weights of a dense head say .01 of everything
SHIPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "faster_rcnn": (FASTER_RCNN, NARROW),
    "retinanet": ("retinanet/retinanet_r50_fpn_1x_coco.py", {**SMALL_HEAD, **LOW}),
    "vfnet": ("vfnet/vfnet_r50_fpn_1x_coco.py", {**SMALL_HEAD, **LOW}),
    "detr": ("detr/detr_r50_8x2_150e_coco.py", {"model.backbone.depth": 18, "model.bbox_head.in_channels": 512}),
    "deformable_detr": ("deformable_detr/deformable_detr_twostage_refine_r50_16x2_50e_coco.py", {
        "model.backbone.depth": 18, "model.neck.in_channels": [128, 256, 512], "model.bbox_head.num_query": 100,
        "model.bbox_head.transformer.two_stage_num_proposals": 100}),
}


@pytest.fixture(autouse=True)
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    return make_dataset(tmp_path / "data", "scenes", train_images=4, val_images=3)


def mmdets_own(model: Any, config: Any) -> list[dict[str, Any]]:
    """The detections of mmdet's test program, as COCO results."""
    test_set = build_dataset(config.data.test, dict(test_mode=True))
    loader = build_dataloader(test_set, 1, 0, dist=False, shuffle=False)
    results = single_gpu_test(build_dp(model, "cpu"), loader)
    return [found for boxes, id_ in zip(results, test_set.img_ids, strict=True) for found in as_coco(boxes, id_, test_set.cat_ids)]


@pytest.mark.parametrize("detector", SHIPPED)
def test_its_detections_are_mmdets_own(detector: str, dataset: Dataset, tmp_path: Path) -> None:
    shipped, options = SHIPPED[detector]
    use_wheel_kernels()
    torch.manual_seed(0)
    config = own_config(shipped, dataset, CLASSES, 128, options)
    model = saved(config, tmp_path / "work", CLASSES)
    run = adopt_work_dir(tmp_path / "work", "scenes").run
    require_same(read_json(run.folder / "predictions.json"), mmdets_own(model, config))
    assert run.record["parameters"]["backbone"] == "theirs" and run.record["epochs"] == 3


def test_what_mmdets_own_program_has_trained(dataset: Dataset, tmp_path: Path) -> None:
    """Two epochs, the better one kept; then a start that was taken up again and broken off. It is listed, evaluated and diagnosed."""
    config = own_config(FASTER_RCNN, dataset, CLASSES, 128, NARROW)
    work = tmp_path / "their" / "work"
    train(config, work, "--cfg-options", "runner.max_epochs=2", "log_config.interval=1", "evaluation.save_best=bbox_mAP")
    (log,) = work.glob("*.log.json")
    again = log.with_name("20991231_000000.log.json")
    again.write_text('{"env_info": "x"}\n{"mode": "train", "epoch": 2, "iter": 1, "lr": 0.5, "loss": 7.0, "time": 1.0}\n{"mode": "tr')
    before = {path: path.read_bytes() for path in work.iterdir()}

    adopted = adopt_work_dir(work, "scenes")
    run, epoch = adopted.run, adopted.run.record["best_epoch"]
    lines = read_log(run.folder / "log.jsonl")
    theirs = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    val = {line["epoch"]: line for line in theirs if line["mode"] == "val"}
    assert [(line["mode"], line["epoch"], line["step"]) for line in lines] == [
        ("train", 1, 1), ("train", 1, 2), ("val", 1, 2), ("train", 2, 3)]
    assert lines[0]["loss"] == theirs[0]["loss"] and lines[-1] == {"mode": "train", "epoch": 2, "step": 3, "lr": 0.5, "loss": 7.0}
    assert lines[2]["bbox_mAP_l"] is None and lines[2]["bbox_mAP_s"] == val[1]["bbox_mAP_s"]
    assert run.metrics()["bbox_mAP"] == pytest.approx(val[epoch]["bbox_mAP"], abs=5e-4)
    assert run.metrics()["loss"] > 0 and run.record["val_images_per_second"] > 0
    assert f"epoch {epoch}: bbox_mAP" in adopted.notes[0]
    assert {path: path.read_bytes() for path in work.iterdir()} == before

    second = adopt_work_dir(work, "scenes")
    assert second.was_there and second.run.folder == run.folder and list_runs() == [run]
    assert evaluate_run(run, overrides="model.test_cfg.rcnn.score_thr=0.2").rows
    assert len(load_or_diagnose(run).trace) == 6
    other = adopt_work_dir(work / "epoch_1.pth", "scenes").run
    assert other.folder != run.folder and other.record["epochs"] == 1


# ---- what cannot be adopted is in tests/bad_work_dirs.py ---------------------------------------------------------------


class RunsCode:
    def __init__(self, proof: Path) -> None:
        self.proof = str(proof)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.proof,)


def test_code_in_a_checkpoint_is_not_run_and_nothing_is_left(dataset: Dataset, tmp_path: Path) -> None:
    work = work_dir(dataset, tmp_path / "work")
    content = torch.load(work / "epoch_3.pth", weights_only=True)
    content["meta"]["hook"] = RunsCode(tmp_path / "proof")
    torch.save(content, work / "epoch_3.pth")
    with pytest.raises(AdoptError, match="would run code"):
        adopt_work_dir(work, "scenes")
    assert not (tmp_path / "proof").exists() and list_runs() == []
    assert not (tmp_path / "outputs" / "runs").exists()
    torch.load(work / "epoch_3.pth", weights_only=False)
    assert (tmp_path / "proof").exists(), "the checkpoint would have run it"


def work_dir(dataset: Dataset, folder: Path) -> Path:
    saved(own_config(FASTER_RCNN, dataset, CLASSES, 128, NARROW), folder, CLASSES)
    return folder


def test_the_dataset_is_checked_too(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone"):
        adopt_work_dir(work_dir(dataset, tmp_path / "work"), "gone")


def test_classes_go_by_name_in_the_order_of_the_training(dataset: Dataset, tmp_path: Path) -> None:
    """The same names in another order: label 0 of the detector is its own first class."""
    config = own_config(FASTER_RCNN, dataset, CLASSES, 128, NARROW)
    torch.manual_seed(0)
    saved(config, tmp_path / "one", CLASSES)
    torch.manual_seed(0)
    saved(config, tmp_path / "two", CLASSES[::-1])
    one, two = (read_json(adopt_work_dir(tmp_path / name, "scenes").run.folder / "predictions.json") for name in ("one", "two"))
    swapped = {1: 2, 2: 1}
    assert sorted((e["category_id"], e["score"]) for e in one) == sorted((swapped[e["category_id"]], e["score"]) for e in two)
