"""`log.jsonl`: one object a line, never half a line, and after a resume as if nothing had happened."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from workbook.errors import RunError
from workbook.files import WriteError


class Log:
    """The log, opened to go on after `size` bytes: what a broken-off run wrote after its checkpoint is removed.

    Of the ranks that train together only the one with `writes` writes; the others count the bytes of their own lines.
    """

    def __init__(self, path: Path, size: int, writes: bool = True) -> None:
        self.path, self.size, self.writes = path, size, writes
        if not writes:
            return
        existing = path.stat().st_size if path.exists() else 0
        if existing < size:
            raise RunError(f"{path} has {existing} of the {size} bytes that the last checkpoint knows: restore it, or "
                           "delete the run folder")
        if existing > size:
            os.truncate(path, size)

    def write(self, row: Mapping[str, object]) -> None:
        """Append a line and flush it to the disk. Raises WriteError, with no half line left, when there is no room."""
        line = (json.dumps(row) + "\n").encode()
        self.size += len(line)
        if not self.writes:
            return
        try:
            with open(self.path, "ab", buffering=0) as file:
                if (written := file.write(line)) < len(line):
                    file.write(line[written:])  # a full disk stores a part, and raises at the next try
                os.fsync(file.fileno())
        except OSError as error:
            self.size -= len(line)
            if self.path.exists():
                os.truncate(self.path, self.size)
            raise WriteError.of(self.path, len(line), error) from error


class Means:
    """The mean of each figure since the last `take`. `sums` and `count` are the whole state."""

    def __init__(self, sums: Mapping[str, float] | None = None, count: int = 0) -> None:
        self.sums: dict[str, float] = defaultdict(float, sums or {})
        self.count = count

    def add(self, values: Mapping[str, float]) -> None:
        self.count += 1
        for key, value in values.items():
            self.sums[key] += value

    def take(self) -> dict[str, float]:
        means = {key: value / self.count for key, value in self.sums.items()}
        self.sums, self.count = defaultdict(float), 0
        return means
