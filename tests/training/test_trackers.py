"""Every backend for real, offline: what was logged is read back from its files, and must be the same to the last bit."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wandb_file import read_config, read_history
from workbook.training.trackers import TRACKERS, TrackerError, open_tracker

PARAMETERS = {"detector": "faster_rcnn", "backbone": "timm/resnet18", "image_size": [1024, 1024], "epochs": 3}
NAME = "faster_rcnn-timm_resnet18-0a1b2c3d"
KEY = "f0" * 20  # of the length of a key, and none
STEPS = range(10, 70, 10)
VAL = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75", "bbox_mAP_m", "loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "acc", "loss")


def figures(step: int) -> dict[str, float | None]:
    """Training figures at each step; at every second step, an epoch's end, the validation figures in the same call."""
    train = {"train/loss": 1 / step, "train/lr": 1e-4 * step, "train/d0.loss_cls": math.pi / step}
    val = {f"val/{name}": (number + 1 / 3) / step for number, name in enumerate(VAL)}
    return train if step % 20 else {**train, **val, "val/bbox_mAP_s": None, "val/bbox_mAP_l": 0.0}


def expected(steps: Any = STEPS) -> dict[int, dict[str, float]]:
    return {step: {key: value for key, value in figures(step).items() if value is not None} for step in steps}


def log(kind: str, root: Path, steps: Any = STEPS) -> None:
    with open_tracker(kind, NAME, root / "run", PARAMETERS, root / "trackers") as tracker:
        for step in steps:
            tracker.log(step, figures(step))


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def read_wandb(root: Path) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for path in sorted((root / "trackers" / "wandb").glob("offline-run-*/*.wandb")):
        for row in read_history(path):
            assert row["_step"] not in found, "a step came twice"
            found[row["_step"]] = {key: value for key, value in row.items() if not key.startswith("_")}
    return found


def tensorboard_events(root: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

    return EventAccumulator(str(root / "trackers" / "tensorboard" / NAME), size_guidance={TENSORS: 0}).Reload()


def read_tensorboard(root: Path) -> dict[int, dict[str, float]]:
    from tensorboard.util.tensor_util import make_ndarray

    events = tensorboard_events(root)
    found: dict[int, dict[str, float]] = {}
    for key in (key for key in events.Tags()["tensors"] if key.startswith(("train/", "val/"))):
        for event in events.Tensors(key):
            found.setdefault(event.step, {})[key] = make_ndarray(event.tensor_proto).item()
    return found


def mlflow_runs(root: Path) -> tuple[Any, list[Any]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(root / "trackers" / "mlflow").as_uri())
    return client, list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def read_mlflow(root: Path) -> dict[int, dict[str, float]]:
    client, (run,) = mlflow_runs(root)
    found: dict[int, dict[str, float]] = {}
    for key in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, key):
            found.setdefault(metric.step, {})[key] = metric.value
    return found


READERS = {"wandb-offline": read_wandb, "tensorboard": read_tensorboard, "mlflow": read_mlflow}


@pytest.mark.parametrize("kind", READERS)
def test_every_figure_of_every_step_is_read_back(kind: str, tmp_path: Path) -> None:
    log(kind, tmp_path)
    assert READERS[kind](tmp_path) == expected()


@pytest.mark.parametrize("kind", READERS)
def test_a_resumed_run_goes_on_in_the_same_tracker_run(kind: str, tmp_path: Path) -> None:
    log(kind, tmp_path, STEPS[:3])
    time.sleep(1.1)  # offline, W&B names each part's folder by the second; `wandb sync` joins the parts by their id
    log(kind, tmp_path, STEPS[3:])
    assert READERS[kind](tmp_path) == expected()


def test_a_resumed_mlflow_run_has_no_step_twice(tmp_path: Path) -> None:
    """The last checkpoint lies before the last figures: these steps are trained, and logged, once more."""
    log("mlflow", tmp_path, STEPS[:4])
    log("mlflow", tmp_path, STEPS[2:])
    client, (run,) = mlflow_runs(tmp_path)
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in history] == list(STEPS)
    assert read_mlflow(tmp_path) == expected()


def test_what_was_flushed_is_there_though_the_process_is_killed(tmp_path: Path) -> None:
    tracker = open_tracker("tensorboard", NAME, tmp_path / "run", PARAMETERS, tmp_path / "trackers")
    tracker.log(10, figures(10))
    tracker.flush()
    assert read_tensorboard(tmp_path) == expected([10])
    tracker.close()


