"""All the runs there are: by name, in the order of their start, and those whose folder cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from workbook.errors import RunError
from workbook.runs.folder import Run, runs_root
from workbook.runs.lease import LEASE_FILE

# What a message names when there is no run yet: it works offline, on the embedded data, without another parameter.
FIRST_RUN = "workbook run --backbone tf_efficientnet_lite0 --recipe finetune --image-size 400"


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
    """The finished run of this name (or at this path), or the newest finished one that was trained here.

    Raises RunError when there is none, and for a run that is not finished, with what to do about it.
    """
    if name:
        run = open_run(name)
        if run.status != "done":
            raise RunError(f"{run.name} is not finished: {_unfinished(run)}")
        return run
    finished = [run for run in list_runs() if run.status == "done" and "origin" not in run.record]
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
    return readable_and_broken(root)[0]


def readable_and_broken(root: Path | None = None) -> tuple[list[Run], dict[str, str]]:
    """`list_runs` and `broken_runs` from one look at every folder."""
    broken = broken_runs(root)
    return by_start(run for run in _folders(root) if run.name not in broken), broken


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
        found = run.record
        if not isinstance(found.get("parameters"), dict):
            return f"{record} has no parameters: restore it, or delete the folder"
        if found["status"] == "done" and not isinstance(run.metrics(), dict):
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
    return unreadable_words(broken_runs(root))


def unreadable_words(broken: Mapping[str, str]) -> str:
    """The same of what `broken_runs` has found."""
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
