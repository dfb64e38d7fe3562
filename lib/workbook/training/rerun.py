"""A finished run trained once more beside itself, and every figure and weight of the two compared."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from workbook.errors import RunError
from workbook.files import outputs_root, read_json
from workbook.runs.checkpoints import read_checkpoint
from workbook.runs.folder import Run, read_log, require_trained_here
from workbook.training import launch
from workbook.training.environment import Change, changes
from workbook.training.job import prepare
from workbook.training.parameters import check_parameters

TOLERANCE = 1e-9  # figures that lie closer count as the same


@dataclass(frozen=True)
class Comparison:
    """`table`: columns figure, before, after, difference (absolute; infinite where only one has the figure), one row a figure.

    `changes` says what is another in code, versions, hardware, settings and weight files.
    """

    table: pd.DataFrame
    changes: tuple[Change, ...]

    @property
    def equal(self) -> bool:
        """Whether both are the same to the bit."""
        return bool((self.table["difference"] == 0).all())

    @property
    def broken(self) -> bool:
        """Whether figures differ by more than TOLERANCE though nothing but the code did."""
        same_place = all(change.aspect == "git_commit" for change in self.changes)
        return same_place and not bool((self.table["difference"] <= TOLERANCE).all())


def rerun(run: Run) -> Comparison:
    """Train the parameters of a finished run again, into `outputs/reruns/<name>`, and compare. The run itself is only read.

    Raises RunError when the run is not finished or its data have changed. A broken-off rerun goes on; a finished one is redone.
    """
    record = run.record
    if record["status"] != "done":
        raise RunError(f"{run.name} is not finished (status {record['status']}): `workbook run` with its parameters goes on with it")
    require_trained_here(run, "training it again")
    job = prepare(check_parameters({**record["parameters"], "tracker": "none"}), root=outputs_root() / "reruns")
    if job.dataset.hash != record["data"]["hash"]:
        raise RunError(f"the data of {run.name} have changed since (hash {record['data']['hash'][:8]}, now {job.dataset.hash[:8]}): "
                       f"put the old files back into {job.dataset.folder}, or train a new run")
    before = job.find_run()
    if before and before.status == "done":
        with before.acquire():
            shutil.rmtree(before.folder)
    if job.device.type == "cpu":
        torch.set_num_threads(record["hardware"]["threads"])  # sums are split among them, and rounded differently
    return compare(run, launch.run(job))


def compare(before: Run, after: Run) -> Comparison:
    """The metrics, the log, the detections and the weights of two runs, each with its largest difference."""
    rows = [*_metrics(before, after), *_log(before, after), *_detections(before, after), *_weights(before, after)]
    table = pd.DataFrame(rows, columns=["figure", "before", "after", "difference"])
    return Comparison(table, tuple(changes(before.record, after.record)))


Row = tuple[str, Any, Any, float]


def _metrics(before: Run, after: Run) -> Iterator[Row]:
    one, two = (_flat(run.metrics()) for run in (before, after))
    for key in {**one, **two}:
        if key not in ("seconds", "mode"):
            yield _row(key, one.get(key), two.get(key))


def _log(before: Run, after: Run) -> Iterator[Row]:
    """For each figure the line of the log in which it differs most, the last one when it never does."""
    one, two = (_by_line(run) for run in (before, after))
    worst: dict[str, Row] = {}
    for place in {**one, **two}:
        mode, step, key = place
        row = _row(f"log {mode} {key} at step {step}", one.get(place), two.get(place))
        if key not in ("seconds", "step") and row[3] >= worst.get(f"{mode} {key}", row)[3]:
            worst[f"{mode} {key}"] = row
    yield from worst.values()


def _by_line(run: Run) -> dict[tuple[str, int, str], Any]:
    rows = [row for row in read_log(run.folder / "log.jsonl") if "step" in row]
    return {(row["mode"], row["step"], key): value for row in rows for key, value in row.items() if key != "mode"}


def _detections(before: Run, after: Run) -> Iterator[Row]:
    one, two = (read_json(run.folder / "predictions.json") for run in (before, after))
    yield _row("detections", len(one), len(two))
    if len(one) == len(two):
        pairs = [_row("score or box of a detection", x, y) for a, b in zip(one, two, strict=True)
                 for x, y in zip([a["score"], *a["bbox"]], [b["score"], *b["bbox"]], strict=True)]
        yield from sorted(pairs, key=lambda row: row[3])[-1:]


def _weights(before: Run, after: Run) -> Iterator[Row]:
    """Of each checkpoint the single number that differs most."""
    for name in ("best_checkpoint", "last_checkpoint"):
        one, two = (read_checkpoint(getattr(run, name))["state_dict"] for run in (before, after))
        rows, label = [], name.replace("_", " ")
        for key in {**one, **two}:
            if key not in one or key not in two or one[key].shape != two[key].shape:
                shapes = [str(list(state[key].shape)) if key in state else None for state in (one, two)]
                rows.append(_row(f"{label}: {key}", *shapes))
            elif one[key].numel():
                a, b = one[key].double().flatten(), two[key].double().flatten()
                place = int((a - b).abs().argmax())
                rows.append(_row(f"{label}: {key}[{place}]", float(a[place]), float(b[place])))
        yield max(rows, key=lambda row: row[3])


def _row(figure: str, one: Any, two: Any) -> Row:
    if one == two:
        return figure, one, two, 0.0
    numbers = isinstance(one, int | float) and isinstance(two, int | float)
    return figure, one, two, abs(one - two) if numbers else float("inf")


def _flat(values: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{start}{key}.") if isinstance(value, Mapping) else {f"{start}{key}": value}
    return found
