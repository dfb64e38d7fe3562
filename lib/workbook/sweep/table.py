"""What a sweep shows: the plan before it starts, one live table while it runs, and the summary at its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from workbook.sweep.eta import Eta
from workbook.sweep.plan import Entry

COLORS = {"running": "cyan", "done": "green", "failed": "red", "busy": "yellow", "stopped": "yellow"}
ORDER = ("running", "failed", "stopped", "busy", "to resume", "new", "done")  # who is shown when there is no room for all
AROUND = 6  # lines of a live table that are no runs
UNKNOWN = "unknown until the first run of {} kind has trained"


def plan_table(plan: Sequence[Entry], eta: Eta) -> RenderableType:
    """Every run with what varies, its state and how long it will take."""
    table = _table(plan, "state", "epochs", "time")
    for number, entry in enumerate(plan, start=1):
        left = eta.left(entry)
        time_left = "" if entry.state == "done" else "?" if left is None else duration(left)
        table.add_row(*_who(plan, number, entry), _state(entry), f"{entry.epoch}/{entry.parameters.epochs}", time_left)
    return table


def plan_words(plan: Sequence[Entry], eta: Eta, slots: int) -> str:
    """`50 runs: 3 done, 47 new. About 2 h 10 min, 2 at once.`"""
    seconds, unknown = eta.total(slots)
    left = [entry for entry in plan if entry.state != "done"]
    if not left:
        time_needed = "Nothing is left to train"
    elif unknown and not seconds:
        time_needed = f"The time is {UNKNOWN.format('its')}"
    else:
        others = f" without {unknown} runs, whose time is {UNKNOWN.format('their')}" if unknown else ""
        time_needed = f"About {duration(seconds)}{others}"
    return f"{_count(plan)}. {time_needed}, {slots} at once." if left else f"{_count(plan)}. {time_needed}."


class Screen:
    """The runs as they go: one table that is redrawn on a terminal, elsewhere a line for every change of a run."""

    def __init__(self, plan: Sequence[Entry], eta: Eta, slots: int, console: Console) -> None:
        self.plan, self.eta, self.slots, self.console = plan, eta, slots, console
        self.said = {id(entry): self._news(entry) for entry in plan}
        self.live = Live(console=console, get_renderable=self._table, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> Screen:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()
        self.update()

    def update(self) -> None:
        """Say what has changed. A terminal redraws itself."""
        for number, entry in enumerate(self.plan, start=1):
            news = self._news(entry)
            if not self.live and news != self.said[id(entry)]:
                self.said[id(entry)] = news
                left = f", {self._left(entry)} left" if entry.state == "running" and 0 < entry.epoch < entry.parameters.epochs else ""
                clock = time.strftime("%H:%M:%S")
                self.console.print(f"{clock} {number}/{len(self.plan)} {entry.run.name}: {news}{left}", soft_wrap=True, markup=False)

    def _news(self, entry: Entry) -> str:
        reached = f", epoch {entry.epoch}/{entry.parameters.epochs}, mAP {_figure(entry.mean_ap)}" if entry.epoch else ""
        return entry.state + reached + (f": {_first_line(entry.reason)}" if entry.reason else "")

    def _left(self, entry: Entry) -> str:
        left = self.eta.left(entry)
        return "?" if left is None else duration(left)

    def _table(self) -> RenderableType:
        room = max(3, self.console.height - AROUND)
        numbered = list(enumerate(self.plan, start=1))
        shown = sorted(sorted(numbered, key=lambda pair: ORDER.index(pair[1].state))[:room], key=lambda pair: pair[0])
        table = _table(self.plan, "state", "epoch", "step", "mAP", "left")
        for number, entry in shown:
            left = self._left(entry) if entry.state not in ("done", "failed", "stopped") else ""
            table.add_row(*_who(self.plan, number, entry), _state(entry), f"{entry.epoch}/{entry.parameters.epochs}",
                          f"{entry.step}/{entry.steps}" if entry.steps else "", _figure(entry.mean_ap), left)
        seconds, unknown = self.eta.total(self.slots)
        hidden = f" ({len(self.plan) - len(shown)} not shown)" if len(shown) < len(self.plan) else ""
        known = [duration(seconds)] if seconds or not unknown else []
        left = " and ".join([*known, *([f"{unknown} runs of unknown length"] if unknown else [])])
        foot = f"{_count(self.plan)}{hidden}. Left: {left}. Output of a run: <run folder>/train.log"
        return Group(table, Text(foot, style="dim"))


def summary_table(plan: Sequence[Entry]) -> RenderableType:
    """Every run with its state and mAP, and below the reasons of those that failed."""
    table = _table(plan, "state", "epoch", "mAP", "time")
    for number, entry in enumerate(plan, start=1):
        took = duration(entry.seconds) if entry.seconds else ""
        table.add_row(*_who(plan, number, entry), _state(entry), f"{entry.epoch}/{entry.parameters.epochs}", _figure(entry.mean_ap), took)
    reasons = [f"{entry.run.name}: {entry.reason}\n  its output: {entry.run.folder / 'train.log'}"
               for entry in plan if entry.state == "failed"]
    return Group(table, *(Text(reason, style="red") for reason in reasons), Text(f"{_count(plan)}."))


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _table(plan: Sequence[Entry], *columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("run", no_wrap=True)
    if any(entry.varies for entry in plan):
        table.add_column("varies", no_wrap=True, min_width=8)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="left" if column == "state" else "right")
    return table


def _who(plan: Sequence[Entry], number: int, entry: Entry) -> list[str]:
    return [str(number), escape(entry.run.name), *([escape(entry.varies)] if any(other.varies for other in plan) else [])]


def _state(entry: Entry) -> Text:
    return Text(entry.state, style=COLORS.get(entry.state, ""))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _count(plan: Sequence[Entry]) -> str:
    counts = Counter(entry.state for entry in plan)
    there = ", ".join(f"{counts[state]} {state}" for state in reversed(ORDER) if counts[state])
    return f"{len(plan)} run{'s' if len(plan) > 1 else ''}: {there}"


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
