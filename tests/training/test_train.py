"""Trainings that are real, though small: what they leave behind, what stops them (test_resume.py: how they go on)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets import build_dataset
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from scenes import make_dataset
from small_run import NARROW, SMALL
from wandb_file import read_history
from workbook.data.catalog import Dataset
from workbook.errors import ParameterError
from workbook.evaluation.coco_metrics import Evaluation
from workbook.files import outputs_root, read_json
from workbook.models.backbones import BACKBONES
from workbook.models.weights import WeightsError
from workbook.runs.checkpoints import read_checkpoint
from workbook.runs.folder import RunBusyError, read_log
from workbook.runs.listing import FIRST_RUN
from workbook.runs.load import load_trained
from workbook.training.distributed import SINGLE
from workbook.training.environment import peak_memory_mb
from workbook.training.job import prepare
from workbook.training.loader import SeededItems, epoch_order
from workbook.training.loop import Training, TrainingError
from workbook.training.memory import MemoryFullError
from workbook.training.parameters import check_parameters
from workbook.training.signals import Stopped, StopSignals
from workbook.training.trackers import Tracker
from workbook.training.train import train
from workbook.training.validation import validate

FILES = {"run.json", "config.py", "log.jsonl", "predictions.json", "metrics.json", "checkpoints"}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Six train and three val images of 128x96 pixels under a data root of their own, and an empty outputs folder."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    return make_dataset(tmp_path / "data", "scenes", train_images=6, val_images=3)


def job(**changed: Any) -> Any:
    return prepare(check_parameters({**SMALL, **changed}))


def val_lines(run: Any) -> list[dict[str, Any]]:
    return [row for row in read_log(run.folder / "log.jsonl") if row["mode"] == "val"]


def test_a_run_leaves_a_complete_folder(data: Dataset) -> None:
    run = train(job())
    assert {path.name for path in run.folder.iterdir() if not path.name.startswith(".")} == FILES
    record, metrics, lines = run.record, run.metrics(), val_lines(run)
    assert (record["status"], record["epochs_done"], record["iterations"]) == ("done", 2, 6)
    assert record["model"]["roi_head"] == "StandardRoIHead" and record["model"]["parameters_m"] > 1
    assert record["train_images_per_second"] > 0 and record["peak_memory_mb"] > 100
    assert [line["step"] for line in lines] == [3, 6]
    assert metrics["best_epoch"] == record["best_epoch"] == max(lines, key=lambda line: line["bbox_mAP"])["epoch"]
    for key in ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss_bbox", "loss"):
        assert np.isfinite(metrics[key])


def test_the_metrics_are_those_of_pycocotools_on_the_kept_predictions(data: Dataset) -> None:
    run = train(job(epochs=6))
    gt = COCO(str(data.val_json))
    engine = COCOeval(gt, gt.loadRes(str(run.folder / "predictions.json")), "bbox")
    engine.evaluate()
    engine.accumulate()
    engine.summarize()
    metrics, keys = run.metrics(), ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")
    assert metrics["bbox_mAP_50"] > 0, "nothing learnt: the test would compare zeros"
    assert [-1 if metrics[key] is None else metrics[key] for key in keys] == pytest.approx(list(engine.stats[:6]), abs=1e-9)


def test_the_best_checkpoint_gives_the_kept_predictions_again(data: Dataset) -> None:
    run = train(job())
    model, config = load_trained(run)
    found, losses = validate(model, build_dataset(config.data.val), torch.device("cpu"), seed=0)
    assert found == read_json(run.folder / "predictions.json")
    assert losses["loss"] == run.metrics()["loss"]


def test_a_finished_run_is_not_trained_again(data: Dataset, capsys: pytest.CaptureFixture) -> None:
    run = train(job())
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if not path.name.startswith(".")}
    assert train(job(tracker="tensorboard")).folder == run.folder
    assert "already done" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_the_same_parameters_give_the_same_bits(data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = train(job(epochs=1))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "again"))
    torch.rand(5), np.random.rand(5)  # the state that others left behind has no influence
    assert_same_weights(first, train(job(epochs=1)))


def assert_same_weights(first: Any, second: Any) -> None:
    one, two = (read_checkpoint(run.last_checkpoint)["state_dict"] for run in (first, second))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_that_somebody_trains_is_refused(data: Dataset) -> None:
    asked = job()
    with asked.open_run().acquire(), pytest.raises(RunBusyError, match=f"is being trained by process {os.getpid()} on"):
        train(job())


def test_a_loss_that_is_not_finite_stops_and_says_where(data: Dataset) -> None:
    asked = job(overrides=f"{NARROW} optimizer.lr=1e9 optimizer_config.grad_clip=None lr_config.warmup=None")
    with pytest.raises(TrainingError, match=r"not finite at step \d+ \(epoch \d, lr 1e\+09\).*Lower the lr"):
        train(asked)
    assert asked.open_run().status == "failed" and "not finite at step" in asked.open_run().record["error"]


def test_the_advice_to_clip_gradients_can_be_followed_with_a_recipe_that_clips_none(data: Dataset) -> None:
    asked = job(recipe="seed", overrides=f'{NARROW} optimizer_config.grad_clip={{"max_norm":10}}')
    assert job(recipe="seed").config.optimizer_config.grad_clip is None
    assert asked.config.optimizer_config.grad_clip == {"max_norm": 10}


def test_a_training_that_diverges_in_its_last_step_is_not_done(data: Dataset) -> None:
    asked = job(overrides=f"{NARROW} optimizer.lr=1e9 optimizer_config.grad_clip=None lr_config.warmup=None", epochs=1, batch_size=6)
    assert asked.steps_an_epoch == 1
    with pytest.raises(TrainingError, match=r"the val loss is not finite after step 1 .*lr 1e\+09.*checkpoint: none yet"):
        train(asked)
    assert asked.open_run().status == "failed" and not asked.open_run().best_checkpoint.exists()


def test_what_cannot_be_done_is_refused_before_training(data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    with pytest.raises(ParameterError, match="batch_size=7: scenes has 6 training images.*Allowed: 1 to 6"):
        job(batch_size=7)
    with pytest.raises(ParameterError, match="recipe=official: no detector with tf_efficientnet_lite0 is published"):
        job(recipe="official")
    with pytest.raises(WeightsError, match="cannot be downloaded.*pretrained=none"):
        job(backbone="resnet18")
    with pytest.raises(WeightsError, match="load_from=/nowhere.pth: no such file"):
        job(load_from="/nowhere.pth")
    with pytest.raises(ParameterError, match="override optimiser.lr: unknown key"):
        job(overrides="optimiser.lr=1")
    with pytest.raises(ParameterError, match="grad_clip: 5 is a number, where a group of keys stands"):
        job(overrides="optimizer_config.grad_clip=5")
    with pytest.raises(ParameterError, match="overrides: no detector can be built and trained with them .*clip_grad_norm_"):
        job(recipe="seed", overrides='optimizer_config.grad_clip={"norm":5}')
    for override, words in (("gamma=abc", "gamma='abc'. Allowed: a number above 0"), ("step=[8,3]", "rising order"),
                            ("warmup_iters=None", "iters is missing"), ("warmup_ratio=None", "ratio is missing")):
        with pytest.raises(ParameterError, match=f"lr_config.*{words}"):
            job(overrides=f"lr_config.{override}")
    (tmp_path / "given.pth").write_bytes(b"no weights")
    for parameter in ("pretrained", "load_from"):
        with pytest.raises(WeightsError, match="given.pth cannot be read as weights"):
            job(**{parameter: str(tmp_path / "given.pth")})
    assert not outputs_root().exists()


def test_the_first_run_that_messages_name_can_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    words = FIRST_RUN.removeprefix("workbook run --").replace("-", "_").split(" __")
    asked = prepare(check_parameters(dict(word.split(" ") for word in words)))
    assert asked.dataset.name == "tree_crowns" and asked.steps_an_epoch > 0


def test_wandb_keeps_every_val_figure_of_every_epoch(data: Dataset) -> None:
    run = train(job(tracker="wandb-offline", epochs=3))
    (path,) = (outputs_root() / "trackers" / "wandb").glob("offline-run-*/*.wandb")
    rows = {row["_step"]: row for row in read_history(path)}
    lines = val_lines(run)
    assert len(lines) == 3
    for line in lines:
        figures = {f"val/{key}": value for key, value in line.items()
                   if key not in ("mode", "epoch", "step", "seconds") and value is not None}
        assert {"val/bbox_mAP", "val/loss_rpn_cls", "val/loss"} <= figures.keys()
        assert figures.items() <= rows[line["step"]].items()


def test_a_line_of_the_log_is_the_mean_of_its_steps(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve steps an epoch: the lines hold the means of steps 1 to 10 and of 11 to 12."""
    losses: list[dict[str, float]] = []
    step = Training._train_step
    monkeypatch.setattr(Training, "_train_step", lambda *inputs: losses.append(step(*inputs)) or losses[-1])
    make_dataset(data.folder.parent, "twelve", train_images=12, val_images=1, width=64, height=64, sizes=("small",))
    run = train(job(dataset="twelve", image_size=64, batch_size=1, epochs=1))
    lines = [row for row in read_log(run.folder / "log.jsonl") if row["mode"] == "train"]
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 10), (1, 12)]
    for line, part in zip(lines, (losses[:10], losses[10:]), strict=True):
        for key in part[0]:
            assert line[key] == pytest.approx(np.mean([values[key] for values in part]), rel=1e-9), key