def test_parameters_go_to_the_config(tmp_path: Path) -> None:
    for kind in READERS:
        log(kind, tmp_path)
    (path,) = (tmp_path / "trackers" / "wandb").glob("offline-run-*/*.wandb")
    assert read_config(path).items() >= {**PARAMETERS, "run_folder": str(tmp_path / "run")}.items()
    _, (run,) = mlflow_runs(tmp_path)
    assert run.data.params == {key: str(value) for key, value in {**PARAMETERS, "run_folder": tmp_path / "run"}.items()}
    assert "parameters/text_summary" in tensorboard_events(tmp_path).Tags()["tensors"]


def test_more_figures_than_fit_a_block_of_the_wandb_file(tmp_path: Path) -> None:
    with open_tracker("wandb-offline", NAME, tmp_path, {"long": "x" * 70_000}, tmp_path / "trackers") as tracker:
        for step in range(1, 400):
            tracker.log(step, {f"train/loss_{number}": step / (number + 3) for number in range(8)})
    found = read_wandb(tmp_path)
    assert found == {step: {f"train/loss_{n}": step / (n + 3) for n in range(8)} for step in range(1, 400)}


@pytest.mark.parametrize("status, theirs", [("done", "FINISHED"), ("failed", "FAILED")])
def test_the_status_reaches_mlflow(status: str, theirs: str, tmp_path: Path) -> None:
    tracker = open_tracker("mlflow", NAME, tmp_path / "run", PARAMETERS, tmp_path / "trackers")
    tracker.close(status)
    tracker.close("done")
    assert mlflow_runs(tmp_path)[1][0].info.status == theirs


def test_an_error_inside_closes_the_tracker_as_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_tracker("mlflow", NAME, tmp_path, {}, tmp_path / "trackers"):
        _ = 1 / 0
    assert mlflow_runs(tmp_path)[1][0].info.status == "FAILED"


def test_mlflow_goes_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere" / "trackers" / "mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere.as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    log("mlflow", tmp_path)
    assert not (tmp_path / "trackers").exists() and read_mlflow(tmp_path / "elsewhere") == expected()


@pytest.mark.parametrize("kind", TRACKERS[:1] + tuple(READERS))
def test_a_step_that_does_not_increase_is_refused(kind: str, tmp_path: Path) -> None:
    with open_tracker(kind, NAME, tmp_path / "run", PARAMETERS, tmp_path / "trackers") as tracker:
        tracker.log(18, {"train/loss": 1.0})
        for step in (18, 17):
            with pytest.raises(ValueError, match=f"step {step} comes after step 18"):
                tracker.log(step, {"val/bbox_mAP": 0.1})


def test_none_writes_nothing(tmp_path: Path) -> None:
    log("none", tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match="'comet'. Known: none, tensorboard, wandb, wandb-offline, mlflow"):
        open_tracker("comet", NAME, tmp_path, {}, tmp_path)


def test_wandb_without_a_key_stops_at_once_and_asks_nothing(tmp_path: Path) -> None:
    code = ("import sys, pathlib; from workbook.training.trackers import open_tracker\n"
            f"open_tracker('wandb', '{NAME}', pathlib.Path('{tmp_path}'), {{}}, pathlib.Path('{tmp_path}'))")
    in_terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"  # where W&B would prompt
    command = [sys.executable, "-c", in_terminal, sys.executable, "-c", code]
    home = {**os.environ, "HOME": str(tmp_path)}  # no login of the user
    done = subprocess.run(command, env=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Set WANDB_API_KEY, or use tracker=wandb-offline" in done.stdout and "Enter your choice" not in done.stdout


@pytest.mark.parametrize("key", [KEY, "short"])
def test_wandb_out_of_reach_stops_before_training(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(TrackerError, match="WANDB_API_KEY, or use tracker=wandb-offline") as caught:
        open_tracker("wandb", NAME, tmp_path / "run", {}, tmp_path / "trackers")
    assert time.monotonic() - start < 60 and KEY not in str(caught.value)


def test_mlflow_without_its_server_stops_and_tells_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(TrackerError, match="no server at http://127.0.0.1:9") as caught:
        open_tracker("mlflow", NAME, tmp_path / "run", {}, tmp_path / "trackers")
    assert "secret" not in str(caught.value)


def test_no_key_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    log("wandb-offline", tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not (tmp_path / "run").exists()


def test_close_ends_the_service_process_of_wandb(tmp_path: Path) -> None:
    tracker = open_tracker("wandb-offline", NAME, tmp_path / "run", PARAMETERS, tmp_path / "trackers")
    tracker.log(1, {"train/loss": 1.0})
    assert children("wandb-core")
    tracker.close()
    deadline = time.monotonic() + 10
    while (alive := children("wandb-core")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive


def children(name: str) -> list[int]:
    """Living processes that this one started and whose command holds `name`."""
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)
            if child.status() != psutil.STATUS_ZOMBIE and name in " ".join(child.cmdline())]
