"""How long a sweep still takes: from finished runs of the same kind on this machine, then from the runs that train."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from workbook.runs.folder import list_runs
from workbook.sweep.plan import Entry

# Runs that agree in these, on the same machine, take about the same time an image.
KIND = ("detector", "backbone", "image_size", "overrides")
MACHINE = ("gpu", "cpu", "cores")


class Eta:
    """Seconds an image of each kind of run, validation included."""

    def __init__(self, plan: Sequence[Entry]) -> None:
        self.plan = plan
        self.before: dict[tuple[str, ...], float] = {}
        here = next((entry.known.hardware for entry in plan if entry.known), {})
        for record in (run.record for run in list_runs()):  # oldest first: the newest of a kind counts
            if record["status"] == "done" and all(record["hardware"].get(key) == here.get(key) for key in MACHINE):
                images = record["iterations"] * record["parameters"]["batch_size"]
                self.before[_kind(record["parameters"])] = record["seconds"] / images

    def left(self, entry: Entry) -> float | None:
        """Seconds that this run still has to train; None while no run of its kind has trained."""
        if entry.steps is None or entry.state in ("done", "failed"):
            return 0.0
        pace = _own(entry)
        pace = self._of_kind(entry) if pace is None else pace
        return None if pace is None else pace * max(0, entry.steps - entry.step) * entry.parameters.batch_size

    def total(self, slots: int) -> tuple[float, int]:
        """Seconds until all are done with so many at once, without those that cannot be estimated yet; and how many these are."""
        times = [self.left(entry) for entry in sorted(self.plan, key=lambda entry: entry.state != "running")]
        ends = [0.0] * slots
        for seconds in times:
            ends[ends.index(min(ends))] += seconds or 0.0
        return max(ends), times.count(None)

    def _of_kind(self, entry: Entry) -> float | None:
        kind = _kind(entry.parameters.model_dump(mode="json"))
        now = [pace for other in self.plan if _kind(other.parameters.model_dump(mode="json")) == kind and (pace := _own(other)) is not None]
        return sum(now) / len(now) if now else self.before.get(kind)


def _kind(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(parameters[name]) for name in KIND)


def _own(entry: Entry) -> float | None:
    """Of a run that has trained a whole epoch in this sweep: before that its start and a missing validation would mislead."""
    steps = entry.step - entry.first_step
    if not entry.started or entry.known is None or steps < entry.known.steps_an_epoch:
        return None
    return (entry.seconds or time.monotonic() - entry.started) / (steps * entry.parameters.batch_size)
