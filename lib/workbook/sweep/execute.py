"""A plan of runs carried out by an executor, until nothing is left to train."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence

from workbook.sweep.plan import Entry, Executor, state_of

ASK_AGAIN = 3.0  # seconds until a run that another process trains is asked for again


def execute(plan: Sequence[Entry], executor: Executor) -> Generator[None]:
    """Train what is left; gives back control about twice a second, for whoever shows it. A failed run does not stop
    the others.

    A run that another process trains is left to it and asked for again at the end. When the caller is interrupted, or
    closes this, the runs that train are asked to save and leave.
    """
    waiting = [entry for entry in plan if entry.state != "done"]
    running: list[Entry] = []
    try:
        while waiting or running:
            while len(running) < executor.slots and (entry := _next(waiting)):
                _start(entry, executor, waiting, running)
            for entry, state, reason in executor.ended(0.5):
                running.remove(entry)
                _end(entry, state, reason, waiting)
            for entry in running:
                entry.refresh()
            yield
    finally:
        executor.stop()
        for entry, state, reason in executor.ended(0.0):
            _end(entry, state, reason, [])


def _next(waiting: Sequence[Entry]) -> Entry | None:
    now = time.monotonic()
    return next((entry for entry in waiting if entry.progress.again_at <= now), None)


def _start(entry: Entry, executor: Executor, waiting: list[Entry], running: list[Entry]) -> None:
    """Start it, unless another process has finished it meanwhile or is at it: then it goes to the end of the line."""
    waiting.remove(entry)
    entry.refresh()
    now = entry.progress
    state = state_of(entry.run)
    if state == "done":
        now.reason = "by another process" if now.state == "busy" else ""
        now.state = "done"
    elif state == "busy":
        _end(entry, "busy", f"trained by {entry.run.busy}", waiting)
    else:
        now.state = "running"
        now.reason = ""
        now.started = time.monotonic()
        now.first_step = now.step
        executor.start(entry)
        running.append(entry)


def _end(entry: Entry, state: str, reason: str, waiting: list[Entry]) -> None:
    entry.refresh()
    now = entry.progress
    now.state = state
    now.reason = reason
    now.seconds = time.monotonic() - now.started if now.started else 0.0
    if state == "busy":
        now.started = 0.0
        now.seconds = 0.0
        now.again_at = time.monotonic() + ASK_AGAIN
        waiting.append(entry)
