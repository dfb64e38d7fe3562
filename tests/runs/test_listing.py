"""Run folders: broken folders that stop nobody, and runs that are not finished."""

from __future__ import annotations

import os
import re

import pytest

from run_folders import cut, write_run
from workbook.errors import RunError
from workbook.files import outputs_root
from workbook.runs.listing import broken_runs, finished_run, list_runs, open_run, unreadable

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


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "a folder"])
def test_whatever_file_of_a_run_is_damaged_the_others_are_listed(name: str, damage: str) -> None:
    whole, damaged = (write_run(outputs_root(), hour=hour, parameters={"seed": hour}) for hour in range(2))
    path = damaged.folder / name
    content = path.read_text()
    path.unlink()
    if damage == "cut":
        path.write_text(content[: len(content) // 2])
    if damage == "a folder":
        path.mkdir()
    assert [run.name for run in list_runs()] == [whole.name]
    assert f"{damaged.name}/{name}" in broken_runs()[damaged.name] and re.search("restore (it|the file), or delete", unreadable(), re.I)


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
