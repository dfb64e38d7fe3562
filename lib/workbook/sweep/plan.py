"""Many runs: from grids of parameters to a plan of runs, each checked before the first one starts.

A sweep is a list of grids; a grid gives a value or a list of values for any parameter of a run, and stands for every combination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from workbook.data.catalog import Dataset, find_dataset
from workbook.data.reading import DataError
from workbook.errors import ParameterError, WorkbookError
from workbook.runs.folder import ADDED_LATER, NOT_IDENTITY, Run, read_log, run_name, runs_root
from workbook.studies.grids import Grid, combinations
from workbook.training.identity import resolve
from workbook.training.parameters import Parameters, check_parameters

RESOLVED_FROM = ("pretrained", "backbone", "load_from", "precision", "device", "devices", "remedies")
Resolved = Mapping[str, str]
Resolver = Callable[[Sequence[Parameters]], list[Resolved]]
# Runs that agree in these, on the same machine, take about the same time an image.
KIND = ("detector", "backbone", "image_size", "overrides", "devices", "remedies")
Kind = tuple[str, ...]
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
    epochs: int
    record: Mapping[str, Any]  # what run.json will say, see training/record.py


@dataclass
class Progress:
    """Where a run stands. `state` is new, to resume, running, busy (elsewhere), done, failed or stopped."""

    state: str
    known: Known | None = None  # None while it was not checked: a done run needs no check
    reason: str = ""  # why it failed, or who else trains it
    epoch: int = 0
    step: int = 0
    mean_ap: float | None = None  # of the last epoch
    seconds: float = 0.0  # spent in this sweep
    started: float = 0.0  # monotonic; 0 while it has not started in this sweep
    first_step: int = 0  # where this sweep took it up
    again_at: float = 0.0  # monotonic; not before
    log_changed: float = 0.0  # the log's time of change when it was last read


@dataclass(frozen=True)
class Entry:
    """One run of a sweep: what is asked, and in `progress` alone what changes while the sweep goes on."""

    parameters: Parameters
    run: Run
    progress: Progress
    resolved: Mapping[str, str]  # what weights and precision became (training/identity.py); empty when it cannot start
    varies: str = ""  # the values in which it differs from other runs of the sweep

    @property
    def state(self) -> str:
        return self.progress.state

    @cached_property
    def kind(self) -> Kind:
        """Runs of one kind take about the same time an image."""
        return kind_of(self.parameters.model_dump(mode="json"))

    @property
    def epochs(self) -> int:
        """Of the whole training: what was asked, until the check has found that a remedy makes it another number."""
        known = self.progress.known
        return known.epochs if known else self.parameters.epochs

    @property
    def steps(self) -> int | None:
        """Steps of the whole training."""
        known = self.progress.known
        return known.steps_an_epoch * self.epochs if known else None

    def steps_done(self) -> int:
        """Steps that this sweep has trained of it."""
        return self.progress.step - self.progress.first_step

    def refresh(self) -> None:
        """Read epoch, step and the mAP of the last epoch from its log, when the log has changed."""
        path = self.run.folder / "log.jsonl"
        changed = path.stat().st_mtime if path.exists() else 0.0
        if changed == self.progress.log_changed:
            return
        rows = read_log(path) if path.exists() else []
        vals = [row for row in rows if row["mode"] == "val"]
        now = self.progress
        now.log_changed = changed
        now.step = rows[-1]["step"] if rows else 0
        now.epoch = vals[-1]["epoch"] if vals else 0
        now.mean_ap = vals[-1].get("bbox_mAP") if vals else None


def kind_of(parameters: Mapping[str, Any]) -> Kind:
    """The kind of a run with these parameters, as `run.json` has them; one from before a parameter came has its neutral value."""
    return tuple(str(parameters.get(name, ADDED_LATER.get(name))) for name in KIND)


class Executor(Protocol):
    """Where runs are trained: processes of this machine (lib/workbook/sweep/local.py), or Ray (lib/workbook/sweep/ray.py)."""

    @property
    def slots(self) -> int: ...
    def resolve(self, asked: Sequence[Parameters]) -> list[Resolved]: ...  # on the machine that will train
    def check(self, asked: Sequence[Parameters]) -> list[Known | str]: ...  # what was found, or why it cannot start
    def ask(self, task: Callable[[list[Any]], Any], asked: list[Any]) -> Any: ...  # the task's answer from a process that computes
    def ask_at_once(self, task: Callable[[list[Any]], list[Any]], asked: list[Any]) -> list[Any]: ...  # from a process a slot
    def start(self, entry: Entry) -> None: ...
    def ended(self, seconds: float) -> list[tuple[Entry, str, str]]: ...  # entry, state, reason
    def stop(self) -> None: ...


def in_parts(asked: list[Any], parts: int) -> list[list[Any]]:
    """At most so many lists of about the same length; none of them is empty."""
    return [asked[part::parts] for part in range(min(parts, len(asked)))]


def joined(parts: Sequence[Sequence[Any]]) -> list[Any]:
    """The answers to the lists of `in_parts`, in the order of what was asked."""
    answers: list[Any] = [None] * sum(map(len, parts))
    for part, found in enumerate(parts):
        answers[part :: len(parts)] = found
    return answers


def asked_runs(grids: Sequence[Grid]) -> list[Parameters]:
    """The parameters of every combination. Raises ParameterError with all that is wrong in all of them."""
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
    return asked


def resolve_all(asked: Sequence[Parameters]) -> list[Resolved]:
    """`training.identity.resolve` of each; empty for one that cannot start, of which `check_plan` gives the reason."""
    answers: dict[tuple[Any, ...], Resolved] = {}  # so that what many runs ask for is searched for once
    for parameters in asked:
        key = _needs(parameters)
        if key not in answers:
            try:
                answers[key] = resolve(parameters)
            except WorkbookError:
                answers[key] = {}
    return [answers[_needs(parameters)] for parameters in asked]


def _needs(parameters: Parameters) -> tuple[Any, ...]:
    """The parameters that `resolve` reads."""
    return tuple(getattr(parameters, name) for name in RESOLVED_FROM)


def make_plan(grids: Sequence[Grid], resolve: Resolver = resolve_all) -> list[Entry]:
    """One entry a run; what comes twice is one run. `resolve` is an executor's, or else of this process.

    Raises ParameterError or DataError with all that is wrong in all of them.
    """
    asked = asked_runs(grids)
    datasets = _datasets(dict.fromkeys(parameters.dataset for parameters in asked))
    runs: dict[str, tuple[Parameters, Resolved]] = {}
    for parameters, resolved in zip(asked, resolve(asked), strict=True):
        name = run_name(parameters.model_dump(mode="json"), datasets[parameters.dataset].hash, resolved)
        runs.setdefault(name, (parameters, resolved))
    varying = _varying([parameters for parameters, _ in runs.values()])
    plan = []
    for name, (parameters, resolved) in runs.items():
        run = Run(runs_root() / name)
        entry = Entry(parameters, run, Progress(state_of(run)), resolved, _values(parameters, varying))
        entry.refresh()
        plan.append(entry)
    return plan


def _varying(asked: Sequence[Parameters]) -> list[str]:
    """Names of the parameters in which the runs differ."""
    return [name for name in MAY_VARY if len({str(getattr(parameters, name)) for parameters in asked}) > 1]


def _values(parameters: Parameters, names: Sequence[str]) -> str:
    """`seed=1 image_size=64x64`; detector and backbone are in the name already."""
    shown = (name for name in names if name not in ("detector", "backbone"))
    return " ".join(f"{name}={_short(getattr(parameters, name))}" for name in shown)


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
    groups: dict[Parameters, list[Entry]] = {}
    for entry in plan:
        if entry.state != "done":
            groups.setdefault(entry.parameters.model_copy(update={"seed": 0}), []).append(entry)
    wrong: dict[str, list[str]] = {}
    for entries, found in zip(groups.values(), executor.check(list(groups)), strict=True):
        for entry in entries:
            if isinstance(found, str):
                wrong.setdefault(found, []).append(entry.run.name)
            else:
                entry.progress.known = found
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
