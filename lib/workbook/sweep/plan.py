"""Many runs: from grids of parameters to a plan of runs, each checked before the first one starts, and the plan carried out.

A sweep is a list of grids; a grid gives a value or a list of values for any parameter of a run, and stands for every combination.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError

from workbook.data.catalog import Dataset, find_dataset
from workbook.data.reading import DataError
from workbook.errors import ParameterError, WorkbookError
from workbook.runs.folder import NOT_IDENTITY, Run, read_log, run_name, runs_root
from workbook.training.parameters import Parameters, check_parameters

Value = StrictStr | StrictInt | StrictFloat
Grid = Mapping[str, Value | list[Value]]
ASK_AGAIN = 3.0  # seconds until a run that another process trains is looked at again
MAY_VARY = tuple(name for name in Parameters.model_fields if name not in NOT_IDENTITY)


class SweepError(WorkbookError):
    """A sweep cannot start; the message lists every reason, and what to do."""


@dataclass(frozen=True)
class Known:
    """What the check of a run that can start has found. `hardware` is that of `environment.hardware`."""

    steps_an_epoch: int
    hardware: Mapping[str, Any]
    gpus: int  # that this run could use; 0 on the CPU
    warnings: tuple[str, ...]


@dataclass
class Entry:
    """One run of a sweep, and where it stands. `state` is new, to resume, running, busy (elsewhere), done, failed or stopped."""

    parameters: Parameters
    run: Run
    state: str
    varies: str = ""
    reason: str = ""  # why it failed, or who else trains it
    known: Known | None = None  # None while it was not checked: a done run needs no check
    epoch: int = 0
    step: int = 0
    mean_ap: float | None = None
    seconds: float = 0.0  # spent in this sweep
    started: float = field(default=0.0, repr=False)  # monotonic
    first_step: int = 0  # where this sweep took it up
    again_at: float = 0.0  # monotonic; not before
    log_changed: float = 0.0  # when, as `look` last saw it

    @property
    def steps(self) -> int | None:
        """Steps of the whole training."""
        return self.known.steps_an_epoch * self.parameters.epochs if self.known else None

    def refresh(self) -> None:
        """Read epoch, step and the mAP of the last epoch from its log, when the log has changed."""
        path = self.run.folder / "log.jsonl"
        changed = path.stat().st_mtime if path.exists() else 0.0
        if changed == self.log_changed:
            return
        self.log_changed, rows = changed, read_log(path) if path.exists() else []
        vals = [row for row in rows if row["mode"] == "val"]
        self.step = rows[-1]["step"] if rows else 0
        self.epoch = vals[-1]["epoch"] if vals else 0
        self.mean_ap = vals[-1].get("bbox_mAP") if vals else None


class Executor(Protocol):
    """Where runs are trained: processes of this machine (lib/workbook/sweep/local.py), or Ray (lib/workbook/sweep/ray.py)."""

    @property
    def slots(self) -> int: ...
    def check(self, asked: Sequence[Parameters]) -> list[Known | str]: ...
    def start(self, entry: Entry) -> None: ...
    def ended(self, seconds: float) -> list[tuple[Entry, str, str]]: ...  # entry, state, reason
    def stop(self) -> None: ...


# ---- the plan --------------------------------------------------------------------------------------------------------


def read_sweep(path: Path) -> list[Grid]:
    """The grids of a YAML file: one mapping, or a list of them. Raises SweepError that names the file, the grid and the key."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        there = ", ".join(sorted(map(str, Path("studies").glob("*.yaml")))) or "no studies/*.yaml here"
        raise SweepError(f"{path}: {error.strerror}. There are: {there}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SweepError(f"{path} is no YAML: {error}") from error
    grids = [content] if isinstance(content, dict) else content
    try:
        return TypeAdapter(list[dict[str, Value | list[Value]]]).validate_python(grids)
    except ValidationError as error:
        places = dict.fromkeys(" key ".join(str(part + 1 if isinstance(part, int) else part) for part in problem["loc"][:2])
                               for problem in error.errors())
        wrong = "\n".join(f"  - grid {place}" if place else "  - the whole file" for place in places)
        raise SweepError(f"{path} is no sweep. Each grid maps parameters of a run to a value or a list of values "
                         f"(text or numbers). Wrong at:\n{wrong}") from None


def combinations(grids: Sequence[Grid]) -> list[dict[str, Value]]:
    """Every combination of every grid, in the order in which they are written."""
    listed = [{name: value if isinstance(value, list) else [value] for name, value in grid.items()} for grid in grids]
    return [dict(zip(grid, values, strict=True)) for grid in listed for values in itertools.product(*grid.values())]


def make_plan(grids: Sequence[Grid]) -> list[Entry]:
    """One entry a run; what comes twice is one run. Raises ParameterError or DataError with all that is wrong in all of them."""
    asked: list[Parameters] = []
    wrong: dict[str, None] = {}
    for values in combinations(grids):
        try:
            asked.append(check_parameters(values))
        except ParameterError as error:
            wrong |= dict.fromkeys(str(error).splitlines()[1:])
    if wrong:
        raise ParameterError("\n".join(["these parameters cannot be used:", *wrong]))
    if not asked:
        raise SweepError("this sweep has no runs: a list of values is empty. Give at least one value for each parameter")
    datasets = _datasets(dict.fromkeys(parameters.dataset for parameters in asked))
    entries: dict[str, Entry] = {}
    for parameters in asked:
        run = Run(runs_root() / run_name(parameters.model_dump(mode="json"), datasets[parameters.dataset].hash))
        entries.setdefault(run.name, Entry(parameters, run, state_of(run)))
    plan = list(entries.values())
    varying = [name for name in MAY_VARY if len({str(getattr(entry.parameters, name)) for entry in plan}) > 1]
    for entry in plan:
        values = entry.parameters.model_dump()
        entry.varies = " ".join(f"{name}={_short(values[name])}" for name in varying if name not in ("detector", "backbone"))
        entry.refresh()
    return plan


def state_of(run: Run) -> str:
    """`new`, `to resume`, `busy` (another process trains it) or `done`, from its folder."""
    if not (run.folder / "run.json").exists():
        return "new"
    if run.status == "done":
        return "done"
    if run.busy:
        return "busy"
    return "to resume" if run.last_checkpoint.exists() else "new"


def check_plan(plan: Sequence[Entry], executor: Executor) -> None:
    """Prepare every run that is left, once for all of its seeds, without training it: weights, data, recipe, overrides, device.

    Raises SweepError with all that cannot start and why.
    """
    left = [entry for entry in plan if entry.state != "done"]
    groups: dict[Parameters, list[Entry]] = {}
    for entry in left:
        groups.setdefault(entry.parameters.model_copy(update={"seed": 0}), []).append(entry)
    wrong: dict[str, list[str]] = {}
    for (_, entries), found in zip(groups.items(), executor.check(list(groups)), strict=True):
        for entry in entries:
            if isinstance(found, str):
                wrong.setdefault(found, []).append(entry.run.name)
            else:
                entry.known = found
    if wrong:
        reasons = [f"  - {reason}\n    needed by {_some(names)}" for reason, names in wrong.items()]
        raise SweepError("\n".join([f"{sum(map(len, wrong.values()))} of {len(plan)} runs cannot start; nothing was started:", *reasons]))


def _datasets(names: Mapping[str, Any]) -> dict[str, Dataset]:
    found, wrong = {}, []
    for name in names:
        try:
            found[name] = find_dataset(name)
        except DataError as error:
            wrong.append(str(error))
    if wrong:
        raise DataError("\n".join(wrong))
    return found


def _short(value: Any) -> str:
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value) or "none"
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"


def _some(names: Sequence[str], shown: int = 4) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


# ---- carried out -----------------------------------------------------------------------------------------------------


def execute(plan: Sequence[Entry], executor: Executor) -> Generator[None]:
    """Train what is left; gives back control about twice a second, for whoever shows it. A failed run does not stop the others.

    A run that another process trains is left to it and looked at again at the end. When the caller is interrupted, or closes
    this, the runs that train are asked to save and leave.
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
    return next((entry for entry in waiting if entry.again_at <= now), None)


def _start(entry: Entry, executor: Executor, waiting: list[Entry], running: list[Entry]) -> None:
    """Start it, unless another process has finished it meanwhile or is at it: then it goes to the end of the line."""
    waiting.remove(entry)
    entry.refresh()
    state = state_of(entry.run)
    if state == "done":
        entry.state, entry.reason = "done", "by another process" if entry.state == "busy" else ""
    elif state == "busy":
        _end(entry, "busy", f"trained by {entry.run.busy}", waiting)
    else:
        entry.state, entry.reason, entry.started, entry.first_step = "running", "", time.monotonic(), entry.step
        executor.start(entry)
        running.append(entry)


def _end(entry: Entry, state: str, reason: str, waiting: list[Entry]) -> None:
    entry.refresh()
    entry.state, entry.reason = state, reason
    entry.seconds = time.monotonic() - entry.started if entry.started else 0.0
    if state == "busy":
        entry.started, entry.seconds, entry.again_at = 0.0, 0.0, time.monotonic() + ASK_AGAIN
        waiting.append(entry)
