"""One run on two devices: two processes of the CPU that average their gradients over gloo."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from mmdet.datasets import build_dataset

from same_run import assert_same_run
from scenes import make_dataset
from small_run import SMALL
from workbook.errors import ParameterError, RunError
from workbook.runs.checkpoints import read_checkpoint
from workbook.runs.folder import read_log
from workbook.runs.load import load_trained
from workbook.training import launch
from workbook.training.distributed import World
from workbook.training.job import prepare
from workbook.training.parameters import check_parameters
from workbook.training.validation import validate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same training on one device and on two; a batch of four, the last of an epoch has one image."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("devices")
        patch.setenv("WORKBOOK_DATA", str(root / "data"))
        make_dataset(root / "data", "scenes", train_images=9, val_images=3)
        for devices in (1, 2):
            patch.setenv("WORKBOOK_OUTPUTS", str(root / f"on_{devices}"))
            made[devices] = launch.run(prepare(check_parameters({**SMALL, "batch_size": 4, "devices": devices})))
    return made


def test_two_devices_make_the_same_run_as_one(runs):
    one, two = runs[1], runs[2]
    assert one.name != two.name and two.status == "done", "devices move the figures, so they are part of what a run is"
    assert {path.name for path in two.folder.iterdir()} - {path.name for path in one.folder.iterdir()} == {"device-1.log"}
    lines = [[(row["mode"], row["epoch"], row["step"]) for row in read_log(run.folder / "log.jsonl")] for run in (one, two)]
    assert lines[0] == lines[1] and len(lines[0]) == 4


def test_its_losses_are_those_of_one_device_within_noise(runs):
    """Each device normalizes by its own positives, and draws its own RoIs: nearly the same, but not to the bit."""
    one, two = (read_log(runs[devices].folder / "log.jsonl") for devices in (1, 2))
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=0.1)
        assert together["loss"] != alone["loss"]


def test_the_figures_of_shared_validation_are_those_of_its_checkpoint(runs):
    model, config = load_trained(runs[2])
    detections, losses = validate(model, build_dataset(config.data.val), torch.device("cpu"))
    metrics = runs[2].metrics()
    assert {name: metrics[name] for name in losses} == pytest.approx(losses, rel=1e-5)
    assert len(detections) > 0


def test_the_two_draw_other_random_numbers(runs):
    """From the same weights: each rank's generator has a seed of its own, and its state is in the checkpoint."""
    seeds = rank_seeds(runs[2])
    assert len(seeds) == 2 and seeds[0] != seeds[1]
    assert rank_seeds(runs[1]) == [0]  # one device draws from the seed of the run itself


def rank_seeds(run):
    """What the generator of each rank was seeded with."""
    states = read_checkpoint(run.last_checkpoint)["rng"]
    return [torch.Generator().set_state(state["torch"]).initial_seed() for state in states]


def test_killed_in_the_middle_and_resumed_it_ends_with_the_bits_of_the_undisturbed(runs, tmp_path, monkeypatch):
    """Kill -9 of the caller, of torchrun and of both ranks at once; each rank samples RoIs with its own generator."""
    monkeypatch.setenv("WORKBOOK_DATA", str(runs[2].folder.parents[2] / "data"))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    asked = {**SMALL, "batch_size": 4, "devices": 2, "checkpoint_minutes": 0}
    run = prepare(check_parameters(asked)).open_run()
    assert run.name == runs[2].name
    output = tmp_path / "output.txt"
    with open(output, "w") as log, subprocess.Popen(
        [sys.executable, "-m", "workbook.cli", "run", *words_of(asked)], cwd=ROOT, stdout=log, stderr=log
    ) as process:
        wait_for(lambda: run.last_checkpoint.exists() and read_checkpoint(run.last_checkpoint)["step"] >= 2, process)
        everyone = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for one in everyone:
            one.suspend()  # so that none of them sees another die
        for one in everyone:
            one.kill()
    reached = read_checkpoint(run.last_checkpoint)["step"]
    assert run.status == "running" and 2 <= reached < 6 and len(everyone) >= 4
    assert launch.run(prepare(check_parameters(asked))).status == "done"
    assert_same_run(run, runs[2])


