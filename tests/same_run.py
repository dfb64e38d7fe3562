"""Whether two runs have the same bits in every checkpoint, log line, figure and detection; only times may differ."""

from __future__ import annotations

from typing import Any

import torch

from workbook.runs.checkpoints import read_checkpoint
from workbook.runs.folder import Run, read_log


def assert_same_run(run: Run, first: Run) -> None:
    """All that a training writes, but for run.json."""
    for checkpoint in ("last.pth", "best.pth"):
        one, two = (read_checkpoint(r.folder / "checkpoints" / checkpoint) for r in (first, run))
        assert_same(without_seconds(one), without_seconds(two))
    assert (run.folder / "predictions.json").read_bytes() == (first.folder / "predictions.json").read_bytes()
    assert without_seconds(run.metrics()) == without_seconds(first.metrics())
    logs = [[without_seconds(row) for row in read_log(r.folder / "log.jsonl")] for r in (first, run)]
    assert logs[0] == logs[1]


def without_seconds(record: dict[str, Any]) -> dict[str, Any]:
    """The size of the log goes with the digits of its times."""
    return {key: value for key, value in record.items() if key not in ("seconds", "log_bytes")}


def assert_same(one: Any, two: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, tuple | list):
        assert len(one) == len(two)
        for pair in zip(one, two, strict=True):
            assert_same(*pair)
    else:
        assert one == two
