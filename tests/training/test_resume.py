"""Trainings that are killed, stopped or run out of disk, at any moment, and end with the bits of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from forking import Trainer
from same_run import assert_same_run
from scenes import make_dataset
from small_run import NARROW
from workbook.files import read_json, write_json
from workbook.runs.checkpoints import read_checkpoint, save_checkpoint
from workbook.runs.folder import Run, read_log
from workbook.training.rerun import compare

SETTING = {
    "dataset": "scenes", "backbone": "timm/test_resnet", "recipe": "finetune", "pretrained": "none", "image-size": 64, "epochs": 2,
    "device": "cpu", "checkpoint-minutes": 0,
    "overrides": f"{NARROW} model.train_cfg.rpn_proposal.nms_pre=60 model.test_cfg.rpn.nms_pre=60",
}
STEPS = 6
# Between these files a kill is worst; the others are drawn.
WORST = [("before last.pth", 3), ("after best.pth", 1), ("before best.pth", 1), ("after predictions.json", 1),
         ("after metrics.json", 1), ("line", 2), ("before run.json", 2)]


class Study:
    """One warm trainer, its data, and the run that nobody disturbed."""

    def __init__(self, root: Path, trainer: Trainer) -> None:
        self.root, self.trainer = root, trainer
        assert trainer.run(words(), root / "undisturbed") == 0, self.said("undisturbed")
        self.undisturbed = self.run("undisturbed")
        self.moments = [tuple(json.loads(line)) for line in (root / "undisturbed" / "moments.jsonl").read_text().splitlines()]

    def run(self, name: str) -> Run:
        (record,) = (self.root / name / "runs").glob("*/run.json")
        return Run(record.parent)

    def said(self, name: str) -> str:
        return (self.root / name / "said.txt").read_text()

    def train(self, name: str, *order: Any, **changed: Any) -> int:
        return self.trainer.run(words(**changed), self.root / name, *order)

    def assert_as_undisturbed(self, name: str) -> None:
        run, first = self.run(name), self.undisturbed
        assert_same_run(run, first)
        keys = ("status", "error", "epochs_done", "best_epoch", "iterations", "warnings")
        assert [run.record[key] for key in keys] == [first.record[key] for key in keys]
        assert not [path.name for path in run.folder.rglob(".*")], "left behind"


def words(**changed: Any) -> list[str]:
    return ["run", *(word for key, value in {**SETTING, **changed}.items() for word in (f"--{key}", str(value)))]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    root = tmp_path_factory.mktemp("resume")
    make_dataset(root / "data", "scenes", train_images=6, val_images=2, width=64, height=64, sizes=("small", "small"))
    with Trainer({"WORKBOOK_DATA": str(root / "data")}) as trainer:
        yield Study(root, trainer)


def test_killed_at_ten_moments_it_always_ends_with_the_bits_of_the_undisturbed(study: Study) -> None:
    assert set(WORST) <= set(study.moments)
    training = study.moments[study.moments.index(("after run.json", 2)) : study.moments.index(("before run.json", 3))]
    drawn = random.Random(3).sample([moment for moment in training if moment not in WORST], 3)
    for number, moment in enumerate([*WORST, *drawn]):
        name = f"killed-{number}"
        assert study.train(name, moment) == -signal.SIGKILL, moment
        run = study.run(name)
        assert run.status == "running" and run.busy is None
        for path in run.folder.glob("checkpoints/*.pth"):
            read_checkpoint(path)  # whole, whatever the moment
        reached = read_checkpoint(run.last_checkpoint)["step"] if run.last_checkpoint.exists() else 0
        assert study.train(name) == 0, (moment, study.said(name))
        assert f"going on after step {reached} of {STEPS}" in study.said(name) or not reached
        study.assert_as_undisturbed(name)
        shutil.rmtree(study.root / name)


def test_killed_from_outside_with_rare_checkpoints(study: Study) -> None:
    """At a time, not at a place; a checkpoint comes only after each epoch, and is all that is lost to."""
    rare = {"checkpoint-minutes": 10}
    pid = study.trainer.start(words(**rare), study.root / "outside")
    moments = study.root / "outside" / "moments.jsonl"
    while not (moments.exists() and '["step", 5]' in moments.read_text()):
        time.sleep(0.002)
    time.sleep(random.Random(5).random() * 0.03)
    os.kill(pid, signal.SIGKILL)
    assert study.trainer.ended() == -signal.SIGKILL
    assert read_checkpoint(study.run("outside").last_checkpoint)["step"] == 3
    assert study.train("outside", **rare) == 0
    study.assert_as_undisturbed("outside")


@pytest.mark.parametrize(("what", "code", "moment", "step"), [
    ("term", 143, ("step", 5), 5), ("int", 130, ("step", 1), 1), ("term", 143, ("validation", 2), 6),
    ("int", 130, ("before last.pth", 3), 3)])
def test_a_signal_saves_and_leaves(what: str, code: int, moment: tuple[str, int], step: int, study: Study) -> None:
    name, rare = f"{what}-{moment[0]}".replace(" ", "-"), {"checkpoint-minutes": 0 if "last" in moment[0] else 10}
    assert study.train(name, moment, what, **rare) == code, study.said(name)
    run = study.run(name)
    said = study.said(name)
    assert f"stopped. The same call goes on from the last checkpoint of {run.folder}" in said and "Traceback" not in said
    assert run.status == "running" and run.busy is None
    assert read_checkpoint(run.last_checkpoint)["step"] == step
    assert study.train(name, **rare) == 0
    study.assert_as_undisturbed(name)


@pytest.mark.parametrize(("moment", "file"), [(("step", 5), "checkpoints/last.pth"), (("line", 3), "log.jsonl")])
def test_a_full_disk_fails_clearly_and_the_same_call_goes_on(moment: tuple[str, int], file: str, study: Study) -> None:
    name = f"full-{moment[0]}"
    assert study.train(name, moment, "full") == 2, study.said(name)
    run = study.run(name)
    reason = rf"cannot write {run.folder / file}: File too large. It needs "
    assert reason in study.said(name) and reason in run.record["error"] and "are free" in run.record["error"]
    assert run.status == "failed" and run.record["error"].startswith("WriteError: ")
    assert read_checkpoint(run.last_checkpoint)["step"] > 0 and all(row["step"] for row in read_log(run.folder / "log.jsonl"))
    assert study.train(name) == 0
    study.assert_as_undisturbed(name)


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(study: Study) -> None:
    wild = {"overrides": f"{SETTING['overrides']} optimizer.lr=1e9 optimizer_config.grad_clip=None lr_config.warmup=None"}
    assert study.train("wild", **wild) == 2
    run = study.run("wild")
    said = run.record["error"]
    assert run.status == "failed" and "the loss is not finite at step " in said and "lr 1e+09" in said
    step = int(said.partition("not finite at step ")[2].split()[0])
    kept = read_checkpoint(run.last_checkpoint)
    assert str(run.last_checkpoint) in said and 0 < kept["step"] < step
    assert all(tensor.isfinite().all() for tensor in kept["state_dict"].values())
    assert study.train("wild") == 0  # the same folder of runs, but without the override: another run
    assert {path.parent.name for path in (study.root / "wild" / "runs").glob("*/run.json")} == {run.name, study.undisturbed.name}
    assert run.record["error"] == said and read_json(run.folder / "run.json")["status"] == "failed"


def test_a_rerun_gives_the_same_bits_and_leaves_the_run_alone(study: Study) -> None:
    run = study.undisturbed
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    for _ in range(2):  # an earlier rerun is not taken for the answer
        assert study.trainer.run(["rerun", str(run.folder)], study.root / "undisturbed") == 0, study.said("undisturbed")
    again = Run(study.root / "undisturbed" / "reruns" / run.name)
    assert again.status == "done" and study.said("undisturbed").count("The same to the bit.") == 2
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    assert compare(run, again).table["difference"].eq(0).all()


def test_a_rerun_finds_what_is_another(study: Study) -> None:
    shutil.copytree(study.root / "undisturbed" / "runs", study.root / "tampered" / "runs")
    run = study.run("tampered")
    write_json(run.folder / "metrics.json", {**run.metrics(), "loss": run.metrics()["loss"] + 1e-3})
    content = read_checkpoint(run.best_checkpoint)
    key = next(key for key, value in content["state_dict"].items() if value.dim() == 1)
    content["state_dict"][key][7] += 0.5
    save_checkpoint(run.best_checkpoint, content)
    assert study.trainer.run(["rerun", run.name], study.root / "tampered") == 1, study.said("tampered")
    said = study.said("tampered")
    assert "Not the same to the bit" in said and "nothing that is known" in said and f"best checkpoint: {key}[7]" in said
    found = compare(run, Run(study.root / "tampered" / "reruns" / run.name))
    worst = found.table[found.table["difference"] > 0].set_index("figure")["difference"].to_dict()
    assert worst == pytest.approx({"loss": 1e-3, f"best checkpoint: {key}[7]": 0.5}, abs=1e-6)
    run.update(versions={**run.record["versions"], "torch": "2.0.0"})
    found = compare(run, Run(study.root / "tampered" / "reruns" / run.name))
    assert not found.broken and list(map(str, found.changes)) == [f"versions torch: 2.0.0 → {torch.__version__.partition('+')[0]}"]
    run.update(status="failed")
    assert study.trainer.run(["rerun", run.name], study.root / "tampered") == 2
    assert "is not finished (status failed)" in study.said("tampered")
