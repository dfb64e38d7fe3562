"""What two runs were made with is compared value by value; a record that does not know an aspect says nothing about
it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from workbook.training.environment import Change, changes, git_commit
from workbook.training.rerun import Comparison

BEFORE = {
    "git_commit": "0123abc", "versions": {"torch": "2.11.0", "mmdet": "2.28.2"}, "files": {"/w.pth": "aa"},
    "hardware": {"cpu": "Xeon", "gpu": None, "memory_gb": 8.0}, "settings": {"precision": "fp32"},
}


def test_each_value_that_differs_is_a_change() -> None:
    after = {
        "git_commit": "0123abc+changes", "versions": {"torch": "2.12.0", "mmdet": "2.28.2"}, "files": {"/v.pth": "aa"},
        "hardware": {"cpu": "Xeon", "gpu": "H100", "memory_gb": 64.0}, "settings": {"precision": "fp32"},
    }
    assert changes(BEFORE, BEFORE) == []
    assert changes(BEFORE, after) == [
        Change("git_commit", "", "0123abc", "0123abc+changes"), Change("versions", "torch", "2.11.0", "2.12.0"),
        Change("hardware", "gpu", None, "H100"), Change("files", "/w.pth", "aa", None),
        Change("files", "/v.pth", None, "aa"),
    ]
    assert changes(BEFORE, {key: value for key, value in after.items() if key != "versions"})[1].aspect == "hardware"


def test_a_change_reads_as_a_line() -> None:
    assert str(Change("git_commit", "", "a", "b")) == "git_commit: a → b"
    assert str(Change("versions", "torch", "2.11.0", None)) == "versions torch: 2.11.0 → None"


@pytest.mark.parametrize(("change", "broken"), [
    (Change("git_commit", "", "a", "b"), True), (Change("versions", "git_commit", "a", "b"), False), (None, True),
])
def test_only_another_commit_does_not_excuse_another_figure(change: Change | None, broken: bool) -> None:
    table = pd.DataFrame({"figure": ["loss"], "before": [1.0], "after": [2.0], "difference": [1.0]})
    assert Comparison(table, (change,) if change else ()).broken is broken


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    git(folder, "add", name)
    git(folder, "commit", "-m", name)


def test_the_commit_is_that_of_the_code_and_what_differs_from_it_tells_states_apart(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None  # no git
    git(tmp_path, "init")
    commit(tmp_path, "README.md", "first")
    code = tmp_path / "lib"
    code.mkdir()
    assert git_commit(code) is None  # not known to git
    commit(tmp_path, "lib/train.py", "lr = 1")
    first = git_commit(code)
    assert first and re.fullmatch("[0-9a-f]{12}", first)
    commit(tmp_path, "studies.yaml", "question: why")
    (tmp_path / "README.md").write_text("changed")
    assert git_commit(code) == first
    (code / "train.py").write_text("lr = 2")
    changed = git_commit(code)
    assert changed and re.fullmatch(rf"{first}\+changes-[0-9a-f]{{8}}", changed)
    (code / "train.py").write_text("lr = 3")
    assert git_commit(code) not in (first, changed)
    (code / "train.py").write_text("lr = 2")
    assert git_commit(code) == changed
    git(tmp_path, "commit", "-am", "lr")
    assert git_commit(code) not in (None, first, changed)
