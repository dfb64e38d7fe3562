"""What a person is told when a run of others cannot be adopted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workbook.errors import WorkbookError

# what can be done instead with a detector of mmdet 3
DETECTIONS = ("write its detections with mmdet's tools/test.py CONFIG CHECKPOINT --cfg-options test_evaluator.format_only=True "
              "test_evaluator.outfile_prefix=results, and adopt results.bbox.json")
MOST = 10  # ids or problems that a message lists before it counts the others


class AdoptError(WorkbookError):
    """A run of others cannot be adopted, and nothing was written; the message says what is wrong, where, and what to do."""


def listed(values: Iterable[Any]) -> str:
    """`3, 7, 9 and 12 more`."""
    words = [str(value) for value in values]
    more = f" and {len(words) - MOST} more" if len(words) > MOST else ""
    return ", ".join(words[:MOST]) + more
