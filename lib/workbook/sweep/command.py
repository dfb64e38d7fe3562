"""`workbook sweep`: from what was asked on the command line to an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from workbook.files import outputs_root
from workbook.runs.folder import list_runs
from workbook.sweep.eta import Eta
from workbook.sweep.local import LocalExecutor
from workbook.sweep.plan import Entry, Executor, Grid, SweepError, Value, check_plan, execute, make_plan, read_sweep
from workbook.sweep.table import Screen, plan_table, plan_words, summary_table
from workbook.training.parameters import Parameters

INTERRUPTED = 130


def run_sweep(file: Path | None, given: Mapping[str, Value], slots: int | None, on: str, address: str, dry_run: bool) -> int:
    """Plan, check, train, sum up. Returns the exit code: 0, 1 when a run failed or was stopped from outside, 130 when interrupted."""
    options = {name: split(name, value) for name, value in given.items()}
    if not file and not options:
        raise SweepError("which runs? Give a file (studies/demo.yaml) or values (--backbone resnet50,swin_t --seed 0,1,2)")
    grids: list[Grid] = [{**grid, **options} for grid in (read_sweep(file) if file else [{}])]
    plan = make_plan(grids)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the runs save and leave
    try:
        executor = open_executor(plan, slots, on, address)
        check_plan(plan, executor)
        eta = Eta(plan)
        console.print(plan_table(plan, eta))
        _say_warnings(plan, console)
        console.print(plan_words(plan, eta, executor.slots))
        if dry_run:
            return 0
        with closing(execute(plan, executor)) as steps, Screen(plan, eta, executor.slots, console) as screen:
            for _ in steps:
                screen.update()
        code = 0 if all(entry.state == "done" for entry in plan) else 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    sum_up(plan, console)
    return code


def split(name: str, value: Value) -> list[Value]:
    """`0,1,2` → [0, 1, 2] for a parameter that is a whole number, else the texts. `overrides` is one value: commas belong to it."""
    if not isinstance(value, str) or name == "overrides":
        return [value]
    whole = Parameters.model_fields[name].annotation is int
    words = [word.strip() for word in value.split(",")]
    return [int(word) if whole and word.lstrip("-").isdigit() else word for word in words]


def open_executor(plan: Sequence[Entry], slots: int | None, on: str, address: str) -> Executor:
    """Where the runs will train. Raises SweepError for a place that is not known or not there."""
    together = [entry.run.name for entry in plan if entry.parameters.devices > 1]
    if together and (on == "ray" or (slots or 1) > 1):
        raise SweepError(f"devices={max(entry.parameters.devices for entry in plan)}: several GPUs for each run do not go together with "
                         f"several runs at once, nor with Ray ({len(together)} runs, first {together[0]}). Use --jobs 1, or devices=1")
    if on == "ray":
        from workbook.sweep.ray import RayExecutor

        return RayExecutor(slots, address, cpu_only=all(entry.parameters.device == "cpu" for entry in plan))
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
    if any(entry.state in ("stopped", "running", "new", "to resume", "busy") for entry in plan):
        console.print("Interrupted: the same call goes on where each run stopped.")


def _say_warnings(plan: Sequence[Entry], console: Console) -> None:
    """Each warning of the runs that are left once, with the numbers of its runs."""
    said: dict[str, list[int]] = {}
    for number, entry in enumerate(plan, start=1):
        for warning in entry.known.warnings if entry.known else ():
            said.setdefault(warning, []).append(number)
    for warning, numbers in said.items():
        console.print(f"warning (runs {', '.join(map(str, numbers))}): {warning}", soft_wrap=True, markup=False, style="yellow")


