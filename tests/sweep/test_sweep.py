"""Sweeps: the plan and its refusals, real trainings side by side, and what a failure, a kill, a second sweep and a lost node do."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from rich.console import Console

from run_folders import write_run
from scenes import make_dataset
from small_run import NARROW
from workbook.cli import sweep
from workbook.data.catalog import find_dataset
from workbook.errors import ParameterError, RunError
from workbook.files import outputs_root
from workbook.progress import duration
from workbook.runs.folder import Run, RunBusyError, create_run, read_log
from workbook.runs.listing import list_runs
from workbook.studies.study import read_grids
from workbook.sweep.command import run_sweep, split, sum_up
from workbook.sweep.eta import Eta
from workbook.sweep.local import LocalExecutor
from workbook.sweep.plan import Entry, Known, SweepError, check_plan, make_plan, state_of
from workbook.sweep.table import Screen, plan_table, plan_words, summary_table
from workbook.training.environment import hardware
from workbook.training.parameters import Parameters

ROOT = Path(__file__).resolve().parents[2]
TINY: dict[str, Any] = {
    "dataset": "scenes", "backbone": "tf_efficientnet_lite0", "recipe": "finetune", "image_size": 64, "epochs": 1, "batch_size": 2,
    "device": "cpu", "precision": "fp32", "overrides": NARROW,
}
BROKEN = f"{NARROW} optimizer.lr=1e9 optimizer_config.grad_clip=None lr_config.warmup=None"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four train images and a val image of 64 pixels: an epoch is two steps."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    make_dataset(tmp_path / "data", "scenes", train_images=4, val_images=1, width=64, height=64, sizes=("small",))


def words(**changed: Any) -> dict[str, Any]:
    """As the command line gives them: texts."""
    return {key: str(value) for key, value in {**TINY, **changed}.items()}


def steps(run: Run, mode: str = "train") -> list[int]:
    return [row["step"] for row in read_log(run.folder / "log.jsonl") if row["mode"] == mode]


def wait_for(condition: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


# ---- the plan --------------------------------------------------------------------------------------------------------


def test_every_combination_is_one_run_and_what_comes_twice_is_one() -> None:
    plan = make_plan([{**TINY, "backbone": ["resnet50", "swin_t"], "seed": [0, 1, 2]}, {**TINY, "backbone": "swin_t", "device": "auto"}])
    assert [(entry.parameters.backbone, entry.parameters.seed) for entry in plan] == [
        (backbone, seed) for backbone in ("resnet50", "swin_t") for seed in (0, 1, 2)]
    assert {entry.state for entry in plan} == {"new"} and [entry.varies for entry in plan[:2]] == ["seed=0", "seed=1"]
    assert not outputs_root().exists()


def test_all_wrong_names_and_values_are_refused_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        make_plan([{"backbone": ["resnet5", "resnet50"], "seed": split("seed", "0,x,-1")}, {"optimiser": "sgd"}])
    for part in ("backbone = 'resnet5'", "seed = 'x'", "seed = -1", "optimiser: no such parameter"):
        assert str(caught.value).count(part) == 1


def test_every_parameter_of_a_run_is_an_option_of_the_sweep() -> None:
    assert set(Parameters.model_fields) <= set(inspect.signature(sweep).parameters)
    assert split("seed", "0,1") == [0, 1] and split("backbone", "a, b") == ["a", "b"] and split("overrides", "x=[1,2]") == ["x=[1,2]"]


def test_an_empty_list_and_no_question_at_all_are_refused() -> None:
    with pytest.raises(SweepError, match="a list of values is empty"):
        make_plan([{"seed": []}])
    with pytest.raises(SweepError, match="devices=2.*Use --jobs 1"):
        run_sweep(None, {"backbone": "resnet18", "recipe": "seed", "pretrained": "none", "devices": 2}, 2, "local", "", True)
    with pytest.raises(SweepError, match="which runs"):
        run_sweep(None, {}, None, "local", "", True)
    with pytest.raises(SweepError, match="allowed are --on local"):
        run_sweep(None, words(), None, "slurm", "", True)


def test_the_demo_file_asks_for_the_runs_of_make_demo() -> None:
    setting = re.search(r"DEMO_SETTING := (.*?\")\n", (ROOT / "Makefile").read_text(), re.DOTALL)
    assert setting
    given = shlex.split(setting[1].replace("\\\n", " "))
    asked = {given[at + 1]: given[at + 2] for at in range(0, len(given), 3)}
    asked = {name: int(value) if value.isdigit() else value for name, value in asked.items()}
    demo = {"dataset": "tree_crowns", "backbone": ["tf_efficientnet_lite0", "tf_efficientnet_lite2"]}
    assert [entry.run.name for entry in make_plan(read_grids(ROOT / "studies/demo.yaml"))] == [
        entry.run.name for entry in make_plan([{**demo, **asked}])]


def test_the_original_file_asks_for_the_first_experiments() -> None:
    plan = make_plan(read_grids(ROOT / "studies/original.yaml"))
    assert [(entry.parameters.detector, entry.parameters.backbone) for entry in plan] == [
        *(("faster_rcnn", backbone) for backbone in ("resnet50", "swin_t", "pvtv2_b0", "pvtv2_b5")),
        ("vfnet", "resnet50"), ("detr", "resnet50")]
    assert {(p.recipe, p.image_size, p.epochs) for p in (entry.parameters for entry in plan)} == {("seed", (1024, 1024), 12)}


def test_what_cannot_start_is_all_named_before_anything_starts() -> None:
    plan = make_plan([{**TINY, "seed": [0, 1], "batch_size": [2, 5]}, {**TINY, "load_from": "/nowhere.pth"}])
    with pytest.raises(SweepError, match="3 of 5 runs cannot start; nothing was started") as caught:
        check_plan(plan, LocalExecutor(1))
    assert str(caught.value).count("batch_size=5: scenes has 4 training images") == 1
    assert "load_from=/nowhere.pth: no such file" in str(caught.value) and not outputs_root().exists()


def test_an_error_of_the_code_keeps_its_traceback() -> None:
    plan = make_plan([TINY])
    broken = Parameters.model_construct(**{**dict(plan[0].parameters), "batch_size": None})  # as no user can ask for
    with pytest.raises(RuntimeError, match=r"(?s)Traceback \(most recent call last\).*training/job\.py.*TypeError"):
        LocalExecutor(1).check([broken])


def test_what_a_run_stands_for_is_found_where_it_trains(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"one")
    asked = [{**TINY, "pretrained": [str(weights), "none", "/nowhere.pth"], "seed": [0, 1]}]
    plan = make_plan(asked, LocalExecutor(1).resolve)
    assert [entry.run.name for entry in plan] == [entry.run.name for entry in make_plan(asked)]
    digest = hashlib.sha256(b"one").hexdigest()
    assert [entry.resolved.get("pretrained") for entry in plan] == [digest, digest, "none", "none", None, None]
    weights.write_bytes(b"two")
    changed = {entry.run.name for entry in make_plan(asked)} - {entry.run.name for entry in plan}
    assert len(changed) == 2, "another file is another run"


def test_a_broken_run_folder_is_named_and_stops_no_sweep(capfd: pytest.CaptureFixture) -> None:
    done = write_run(outputs_root())
    here = hardware(torch.device("cpu"))
    lacking = ({"hardware": None}, {"hardware": here, "seconds": None}, {"hardware": here, "iterations": 0})
    for seed, lacks in enumerate(lacking):
        write_run(outputs_root(), record=lacks, parameters={"seed": 70 + seed})  # nothing that an estimate could use
    broken = write_run(outputs_root(), parameters={"seed": 8})
    (broken.folder / "run.json").write_text("{")
    assert run_sweep(None, words(), None, "local", "", True) == 0
    shown = capfd.readouterr().out
    assert "Left out because unreadable: 1 run folder, " in shown and str(broken.folder) in shown
    sum_up(make_plan([TINY]), Console(width=400))
    shown = capfd.readouterr().out
    assert shown.count("Left out because unreadable") == 1 and str(broken.folder) in shown
    listed = {row["run"] for row in _comparison()}
    assert done.name in listed and broken.name not in listed


# ---- real trainings --------------------------------------------------------------------------------------------------


def test_a_failed_a_killed_and_a_busy_run_do_not_stop_the_others(capfd: pytest.CaptureFixture) -> None:
    plan = make_plan([{**TINY, "seed": [0, 1]}, {**TINY, "overrides": BROKEN}, {**TINY, "epochs": 200}])
    held, _, _, long = (entry.run for entry in plan)
    create_run(plan[0].parameters.model_dump(mode="json"), find_dataset("scenes").hash, resolved=plan[0].resolved)
    file = outputs_root() / "sweep.yaml"
    file.write_text(json.dumps([{**TINY, "seed": [0, 1]}, {**TINY, "overrides": BROKEN}, {**TINY, "epochs": 200}]))

    def kill_the_long_one_and_give_up_the_held_one() -> None:
        os.kill(wait_for(lambda: long.last_checkpoint.exists() and long.busy).pid, signal.SIGKILL)
        (held.folder / ".lease.json").unlink()

    helper = threading.Thread(target=kill_the_long_one_and_give_up_the_held_one)
    helper.start()
    with held.acquire():
        code = run_sweep(file, {}, 2, "local", "", False)
    helper.join()
    shown = capfd.readouterr().out
    assert code == 1 and "4 runs: 2 done, 2 failed." in shown, shown
    assert re.search(r"TrainingError: the loss is not finite at step \d", shown) and "its process was killed" in shown
    assert "busy: trained by process" in shown and held.status == "done"
    assert "run folder" not in shown and "run folder" in (held.folder / "train.log").read_text()
    assert {row["run"] for row in _comparison()} == {run.name for run in list_runs()}
    assert run_sweep(None, words(seed="0,1"), 2, "local", "", False) == 0  # all done: nothing to train
    assert "2 runs: 2 done. Nothing is left to train." in capfd.readouterr().out


def _comparison() -> list[dict[str, Any]]:
    import pandas as pd

    return pd.read_csv(outputs_root() / "comparison.csv").to_dict("records")


def test_ctrl_c_saves_leaves_and_the_same_call_goes_on(capfd: pytest.CaptureFixture) -> None:
    run = make_plan([{**TINY, "epochs": 30}])[0].run

    def interrupt() -> None:
        wait_for(lambda: (run.folder / "log.jsonl").exists())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert run_sweep(None, words(epochs=30), 1, "local", "", False) == 130
    assert run.status == "running" and state_of(run) == "to resume" and run.busy is None
    assert "the same call goes on" in capfd.readouterr().out
    assert run_sweep(None, words(epochs=30), 1, "local", "", False) == 0
    assert steps(run) == list(range(2, 62, 2)) and "going on after step" in (run.folder / "train.log").read_text()


def test_a_run_that_is_stopped_from_outside_is_not_a_success(capfd: pytest.CaptureFixture) -> None:
    run = make_plan([{**TINY, "epochs": 31}])[0].run

    def stop() -> None:
        os.kill(wait_for(lambda: run.busy if (run.folder / "log.jsonl").exists() else None).pid, signal.SIGTERM)

    threading.Thread(target=stop).start()
    assert run_sweep(None, words(epochs=31), 1, "local", "", False) == 1
    assert state_of(run) == "to resume" and "1 run: 1 stopped." in capfd.readouterr().out


def test_a_tracker_without_its_server_stops_a_sweep_before_its_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(SweepError, match=r"(?s)1 of 1 runs cannot start; nothing was started:.*no server at http://127.0.0.1:9"):
        run_sweep(None, words(tracker="mlflow"), 1, "local", "", False)


def test_two_sweeps_at_once_train_each_run_once() -> None:
    call = [sys.executable, "-m", "workbook.cli", "sweep", *(word for name, value in words(seed="0,1,2,3,4,5").items()
                                                       for word in (f"--{name.replace('_', '-')}", value))]
    both = [subprocess.Popen(call, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    said = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    runs = list_runs()
    assert len(runs) == 6 and {run.status for run in runs} == {"done"}
    assert [steps(run) for run in runs] == [[2]] * 6 and [steps(run, "val") for run in runs] == [[2]] * 6
    assert sum((run.folder / "train.log").read_text().count("run folder: ") for run in runs) == 6
    trained = [len(re.findall(r": running\n", text)) for text in said]
    assert min(trained) >= 1, f"one sweep did all the work, so nothing was tested: {said}"


def test_a_run_that_another_process_is_making_is_not_overwritten() -> None:
    parameters = make_plan([TINY])[0].parameters.model_dump(mode="json")
    run = create_run(parameters, "00")
    record = run.folder / "run.json"
    record.unlink()
    with run.acquire():
        with pytest.raises(RunBusyError, match="being trained by process"):
            create_run(parameters, "00")
        assert not record.exists()
    assert create_run(parameters, "00").status == "running"


def test_a_run_whose_ray_node_is_lost_goes_on_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 127.0.0.1 stays what it is: nothing listens for other machines
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
    add_node(cluster, include_dashboard=False, **node)
    lost = add_node(cluster, **node)
    raylet = lost.all_processes["raylet"][0].process.pid
    runs = [entry.run for entry in make_plan([{**TINY, "seed": [0, 1], "epochs": 8, "precision": "auto"}])]
    hit: list[Run] = []
    over = threading.Event()

    def lose_the_node() -> None:
        found = wait_for(lambda: over.is_set() or [run for run in runs if _parent(run) == raylet and run.last_checkpoint.exists()])
        if not over.is_set():
            cluster.remove_node(lost, allow_graceful=False)
            hit.extend(found)

    helper = threading.Thread(target=lose_the_node)
    helper.start()
    try:
        assert run_sweep(None, words(seed="0,1", epochs=8, precision="auto"), None, "ray", cluster.address, False) == 0
    finally:
        import ray

        over.set()
        helper.join()
        ray.shutdown()
        cluster.shutdown()
    assert [run.status for run in runs] == ["done", "done"]
    asked, became = ([run.record[part]["precision"] for run in runs] for part in ("parameters", "settings"))
    assert asked == became, "one precision for all nodes"
    assert all(steps(run) == list(range(2, 17, 2)) for run in runs)
    assert "going on after step" in (hit[0].folder / "train.log").read_text()


def add_node(cluster: Any, **options: Any) -> Any:
    """A node; on a busy machine its agents can come later than the 15 s that Ray gives them, so it gets three starts."""
    for left in (2, 1, 0):
        try:
            return cluster.add_node(**options)
        except Exception:
            if not left:
                raise


def _parent(run: Run) -> int | None:
    try:
        return psutil.Process(run.busy.pid).ppid() if run.busy else None
    except (psutil.NoSuchProcess, AttributeError):
        return None


def test_a_ray_address_where_nothing_listens_is_said_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    for spelled in (address, f"ray://{address}"):
        with pytest.raises(SweepError, match=f"--address '{spelled}': nothing answers there .*ray start --head"):
            run_sweep(None, words(), None, "ray", spelled, True)


def test_without_ray_and_with_an_address_for_the_outputs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SweepError, match="the extra `cluster`: `make setup` brings it"):
        run_sweep(None, words(), None, "ray", "", True)
    monkeypatch.setenv("WORKBOOK_OUTPUTS", "s3://bucket/outputs")
    for on in ("ray", "local"):
        with pytest.raises(RunError, match="runs are written to a folder, not to an address.*every machine sees"):
            run_sweep(None, words(), None, on, "", True)


# ---- what is shown ---------------------------------------------------------------------------------------------------


def fifty() -> list[Entry]:
    plan = make_plan([{**TINY, "backbone": [f"pvtv2_b{size}" for size in range(5)], "seed": list(range(10))}])
    known = Known(10, {"gpu": None, "cpu": "Xeon", "cores": 2}, 0, (), TINY["epochs"], {})
    states = ["done"] * 3 + ["running"] * 2 + ["new"] * 45
    for entry, state in zip(plan, states, strict=True):
        entry.progress.known = known
        entry.progress.state = state
    return plan


@pytest.mark.parametrize("width", [100, 160])
def test_fifty_runs_stay_readable(width: int) -> None:
    plan = fifty()
    pace = Eta(plan)
    console = Console(width=width, height=30, file=io.StringIO(), force_terminal=True, color_system=None)
    for table in (plan_table(plan, pace), summary_table(plan)):
        with console.capture() as captured:
            console.print(table)
        lines = captured.get().splitlines()
        for number, entry in enumerate(plan, start=1):
            (line,) = [line for line in lines if entry.run.name in line]
            assert line.split()[0] == str(number) and f"seed={entry.parameters.seed}" in line and entry.state in line
    with console.capture() as captured:
        console.print(Screen(plan, pace, 2, console).table())
    lines = captured.get().splitlines()
    assert len(lines) <= 28 and sum("running" in line and "pvtv2" in line for line in lines) == 2
    assert "50 runs: 3 done, 45 new, 2 running" in captured.get() and "not shown" in captured.get()


def test_the_estimate_comes_from_finished_runs_of_the_kind_on_this_machine(tmp_path: Path) -> None:
    plan = fifty()
    assert plan_words(plan, Eta(plan), 2).endswith("unknown until the first run of its kind has trained, 2 at once.")
    asked = plan[0].parameters.model_dump(mode="json")
    for hour, (cpu, seconds) in enumerate([("Xeon", 999.0), ("Xeon", 72.0), ("another", 5.0)]):  # 18 steps of 2 images: 2 s an image
        write_run(outputs_root(), backbone="pvtv2_b0", maps=[0.1], hour=hour, parameters={**asked, "seed": 90 + hour},
                  record={"hardware": {"gpu": None, "cpu": cpu, "cores": 2}, "seconds": seconds})
    pace = Eta(plan)
    assert pace.left()[2:5] == [0.0, 40.0, 40.0] and pace.left()[10] is None
    assert pace.total(2, pace.left()) == (40.0 * 4, 40)  # 7 of b0 are left, 2 at once
    assert "About 3 min without 40 runs" in plan_words(plan, pace, 2)
    trains = plan[3].progress
    trains.started = 1.0
    trains.seconds = 30.0
    trains.step = 10
    assert pace.left()[4] == pytest.approx(30.0)  # what this sweep measures counts more
    assert [duration(seconds) for seconds in (45, 700, 11_100)] == ["45 s", "12 min", "3 h 05 min"]