def test_a_checkpoint_of_another_number_of_devices_is_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_DATA", str(runs[2].folder.parents[2] / "data"))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    job = prepare(check_parameters({**SMALL, "batch_size": 4}))
    shutil.copy(runs[2].last_checkpoint, job.open_run().last_checkpoint)
    with pytest.raises(RunError, match="by a training on devices=2, and this one has devices=1: go on with devices=2, or delete"):
        launch.run(job)


def test_batch_norms_that_train_have_one_statistic_for_all(tmp_path):
    """Two processes whose buffers differ: after `share_buffers` both have those of rank 0."""
    code = ("import os, torch; from torch import distributed, nn; from workbook.training.distributed import World\n"
            "distributed.init_process_group('gloo'); rank = distributed.get_rank(); world = World(rank, 2)\n"
            "norm = nn.BatchNorm1d(2); norm.running_mean.fill_(rank + 1.0); world.share_buffers(norm)\n"
            "open(f'{os.environ[\"FOLDER\"]}/{rank}', 'w').write(str(norm.running_mean.tolist()))\n"
            "assert world.gather(rank) == [0, 1] and world.highest(rank, 5 - rank) == [1, 5]\n")
    (tmp_path / "ranks.py").write_text(code)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, str(tmp_path / "ranks.py")], env={**os.environ, "FOLDER": str(tmp_path)},
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["[1.0, 1.0]", "[1.0, 1.0]"]


def test_every_image_of_a_batch_is_one_devices():
    for size in (1, 2, 3, 4):
        for count in (size, 7, 8):
            shares = [World(rank, size).shard(list(range(count))) for rank in range(size)]
            assert sorted(sum(shares, [])) == list(range(count))
    assert [World(rank, 3).shard([5, 6]) for rank in range(3)] == [[5], [6], [5]]


@pytest.mark.parametrize(("asked", "said"), [
    ({"devices": 2, "batch_size": 3, "device": "cpu"}, "batch_size=3, devices=2.*Allowed: batch sizes 2, 4, 6"),
    ({"devices": 2, "device": "cuda:1"}, "torch sees no GPU|one GPU is named"),
    ({"devices": 0}, "devices = 0"),
])
def test_impossible_devices_are_refused(asked, said):
    with pytest.raises(ParameterError, match=said):
        prepare(check_parameters({"dataset": "tree_crowns", "backbone": "resnet18", "recipe": "seed", "pretrained": "none", **asked}))


def test_stopped_and_killed_it_goes_on(tmp_path, monkeypatch):
    """SIGTERM to the caller saves and leaves; kill -9 of the caller makes the processes save and leave too."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WORKBOOK_OUTPUTS", str(tmp_path / "outputs"))
    make_dataset(tmp_path / "data", "scenes", train_images=9, val_images=3)
    asked = {**SMALL, "batch_size": 4, "devices": 2, "epochs": 60}
    run = prepare(check_parameters(asked)).open_run()
    reached = 0
    for sign, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        output = tmp_path / f"{code}.log"
        with open(output, "w") as log, subprocess.Popen(
            [sys.executable, "-m", "workbook.cli", "run", *words_of(asked)], cwd=ROOT, stdout=log, stderr=log
        ) as process:
            wait_for(lambda more=reached: run.busy and len(run.log()) > more, process)
            process.send_signal(sign)
            assert process.wait(120) == code, output.read_text()
        wait_for(lambda: not run.busy)
        step = read_checkpoint(run.last_checkpoint)["step"]
        assert run.status == "running" and step >= run.log().step.max() > 0, output.read_text()
        reached = len(run.log())
    assert "going on after step" in output.read_text()


def words_of(asked):
    """The parameters as the command takes them."""
    return [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def wait_for(condition, process=None):
    for _ in range(1200):
        if condition():
            return
        assert process is None or process.poll() is None, "it ended by itself"
        time.sleep(0.1)
    raise AssertionError("two minutes have passed")
