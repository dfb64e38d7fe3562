"""What two runs were made with is compared value by value; a record that does not know an aspect says nothing about
it."""

from __future__ import annotations

import pandas as pd
import pytest

from workbook.training.environment import Change, changes
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
