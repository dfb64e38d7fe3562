"""The run folder: one training, one folder, and the only thing that later rooms read.

    outputs/runs/<detector>-<backbone>-<8 hex>/
        run.json  config.py  log.jsonl  checkpoints/  predictions.json  metrics.json  figures/  2_train.ipynb  2_train.html

The eight hex digits are a hash of the run's identity: parameters, data, the content of its weight files and its
precision. So the same question always lands in the same folder: a finished run is found again and never overwritten, a
broken one goes on where it stopped.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from workbook.data.learnable import LEFT_OUT
from workbook.errors import RunError
from workbook.files import WRITABLE, outputs_root, read_json, write_json
from workbook.runs.lease import LEASE_FILE, LIMIT, Lease, Owner, living_owner
from workbook.runs.numbers import next_number

# Where a run is made and how often it is saved does not change what it is: these parameters are recorded, but are no part of its name.
NOT_IDENTITY = ("device", "tracker", "checkpoint_minutes")
# Parameters that came later → what runs from before had without them: with this value a run has the name that it had then.
ADDED_LATER = {"empty_images": LEFT_OUT, "remedies": ""}
NOTHING: Mapping[str, str] = MappingProxyType({})
# What a message names when there is no run yet: it works offline, on the embedded data, without another parameter.
FIRST_RUN = "workbook run --backbone tf_efficientnet_lite0 --recipe finetune --image-size 400"


class RunBusyError(RunError):
    """Another process trains this run; the message names it."""


def runs_root() -> Path:
    """The folder that holds one folder a run."""
    return outputs_root() / "runs"


@dataclass(frozen=True)
class Run:
    """One run folder. Every property reads the file anew, so a running run can be watched."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def record(self) -> dict[str, Any]:
        """`run.json`: parameters, status, versions, hardware, data, times."""
        path = self.folder / "run.json"
        found = read_json(path)
        if not isinstance(found, dict) or not isinstance(found.get("status"), str):
            raise RunError(f"{path} is not the record of a run (it has no status): restore it, or delete the folder")
        return found

    @property
    def status(self) -> str:
        """`running`, `done` or `failed`. A `running` run that no process owns was broken off."""
        return str(self.record["status"])

    @property
    def last_checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.pth"

    @property
    def best_checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "best.pth"

    def log(self) -> pd.DataFrame:
        """`log.jsonl` as a table: one row a logged step, column `mode` is `train` or `val`; empty before the first line."""
        path = self.folder / "log.jsonl"
        return pd.DataFrame(read_log(path) if path.exists() else [])

    def metrics(self) -> dict[str, Any]:
        """`metrics.json`: the figures of the best epoch. Raises RunError while the run has none."""
        return read_json(self.folder / "metrics.json")

    def update(self, **values: Any) -> None:
        """Write these keys into `run.json`, keeping the others."""
        write_json(self.folder / "run.json", {**self.record, **values})

    @property
    def busy(self) -> Owner | None:
        """The process that trains this run right now, if there is one."""
        return living_owner(self.folder / LEASE_FILE)

    @contextmanager
    def acquire(self) -> Iterator[Callable[[], None]]:
        """Hold the run while it trains. Gives a check to call before every write: it raises RunBusyError once the
        lease is lost.

        Raises RunBusyError when another process holds it. The lease of a killed one is taken over: at once on the same
        machine, else after two minutes without a sign of life (see lib/workbook/runs/lease.py).
        """
        lease = Lease(self.folder / LEASE_FILE)
        try:
            owner = lease.acquire()
        except OSError as error:
            without_links = error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS) and os.access(self.folder, os.W_OK)
            advice = ("This disk seems to know no hard links, by which a run is leased to one process (a mounted bucket, exFAT): set "
                      "WORKBOOK_OUTPUTS to a folder on a local disk, NFS or Lustre" if without_links else WRITABLE)
            raise RunError(f"cannot take the lease of {self.folder}: {error.strerror}. {advice}") from error
        if owner:
            raise RunBusyError(f"{self.folder} is being trained by {owner}: wait for it or stop it. Should that machine be gone, "
                               f"the run is free {LIMIT:.0f} s after its last sign of life")

        def check() -> None:
            if not lease.is_held():
                raise RunBusyError(f"{self.folder}: the lease of this process was taken over by {self.busy or 'a process that has ended'}"
                                   f", after no sign of life from here for {LIMIT:.0f} s. It stops here and writes nothing more")

        try:
            yield check
        finally:
            lease.release()


