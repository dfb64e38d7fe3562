"""Whether two checkpoints, or two records, are the same to the bit."""

from __future__ import annotations

from typing import Any

import torch


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
