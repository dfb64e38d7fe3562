"""Which GPU each run of a sweep on this machine is given. No GPU is needed: what is handed to the process is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from small_run import SMALL
from workbook.runs.folder import Run
from workbook.sweep.local import LocalExecutor
from workbook.sweep.plan import Entry, Known, Progress
from workbook.training.parameters import Parameters


def handed_over(monkeypatch: pytest.MonkeyPatch, gpus: int, slots: int, **asked: Any) -> list[str]:
    """The devices of as many runs as there are slots, started one after the other."""
    devices: list[str] = []

    def fork(executor: LocalExecutor, task: Any, parameters: Parameters, name: str) -> tuple[Any, Any]:
        devices.append(parameters.device)
        return object(), object()

    monkeypatch.setattr(LocalExecutor, "_warm_up", lambda executor: None)
    monkeypatch.setattr(LocalExecutor, "_fork", fork)
    executor = LocalExecutor(slots)
    for seed in range(slots):
        parameters = Parameters(**{**SMALL, "device": "auto", "seed": seed, **asked})
        executor.start(Entry(parameters, Run(Path(f"run-{seed}")), Progress("new", known=Known(2, {}, gpus, (), 1)), {}))
    return devices


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_run_has_a_gpu_of_its_own_and_they_come_in_turn(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert handed_over(monkeypatch, 2, 3, device=device) == ["cuda:0", "cuda:1", "cuda:0"]


@pytest.mark.parametrize(
    ("gpus", "asked"), [(1, {}), (0, {}), (2, {"device": "cpu"}), (2, {"device": "cuda:1"}), (2, {"devices": 2})])
def test_a_device_that_is_asked_for_or_the_only_one_stays(
    gpus: int, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert handed_over(monkeypatch, gpus, 2, **asked) == [asked.get("device", "auto")] * 2