def identity(parameters: Mapping[str, Any], data_hash: str, resolved: Mapping[str, str] = NOTHING) -> dict[str, Any]:
    """Everything that makes this run another than others, by name; it stands in `run.json`, so that a
    reader finds why two names differ.

    resolved: what stands in the place of parameters that name a thing by a word or a path: the sha256 of weight files,
    the precision as it became (`training.identity.resolve`). `devices` is part of it: processes that share a batch add
    up its gradients in another order, and draw other random numbers.
    """
    as_before = ADDED_LATER.items()
    asked = {key: value for key, value in parameters.items() if key not in NOT_IDENTITY and (key, value) not in as_before}
    return {**asked, **resolved, "data": data_hash}


def with_later_parameters(record: Mapping[str, Any]) -> dict[str, Any]:
    """A `run.json` as runs of today write it: with the parameters that it is older than, at what they were then."""
    return {**record, "parameters": {**ADDED_LATER, **record.get("parameters", {})}}


def run_name(parameters: Mapping[str, Any], data_hash: str, resolved: Mapping[str, str] = NOTHING) -> str:
    """`<detector>-<backbone>-<8 hex>`: the name says what was asked, the digits are of the `identity`. A `/` becomes
    `_`."""
    parts = identity(parameters, data_hash, resolved)
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"{parameters['detector']}-{parameters['backbone']}-{digest}".replace("/", "_")


def create_run(
    parameters: Mapping[str, Any], data_hash: str, root: Path | None = None, resolved: Mapping[str, str] = NOTHING
) -> Run:
    """The folder for these parameters and this data: made when new, opened when there. An existing `run.json` stays as
    it is.

    root: the folder of the runs, `runs_root()` when not given; resolved as in `identity`. Raises RunBusyError when
    another process makes it right now.
    """
    run = Run((root or runs_root()) / run_name(parameters, data_hash, resolved))
    try:
        run.last_checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if not (run.folder / "run.json").exists():
            with run.acquire():  # of two that find it missing, the later must not overwrite the record of the first
                if not (run.folder / "run.json").exists():
                    _write_first_record(run, parameters, identity(parameters, data_hash, resolved))
    except OSError as error:
        raise RunError(f"cannot write the run folder {run.folder}: {error.strerror}. {WRITABLE}") from error
    return run


