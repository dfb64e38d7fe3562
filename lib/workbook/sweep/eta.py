"""How long a sweep still takes: from finished runs of the same kind on this machine, then from the runs that train."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from heapq import heapreplace
from typing import Any

from workbook.runs.listing import list_runs
from workbook.sweep.plan import Entry, Kind, kind_of

MACHINE = ("gpu", "cpu", "cores")


class Eta:
    """Seconds an image of each kind of run, validation included."""

    def __init__(self, plan: Sequence[Entry]) -> None:
        self.plan = plan
        here = next((entry.progress.known.hardware for entry in plan if entry.progress.known), {})
        self.before: dict[Kind, float] = {}
        for record in (run.record for run in list_runs()):  # oldest first: the newest of a kind counts
            pace = _pace_of(record, here)
            if pace is not None:
                self.before[kind_of(record["parameters"])] = pace

    def paces(self) -> dict[Kind, float]:
        """Seconds an image by kind: the mean of this sweep's runs, else of the newest finished run."""
        measured: dict[Kind, list[float]] = defaultdict(list)
        for entry in self.plan:
            pace = _own_pace(entry)
            if pace is not None:
                measured[entry.kind].append(pace)
        return {**self.before, **{kind: sum(values) / len(values) for kind, values in measured.items()}}

    def left(self) -> list[float | None]:
        """Seconds that each run of the plan still has to train; None while no run of its kind has trained."""
        paces = self.paces()
        return [_left(entry, paces) for entry in self.plan]

    def total(self, slots: int, left: Sequence[float | None]) -> tuple[float, int]:
        """Seconds until all are done with so many at once, without those that cannot be estimated yet; and how many
        these are.

        left: as `left()` gives it.
        """
        running_first = sorted(zip(self.plan, left, strict=True), key=lambda pair: pair[0].state != "running")
        ends = [0.0] * slots  # when each slot is free again
        for _, seconds in running_first:
            heapreplace(ends, ends[0] + (seconds or 0.0))
        return max(ends), list(left).count(None)


def _left(entry: Entry, paces: Mapping[Kind, float]) -> float | None:
    if entry.steps is None or entry.state in ("done", "failed"):
        return 0.0
    pace = _own_pace(entry)
    if pace is None:
        pace = paces.get(entry.kind)
    return None if pace is None else pace * max(0, entry.steps - entry.progress.step) * entry.parameters.batch_size


def _own_pace(entry: Entry) -> float | None:
    """Of a run that has trained a whole epoch in this sweep: before that its start and a missing validation would mislead."""
    now = entry.progress
    if not now.started or now.known is None or entry.steps_done() < now.known.steps_an_epoch:
        return None
    seconds = now.seconds or time.monotonic() - now.started
    return seconds / (entry.steps_done() * entry.parameters.batch_size)


def _pace_of(record: Mapping[str, Any], hardware: Mapping[str, Any]) -> float | None:
    """Seconds an image of a finished run on this hardware; None for others, and where its record does not say."""
    theirs = record.get("hardware") or {}
    if record["status"] != "done" or any(theirs.get(key) != hardware.get(key) for key in MACHINE):
        return None
    seconds = record.get("seconds")
    images = (record.get("iterations") or 0) * record["parameters"].get("batch_size", 0)
    return seconds / images if seconds and images else None
