"""A finished run's checkpoint measured on val under other test settings, in the time of one validation.

    outputs/runs/<run>/evaluations/<name>/
        settings.json  metrics.json  predictions.json

The run itself is only read. The eight hex digits of the name stand for the settings, the checkpoint and the precision, so the same
question is the same folder, and one that is there is never written again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmdet.datasets import build_dataset

from workbook.data.catalog import find_dataset
from workbook.data.reading import of_classes, read_coco
from workbook.errors import ParameterError, RunError
from workbook.evaluation.bootstrap import Samples, bootstrap
from workbook.evaluation.coco_metrics import evaluate
from workbook.evaluation.matching import match
from workbook.files import WriteError, read_json, write_json
from workbook.models.detectors import find_detector
from workbook.models.device import has_bf16, pick_device
from workbook.models.merge_overrides import merge_overrides
from workbook.models.overrides import parse_overrides
from workbook.models.weights import sha256
from workbook.partial import partial_of
from workbook.remedies.apply import Applied, apply_remedies, overridden
from workbook.remedies.base import Context
from workbook.remedies.registry import all_remedies, identity_of, parse_remedies
from workbook.runs.data import run_config
from workbook.runs.folder import Run, now, require_model
from workbook.runs.load import load_trained
from workbook.runs.samples import samples_of
from workbook.training.environment import versions
from workbook.training.validation import validate

TEST_SETTINGS = "model.test_cfg."  # overrides of anything else would need a training


@dataclass(frozen=True)
class OtherSettings:
    """Other settings for the weights of a run, checked."""

    remedies: str  # keys, in their order
    overrides: Mapping[str, Any]
    config: Config
    applied: tuple[Applied, ...]


@dataclass(frozen=True)
class Row:
    """A figure of the run, the same of the evaluation, and what their difference may be, in words."""

    figure: str
    run: float | None
    evaluation: float | None
    difference: str


@dataclass(frozen=True)
class RunEvaluation:
    """`workbook evaluate`: where the result is, how it compares with the run's own validation, and what else differs."""

    folder: Path
    was_there: bool
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def evaluate_run(run: Run, remedies: str = "", overrides: str = "", device: str = "auto") -> RunEvaluation:
    """Measure the best checkpoint of a finished run on its val images under other test settings, beside the run.

    remedies: keys of those that need no training. overrides: of `model.test_cfg`. The intervals are of the paired bootstrap over
    the val images. Raises ParameterError for settings that do not fit or need a training, RunError when the data have changed.
    """
    require_model(run, "an evaluation under other settings")
    settings = other_settings(run, remedies, overrides)
    _require_same_data(run)
    own = samples_of(run, {})
    where = pick_device(device)
    precision = run.record["settings"]["precision"] if has_bf16(where) else "fp32"
    folder = run.folder / "evaluations" / _name(run, settings, precision)
    was_there = folder.is_dir()
    if not was_there:
        _measure(run, settings, where, precision, folder)
    detections = read_json(folder / "predictions.json")
    val = settings.config.data.val
    other = bootstrap(match(of_classes(read_coco(Path(val.ann_file)), val.classes), detections))
    notes = _notes(run, settings, precision)
    return RunEvaluation(folder, was_there, _rows(own, other, _counts(run, len(detections))), notes)


def other_settings(run: Run, remedies: str, overrides: str) -> OtherSettings:
    """The run's config with these changes. Raises ParameterError with what needs a training, or does not fit."""
    chosen = parse_remedies(remedies)
    if trained := [remedy.key for remedy in chosen if remedy.trains]:
        without = ", ".join(remedy.key for remedy in all_remedies() if not remedy.trains)
        raise ParameterError(f"{', '.join(trained)}: a remedy that needs a training cannot be tried on a finished run. Allowed here: "
                             f"{without}. Train with it: workbook run --remedies {','.join(trained)}, and the run's other parameters")
    try:
        changed = parse_overrides(overrides)
    except ValueError as error:
        raise ParameterError(str(error)) from None
    if wrong := [key for key in changed if not key.startswith(TEST_SETTINGS)]:
        raise ParameterError(f"{', '.join(wrong)}: only test settings can be changed of a finished run, keys that begin with "
                             f"{TEST_SETTINGS} Anything else needs a training: workbook run --overrides")
    return _changed(run, chosen, changed)