def _write_first_record(run: Run, parameters: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    with next_number(run.folder.parent) as number:
        write_json(run.folder / "run.json", {
            "name": run.name, "number": number, "parameters": dict(parameters), "identity": dict(parts),
            "status": "running", "error": None, "started": now(), "finished": None,
        })


def open_run(name: str | Path) -> Run:
    """The run of this name (or at this path). Raises RunError that lists the runs there are."""
    for folder in (runs_root() / name, Path(name)):
        if (folder / "run.json").is_file():
            return Run(folder)
    if name and (runs_root() / name).is_dir():
        raise RunError(f"{runs_root() / name} has no run.json: its folder was changed by hand. Restore it, or delete the folder")
    known = "\n  ".join(run.name for run in list_runs()) or f"none yet: make one with `{FIRST_RUN}`"
    raise RunError(f"no run '{name}' in {runs_root()}. There are:\n  {known}")


def split_names(names: str | Sequence[str]) -> list[str]:
    """Names, listed or separated by commas, without blanks around them and without empty ones."""
    listed = names.split(",") if isinstance(names, str) else names
    return [name.strip() for name in listed if name.strip()]


def finished_run(name: str | Path = "") -> Run:
    """The finished run of this name (or at this path), or the newest finished one.

    Raises RunError when there is none, and for a run that is not finished, with what to do about it.
    """
    if name:
        run = open_run(name)
        if run.status != "done":
            raise RunError(f"{run.name} is not finished: {_unfinished(run)}")
        return run
    finished = [run for run in list_runs() if run.status == "done"]
    if not finished:
        raise no_runs("finished run")
    return finished[-1]


def _unfinished(run: Run) -> str:
    """The state of a run that is not done, and what to do."""
    if owner := run.busy:
        return f"{owner} trains it now. Wait for its end, or name a finished run (`workbook list`)"
    again = "`workbook run` with its parameters goes on from its last checkpoint"
    if run.status == "failed":
        first_line = str(run.record.get("error")).partition("\n")[0]
        return f"its training failed ({first_line}). Mend that; {again}"
    return f"its training was broken off (status {run.status}): {again}"


def run_names() -> list[str]:
    """The names of all run folders, readable or not."""
    return [run.name for run in _folders(None)]


def list_runs(root: Path | None = None) -> list[Run]:
    """Every run whose record can be read, oldest first; `broken_runs` names the others.

    root: the folder of the runs, `runs_root()` when not given.
    """
    broken = broken_runs(root)
    return by_start(run for run in _folders(root) if run.name not in broken)


def broken_runs(root: Path | None = None) -> dict[str, str]:
    """Name → reason of every run folder whose record cannot be read, or, of a finished run, its figures; root as in `list_runs`."""
    checked = {run.name: _why_broken(run) for run in _folders(root)}
    return {name: reason for name, reason in checked.items() if reason}


def _why_broken(run: Run) -> str:
    """Why this folder cannot be shown as a run, and what to do; empty where it can."""
    record = run.folder / "run.json"
    if not record.exists():
        return f"{record} is missing: restore it, or delete the folder"
    try:
        if not isinstance(run.record.get("parameters"), dict):
            return f"{record} has no parameters: restore it, or delete the folder"
        if run.status == "done" and not isinstance(run.metrics(), dict):
            return f"{run.folder / 'metrics.json'} holds no figures: restore it, or delete the folder and train again"
    except RunError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror}): restore it, or delete the folder"
    return ""


def unreadable(root: Path | None = None) -> str:
    """One line that names the run folders that cannot be read, with the reasons; empty when there is none.

    root: as in `list_runs`.
    """
    broken = broken_runs(root)
    if not broken:
        return ""
    folders = "1 run folder" if len(broken) == 1 else f"{len(broken)} run folders"
    reasons = "; ".join(f"{name} ({' '.join(reason.split())})" for name, reason in broken.items())
    return f"Left out because unreadable: {folders}, {reasons}"


def no_runs(wanted: str = "runs") -> RunError:
    """The error for a folder that holds none of the wanted runs; it names those that cannot be read."""
    lines = (f"no {wanted} in {runs_root()}: make one with `{FIRST_RUN}`", unreadable())
    return RunError("\n".join(filter(None, lines)))


def by_start(runs: Iterable[Run]) -> list[Run]:
    """The runs, oldest first."""
    return sorted(runs, key=lambda run: (str(run.record.get("started")), run.name))


def _folders(root: Path | None) -> list[Run]:
    """Every folder that is or was a run, but those that another process makes right now."""
    return [Run(path) for path in sorted((root or runs_root()).glob("*/"))
            if not path.name.startswith(".") and ((path / "run.json").exists() or not (path / LEASE_FILE).exists())]


def now() -> str:
    """The time of now, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The objects of a `log.jsonl`. A last line cut off by a kill is left out; any other broken line raises RunError."""
    lines = path.read_text().splitlines(keepends=True)
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise RunError(f"{path}, line {number} is not valid JSON: restore it, or delete the run folder") from None
    return rows