def test_the_speed_is_all_images_of_all_epochs_by_their_seconds(data: Dataset) -> None:
    run = train(job(epochs=2))
    seconds = read_checkpoint(run.last_checkpoint)["seconds"]
    assert run.record["train_images_per_second"] == pytest.approx(2 * 6 / seconds["train"])
    assert run.record["val_images_per_second"] == pytest.approx(2 * 3 / seconds["val"])
    assert run.record["seconds"] == pytest.approx(seconds["train"] + seconds["val"])
    assert 0 < run.record["seconds"] < 300


def test_a_checkpoint_is_due_after_its_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[bool] = []
    training = SimpleNamespace(
        saved=1_000.0, job=SimpleNamespace(parameters=SimpleNamespace(checkpoint_minutes=2)), signals=SimpleNamespace(signum=0),
        world=SINGLE, state=dict, _save=lambda state: saved.append(True))
    for now, expected in ((1_119.0, []), (1_120.0, [True])):
        monkeypatch.setattr("workbook.training.loop.time.monotonic", lambda now=now: now)
        Training._save_when_due(training)
        assert saved == expected


@pytest.mark.parametrize(("figures", "best"), [
    ([0.2, 0.1, 0.1], 1), ([0.1, 0.2, 0.2], 2), ([None, None, 0.0], 3), ([None, None, None], 1)])
