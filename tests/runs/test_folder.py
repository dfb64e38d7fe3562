"""Run folders: experiment numbers that stay, broken folders that stop nobody, and runs that are not finished."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from run_folders import write_run
from workbook.errors import RunError
from workbook.files import outputs_root
from workbook.runs.folder import (
    Run,
    broken_runs,
    create_run,
    exp_numbers,
    finished_run,
    list_runs,
    open_run,
    runs_root,
    unreadable,
)

ASKED = {"dataset": "d", "detector": "detr", "backbone": "resnet18"}


def new_run(seed: int) -> Run:
    return create_run({**ASKED, "seed": seed}, "00")


def cut(run: Run) -> None:
    """The record as a full disk or a careless editor leaves it."""
    path = run.folder / "run.json"
    path.write_text(path.read_text()[:-20])


# ---- experiment numbers ----------------------------------------------------------------------------------------------


def test_a_run_keeps_its_number_when_others_come_and_go() -> None:
    first, second, third = (new_run(seed) for seed in range(3))
    assert exp_numbers() == {first.name: 1, second.name: 2, third.name: 3}
    shutil.rmtree(first.folder)
    shutil.rmtree(third.folder)
    fourth = new_run(3)
    assert exp_numbers() == {second.name: 2, fourth.name: 4}, "the number of a deleted run is not used again"
    assert fourth.record["number"] == 4
    assert new_run(1).record["number"] == 2, "a run that is opened again is not numbered again"


def test_runs_without_a_number_get_theirs_by_start_before_those_that_come_later(tmp_path: Path) -> None:
    late, early = (write_run(outputs_root(), hour=hour, parameters={"seed": hour}) for hour in (5, 2))
    new = new_run(0)
    assert exp_numbers(runs_root()) == {early.name: 1, late.name: 2, new.name: 3}


def test_a_broken_record_counts_where_its_start_or_its_number_is_known() -> None:
    old = [write_run(outputs_root(), hour=hour, parameters={"seed": hour}) for hour in range(3)]
    new = new_run(0)
    cut(old[1])
    cut(new)
    assert exp_numbers() == {old[0].name: 1, old[1].name: 2, old[2].name: 3, new.name: 4}
    (old[1].folder / "run.json").write_text("{")
    assert exp_numbers() == {old[0].name: 1, old[2].name: 2, new.name: 4}
    assert new_run(1).record["number"] == 5


def test_a_copied_run_does_not_take_the_number_of_another() -> None:
    first, second = new_run(0), new_run(1)
    copy = first.folder.with_name("copy")
    shutil.copytree(first.folder, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "started": "2099-01-01T00:00:00+00:00"}))
    assert exp_numbers() == {first.name: 1, second.name: 2, "copy": 3}


def test_many_that_make_a_run_at_once_get_a_number_each() -> None:
    children = [forked(lambda seed=seed: new_run(seed)) for seed in range(12)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 12
    assert sorted(run.record["number"] for run in list_runs()) == list(range(1, 13))


def forked(work: Callable[[], object]) -> int:
    """The pid of a child that does `work`."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException:  # the child must never go on with the tests
            os._exit(1)
        os._exit(0)
    return pid


# ---- broken folders --------------------------------------------------------------------------------------------------


def test_a_broken_run_is_named_and_the_others_are_listed() -> None:
    assert unreadable() == ""
    good, cut_off, other = (write_run(outputs_root(), hour=hour, parameters={"seed": hour}) for hour in range(3))
    cut(cut_off)
    (other.folder / "run.json").write_text('{"status": "done"}')
    assert [run.name for run in list_runs()] == [good.name]
    assert list(broken_runs()) == sorted([cut_off.name, other.name])
    assert "is not valid JSON" in broken_runs()[cut_off.name] and "has no parameters" in broken_runs()[other.name]
    assert unreadable().startswith("Left out because unreadable: 2 run folders, ") and "\n" not in unreadable()
    assert cut_off.name in unreadable() and other.name in unreadable()
    assert finished_run() == good


def test_a_broken_run_that_is_asked_for_by_name_is_an_error() -> None:
    run = write_run(outputs_root())
    cut(run)
    with pytest.raises(RunError, match="is not valid JSON"):
        finished_run(run.name)
    with pytest.raises(RunError, match="no finished run in .*make one(.|\n)*Left out because unreadable: .*not valid JSON"):
        finished_run()


# ---- runs that are not finished --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "words"), [
    ("running", r"is not finished: its training was broken off \(status running\): `workbook run` with its"),
    ("failed", r"is not finished: its training failed \(RuntimeError: the loss is not finite at step 40\)\. Mend that"),
])
def test_an_unfinished_run_is_not_given_as_a_finished_one(status: str, words: str) -> None:
    run = write_run(outputs_root(), status=status)
    for name in (run.name, run.folder):
        with pytest.raises(RunError, match=words):
            finished_run(name)
    assert open_run(run.name) == run


def test_a_run_that_trains_now_says_who_trains_it() -> None:
    run = write_run(outputs_root(), status="running")
    words = f"is not finished: process {os.getpid()} on .* trains it now. Wait for its end"
    with run.acquire(), pytest.raises(RunError, match=words):
        finished_run(run.name)


def test_the_finished_run_is_given_by_name_by_path_or_as_the_newest() -> None:
    old, new = (write_run(outputs_root(), hour=hour, parameters={"seed": hour}) for hour in range(2))
    write_run(outputs_root(), hour=3, status="running", parameters={"seed": 3})
    assert (finished_run(), finished_run(old.name), finished_run(old.folder)) == (new, old, old)
