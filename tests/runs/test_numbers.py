"""Experiment numbers stay with their run, whatever comes and goes beside it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from processes import forked
from run_folders import cut, write_run
from workbook.files import outputs_root
from workbook.runs.folder import Run, create_run, runs_root
from workbook.runs.listing import list_runs
from workbook.runs.numbers import exp_numbers

ASKED = {"dataset": "d", "detector": "detr", "backbone": "resnet18"}


def new_run(seed: int) -> Run:
    return create_run({**ASKED, "seed": seed}, "00")


def test_a_run_keeps_its_number_when_others_come_and_go() -> None:
    first, second, third = (new_run(seed) for seed in range(3))
    assert exp_numbers(runs_root()) == {first.name: 1, second.name: 2, third.name: 3}
    shutil.rmtree(first.folder)
    shutil.rmtree(third.folder)
    fourth = new_run(3)
    assert exp_numbers(runs_root()) == {second.name: 2, fourth.name: 4}, "the number of a deleted run is not used again"
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
    assert exp_numbers(runs_root()) == {old[0].name: 1, old[1].name: 2, old[2].name: 3, new.name: 4}
    (old[1].folder / "run.json").write_text("{")
    assert exp_numbers(runs_root()) == {old[0].name: 1, old[2].name: 2, new.name: 4}
    assert new_run(1).record["number"] == 5


def test_a_copied_run_does_not_take_the_number_of_another() -> None:
    first, second = new_run(0), new_run(1)
    copy = first.folder.with_name("copy")
    shutil.copytree(first.folder, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "started": "2099-01-01T00:00:00+00:00"}))
    assert exp_numbers(runs_root()) == {first.name: 1, second.name: 2, "copy": 3}


def test_many_that_make_a_run_at_once_get_a_number_each() -> None:
    children = [forked(lambda seed=seed: new_run(seed)) for seed in range(12)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 12
    assert sorted(run.record["number"] for run in list_runs()) == list(range(1, 13))
