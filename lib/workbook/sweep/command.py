"""`workbook sweep`: from what was asked on the command line to an exit code."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from workbook.files import outputs_root
from workbook.runs.listing import list_runs, unreadable
from workbook.studies.grids import Grid, Value
from workbook.studies.study import read_grids
from workbook.sweep.eta import Eta
from workbook.sweep.execute import execute
from workbook.sweep.local import LocalExecutor
from workbook.sweep.plan import Entry, Executor, SweepError, asked_runs, check_plan, make_plan
from workbook.sweep.table import Screen, plan_table, plan_words, summary_table
from workbook.terminal import open_console
from workbook.training.parameters import Parameters

INTERRUPTED = 130


def run_sweep(file: Path | None, given: Mapping[str, Value], slots: int | None, on: str, address: str, dry_run: bool) -> int:
    """Plan, check, train, sum up. Returns the exit code: 0, 1 when a run failed or was stopped from outside, 130 when interrupted."""
    options = split_all(given)
    if not file and not options:
        raise SweepError("which runs? Give a file (studies/demo.yaml) or values (--backbone resnet50,swin_t --seed 0,1,2)")
    grids: list[Grid] = [{**grid, **options} for grid in (read_grids(file) if file else [{}])]
    return train_all(grids, slots, on, address, dry_run)[1]


def train_all(
    grids: Sequence[Grid], slots: int | None, on: str, address: str, dry_run: bool,
    foresee: Callable[[Sequence[Entry]], Sequence[str]] = lambda plan: (),
) -> tuple[list[Entry], int]:
    """Plan, check, train, sum up. Returns the plan, empty when it was interrupted before there was one, and the exit code.

    foresee: what else to warn of before anything trains, from the checked plan.
    """
    outputs_root()  # an address is refused before anything else is asked for
    asked = asked_runs(grids)
    console = open_console()
    plan: list[Entry] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the runs save and leave
    try:
        executor = open_executor(asked, slots, on, address)
        plan = make_plan(grids, executor.resolve)
        check_plan(plan, executor)
        eta = Eta(plan)
        console.print(plan_table(plan, eta))
        print_warnings(plan, console)
        for words in foresee(plan):
            console.print(words, soft_wrap=True, markup=False, style="yellow")
        print_broken_runs(console)
        console.print(plan_words(plan, eta, executor.slots))
        if dry_run:
            return plan, 0
        with closing(execute(plan, executor)) as steps, Screen(plan, eta, executor.slots, console) as screen:
            for _ in steps:
                screen.update()
        code = 0 if all(entry.state == "done" for entry in plan) else 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    sum_up(plan, console)
    return plan, code


def split_all(given: Mapping[str, Value]) -> dict[str, list[Value]]:
    """The options of the command as values of a grid."""
    return {name: split(name, value) for name, value in given.items()}


def split(name: str, value: Value) -> list[Value]:
    """`0,1,2` → [0, 1, 2] for a parameter that is a whole number, else the texts. `overrides` is one value: commas belong to it."""
    if not isinstance(value, str) or name == "overrides":
        return [value]
    whole = Parameters.model_fields[name].annotation is int
    words = [word.strip() for word in value.split(",")]
    return [int(word) if whole and word.lstrip("-").isdigit() else word for word in words]


def open_executor(asked: Sequence[Parameters], slots: int | None, on: str, address: str) -> Executor:
    """Where the runs will train. Raises SweepError for a place that is not known or not there."""
    devices = max(parameters.devices for parameters in asked)
    if devices > 1 and (on == "ray" or (slots or 1) > 1):
        raise SweepError(f"devices={devices}: several GPUs for each run do not go together with several runs at once, "
                         "nor with Ray. Use --jobs 1, or devices=1")
    if on == "ray":
        from workbook.sweep.ray import RayExecutor

        return RayExecutor(slots, address, cpu_only=all(parameters.device == "cpu" for parameters in asked))
    if on != "local" or address:
        raise SweepError(f"--on {on} --address '{address}': allowed are --on local, and --on ray with or without --address")
    return LocalExecutor(slots or 1)


def sum_up(plan: Sequence[Entry], console: Console) -> None:
    """The summary, and outputs/comparison of all runs."""
    from workbook.views.compare.tables import comparison, write_comparison

    console.print(summary_table(plan))
    runs = list_runs()
    if runs:
        console.print(*write_comparison(comparison(runs), outputs_root()), sep="\n", soft_wrap=True)
    print_broken_runs(console)
    if any(entry.state in ("stopped", "running", "new", "to resume", "busy") for entry in plan):
        console.print("Interrupted: the same call goes on where each run stopped.")


def print_broken_runs(console: Console) -> None:
    """One line that names the run folders that cannot be read, when there are any."""
    if words := unreadable():
        console.print(words, soft_wrap=True, markup=False, style="yellow")


def print_warnings(plan: Sequence[Entry], console: Console) -> None:
    """Each warning of the runs that are left once, with the numbers of its runs."""
    numbers_of: dict[str, list[int]] = {}
    for number, entry in enumerate(plan, start=1):
        for warning in entry.progress.known.warnings if entry.progress.known else ():
            numbers_of.setdefault(warning, []).append(number)
    for warning, numbers in numbers_of.items():
        line = f"warning (runs {', '.join(map(str, numbers))}): {warning}"
        console.print(line, soft_wrap=True, markup=False, style="yellow")
