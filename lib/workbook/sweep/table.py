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

from workbook.progress import duration
from workbook.sweep.eta import Eta
from workbook.sweep.plan import Entry

COLORS = {"running": "cyan", "done": "green", "failed": "red", "busy": "yellow", "stopped": "yellow"}
ORDER = ("running", "failed", "stopped", "busy", "to resume", "new", "done")  # who is shown when there is no room for all
AROUND = 6  # lines of a live table that are no runs
UNKNOWN = "unknown until the first run of {} kind has trained"


def plan_table(plan: Sequence[Entry], eta: Eta) -> RenderableType:
    """Every run with what varies, its state and how long it will take."""
    several = _several(plan)
    table = _table(several, "state", "epochs", "time")
    for number, (entry, left) in enumerate(zip(plan, eta.left(), strict=True), start=1):
        time_left = "" if entry.state == "done" else _time(left)
        table.add_row(*_who(several, number, entry), _state(entry), _epochs(entry), time_left)
    return table


def plan_words(plan: Sequence[Entry], eta: Eta, slots: int) -> str:
    """`50 runs: 3 done, 47 new. About 2 h 10 min, 2 at once.`"""
    seconds, unknown = eta.total(slots, eta.left())
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
        self.plan = plan
        self.eta = eta
        self.slots = slots
        self.console = console
        self.printed = [_news(entry) for entry in plan]
        self.live: Live | None = None
        if console.is_terminal:
            self.live = Live(console=console, get_renderable=self.table, refresh_per_second=2)

    def __enter__(self) -> Screen:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()
        self.update()

    def update(self) -> None:
        """Print what has changed. A terminal redraws itself."""
        if self.live:
            return
        news = [_news(entry) for entry in self.plan]
        changed = [at for at, (new, old) in enumerate(zip(news, self.printed, strict=True)) if new != old]
        if not changed:
            return
        left = self.eta.left()
        for at in changed:
            self._print(at, news[at], left[at])
        self.printed = news

    def _print(self, at: int, news: str, left: float | None) -> None:
        entry = self.plan[at]
        between = entry.state == "running" and 0 < entry.progress.epoch < entry.epochs
        more = f", {_time(left)} left" if between else ""
        line = f"{time.strftime('%H:%M:%S')} {at + 1}/{len(self.plan)} {entry.run.name}: {news}{more}"
        self.console.print(line, soft_wrap=True, markup=False)

    def table(self) -> RenderableType:
        """As many runs as there is room for, those that train first, and a line about all."""
        room = max(3, self.console.height - AROUND)
        by_state = sorted(range(len(self.plan)), key=lambda at: ORDER.index(self.plan[at].state))
        left = self.eta.left()
        several = _several(self.plan)
        table = _table(several, "state", "epoch", "step", "mAP", "left")
        for at in sorted(by_state[:room]):
            entry = self.plan[at]
            time_left = "" if entry.state in ("done", "failed", "stopped") else _time(left[at])
            steps = f"{entry.progress.step}/{entry.steps}" if entry.steps else ""
            row = (_state(entry), _epochs(entry), steps, _figure(entry.progress.mean_ap), time_left)
            table.add_row(*_who(several, at + 1, entry), *row)
        return Group(table, Text(self._foot(left, hidden=max(0, len(self.plan) - room)), style="dim"))

    def _foot(self, left: Sequence[float | None], hidden: int) -> str:
        seconds, unknown = self.eta.total(self.slots, left)
        times = [duration(seconds)] if seconds or not unknown else []
        if unknown:
            times.append(f"{unknown} runs of unknown length")
        not_shown = f" ({hidden} not shown)" if hidden else ""
        return f"{_count(self.plan)}{not_shown}. Left: {' and '.join(times)}. Output of a run: <run folder>/train.log"


def _news(entry: Entry) -> str:
    now = entry.progress
    reached = f", epoch {_epochs(entry)}, mAP {_figure(now.mean_ap)}" if now.epoch else ""
    reason = f": {_first_line(now.reason)}" if now.reason else ""
    return f"{now.state}{reached}{reason}"


def summary_table(plan: Sequence[Entry]) -> RenderableType:
    """Every run with its state and mAP, and below the reasons of those that failed."""
    several = _several(plan)
    table = _table(several, "state", "epoch", "mAP", "time")
    for number, entry in enumerate(plan, start=1):
        took = duration(entry.progress.seconds) if entry.progress.seconds else ""
        row = (_state(entry), _epochs(entry), _figure(entry.progress.mean_ap), took)
        table.add_row(*_who(several, number, entry), *row)
    reasons = [f"{entry.run.name}: {entry.progress.reason}\n  its output: {entry.run.folder / 'train.log'}"
               for entry in plan if entry.state == "failed"]
    return Group(table, *(Text(reason, style="red") for reason in reasons), Text(f"{_count(plan)}."))


def _table(several: bool, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("run", no_wrap=True)
    if several:
        table.add_column("varies", no_wrap=True, min_width=8)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="left" if column == "state" else "right")
    return table


def _several(plan: Sequence[Entry]) -> bool:
    """Whether more than detector and backbone varies, so that a column shows it."""
    return any(entry.varies for entry in plan)


def _who(several: bool, number: int, entry: Entry) -> list[str]:
    varies = [escape(entry.varies)] if several else []
    return [str(number), escape(entry.run.name), *varies]


def _epochs(entry: Entry) -> str:
    return f"{entry.progress.epoch}/{entry.epochs}"


def _time(left: float | None) -> str:
    return "?" if left is None else duration(left)


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
