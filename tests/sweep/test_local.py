"""Which GPU each run of a sweep on this machine is given (no GPU is needed: what is handed to the process is read), and what its
processes answer."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from small_run import SMALL
from workbook.runs.folder import Run
from workbook.sweep.local import LocalExecutor
from workbook.sweep.plan import Entry, Known, Progress, SweepError, in_parts, joined
from workbook.training.parameters import Parameters

NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


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
        executor.start(Entry(parameters, Run(Path(f"run-{seed}")), Progress("new", known=Known(2, {}, gpus, (), 1, {})), {}))
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


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_are_put_together_in_the_order_of_what_was_asked(parts: int) -> None:
    asked = list(range(5))
    split = in_parts(asked, parts)
    assert len(split) == min(parts, 5) and max(map(len, split)) - min(map(len, split)) <= 1
    assert joined(split) == asked
    assert joined(in_parts([], parts)) == []


def process_of_each(asked: list[Any]) -> list[tuple[Any, int]]:
    return [(one, os.getpid()) for one in asked]


def environments(asked: list[Any]) -> list[str | None]:
    """How this process asks for a GPU, and how the one asks that it was forked from."""
    warm = Path(f"/proc/{os.getppid()}/environ").read_text().split("\0")
    return [os.environ.get(NVML), dict(line.split("=", 1) for line in warm if line).get(NVML)]


def test_the_warm_process_finds_gpus_so_that_its_forks_may_use_them() -> None:
    assert LocalExecutor(1).ask(environments, []) == [None, "1"]


def kill_itself(asked: list[Any]) -> list[Any]:
    if "last" in asked:
        os.kill(os.getpid(), signal.SIGKILL)
    return asked


def test_what_is_asked_at_once_is_answered_by_a_process_a_slot() -> None:
    executor = LocalExecutor(2)
    answers = executor.ask_at_once(process_of_each, ["a", "b", "c"])
    assert [one for one, _ in answers] == ["a", "b", "c"]
    processes = [process for _, process in answers]
    assert processes[0] == processes[2] != processes[1] and os.getpid() not in processes
    assert executor.ask_at_once(process_of_each, []) == []
    with pytest.raises(SweepError, match="broke off .*killed"):
        executor.ask_at_once(kill_itself, ["first", "last"])
