"""A job that is prepared and looked at leaves the disk as it was, and reads each file of the dataset once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scenes import make_dataset
from small_run import SMALL
from workbook.data import reading
from workbook.data.catalog import Dataset
from workbook.files import outputs_root
from workbook.runs.folder import runs_root
from workbook.runs.listing import list_runs
from workbook.training.job import Job, prepare
from workbook.training.loop import Training
from workbook.training.parameters import check_parameters
from workbook.training.signals import StopSignals
from workbook.training.trackers import Tracker
from workbook.views.run import tables


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    return make_dataset(tmp_path / "data", "scenes", train_images=4, val_images=2)


def job(**changed: Any) -> Job:
    return prepare(check_parameters({**SMALL, **changed}))


def test_a_job_that_is_prepared_and_shown_leaves_no_run_behind(data: Dataset) -> None:
    asked = job()
    shown = tables.outline(asked).to_html()
    assert str(asked.run_folder) in shown and asked.run_folder.parent == runs_root()
    assert asked.find_run() is None and not outputs_root().exists() and list_runs() == []
    command = [str(Path(sys.executable).with_name("workbook")), "list"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert listed.returncode == 2 and "no runs in" in listed.stderr and not outputs_root().exists()
    run = asked.open_run()
    assert run.folder == asked.run_folder and asked.find_run() == run and run.status == "running"


READS: Counter[str] = Counter()


def _count_reads(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(".json"):
        READS[arguments[0]] += 1


sys.addaudithook(_count_reads)  # every open() of this process, pycocotools' too; a hook cannot be taken off again


def start(asked: Job) -> None:
    """Everything up to the first step."""
    Training(asked, asked.open_run(), Tracker(), StopSignals(), lambda: None)


@pytest.mark.parametrize("do", [lambda asked: None, tables.outline, start], ids=["prepare", "outline", "start"])
def test_each_file_of_the_dataset_is_opened_and_parsed_once(
    do: Callable[[Job], object], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = Counter[Path]()
    real = reading._parse
    monkeypatch.setattr(reading, "_parse", lambda path: parsed.update([path]) or real(path))
    READS.clear()
    do(job())
    assert (READS[str(data.train_json)], READS[str(data.val_json)]) == (1, 1)
    assert parsed == {data.train_json: 1, data.val_json: 1}