def _changed(run: Run, remedies: Sequence[Any], overrides: Mapping[str, Any]) -> OtherSettings:
    config = copy.deepcopy(run_config(run))
    asked = run.record["parameters"]
    context = Context(
        train=read_coco(Path(config.data.train.ann_file)), image_size=tuple(asked["image_size"]),
        family=_family(asked["detector"]), classes=tuple(config.classes), batch_size=asked.get("batch_size", 1),
        epochs=asked.get("epochs", 1),
    )
    try:
        merge_overrides(config, overrides)
    except ValueError as error:
        raise ParameterError(str(error)) from None
    applied = apply_remedies(config, remedies, context)
    if problems := overridden(overrides, applied):
        raise ParameterError("; ".join(problems))
    return OtherSettings(",".join(remedy.key for remedy in remedies), overrides, config, applied)


def _family(detector: str) -> str:
    try:
        return find_detector(detector).family
    except ValueError as error:  # of a run that was adopted
        raise ParameterError(str(error)) from None


def _require_same_data(run: Run) -> None:
    record = run.record
    dataset = find_dataset(record["parameters"]["dataset"])
    if dataset.hash != record["data"]["hash"]:
        raise RunError(f"the data of {run.name} have changed since (hash {record['data']['hash'][:8]}, now {dataset.hash[:8]}), so a "
                       f"difference would not be of the settings: put the old files back into {dataset.folder}, or train a new run")


def _name(run: Run, settings: OtherSettings, precision: str) -> str:
    """`soft_nms-1a2b3c4d`: what was asked, and digits of all that counts."""
    parts = [identity_of(settings.remedies), dict(settings.overrides), sha256(run.best_checkpoint), precision]
    digits = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]
    words = [settings.remedies.replace(",", "+"), "overrides" if settings.overrides else ""]
    return "-".join([*filter(None, words), digits] if any(words) else ["as_trained", digits])


def _measure(run: Run, settings: OtherSettings, device: torch.device, precision: str, folder: Path) -> None:
    """One validation, and its three files in a new folder: all of them or none."""
    model, config = load_trained(run, device, settings.config)
    dataset = build_dataset(config.data.val)
    started = time.perf_counter()
    detections, losses = validate(model, dataset, device, run.record["parameters"]["seed"], "evaluating")
    seconds = time.perf_counter() - started
    found = evaluate(Path(config.data.val.ann_file), detections)
    _write(folder, {
        "predictions.json": detections,
        "metrics.json": {**found.metrics, **losses, "per_class": found.per_class, "counts": found.counts},
        "settings.json": {
            "run": run.name, "remedies": [one.to_json() for one in settings.applied], "overrides": dict(settings.overrides),
            "checkpoint": sha256(run.best_checkpoint), "device": str(device), "precision": precision, "versions": versions(),
            "seconds": seconds, "images": len(dataset), "finished": now(),
        },
    })


def _write(folder: Path, files: Mapping[str, Any]) -> None:
    """Under a temporary name first; where another process was faster its folder stays. Raises WriteError."""
    try:
        with partial_of(folder) as partial:
            partial.mkdir(parents=True)
            for name, content in files.items():
                write_json(partial / name, content)
            if not folder.is_dir():
                partial.rename(folder)
    except WriteError:
        raise
    except OSError as error:
        raise WriteError.of(folder, 0, error) from error


def _counts(run: Run, detections: int) -> Row:
    counts = run.metrics()["counts"]
    before, after = counts["detections"] / counts["images"], detections / counts["images"]
    return Row("detections an image", before, after, f"{after - before:+.1f}")


def _rows(own: Samples, other: Samples, counts: Row) -> tuple[Row, ...]:
    differences = other.minus(own).figures
    figures = [
        Row(name, _value(own, name), _value(other, name), difference.interval().words())
        for name, difference in differences.items()
    ]
    return (*figures, counts)


def _value(samples: Samples, figure: str) -> float | None:
    known = samples.figures[figure]
    return float(known.values[0]) if known.objects else None


def _notes(run: Run, settings: OtherSettings, precision: str) -> tuple[str, ...]:
    """What makes the difference one of other things than the settings, and what changed nothing."""
    record = run.record
    notes = [f"the remedy {one.key} changes nothing here" for one in settings.applied if not one.changes]
    if precision != record["settings"]["precision"]:
        notes.append(f"computed in {precision}, and the run in {record['settings']['precision']}: the difference is not of the "
                     "settings alone")
    if (now_there := versions()) != record["versions"]:
        other = [name for name in now_there if now_there[name] != record["versions"].get(name)]
        notes.append(f"versions differ from the run's: {', '.join(other)}")
    return tuple(notes)