def test_the_best_epoch_is_the_first_of_the_highest_ap(figures: list[float | None], best: int) -> None:
    """None is the AP of val images without objects."""
    kept: list[int] = []
    left = iter(figures)
    training = SimpleNamespace(
        job=SimpleNamespace(epochs=3), seconds={"val": 0.0}, epoch=0, step=0, figures={}, best_epoch=0, best=None, state=dict,
        tracker=SimpleNamespace(log=lambda *rest: None), _save=lambda state: None, _write_line=lambda line: None,
        _save_best=lambda *rest: kept.append(training.epoch),
        _measure=lambda: ([], {"loss": 1.0}, Evaluation({"bbox_mAP": next(left)}, {}, {})))
    for _ in figures:
        Training._validate(training)
    assert training.best_epoch == kept[-1] == best


def test_a_training_whose_lease_is_lost_writes_nothing_more(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a sleep of this machine: in the fourth step another process has the run."""
    asked = job()
    lease, step, taken = asked.run_folder / ".lease.json", Training._train_step, []

    def lose(training: Training, *inputs: Any) -> Any:
        if training.step == 3:
            lease.write_text(lease.read_text().replace('"token": "', '"token": "another'))
            taken.append({path: path.read_bytes() for path in asked.run_folder.rglob("*") if path.is_file()})
        return step(training, *inputs)

    monkeypatch.setattr(Training, "_train_step", lose)
    with pytest.raises(RunBusyError, match="was taken over by.*It stops here and writes nothing more"):
        train(asked)
    (before,) = taken
    assert {path: path.read_bytes() for path in asked.run_folder.rglob("*") if path.is_file()} == before
    assert asked.find_run().status == "running" and read_checkpoint(asked.find_run().last_checkpoint)["step"] == 3


def test_an_error_stays_an_error_though_a_signal_has_come(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = job()
    signals = StopSignals()
    training = Training(asked, asked.open_run(), Tracker(), signals, lambda: None)

    def fail(*_: Any) -> Any:
        signals.signum = signal.SIGTERM
        raise RuntimeError("a tensor has the wrong shape")

    monkeypatch.setattr("workbook.training.loop.validate", fail)
    with pytest.raises((RuntimeError, Stopped), match="wrong shape") as caught:
        training._validate()
    assert caught.type is RuntimeError
    assert not asked.find_run().last_checkpoint.exists()


@pytest.mark.parametrize(("error", "kind", "words"), [
    (torch.OutOfMemoryError("CUDA out of memory"), MemoryFullError, "the memory is full .*Use a smaller batch_size"),
    (RuntimeError("a tensor has the wrong shape"), RuntimeError, "^a tensor has the wrong shape$"),
])
def test_a_full_memory_is_explained_and_any_other_error_is_raised_as_it_is(
    error: Exception, kind: type[Exception], words: str, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(Training, "_train_step", fail)
    asked = job()
    with pytest.raises(Exception, match=f"(?s){words}") as caught:
        train(asked)
    assert caught.type is kind and (caught.value is error) == (kind is RuntimeError)
    assert asked.find_run().status == "failed" and re.search(f"(?s){words}", asked.find_run().record["error"].partition(": ")[2])


def test_a_job_on_two_devices_is_not_trained_on_one_in_silence(data: Dataset) -> None:
    with pytest.raises(ValueError, match="a job on 2 devices and 1 processes: use workbook.training.launch.run"):
        train(job(devices=2))


def test_an_image_is_flipped_in_some_epochs_and_not_in_others(data: Dataset) -> None:
    items = SeededItems(build_dataset(job().config.data.train), seed=0)
    for index in range(6):
        flips = [items[epoch, index]["img_metas"].data["flip"] for epoch in range(16)]
        assert set(flips) == {True, False}
        assert flips[:2] == [items[epoch, index]["img_metas"].data["flip"] for epoch in range(2)]


def test_every_image_comes_once_an_epoch_in_another_order() -> None:
    first, second = epoch_order(7, 2, seed=0, epoch=0), epoch_order(7, 2, seed=0, epoch=1)
    assert [len(batch) for batch in first] == [2, 2, 2, 1]
    assert sorted(index for batch in first for _, index in batch) == list(range(7))
    assert [i for batch in first for _, i in batch] != [i for batch in second for _, i in batch]


@pytest.mark.parametrize("detector, backbone", [*(("faster_rcnn", key) for key in BACKBONES), ("vfnet", "resnet50"), ("detr", "resnet50")])
def test_every_model_trains_a_step_and_validates(detector: str, backbone: str, data: Dataset, capsys: pytest.CaptureFixture) -> None:
    few_rois = "model.train_cfg.rcnn.sampler.num=64 model.test_cfg.rpn.max_per_img=100" if detector == "faster_rcnn" else ""
    run = train(job(detector=detector, backbone=backbone, recipe="seed", pretrained="none", epochs=1, batch_size=6, overrides=few_rois))
    assert run.record["iterations"] == 1 and run.status == "done"
    metrics = run.metrics()
    assert np.isfinite(metrics["loss"]) and metrics["bbox_mAP"] is not None and metrics["counts"]["images"] == 3
    assert {path.name for path in run.folder.iterdir() if not path.name.startswith(".")} == FILES
    assert ("detr is known to need about 1,099,350 steps" in capsys.readouterr().out) == (detector == "detr")
    json.dumps(run.record)


def test_peak_memory_is_the_process_own_not_its_parents():
    """The parent takes 1,500 MB and gives them back; then a fresh process may not be told of them, nor forget its own 300."""
    asked = ("import torch; from workbook.training.environment import peak_memory_mb; taken = b'1' * (300 << 20); "
             "print(peak_memory_mb(torch.device('cpu')))")
    parent = f"b'1' * (1500 << 20); import subprocess, sys; subprocess.run([sys.executable, '-c', {asked!r}], check=True)"
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert 400 < float(done.stdout) < 1400


def test_peak_memory_is_told_where_the_system_does_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: "Name:\tpython\nVmRSS:\t    1 kB\n")  # as in some sandboxes
    assert peak_memory_mb(torch.device("cpu")) > 100
