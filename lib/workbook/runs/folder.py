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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from workbook.data.learnable import LEFT_OUT
from workbook.errors import RunError
from workbook.files import WRITABLE, outputs_root, read_json, write_json
from workbook.runs.lease import LEASE_FILE, LIMIT, Lease, Owner, living_owner
from workbook.runs.numbers import next_number

if TYPE_CHECKING:  # the command line loads this module, and most commands need no tables
    import pandas as pd

# Where a run is made and how often it is saved does not change what it is: these parameters are recorded, but are no part of its name.
NOT_IDENTITY = ("device", "tracker", "checkpoint_minutes")
# Parameters that came later → what runs from before had without them: with this value a run has the name that it had then.
ADDED_LATER = {"empty_images": LEFT_OUT, "remedies": ""}
NOTHING: Mapping[str, str] = MappingProxyType({})


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
        import pandas as pd

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


def has_detections_alone(run: Run) -> bool:
    """Whether the run was adopted from detections: it has no model."""
    return "origin" in run.record and not run.best_checkpoint.exists()


def require_model(run: Run, wanted: str) -> None:
    """Raises RunError for a run that was adopted from detections. wanted: what needs a model, such as `an evaluation`."""
    if has_detections_alone(run):
        raise RunError(f"{run.name} was adopted from {run.record['origin']['path']} and has no model, which {wanted} needs. `workbook "
                       f"diagnose`, `browse` and `compare` read its detections; for {wanted} train a detector here (`workbook run`) and "
                       "name that run")


def require_trained_here(run: Run, wanted: str) -> None:
    """Raises RunError for a run that was adopted: how it was trained is not known so well that it could be trained again."""
    origin = run.record.get("origin")
    if origin:
        raise RunError(f"{run.name} was adopted from {origin['path']}, and {wanted} trains like it, for which not enough is known of its "
                       "training. Train a detector here (`workbook run`) and name that run")


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
    """A `run.json` as runs of today write it: with the parameters that it is older than, at what they were then.

    Of an adopted run no more is known than it says.
    """
    if "origin" in record:
        return dict(record)
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


